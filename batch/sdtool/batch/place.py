"""Where each output goes, decided for all inputs before anything is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from sdtool.batch.clashes import takes_an_input, takes_an_output
from sdtool.batch.file_keys import AnyPath, Hashes, apart_from_others, file_keys, same_file
from sdtool.batch.items import Item
from sdtool.batch.outputs import OnThisMachine, Outputs
from sdtool.batch.pipelines import Pipeline, is_folder, pipeline_of
from sdtool.batch.rivals import made_of_another
from sdtool.batch.sets import with_index
from sdtool.checkpoint import Format, InputError, OutputError, UsageError, dataclass, os_reason
from sdtool.convert import REPLACED_SUFFIXES, Target, is_index

_HERE = OnThisMachine()


@dataclass(frozen=True, slots=True)
class Job:
    """One input and the outputs to make of it; of each its name, which a path would hold thrice."""

    item: Item
    out_names: tuple[str, ...]
    clash: UsageError | None = None
    """Why its outputs cannot be made beside those of the other inputs."""
    passed_over: str | None = None
    """Why another input is worked on in its place."""
    is_apart: bool = False
    """Whether no other input could have an output of these names: see `apart_from_others`."""

    @property
    def outs(self) -> tuple[Path, ...]:
        """What is made of it."""
        return tuple(map(Path, self.out_names))

    @property
    def files(self) -> tuple[str, ...]:
        """What is read."""
        return (self.item.path,)


@dataclass(frozen=True, slots=True)
class SetJob:
    """A sharded set and the files to make of it: the item is its index, `outs[0]` the new one."""

    item: Item
    out_names: tuple[str, ...]
    shards: tuple[Item, ...]
    clash: UsageError | None = None
    passed_over: str | None = None
    is_apart: bool = False

    @property
    def outs(self) -> tuple[Path, ...]:
        """What is made of it."""
        return tuple(map(Path, self.out_names))

    @property
    def files(self) -> tuple[str, ...]:
        """What is read: the index and its shards."""
        return tuple(dict.fromkeys((self.item.path, *(shard.path for shard in self.shards))))


@dataclass(frozen=True, slots=True)
class PartsJob:
    """The components of a model and the one file to make of them.

    The item is their folder, or the file that was named for the UNet.
    """

    item: Item
    out_names: tuple[str, ...]
    pipeline: Pipeline
    clash: UsageError | None = None
    passed_over: str | None = None
    is_apart: bool = False

    @property
    def outs(self) -> tuple[Path, ...]:
        """What is made of it."""
        return tuple(map(Path, self.out_names))

    @property
    def files(self) -> tuple[str, ...]:
        """What is read."""
        parts = self.pipeline.parts.values()
        return tuple(dict.fromkeys(file.path for part in parts for file in part.files))


AnyJob: TypeAlias = Job | SetJob | PartsJob
_Names: TypeAlias = Callable[[str, Sequence[str]], Sequence[str]]
"""From what an input is called, and of an index its shards, to the names of the outputs."""


def is_onto_itself(job: AnyJob, outputs: Outputs = _HERE) -> bool:
    """Whether an output's name is the input's: the file is what was asked for already."""
    return any(is_the_input(job.item.path, out, outputs) for out in job.out_names)


def is_the_input(path: str, out: AnyPath, outputs: Outputs) -> bool:
    """Whether an output is what an input is called."""
    return outputs.called(Path(out)) == path if outputs.is_elsewhere else same_file(out, path)


def nbytes_of(job: AnyJob) -> int:
    """Return the bytes that there are to work through; 0 where that cannot be found out."""
    try:
        return sum(map(os.path.getsize, job.files))
    except OSError:
        return 0


def plan_outputs(
    items: Sequence[Item],
    names: _Names,
    *,
    outputs: Outputs = _HERE,
    makes_folders: bool = False,
) -> list[AnyJob]:
    """Give every input its outputs: the one that was named, or `names(path, shards)`, beside it or
    mirrored in the folder that was named.

    Inputs that share an output, or would replace another input, get a `clash`, so that nothing is
    made of them. Of files in a folder, those that were plainly made of one another are settled: one
    is taken, the others are `passed_over`. Outputs that are folders may be there already.

    Raises:
        UsageError: the options contradict each other or the inputs.
    """
    out, out_dir = outputs.out, outputs.out_dir
    if out == "-":
        raise UsageError(
            "-o names a file: nothing is written to standard output",
            hint="use ./- for a file called -",
        )
    if out is not None and len(items) > 1:
        raise UsageError(
            f"-o names one output and there are {len(items)} inputs",
            hint="--out-dir expects a folder for all of them",
        )
    if out_dir is not None and os.path.lexists(out_dir) and not os.path.isdir(out_dir):
        raise UsageError("--out-dir is not a folder", where=out_dir)
    if out is not None and os.path.isdir(out) and not makes_folders:
        raise UsageError(
            "-o expects a file, and this is a folder", where=out, hint="--out-dir expects a folder"
        )
    mirrored = _mirrored(out_dir)
    jobs = [_job(item, out, out_dir, names, mirrored) for item in items]
    if out is not None and jobs and is_onto_itself(jobs[0], outputs):
        raise UsageError("-o names the input itself", where=outputs.called(Path(out)))
    return _without_clashes(jobs, outputs)


def apart(items: Sequence[Item], outputs: Outputs) -> tuple[list[Item], int]:
    """Leave out what was found where outputs go, inside of the folder that was named.

    Outputs go there, and a run does not read its own. Returns the others and how many were left
    out. A file that was named itself, or by a pattern, stays; and so do all where outputs go to the
    named folder itself.
    """
    out_dir = outputs.out_dir
    if out_dir is None:
        return list(items), 0
    real: dict[str, str] = {}

    def place(folder: str) -> str:
        if folder not in real:
            real[folder] = os.path.normcase(os.path.realpath(folder))
        return real[folder]

    def is_output(item: Item) -> bool:
        if item.root is None or outputs.is_elsewhere != (item.remote is not None):
            return False
        if outputs.is_elsewhere:
            above, root = outputs.called(Path(out_dir)), f"{item.root.rstrip('/')}/"
            return above != root and above.startswith(root) and item.path.startswith(above)
        if not _is_below(place(out_dir), place(item.root)):
            return False
        folder = place(os.path.dirname(item.path))
        return folder == place(out_dir) or _is_below(folder, place(out_dir))

    rest = [item for item in items if not is_output(item)]
    return rest, len(items) - len(rest)


def _is_below(folder: str, other: str) -> bool:
    return folder != other and folder.startswith(os.path.join(other, ""))


def check_suffix(out: Path, to: Target, called: str) -> None:
    """Check that programs which go by the suffix will take an output for what it is.

    Raises:
        UsageError: it is called like the other format.
    """
    suffix = out.suffix.lower()
    is_safetensors = Format.of_suffix(suffix) is Format.SAFETENSORS
    if to is Target.SAFETENSORS and not is_safetensors and suffix in REPLACED_SUFFIXES:
        raise UsageError(
            f"-o names a {suffix} file, but the output is safetensors: programs go by the suffix",
            where=called,
            hint="use the suffix .safetensors",
        )
    if to is Target.PT and is_safetensors:
        raise UsageError(
            f"-o names a {suffix} file, but the output is a torch file: programs go by the suffix",
            where=called,
            hint="use the suffix .pt",
        )


def make_folder(folder: Path) -> None:
    """Make the folder of an output.

    Raises:
        OutputError: the operating system refused.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise OutputError(f"cannot be created ({os_reason(e)})", where=os.fspath(folder)) from e


@contextmanager
def new_folders(folders: Iterable[Path]) -> Generator[None]:
    """Make the folders of outputs; those that were made go again when anything is raised.

    Raises:
        OutputError: the operating system refused.
    """
    wanted = tuple(dict.fromkeys(folders))
    missing = {f for folder in wanted for f in (folder, *folder.parents) if not f.exists()}
    try:
        for folder in wanted:
            make_folder(folder)
        yield
    except BaseException:
        for folder in sorted(missing, reverse=True):  # what is inside before what it is in
            with suppress(OSError):
                folder.rmdir()
        raise


def _job(
    item: Item,
    out: str | None,
    out_dir: str | None,
    names: _Names,
    mirrored: Callable[[str, str | None], str],
) -> AnyJob:
    shards: tuple[Item, ...] = ()
    is_set = is_index(item.path)
    if is_set:
        with suppress(InputError):  # reported when the set's turn comes
            shards = with_index(item).files
    called = names(item.called, [shard.called for shard in shards])
    if out is not None:
        places = [Path(out)]
    elif item.remote is not None:
        places = [Path(out_dir or ".", *item.folders, name) for name in called]
    else:
        folder = mirrored(os.path.dirname(item.path), item.root)
        places = [Path(folder, name) for name in called]
    names_out = tuple(map(os.fspath, places))
    if is_set:
        return SetJob(item, names_out, shards)
    if not is_folder(item):
        return Job(item, names_out)
    pipeline = Pipeline({})
    with suppress(InputError):  # reported when the folder's turn comes
        pipeline = pipeline_of(item)
    return PartsJob(item, names_out, pipeline)


def _mirrored(out_dir: str | None) -> Callable[[str, str | None], str]:
    """Return a function from the folder of an input, and the one it was found in, to the folder of
    its outputs. Most inputs of a run have the same few.
    """

    @lru_cache(256)
    def folder_of(folder: str, root: str | None) -> str:
        if out_dir is None:
            return folder
        inside = os.path.relpath(folder, root) if root is not None else "."
        return os.path.normpath(os.path.join(out_dir, inside))

    return folder_of


def _without_clashes(jobs: list[AnyJob], outputs: Outputs) -> list[AnyJob]:
    """Mark the jobs that get in each other's way, in the list itself."""
    key_of = file_keys()
    idle = {number for number, job in enumerate(jobs) if is_onto_itself(job, outputs)}
    passed_over, clashes = _in_each_others_way(
        [job for number, job in enumerate(jobs) if number not in idle], key_of, outputs
    )
    is_apart = apart_from_others(jobs, key_of)
    for number, job in enumerate(jobs):
        if number not in idle:
            path = job.item.path
            jobs[number] = replace(
                job,
                clash=clashes.get(path),
                passed_over=passed_over.get(path),
                is_apart=path not in clashes and is_apart(job),
            )
    return jobs


def _in_each_others_way(
    jobs: Sequence[AnyJob], key_of: Callable[[AnyPath], str], outputs: Outputs
) -> tuple[dict[str, str], dict[str, UsageError]]:
    """Return, by their paths, the inputs that others stand for, and why others are left."""

    def hashes(job: AnyJob) -> set[int]:
        return {hash(key_of(out)) for out in job.out_names}

    # of most runs that is nothing, and what is looked at below are a few files
    several = Hashes(
        one for job in jobs for one in (hash(key_of(job.item.path)), *hashes(job))
    ).repeated()
    working = {
        job.item.path: job
        for job in jobs
        if several
        and (hash(key_of(job.item.path)) in several or not several.isdisjoint(hashes(job)))
    }
    inputs = {key_of(path): path for path in working}
    claims: dict[str, list[tuple[str, Path]]] = {}
    for path, job in working.items():
        for key, out in {key_of(out): out for out in job.outs}.items():
            claims.setdefault(key, []).append((path, out))
    passed_over: dict[str, str] = {}
    clashes: dict[str, UsageError] = {}
    for key, claimed in claims.items():
        for path, out in claimed:
            if key in inputs:
                clashes[path] = takes_an_input(outputs.called(out), path)
        paths = [path for path, _ in claimed if path not in passed_over]
        if len(paths) > 1 and _are_neighbours([working[path].item for path in paths]):
            passed_over |= made_of_another(paths)
            paths = [path for path in paths if path not in passed_over]
        if len(paths) > 1:
            for path, out in claimed:
                if path in paths:
                    other = paths[0] if path != paths[0] else paths[1]
                    clashes[path] = takes_an_output(outputs.called(out), path, other)
    return passed_over, clashes


def _are_neighbours(items: Sequence[Item]) -> bool:
    """Whether all were found in one folder, none named by itself."""
    folders = {os.path.dirname(item.path) for item in items}
    return len(folders) == 1 and all(item.root is not None for item in items)
