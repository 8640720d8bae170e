"""Inputs of one folder that would share an output: which of them was made of which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from sdtool.batch.items import Item
from sdtool.batch.sets import files_of
from sdtool.checkpoint import Checkpoint, Format, InputError, TensorEntry, UnsafeError, dataclass
from sdtool.checkpoint.identify import ema_name
from sdtool.convert import (
    CASTABLE,
    DEQUANTIZED_DTYPES,
    Origins,
    casting,
    origins_of,
    row_major_chunks,
)
from sdtool.scan import Verdict, admit, judged

_PROBE_NBYTES = 4096


@dataclass(frozen=True, slots=True)
class _Model:
    """What a file holds, or a sharded set of which it is the index."""

    path: str
    parts: tuple[Checkpoint, ...]

    @property
    def tensors(self) -> tuple[TensorEntry, ...]:
        return tuple(entry for part in self.parts for entry in part.tensors)

    @property
    def worth(self) -> tuple[int, bool]:
        is_safetensors = all(part.format is Format.SAFETENSORS for part in self.parts)
        return sum(entry.nbytes for entry in self.tensors), is_safetensors


def made_of_another(paths: Sequence[str]) -> dict[str, str]:
    """Return, for each file that holds nothing that another one does not, a line that says so.

    The other is the one with most; of equals a safetensors file, which needs no unpickler. One
    file is made of another when each of its tensors has the name and the shape of a weight or its
    EMA there, and begins with the same 4 KiB of values, cast or dequantized if the types differ:
    another fine-tune differs there. (What was dequantized is larger than what it was made of, so
    each is asked, the largest first, until one holds all the others.) An index stands for its
    shards. Nothing is said of files that are not clean.
    """
    try:
        with ExitStack() as stack:
            models = [_opened(path, stack) for path in paths]
            models.sort(key=lambda model: model.worth, reverse=True)
            first: dict[str, str] | None = None
            for best in models:
                held = _held_by(best, [model for model in models if model is not best])
                if len(held) == len(models) - 1:
                    return held
                first = held if first is None else first
            return first or {}
    except (InputError, UnsafeError):
        return {}  # reported when the file's turn comes


def _held_by(best: _Model, others: Sequence[_Model]) -> dict[str, str]:
    named = {entry.name: entry for entry in best.tensors}
    held: dict[str, str] = {}
    for other in others:
        origins = origins_of(best.parts, [entry.name for entry in other.tensors])
        if other.tensors and all(_is_there(entry, named, origins, best) for entry in other.tensors):
            held[other.path] = f"{best.path} was used instead: it contains the same tensors"
    return held


def _opened(path: str, stack: ExitStack) -> _Model:
    parts: list[Checkpoint] = []
    for part in files_of(Item(path)):
        taken, report = stack.enter_context(judged(part.path, {}))
        parts.append(admit(taken, report, disarm=False))
        if report.verdict is not Verdict.CLEAN:
            raise InputError("is not clean", where=report.path)
    return _Model(path, tuple(parts))


def _is_there(
    entry: TensorEntry, named: Mapping[str, TensorEntry], origins: Origins, best: _Model
) -> bool:
    candidates = [named.get(entry.name), named.get(ema_name(entry.name))]
    if entry.name == "emb_params" and best.parts[0].kind == "embedding":
        candidates.extend(best.tensors)  # in a file of its own the token has that name
    return any(_begins_alike(entry, other, origins) for other in candidates if other is not None)


def _begins_alike(entry: TensorEntry, other: TensorEntry, origins: Origins) -> bool:
    if entry.shape != other.shape or entry.unsupported or other.unsupported:
        return False
    scale = origins.scales.get(other.name)
    if scale is not None and entry.dtype.name not in DEQUANTIZED_DTYPES:
        return False
    if scale is None and entry.dtype is not other.dtype:
        is_castable = {entry.dtype.name, other.dtype.name} <= CASTABLE
        if other.name in origins.exact or not is_castable:
            return False
    cast = casting(other, entry.dtype, scale)
    ours = bytes(next(row_major_chunks(entry, None, _PROBE_NBYTES), b""))
    theirs = bytes(next(row_major_chunks(other, cast, _PROBE_NBYTES), b""))
    common = min(len(ours), len(theirs))
    return ours[:common] == theirs[:common] and bool(common) is bool(entry.numel)
