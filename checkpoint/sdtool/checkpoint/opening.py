"""From a file to its readings: what it is by content, and everything it could be taken for."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from sdtool.checkpoint.containers.compressed import COMPRESSED
from sdtool.checkpoint.containers.container import Container
from sdtool.checkpoint.containers.gguf import GGUF
from sdtool.checkpoint.containers.hdf5 import HDF5
from sdtool.checkpoint.containers.numpy_file import NPY
from sdtool.checkpoint.containers.onnx import ONNX
from sdtool.checkpoint.containers.opening import Budget, Opening
from sdtool.checkpoint.containers.pickles import PICKLES
from sdtool.checkpoint.containers.safetensors import SAFETENSORS
from sdtool.checkpoint.containers.tars import TAR
from sdtool.checkpoint.containers.tensorflow import TENSORFLOW
from sdtool.checkpoint.containers.zips import ZIP, ZIP_BEHIND
from sdtool.checkpoint.errors import InputError, NotACheckpoint, Unsupported
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.limits import DEFAULT_LIMITS, Limits
from sdtool.checkpoint.reading import Checkpoint, Reading
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import LocalFile, Source
from sdtool.checkpoint.trace import Anomaly

if TYPE_CHECKING:
    from sdtool.checkpoint.foreign import Foreign

CONTAINERS: tuple[Container, ...] = (
    ZIP, SAFETENSORS, NPY, GGUF, HDF5, ONNX, COMPRESSED, TAR, PICKLES, ZIP_BEHIND, TENSORFLOW,
)  # fmt: skip
"""In the order in which a file is taken for them: what its first bytes say, then what they do not
show. All of them are asked; more than one answer is a polyglot."""

_TAIL_NBYTES = 512


def readings(
    source: Source,
    *,
    limits: Limits = DEFAULT_LIMITS,
    deep: bool = False,
    announced: bool = False,
    budget: Budget | None = None,
) -> tuple[Reading, ...]:
    """Every way that a loader may take `source`, the one it most looks like first.

    `deep` looks into every member and at every local header. `announced` says that a loader is
    handed these bytes: whatever else they are, they are a pickle unless they begin as a zip.
    `budget` is what may be spent; without one it follows from the size. Bad content never raises:
    a Reading says in `error` why it could not be read to the end, and one that is no checkpoint at
    all says so with `NotACheckpoint`.

    Raises:
        Unreadable: the operating system refused a read.
    """
    if budget is None:
        budget = Budget.for_file(source.nbytes, limits)
    return tuple(_readings(Opening(source, limits, budget, deep, 0, announced, _readings)))


def open_checkpoint(
    path: str | os.PathLike[str] | Source, *, limits: Limits = DEFAULT_LIMITS
) -> Checkpoint:
    """Open the one loadable reading of a file; the file stays open for its tensors until
    the Checkpoint is closed (it is a context manager).

    Raises:
        InputError: it cannot be read, is no checkpoint, or can be taken for two things at once.
    """
    from sdtool.checkpoint.weights import checkpoint_of

    source = LocalFile(path) if isinstance(path, (str, os.PathLike)) else path
    try:
        return checkpoint_of(readings(source, limits=limits), limits=limits)
    except BaseException:
        if isinstance(source, LocalFile):
            source.close()
        raise


def _readings(opening: Opening) -> list[Reading]:
    found = opening.found
    for container in CONTAINERS:
        if container.begins(opening):
            found += tuple(container.read(opening))
    if not found:
        return [_foreign(opening)]
    if len(found) > 1:
        names = " and as ".join(reading.format for reading in found)
        note = Anomaly(RuleId.POLYGLOT, f"it can be read as {names}", 0)
        found[0] = replace(found[0], anomalies=(*found[0].anomalies, note))
    return found


def _foreign(opening: Opening) -> Reading:
    """Name what no container is."""
    from sdtool.checkpoint.foreign import foreign_kind  # a long table, for what is no checkpoint

    source = opening.source
    tail = source.read_at(max(0, source.nbytes - _TAIL_NBYTES), _TAIL_NBYTES)
    kind = foreign_kind(opening.head, tail, os.path.basename(source.name))
    if kind is None:
        error: InputError = NotACheckpoint(
            "not a recognized checkpoint format",
            where=source.name,
            hint="check that the download is complete, and where it came from",
        )
        return Reading(Format.UNKNOWN, source, error=error)
    return Reading(Format.UNKNOWN, source, error=_foreign_error(source, kind), foreign=kind)


def _foreign_error(source: Source, kind: Foreign) -> InputError:
    if kind.sort == "other":
        return NotACheckpoint(f"this is {kind.label}", where=source.name, hint=kind.advice)
    return Unsupported(
        f"this is {kind.label}, which sdtool does not read", where=source.name, hint=kind.advice
    )
