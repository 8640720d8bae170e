"""Write a planned safetensors file: header, then bytes, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import TypeAlias

from sdtool.checkpoint.errors import OutputError, SdtoolError, UsageError
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.source import LocalFile, Source
from sdtool.convert.copy.buffered import Progress, fill, local_files
from sdtool.convert.copy.jobs import Copied, Filling
from sdtool.convert.copy.new_file import OPEN_TO_ALL, OWNER, NewFile
from sdtool.convert.elements.census import Census
from sdtool.convert.plan.casts import components_of
from sdtool.convert.plan.metadata import HASH_KEYS
from sdtool.convert.plan.plan import ConvertPlan, Placed
from sdtool.convert.write.hashes import Following, Hashes, autov1
from sdtool.convert.write.staging import Stage, staged

Beside: TypeAlias = Callable[[Mapping[Path, "Written | SdtoolError"]], Mapping[Path, bytes]]
"""Makes further, small files of what came of those that were written."""


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written: `nbytes` is its size, `census` is by component of the model."""

    path: Path
    nbytes: int
    tensors: int
    hashes: Hashes | None = None
    census: Mapping[str, Census] = field(default_factory=dict[str, Census])
    notes: tuple[str, ...] = ()
    nonfinite: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """NaN and infinite elements of the source by tensor, where there are any: of the cast ones, and
    of all if that was asked for."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A safetensors file that has its header and waits for its tensors."""

    plan: ConvertPlan
    file: NewFile
    hashes: bool
    following: Following | None

    @property
    def written(self) -> Callable[[int, int], None] | None:
        """Called with each range of the file that is complete: offset and size, in any order."""
        return None if self.following is None else self.following.written

    def finish(
        self,
        copied: Copied,
        *,
        allow_overflow: bool = False,
        check: Callable[[Path], object] | None = None,
    ) -> Written:
        """Complete the file and flush it to the disk; it has its name when its stage is left.

        `check` is called with where the complete file is meanwhile.

        Raises:
            OutputError: a cast has overflowed, or the operating system refused.
        """
        refuse_overflow(copied, allow_overflow=allow_overflow)
        plan, file, found = self.plan, self.file, None
        if self.following is not None:
            found = _finish(plan, file, self.following, hashes=self.hashes)
        file.finish(check)
        count, census = len(plan.tensors), by_component(copied, (t.name for t in plan.tensors))
        strange = nonfinite_in(copied)
        return Written(file.out, plan.nbytes, count, found, census, plan.notes, strange)


@contextmanager
def drafted(
    plan: ConvertPlan, out: Path, stage: Stage, *, hashes: bool = False
) -> Generator[Draft]:
    """Open `out` on `stage` and write its header. Several drafts may be filled side by side:

        with staged({out: plan.nbytes for out, plan in plans.items()}) as stage, ExitStack() as s:
            drafts = [s.enter_context(drafted(plan, out, stage)) for out, plan in plans.items()]
            ...  # write the tensors of each to its `file`, telling `written` of each
            done = [draft.finish(copied) for draft, copied in ...]

    `Stage.drop` gives one up, for instance one whose casts overflow; the others go on.

    Raises:
        UsageError: `out` is the input.
        OutputError: the operating system refused.
    """
    refuse_input(out, plan.tensors)
    file = stage.open(out)
    _write_header(plan, file, plan.metadata)
    following = None
    if hashes or plan.hash_keys:
        # a header that waits for the hash of the data leaves the whole file for afterwards
        following = Following(
            file.read_at,
            plan.data_offset,
            plan.nbytes,
            None if plan.hash_keys else _head(plan, plan.metadata),
        )
    try:
        yield Draft(plan, file, hashes, following)
    finally:
        if following is not None:
            following.stop()


def write_safetensors(
    plan: ConvertPlan,
    out: str | os.PathLike[str],
    *,
    force: bool = False,
    progress: Progress | None = None,
    hashes: bool = False,
    allow_overflow: bool = False,
    check: Callable[[Path], object] | None = None,
    stage: Stage | None = None,
    mode: int = OPEN_TO_ALL,
) -> Written:
    """Write the file that `plan` describes to `out`; nothing is left behind when that fails.

    `progress` is called with how many more bytes of tensors were written. `check` is called with
    where the complete file is before it has its name, and raises what is wrong with it. On a
    `stage` it has its name when the stage is left. It is not more open to others than `mode` and
    the files that the tensors are read from.
    Nothing is judged here: whether the input may be converted at all was decided before.

    Raises:
        OutputError: `out` exists and `force` is false, the disk is full, a cast would overflow.
        UsageError: `out` is the input.
        Malformed: a stored CRC-32 does not match; the message names the tensor.
        Truncated: the input ends first.
        Unreadable: the input could not be read, or has changed meanwhile.
    """
    path = Path(out)
    refuse_input(path, plan.tensors)
    with ExitStack() as stack:
        if stage is None:
            mode &= mode_of(plan.tensors)
            stage = stack.enter_context(staged({path: plan.nbytes}, force=force, mode=mode))
        draft = stack.enter_context(drafted(plan, path, stage, hashes=hashes))
        filling = Filling(plan.tensors, draft.file, written=draft.written)
        fill([filling], progress)
        return draft.finish(filling.copied, allow_overflow=allow_overflow, check=check)


def write_together(
    plans: Mapping[Path, ConvertPlan],
    *,
    force: bool = False,
    progress: Progress | None = None,
    hashes: bool = False,
    allow_overflow: bool = False,
    nonfinite: bool = False,
    check: Callable[[Path, Path], object] | None = None,
    beside: Beside | None = None,
    mode: int = OPEN_TO_ALL,
) -> Mapping[Path, Written | SdtoolError]:
    """Write several files in one reading of what they share, each as `write_safetensors` would.

    A cast that overflows and a `check` that fails (it is given the name to come and the complete
    file) stop the file they are about: it is not written, and its error is in the answer. All the
    others take their names together, and with them what `beside` makes of the answer: further
    files, by their names. What it raises leaves nothing written. With `nonfinite` NaN and Inf are
    counted in every tensor.

    Raises:
        SdtoolError: as `write_safetensors` does, where it is about all of them.
    """
    done: dict[Path, Written | SdtoolError] = {}
    sizes = {out: plan.nbytes for out, plan in plans.items()}
    mode &= mode_of(tensor for plan in plans.values() for tensor in plan.tensors)
    with staged(sizes, force=force, mode=mode) as stage, ExitStack() as stack:
        work: list[tuple[Draft, Filling]] = []
        for out, plan in plans.items():
            draft = stack.enter_context(drafted(plan, out, stage, hashes=hashes))
            filling = Filling(plan.tensors, draft.file, draft.written, with_nonfinite=nonfinite)
            work.append((draft, filling))
        fill([filling for _, filling in work], progress)
        for draft, filling in work:
            out = draft.file.out
            try:
                done[out] = draft.finish(
                    filling.copied,
                    allow_overflow=allow_overflow,
                    check=None if check is None else partial(check, out),
                )
            except SdtoolError as e:
                done[out] = e
                stage.drop(out)
        for out, content in (beside(done) if beside is not None else {}).items():
            stage.add(out, content)
    return done


def mode_like(source: Source) -> int:
    """Return how open an input is to others: what is made of it, even unpacked, is not more."""
    return source.stat.st_mode & OPEN_TO_ALL if isinstance(source, LocalFile) else OPEN_TO_ALL


def mode_of(tensors: Iterable[Placed]) -> int:
    """Return the mode of an output that is not more open than the files its tensors are read from.

    Its owner may read and write it whatever they say.
    """
    mode = OPEN_TO_ALL
    for file in local_files(p.entry.storage for t in tensors for p in t.pieces):
        mode &= file.stat.st_mode | OWNER
    return mode


def refuse_input(out: Path, tensors: Iterable[Placed]) -> None:
    """Check that `out` is not the file that the tensors are read from.

    Raises:
        UsageError: it is.
    """
    try:
        there = os.stat(out)
    except (OSError, ValueError):  # not there; whether it can be shows when it is made
        return
    for file in local_files(p.entry.storage for t in tensors for p in t.pieces):
        if os.path.samestat(there, file.stat):
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
            hint="use bf16, which has the range of fp32, or --allow-overflow",
        )


def by_component(copied: Copied, names: Iterable[str]) -> dict[str, Census]:
    """Add up the censuses of the cast tensors by component; `names` are all that the file has."""
    total: dict[str, Census] = {}
    if not copied.censuses:
        return total
    component = components_of(names)
    for name, census in sorted(copied.censuses.items()):
        total.setdefault(component[name], Census()).add(census)
    return total


def nonfinite_in(copied: Copied) -> dict[str, tuple[int, int]]:
    """Return the NaN and infinite elements that the source had, by tensor."""
    casts = {name: (c.nan, c.inf) for name, c in copied.censuses.items() if c.nan or c.inf}
    return dict(sorted({**copied.nonfinite, **casts}.items()))


def _finish(
    plan: ConvertPlan, file: NewFile, following: Following, *, hashes: bool
) -> Hashes | None:
    data, whole = following.finish()
    if plan.hash_keys:
        known = {key: HASH_KEYS[key] + data for key in plan.hash_keys}
        # as long as the one before: a digest has one length
        _write_header(plan, file, {**plan.metadata, **known})
    if not hashes:
        return None
    if whole is None:
        again = Following(file.read_at, 0, plan.nbytes, None)
        again.written(0, plan.nbytes)
        whole, _ = again.finish()
    return Hashes(whole, autov1(file.read_at), data)


def _head(plan: ConvertPlan, metadata: Mapping[str, str]) -> Iterator[bytes]:
    """Yield what stands before the tensors, in pieces."""
    yield plan.header_nbytes.to_bytes(8, "little")
    yield from plan.header_pieces(metadata)


def _write_header(plan: ConvertPlan, file: NewFile, metadata: Mapping[str, str]) -> None:
    at = 0
    for piece in _head(plan, metadata):
        file.write_at(piece, at)
        at += len(piece)
