"""Whether an output that is there already was made of the same source, told without a full pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sdtool.checkpoint.errors import InputError
from sdtool.checkpoint.source import LocalFile, local_file
from sdtool.convert.layout import Cast, row_major_chunks
from sdtool.convert.plan import ConvertPlan

_PROBE_NBYTES = 4096


def is_made_of(plan: ConvertPlan, out: Path) -> bool:
    """Whether `out` is what `plan` would write, as far as its header and a probe can tell.

    The size and the header have to be the planned ones (hashes of the data, which are not known
    yet, aside), and so do the first 4 KiB of every tensor: another fine-tune differs there.
    """
    try:
        with local_file(out) as file:
            return (
                file.nbytes == plan.nbytes
                and _has_header(plan, file)
                and all(_begins_alike(plan, i, file) for i in range(len(plan.tensors)))
            )
    except InputError:
        return False


def _has_header(plan: ConvertPlan, file: LocalFile) -> bool:
    if file.read_at(0, 8) != len(plan.header).to_bytes(8, "little"):
        return False
    found = file.read_at(8, len(plan.header))
    if not plan.hash_keys:
        return found == plan.header
    try:
        there, planned = json.loads(found), json.loads(plan.header)
        for key in plan.hash_keys:
            there["__metadata__"][key] = planned["__metadata__"][key]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return bool(there == planned)


def _begins_alike(plan: ConvertPlan, index: int, file: LocalFile) -> bool:
    tensor = plan.tensors[index]
    entry = tensor.entry
    cast: Any = None if entry.dtype is tensor.dtype else Cast(entry.dtype, tensor.dtype)
    probe = bytes(next(row_major_chunks(entry, cast, _PROBE_NBYTES), b""))
    return file.read_at(tensor.offset, len(probe)) == probe
