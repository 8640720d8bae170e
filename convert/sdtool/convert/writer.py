"""Write a planned safetensors file: header, then bytes, whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sdtool.checkpoint.errors import OutputError, UsageError
from sdtool.convert.casts import component_of
from sdtool.convert.copying import Copied, Progress, copy_tensors, local_files
from sdtool.convert.hashes import Following, Hashes, autov1
from sdtool.convert.layout import Census
from sdtool.convert.metadata import HASH_KEYS
from sdtool.convert.output import NewFile, new_file
from sdtool.convert.plan import ConvertPlan, Placed, header_bytes


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written: `nbytes` is its size, `census` is by component of the model."""

    path: Path
    nbytes: int
    tensors: int
    hashes: Hashes | None = None
    census: Mapping[str, Census] = field(default_factory=dict[str, Census])
    notes: tuple[str, ...] = ()


def write_safetensors(
    plan: ConvertPlan,
    out: str | os.PathLike[str],
    *,
    force: bool = False,
    progress: Progress | None = None,
    hashes: bool = False,
    allow_overflow: bool = False,
) -> Written:
    """Write the file that `plan` describes to `out`; nothing is left behind when that fails.

    `progress` is told how many more bytes of tensors were written. Nothing is judged here: whether
    the input may be converted at all was decided before.

    Raises:
        OutputError: `out` exists and `force` is false, the disk is full, a cast would overflow.
        UsageError: `out` is the input.
        Malformed: a stored CRC-32 does not match; the message names the tensor.
        Truncated: the input ends first.
        Unreadable: the input could not be read, or has changed meanwhile.
    """
    path = Path(out)
    refuse_input(path, plan.tensors)
    with new_file(path, plan.nbytes, force=force) as file, contextlib.ExitStack() as stack:
        head = len(plan.header).to_bytes(8, "little") + plan.header
        file.write_at(head, 0)
        following = None
        if hashes or plan.hash_keys:
            # a header that waits for the hash of the data leaves the whole file for afterwards
            following = Following(
                file.read_at, plan.data_offset, plan.nbytes, None if plan.hash_keys else head
            )
            stack.callback(following.stop)
        copied = copy_tensors(
            plan.tensors,
            file,
            progress=progress,
            written=None if following is None else following.written,
        )
        refuse_overflow(copied, allow_overflow=allow_overflow)
        found = None if following is None else _finish(plan, file, following, hashes=hashes)
    return Written(path, plan.nbytes, len(plan.tensors), found, by_component(copied), plan.notes)


def refuse_input(out: Path, tensors: Iterable[Placed]) -> None:
    """Check that `out` is not the file that the tensors are read from.

    Raises:
        UsageError: it is.
    """
    if not out.exists():
        return
    for file in local_files(t.entry.storage for t in tensors):
        if os.path.samestat(out.stat(), file.stat):
            raise UsageError(
                "the output is the input",
                where=os.fspath(out),
                hint="choose another name with -o or another folder with --out-dir",
            )


def refuse_overflow(copied: Copied, *, allow_overflow: bool) -> None:
    """Check that no cast has made a finite value infinite.

    Raises:
        OutputError: one has; the tensors are named.
    """
    names = sorted(name for name, census in copied.censuses.items() if census.overflowed)
    if names and not allow_overflow:
        raise OutputError(
            f"values of {len(names)} tensors are too large for this dtype and would become inf",
            where=", ".join(names[:8]) + (", ..." if len(names) > 8 else ""),
            hint="take bf16, which reaches as far as fp32, or give --allow-overflow",
        )


def by_component(copied: Copied) -> dict[str, Census]:
    """Add up the censuses of the cast tensors by component."""
    total: dict[str, Census] = {}
    for name, census in sorted(copied.censuses.items()):
        total.setdefault(component_of(name), Census()).add(census)
    return total


def _finish(
    plan: ConvertPlan, file: NewFile, following: Following, *, hashes: bool
) -> Hashes | None:
    data, whole = following.finish()
    if plan.hash_keys:
        known = {key: HASH_KEYS[key] + data for key in plan.hash_keys}
        start = plan.data_offset
        header = header_bytes(
            {**plan.metadata, **known},
            [
                (t.name, t.dtype, t.entry.shape, t.offset - start, t.offset - start + t.nbytes)
                for t in plan.tensors
            ],
        )
        file.write_at(header, 8)  # as long as the one before: a digest has one length
    if not hashes:
        return None
    if whole is None:
        again = Following(file.read_at, 0, plan.nbytes, None)
        again.written(0, plan.nbytes)
        whole, _ = again.finish()
    return Hashes(whole, autov1(file.read_at), data)
