"""What `info` knows of one file: opened once, judged, identified, and what pruning would leave."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sdtool.batch.items import Item
from sdtool.batch.kinds import PRUNABLE, identity_of
from sdtool.batch.sets import SetIndex, as_one, opened_model, with_index
from sdtool.checkpoint import Checkpoint, File, InputError, TensorEntry, UsageError, dataclass
from sdtool.checkpoint.identify import Identity, broken_promises, resolve
from sdtool.scan import Report, Verdict


@dataclass(frozen=True, slots=True)
class Seen:
    """One file. `pruned` and `pruned_fp16` are the bytes of its tensors after `sdtool prune`."""

    item: Item
    nbytes: int
    report: Report
    """Of the scan: of all shards in one."""
    identity: Identity
    checkpoint: Checkpoint
    sources: tuple[File, ...]
    """The file, or the shards, open as long as it is being looked at."""
    promises: tuple[str, ...]
    shards: tuple[str, ...] = ()
    """Of a sharded set, whose index `path` is: the files of its tensors."""
    pruned: int | None = None
    pruned_fp16: int | None = None

    @property
    def path(self) -> str:
        """What a person calls it."""
        return self.item.path

    @property
    def verdict(self) -> Verdict:
        """What the scan thinks of it."""
        return self.report.verdict

    @property
    def tensors(self) -> tuple[TensorEntry, ...]:
        """All weights under the names that the file has, those of further sets with their key."""
        further = (entry for one in self.checkpoint.others for entry in one.named)
        return (*self.checkpoint.tensors, *further)

    @property
    def _read(self) -> tuple[File | SetIndex, ...]:
        """What was read of it."""
        return self.sources if self.item.index is None else (self.item.index, *self.sources)

    @property
    def freed(self) -> int:
        """Bytes that pruning would free, in the precision that the file has."""
        return max(0, self.nbytes - self.pruned) if self.pruned is not None else 0

    def as_json(self) -> dict[str, Any]:
        """What JSON has of it, apart from its path and size."""
        judged = self.report.as_json()
        return {
            "format": self.checkpoint.format,
            "read_bytes": sum(one.nbytes_read for one in self._read),
            "requests": sum(one.requests for one in self._read),
            **{key: judged[key] for key in ("verdict", "findings", "globals")},
            **self.identity.as_json(),
            "notes": [*self.checkpoint.notes, *self.identity.notes],
            "warnings": list(self.promises),
            "pruned_bytes": self.pruned,
            "pruned_fp16_bytes": self.pruned_fp16,
            "wrappers": list(self.checkpoint.wrappers),
            **({"shards": list(self.shards)} if self.shards else {}),
        }


@contextmanager
def looked_at(
    item: Item,
    *,
    allow: Mapping[str, str],
    progress: Callable[[int], object] | None = None,
) -> Generator[Seen]:
    """Open a file, or the shards of an index, and say what it is; closed in the end.

    `progress` is called with the bytes of each read.

    Raises:
        InputError: it cannot be read, or is no checkpoint.
    """
    item = with_index(item)
    with opened_model(item, allow=allow, progress=progress) as (checkpoint, reports, sources):
        identity = identity_of(checkpoint)
        try:
            identity = resolve(identity)
        except InputError as e:
            identity = replace(identity, notes=(*identity.notes, f"not decided: {e.what}"))
        pruned, pruned_fp16 = _after_prune(checkpoint, identity)
        yield Seen(
            item,
            sum(source.nbytes for source in sources),
            as_one(item.path, reports, item.index),
            identity,
            checkpoint,
            tuple(sources),
            broken_promises(os.path.basename(item.path), identity, checkpoint.format),
            () if item.index is None else tuple(source.name for source in sources),
            pruned,
            pruned_fp16,
        )


def _after_prune(checkpoint: Checkpoint, identity: Identity) -> tuple[int | None, int | None]:
    """The bytes that `sdtool prune` would write, as they are and in fp16."""
    if identity.kind not in PRUNABLE and not (checkpoint.training or checkpoint.others):
        return None, None
    from sdtool.prune import decide

    try:
        # of quantized weights there is no cast
        decision = decide(checkpoint, dtype="keep" if identity.quantization else "fp16")
    except (InputError, UsageError):  # nothing that could be pruned: then there is no such size
        return None, None
    is_cast = identity.kind in PRUNABLE and not identity.quantization
    return decision.nbytes_kept, decision.nbytes_after if is_cast else None
