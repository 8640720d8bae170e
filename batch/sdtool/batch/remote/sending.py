"""Outputs in a bucket: each appears whole or not at all, and replaces nothing without `force`.

A file is uploaded under a partial name, several parts at once. The store then copies it to its own
name, on the condition that no object has that name, and the partial object is deleted. After any
failure, Ctrl-C included, the bucket is as it was before.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path, PurePath

from sdtool.batch.remote import buckets
from sdtool.batch.remote.location import BUCKETS, Location, parse
from sdtool.batch.remote.needs import expect_all
from sdtool.batch.remote.opening import open_remote
from sdtool.checkpoint import (
    File,
    OutputError,
    SdtoolError,
    UsageError,
    VerificationError,
    dataclass,
    local_file,
)
from sdtool.convert import clear_away, is_left_of, partial_name

_PIECE_NBYTES = 8 << 20
_PROOF = b"sdtool"
_MOST_COPIED = {"s3": 5 << 30}
"""What a store copies in one step, in bytes; S3's own limit."""

Progress = Callable[[int], object]


def place_of(url: str, *, is_folder: bool) -> tuple[Location, str | None]:
    """Return the folder that outputs go to, and the name of the one that was named.

    Raises:
        UsageError: it is no place in a bucket, or no name.
        InputError: the URL is not understood.
    """
    location = parse(url)
    if location.scheme not in BUCKETS:
        raise UsageError(
            f"{location.scheme}:// is for inputs only",
            where=location.shown,
            hint="outputs can be local, or on s3://, gs:// and az://",
        )
    if is_folder:
        path = location.path.rstrip("/")
        return location.at(f"{path}/" if path else ""), None
    if location.is_folder:
        raise UsageError(
            "-o expects a file, and this is a folder", where=location.shown, hint="use --out-dir"
        )
    folder, slash, name = location.path.rpartition("/")
    return location.at(folder + slash), name


@dataclass(slots=True)
class InBucket:
    """Outputs below `location`, which are made below the folder `root`. See `Outputs`."""

    root: str
    location: Location
    name: str | None = None
    """The one output that a person named."""
    _is_proven: bool = field(default=False)

    @property
    def is_elsewhere(self) -> bool:
        """See `Outputs`."""
        return True

    @property
    def out(self) -> str | None:
        """See `Outputs`."""
        return None if self.name is None else os.path.join(self.root, self.name)

    @property
    def out_dir(self) -> str | None:
        """See `Outputs`."""
        return self.root if self.name is None else None

    def called(self, out: Path) -> str:
        """See `Outputs`."""
        return self._at(out).shown

    @contextmanager
    def there(self, out: Path) -> Generator[File | None]:
        """See `Outputs`."""
        location = self._at(out)
        if buckets.size_of(location) is None:
            yield None
            return
        with open_remote(location) as file:
            yield file

    def check(self, out: Path, nbytes: int, *, force: bool) -> None:
        """See `Outputs`."""
        location = self._at(out)
        if not force and nbytes > self._most_copied:
            raise OutputError(
                f"{location.scheme}:// cannot write more than {self._most_copied:,} bytes on the"
                " condition that nothing is replaced",
                where=location.shown,
                hint="--force uploads it in one step, and replaces an existing object",
            )
        if not force and buckets.size_of(location) is not None:
            raise OutputError(
                "already exists", where=location.shown, hint="overwrite it with --force"
            )

    def take(self, outs: Sequence[Path], *, force: bool, verify: bool, progress: Progress) -> None:
        """See `Outputs`. What was replaced before a failure stays so."""
        sent: list[Location] = []
        try:
            if not force:
                self._prove()
            for out in outs:
                self._send(out, force=force, verify=verify, progress=progress)
                sent.append(self._at(out))
        except BaseException:
            for location in () if force else sent:
                _forget(location)
            raise
        finally:
            for out in outs:
                out.unlink(missing_ok=True)

    def clear_away(self, outs: Sequence[Path], pid: int) -> None:
        """See `Outputs`. Parts of an upload that was not finished are for the store to expire."""
        for out in outs:
            clear_away(out, pid)
            if out.is_file():  # whole, and on its way
                out.unlink()
            final = self._at(out)
            folder, slash, name = final.path.rpartition("/")
            with contextlib.suppress(SdtoolError):
                for there in buckets.bucket_listing(final.at(folder + slash)):
                    if is_left_of(there.path.rpartition("/")[2], name, pid):
                        _forget(there)

    @property
    def _most_copied(self) -> float:
        return _MOST_COPIED.get(self.location.scheme, float("inf"))

    def _at(self, out: Path) -> Location:
        inside = PurePath(os.path.relpath(out, self.root)).as_posix()
        return self.location.at(self.location.path + ("" if inside == "." else inside))

    def _send(self, out: Path, *, force: bool, verify: bool, progress: Progress) -> None:
        final = self._at(out)
        with local_file(out) as file:
            if file.nbytes > self._most_copied:
                buckets.put(final, _pieces(file, progress), file.nbytes)
                if verify:
                    _compare(file, final, final, progress)
                return
            with _partial(final) as partial:
                buckets.put(partial, _pieces(file, progress), file.nbytes)
                if verify:
                    _compare(file, partial, final, progress)
                buckets.copy(partial, final, file.nbytes, force=force)

    def _prove(self) -> None:
        """Find out, once a run, whether the store enforces that nothing is replaced.

        Raises:
            OutputError: it does not, or nothing can be written.
        """
        if self._is_proven:
            return
        with _partial(self.location) as one, _partial(self.location) as other:
            buckets.put(one, iter([_PROOF]), len(_PROOF))
            buckets.copy(one, other, len(_PROOF), force=False)
            with contextlib.suppress(buckets.Taken):
                buckets.copy(one, other, len(_PROOF), force=False)
                raise OutputError(
                    "the store replaces existing objects although it is told not to",
                    where=self.location.shown,
                    hint="--force writes it anyway",
                )
        self._is_proven = True


@contextmanager
def _partial(final: Location) -> Generator[Location]:
    """Give a name for an incomplete upload; an object that still has it at the end is deleted."""
    folder, slash, name = final.path.rpartition("/")
    partial = final.at(f"{folder}{slash}{partial_name(name)}")
    try:
        yield partial
    except SdtoolError as e:
        if e.where == partial.shown:  # a person knows the other name
            e.where = final.shown
        raise
    finally:
        _forget(partial)


def _pieces(file: File, progress: Progress) -> Iterator[bytes]:
    for offset in range(0, file.nbytes, _PIECE_NBYTES):
        progress(0)
        yield file.read_at(offset, _PIECE_NBYTES)


def _compare(made: File, there: Location, final: Location, progress: Progress) -> None:
    """Read the upload back, and compare every byte.

    Raises:
        VerificationError: it differs.
        Unreadable: it cannot be read.
    """
    with open_remote(there) as sent:
        expect_all(sent)
        is_same = sent.nbytes == made.nbytes and all(
            piece == sent.read_at(number * _PIECE_NBYTES, len(piece))
            for number, piece in enumerate(_pieces(made, progress))
        )
    if not is_same:
        raise VerificationError("the uploaded object differs from what was sent", where=final.shown)


def _forget(location: Location) -> None:
    """Delete an unwanted object, if the store can still be reached."""
    with contextlib.suppress(SdtoolError):
        buckets.delete(location)
