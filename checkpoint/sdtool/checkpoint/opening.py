"""From a file to its readings: what it is by content, and everything it could be taken for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

from sdtool.checkpoint.containers.opening import Budget, Opening
from sdtool.checkpoint.containers.pickles import read_pickles
from sdtool.checkpoint.containers.safetensors import begins_safetensors, read_safetensors
from sdtool.checkpoint.containers.torch_legacy import MAGIC as LEGACY_MAGIC
from sdtool.checkpoint.containers.torch_legacy import read_torch_legacy
from sdtool.checkpoint.containers.zip_archive import find_end
from sdtool.checkpoint.containers.zips import begins_zip, read_zip
from sdtool.checkpoint.errors import InputError, NotACheckpoint, Unsupported
from sdtool.checkpoint.foreign import Foreign, foreign_kind
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.limits import DEFAULT_LIMITS, Limits
from sdtool.checkpoint.reading import Checkpoint, Reading, Stream
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import LocalFile, Source
from sdtool.checkpoint.trace import Anomaly
from sdtool.checkpoint.weights import checkpoint_of

_HEAD_NBYTES = 4096
_TAIL_NBYTES = 512
_TAR_BLOCK_NBYTES = 512
_BEGINS_NUMBER = frozenset(bytes((byte,)) for byte in b"0123456789+\x80\xff")
"""What the checksum of a tar's header begins with."""
_DIRECTORY_NBYTES = 1 << 16


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
    source = LocalFile(path) if isinstance(path, (str, os.PathLike)) else path
    try:
        return checkpoint_of(readings(source, limits=limits), limits=limits)
    except BaseException:
        if isinstance(source, LocalFile):
            source.close()
        raise


def _readings(opening: Opening) -> Iterator[Reading]:
    source = opening.source
    head = source.read_at(0, _HEAD_NBYTES)
    found: list[Reading] = []
    is_zip = head[:4] == b"PK\x03\x04"
    # What the beginning is to an unpickler, before what is inside has used up the budget.
    first = opening.pickle(source) if head and not is_zip else None
    if begins_zip(head):
        found.extend(read_zip(opening))
    elif begins_safetensors(head):
        found.append(read_safetensors(source, opening.limits))
        # A gzip header may look so too: two bytes of it mean nothing to who inflates it.
        found.extend(r for r in _compressed(opening, head) if r.inner)
    elif head[:6] == b"\x93NUMPY":
        found.append(_npy(opening))
    else:
        found.extend(_compressed(opening, head))

    # What the beginning does not show: a tar is known by a checksum, a zip by its end, and a
    # pickle may be anything that an unpickler would follow.
    found.extend(_tar(opening, head))
    if first is not None:
        found.extend(_pickles(opening, first))
    end = None if is_zip else find_end(source)
    if end is not None and not _is_member_of(found, end):
        archives = list(read_zip(opening))
        found.extend(a for a in archives if a.members or not found or _has_entries(source, end))
    if len(found) > 1:
        names = " and as ".join(reading.format for reading in found)
        note = Anomaly(RuleId.POLYGLOT, f"it can be read as {names}", 0)
        found[0] = replace(found[0], anomalies=(*found[0].anomalies, note))
    if not found:
        found.append(_foreign(source, head))
    yield from found


def _is_member_of(found: list[Reading], offset: int) -> bool:
    """Whether a position belongs to a member of an archive that was read already."""
    head = _TAR_BLOCK_NBYTES
    return any(
        member.header_offset <= offset < member.header_offset + head + member.stored_nbytes
        for reading in found
        if reading.format in (Format.TAR, Format.TORCH_TAR)
        for member in reading.members
    )


def _has_entries(source: Source, end: int) -> bool:
    """Whether a zip directory stands before this end record; four bytes alone may be chance."""
    start = max(0, end - _DIRECTORY_NBYTES)
    return b"PK\x01\x02" in source.read_at(start, end - start)


# Most files are zip or safetensors: the readers of the others are imported when one turns up.


def _npy(opening: Opening) -> Reading:
    from sdtool.checkpoint.containers.numpy_file import read_npy

    return read_npy(opening)


def _compressed(opening: Opening, head: bytes) -> Iterator[Reading]:
    from sdtool.checkpoint.containers.compressed import compression_of, read_compressed

    return read_compressed(opening) if compression_of(head[:32]) else iter(())


def _tar(opening: Opening, head: bytes) -> Iterator[Reading]:
    # Whatever it begins with: the first bytes of a tar are a name.
    if len(head) < 512 or head[148:156].lstrip()[:1] not in _BEGINS_NUMBER:
        return
    from sdtool.checkpoint.containers.tars import begins_tar, read_plain_tar, read_tar_archive

    if not begins_tar(head):
        return
    from sdtool.checkpoint.containers.torch_tar import is_torch_tar, read_torch_tar

    archive = read_tar_archive(opening)
    if is_torch_tar(archive):
        yield read_torch_tar(opening, archive)
    else:
        yield read_plain_tar(opening, archive)


def _pickles(opening: Opening, first: Stream) -> Iterator[Reading]:
    """A legacy torch file, or pickles in a row; nothing if no unpickler would follow it."""
    if first.error is None and type(first.value) is int and first.value == LEGACY_MAGIC:
        yield read_torch_legacy(opening, first)
        return
    yield from read_pickles(opening, first)


def _foreign(source: Source, head: bytes) -> Reading:
    tail = source.read_at(max(0, source.nbytes - _TAIL_NBYTES), _TAIL_NBYTES)
    kind = foreign_kind(head, tail, os.path.basename(source.name))
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
