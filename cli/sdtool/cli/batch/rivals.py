"""Inputs of one folder that would share an output: which of them was made of which."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from sdtool.checkpoint.errors import InputError, UnsafeError
from sdtool.checkpoint.identify.ema import ema_name
from sdtool.checkpoint.reading import Checkpoint, TensorEntry
from sdtool.cli.batch.gate import admit, judged
from sdtool.convert.casts import CASTABLE
from sdtool.convert.layout import Cast, row_major_chunks
from sdtool.convert.shards import is_index, read_index
from sdtool.scan import Verdict

_PROBE_NBYTES = 4096


@dataclass(frozen=True, slots=True)
class _Model:
    """What a file holds, or a sharded set of which it is the index."""

    path: str
    tensors: tuple[TensorEntry, ...]
    is_safetensors: bool

    @property
    def worth(self) -> tuple[int, bool]:
        return sum(entry.nbytes for entry in self.tensors), self.is_safetensors


def made_of_another(paths: Sequence[str]) -> dict[str, str]:
    """Return, for each file that holds nothing that another one does not, a line that says so.

    The other is the one with most; of equals a safetensors file, which needs no unpickler. One
    file is made of another when each of its tensors has the name and the shape of a weight or its
    EMA there, and begins with the same 4 KiB of values, cast if the types differ: another
    fine-tune differs there. An index stands for its shards. Nothing is said of files that are not
    clean.
    """
    try:
        with ExitStack() as stack:
            models = [_opened(path, stack) for path in paths]
            best, *others = sorted(models, key=lambda model: model.worth, reverse=True)
            named = {entry.name: entry for entry in best.tensors}
            return {
                part.path: f"{best.path} holds its tensors and was taken"
                for part in others
                if part.tensors and all(_is_there(entry, named) for entry in part.tensors)
            }
    except (InputError, UnsafeError):
        return {}  # told when the file's turn comes


def _opened(path: str, stack: ExitStack) -> _Model:
    parts: list[Checkpoint] = []
    for part in read_index(path).shards if is_index(path) else (path,):
        taken, report = stack.enter_context(judged(os.fspath(part), {}))
        parts.append(admit(taken, report, disarm=False))
        if report.verdict is not Verdict.CLEAN:
            raise InputError("is not clean", where=report.path)
    tensors = tuple(entry for checkpoint in parts for entry in checkpoint.tensors)
    return _Model(path, tensors, all(part.format == "safetensors" for part in parts))


def _is_there(entry: TensorEntry, named: Mapping[str, TensorEntry]) -> bool:
    candidates = (named.get(entry.name), named.get(ema_name(entry.name)))
    return any(_begins_alike(entry, other) for other in candidates if other is not None)


def _begins_alike(entry: TensorEntry, other: TensorEntry) -> bool:
    if entry.shape != other.shape or entry.unsupported or other.unsupported:
        return False
    cast = None
    if entry.dtype is not other.dtype:
        if not {entry.dtype.name, other.dtype.name} <= CASTABLE:
            return False
        cast = Cast(other.dtype, entry.dtype)
    ours = bytes(next(row_major_chunks(entry, None, _PROBE_NBYTES), b""))
    theirs = bytes(next(row_major_chunks(other, cast, _PROBE_NBYTES), b""))
    common = min(len(ours), len(theirs))
    return ours[:common] == theirs[:common] and bool(common) is bool(entry.numel)
