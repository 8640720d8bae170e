"""The hashes that sites and programs know a model by.

Source: A1111 modules/sd_models.py (`model_hash`, `shorthash`), modules/hashes.py
(`addnet_hash_safetensors`); modelspec 1.0.1.
"""

from __future__ import annotations

import hashlib
import heapq
import threading
from collections.abc import Callable, Iterable

from sdtool.checkpoint.containers.safetensors import begins_safetensors
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.source import Source

_CHUNK_NBYTES = 1 << 20
_AUTOV1_OFFSET, _AUTOV1_NBYTES = 0x100000, 0x10000


@dataclass(frozen=True, slots=True)
class Hashes:
    """Hexadecimal digests of one file. `data_sha256` is of all after a safetensors header."""

    sha256: str
    autov1: str
    data_sha256: str | None = None

    @property
    def autov2(self) -> str:
        """The short hash of A1111 and Civitai."""
        return self.sha256[:10]

    @property
    def autov3(self) -> str | None:
        """The short hash of LoRA files, which a change of metadata does not change."""
        return None if self.data_sha256 is None else self.data_sha256[:12]

    @property
    def modelspec(self) -> str | None:
        """The value of `modelspec.hash_sha256`."""
        return None if self.data_sha256 is None else f"0x{self.data_sha256}"

    def as_json(self) -> dict[str, str]:
        """Return the digests that there are, by the names people know."""
        named = {
            "sha256": self.sha256,
            "autov1": self.autov1,
            "autov2": self.autov2,
            "autov3": self.autov3,
            "modelspec_hash_sha256": self.modelspec,
        }
        return {name: value for name, value in named.items() if value is not None}


def hash_file(source: Source, progress: Callable[[int], object] | None = None) -> Hashes:
    """Hash a file in one pass.

    Raises:
        Unreadable: the operating system refused.
    """
    head = source.read_at(0, 10)
    start = 8 + int.from_bytes(head[:8], "little") if begins_safetensors(head) else None
    whole, data = hashlib.sha256(), hashlib.sha256()
    position = 0
    while chunk := source.read_at(position, _CHUNK_NBYTES):
        whole.update(chunk)
        if start is not None and position + len(chunk) > start:
            data.update(memoryview(chunk)[max(0, start - position) :])
        position += len(chunk)
        if progress is not None:
            progress(len(chunk))
    return Hashes(
        whole.hexdigest(),
        autov1(source.read_at),
        None if start is None else data.hexdigest(),
    )


def autov1(read_at: Callable[[int, int], bytes]) -> str:
    """Return the oldest short hash, taken over 64 KiB only."""
    return hashlib.sha256(read_at(_AUTOV1_OFFSET, _AUTOV1_NBYTES)).hexdigest()[:8]


class Following:
    """Hashes a file while other threads fill it, as far as it is complete from `start` on.

    Reading back what was just written costs a copy out of the page cache and needs no order of the
    writers. `head`, in pieces, is what the whole-file digest begins with; None leaves that digest
    out.
    """

    def __init__(
        self,
        read_at: Callable[[int, int], bytes],
        start: int,
        end: int,
        head: Iterable[bytes] | None,
    ) -> None:
        self._read_at = read_at
        self._position = start
        self._frontier = start
        self._end = end
        self._ahead: list[tuple[int, int]] = []
        self._more = threading.Condition()
        self._stopped = False
        self._error: BaseException | None = None
        self._data = hashlib.sha256()
        self._whole = None if head is None else hashlib.sha256()
        if self._whole is not None:
            for piece in head or ():
                self._whole.update(piece)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def written(self, offset: int, nbytes: int) -> None:
        """Learn that a range is complete; ranges may come in any order."""
        with self._more:
            heapq.heappush(self._ahead, (offset, nbytes))
            while self._ahead and self._ahead[0][0] <= self._frontier:
                first, count = heapq.heappop(self._ahead)
                self._frontier = max(self._frontier, first + count)
            self._more.notify()

    def finish(self) -> tuple[str, str | None]:
        """Wait for the end; returns the digest of the data and that of the whole file."""
        while self._thread.is_alive():
            self._thread.join(0.05)
        if self._error is not None:
            raise self._error
        return self._data.hexdigest(), None if self._whole is None else self._whole.hexdigest()

    def stop(self) -> None:
        """End early."""
        with self._more:
            self._stopped = True
            self._more.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._position < self._end:
                with self._more:
                    while self._frontier <= self._position and not self._stopped:
                        self._more.wait()
                    if self._stopped:
                        return
                    ready = self._frontier
                while self._position < ready and not self._stopped:
                    count = min(_CHUNK_NBYTES, ready - self._position)
                    chunk = self._read_at(self._position, count)
                    if not chunk:
                        raise EOFError("the file that is being written became shorter")
                    self._data.update(chunk)
                    if self._whole is not None:
                        self._whole.update(chunk)
                    self._position += len(chunk)
        except BaseException as e:
            self._error = e
