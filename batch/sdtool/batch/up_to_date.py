"""Whether an output that is there already was made of the same source, without a full pass."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from sdtool.batch.outputs import Outputs
from sdtool.checkpoint import File, InputError, LocalFile
from sdtool.convert import ConvertPlan, Placed, PtPlan, casting, check_reading, row_major_chunks

_PROBE_NBYTES = 4096
_MOST_FETCHED = 16
"""Of an output elsewhere each probe is a request."""


def is_made_of(plan: ConvertPlan | PtPlan, out: Path, outputs: Outputs) -> bool:
    """Whether `out` is what `plan` would write, as far as its header and a probe can tell.

    The size and what stands around the tensors have to be the planned ones (hashes of the data,
    which are not known yet, aside), and so do the first 4 KiB of every tensor, or of 16 of an
    output elsewhere: another fine-tune differs there.
    """
    try:
        with outputs.there(out) as file:
            if file is None:
                return False
            # What is compressed is inflated from its beginning for each probe.
            pieces = [piece for tensor in plan.tensors for piece in tensor.pieces]
            packed = (p.entry for p in pieces if p.entry.storage.compression)
            check_reading(packed, str(out))
            return (
                file.nbytes == plan.nbytes
                and _has_frame(plan, file)
                and all(_begins_alike(piece, file) for piece in _probed(pieces, file))
            )
    except InputError:
        return False


def _probed(pieces: Sequence[Placed], file: File) -> Sequence[Placed]:
    return pieces if isinstance(file, LocalFile) else pieces[:: len(pieces) // _MOST_FETCHED + 1]


def _has_frame(plan: ConvertPlan | PtPlan, file: File) -> bool:
    if isinstance(plan, PtPlan):
        return all(
            record.content is None or file.read_at(record.offset, record.nbytes) == record.content
            for record in plan.records
        )
    if file.read_at(0, 8) != plan.header_nbytes.to_bytes(8, "little"):
        return False
    found, header = file.read_at(8, plan.header_nbytes), plan.header
    if not plan.hash_keys:
        return found == header
    try:
        there, planned = json.loads(found), json.loads(header)
        for key in plan.hash_keys:
            there["__metadata__"][key] = planned["__metadata__"][key]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return bool(there == planned)


def _begins_alike(tensor: Placed, file: File) -> bool:
    entry = tensor.entry
    cast = casting(entry, tensor.dtype, tensor.scale)
    probe = bytes(next(row_major_chunks(entry, cast, _PROBE_NBYTES), b""))
    return file.read_at(tensor.offset, len(probe)) == probe
