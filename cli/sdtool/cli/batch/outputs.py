"""Where each output goes, decided for all inputs before anything is written."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sdtool.checkpoint.errors import UsageError
from sdtool.cli.batch.expand import Item


@dataclass(frozen=True, slots=True)
class Job:
    """One input and the outputs to make of it."""

    item: Item
    outs: tuple[Path, ...]
    shards: tuple[str, ...] = ()
    """The files of a sharded set, of which the item is the index."""

    @property
    def is_onto_itself(self) -> bool:
        """Whether an output's name is the input's: the file is what was asked for already."""
        return any(same_file(self.item.path, out) for out in self.outs)


def plan_outputs(
    items: Sequence[Item],
    names: Callable[[str], Sequence[str]],
    *,
    out: str | None = None,
    out_dir: str | None = None,
) -> list[Job]:
    """Give every input its outputs: `out`, or `names(path)` beside it, or mirrored in `out_dir`.

    Raises:
        UsageError: two inputs share an output, or an output is an input that is worked on.
    """
    if out is not None and out_dir is not None:
        raise UsageError("-o and --out-dir do not go together")
    if out is not None and len(items) > 1:
        raise UsageError(
            f"-o names one output and there are {len(items)} inputs",
            hint="--out-dir takes a folder for all of them",
        )
    if out_dir is not None and os.path.lexists(out_dir) and not os.path.isdir(out_dir):
        raise UsageError("--out-dir is not a folder", where=out_dir)
    if out is not None and os.path.isdir(out):
        raise UsageError(
            "-o names a file, and this is a folder", where=out, hint="--out-dir takes a folder"
        )
    jobs = [
        Job(item, tuple(_place(item, name, out_dir) for name in names(item.path)))
        if out is None
        else Job(item, (Path(out),))
        for item in items
    ]
    if out is not None and jobs and jobs[0].is_onto_itself:
        raise UsageError("-o names the input itself", where=out)
    _check_collisions(jobs)
    return jobs


def same_file(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> bool:
    """Whether two paths are one file, through links and whatever the case of their letters."""
    if _key(a) == _key(b):
        return True
    try:
        return os.path.samefile(a, b)
    except OSError:
        return False


def _place(item: Item, name: str, out_dir: str | None) -> Path:
    folder = os.path.dirname(item.path)
    if out_dir is not None:
        inside = os.path.relpath(folder, item.root) if item.root is not None else "."
        folder = os.path.normpath(os.path.join(out_dir, inside))
    return Path(folder, name)


def _check_collisions(jobs: Iterable[Job]) -> None:
    working = [job for job in jobs if not job.is_onto_itself]
    inputs = {_key(job.item.path): job.item.path for job in working}
    claimed: dict[str, str] = {}
    for path, out in [(job.item.path, out) for job in working for out in job.outs]:
        key = _key(out)
        if key in inputs:
            raise UsageError(f"the output of {path} would replace another input", where=inputs[key])
        if key in claimed:
            raise UsageError(
                f"{claimed[key]} and {path} would both become",
                where=os.fspath(out),
                hint="nothing was written; give one of them another output with -o",
            )
        claimed[key] = path


def _key(path: str | os.PathLike[str]) -> str:
    folder, name = os.path.split(os.path.abspath(path))
    whole = os.path.normcase(os.path.join(os.path.realpath(folder), name))
    return whole.casefold() if sys.platform == "darwin" else whole
