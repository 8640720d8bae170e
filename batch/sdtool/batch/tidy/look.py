"""What is known of one file of a folder before anything is decided: opened once, judged, and what
would be written in its place laid out. Nothing is written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

from sdtool.batch.converting import Converting
from sdtool.batch.failures import as_error
from sdtool.batch.items import Item
from sdtool.batch.kinds import PRUNABLE, identity_of, is_only_training
from sdtool.batch.originals import lost_weights
from sdtool.batch.pruning import Pruning
from sdtool.batch.sidecars import sidecars
from sdtool.checkpoint import (
    Checkpoint,
    Format,
    InputError,
    TensorEntry,
    UsageError,
    dataclass,
    open_checkpoint,
)
from sdtool.checkpoint.identify import Identity
from sdtool.convert import (
    LeftOut,
    Selection,
    check_expansion,
    is_training_state,
    plan_safetensors,
    row_major_chunks,
    select_all,
    split_name,
)
from sdtool.prune import plan_prune
from sdtool.scan import Verdict, admit, judged, worst_message

_PROBE_NBYTES = 4096

_BY_CHOICE = ("EMA", "EMA scalar", "raw weights")
"""What is left out because a person asked for it."""

_PART = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model|adapter_model)[.-].*|.*-\d{5}-of-\d{5}[.-].*",
    re.DOTALL,
)
"""What libraries call the file, or a shard, of a model that is a folder."""

Recipe: TypeAlias = Converting | Pruning


@dataclass(frozen=True, slots=True)
class TidyOptions:
    """What a person asks for beyond what loses nothing."""

    variant: Literal["raw-only", "ema-only"] | None = None
    """Which weights to keep where a file has raw and EMA; None for both."""
    dtype: str = "keep"
    """Precision of whole models; other files keep theirs."""
    suspicious: bool = False
    """Whether suspicious files go to quarantine, too."""


@dataclass(frozen=True, slots=True)
class Change:
    """What would be written in a file's place."""

    recipe: Recipe
    nbytes: int
    left_out: Mapping[str, tuple[int, int]]
    """By reason: how many tensors, and their bytes."""
    lost: tuple[str, ...] = ()
    """What no output would hold, and a person would miss."""
    is_there: bool = False
    """Whether the file of that name holds it already, as far as a probe can tell."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One file. `path` is relative to the folder, `out` what its output would be called."""

    path: str
    nbytes: int
    modified: int
    """Nanoseconds since 1970."""
    number: tuple[int, int]
    """Disk and number: two names of one file share it."""
    verdict: Verdict = Verdict.UNDECIDED
    reason: str = ""
    """Of a verdict that is not clean."""
    kind: str = "unknown"
    """A slug of `identify.kinds`."""
    is_safetensors: bool = False
    is_link: bool = False
    is_outside: bool = False
    """Whether a link to a folder leads out to it."""
    is_aside: bool = False
    """Whether the undo list of the folder says that it was moved aside."""
    part_of: str | None = None
    """What loads the file by the name that it has, where it is one of several."""
    change: Change | None = None
    why_not: str | None = None
    """Why nothing can be written in its place."""
    out: str = ""
    is_out_taken: bool = False
    """Whether another file has that name."""
    sidecars: tuple[str, ...] = ()
    """Files that go with its name, relative to the folder."""
    members: tuple[Facts, ...] = ()
    """Of a model of several files: each of them. `path` is that of the index, or their folder."""

    @property
    def files(self) -> tuple[Facts, ...]:
        """What is moved when it is moved."""
        return self.members or (self,)


def look(
    item: Item,
    folder: str,
    *,
    options: TidyOptions,
    allow: Mapping[str, str],
) -> Facts | None:
    """Say what is known of a file; None of what is plainly no model."""
    path = os.path.relpath(item.path, folder)
    try:
        facts = placed(item.path, folder)
    except OSError as e:
        error = as_error(e, item.path)
        return Facts(path, 0, 0, (0, 0), reason=error.what)
    try:
        return _judged(item, facts, options, allow)
    except Exception as e:
        return replace(facts, reason=as_error(e, item.path).what)


def placed(name: str, folder: str) -> Facts:
    """Return what the file system knows of a file.

    Raises:
        OSError: it refused.
    """
    path, there = os.path.relpath(name, folder), os.stat(name)
    root, parent = os.path.realpath(folder), os.path.realpath(os.path.dirname(name))
    is_outside = os.path.commonpath((root, parent)) != root
    stem, infix = split_name(os.path.basename(path))
    out = os.path.join(os.path.dirname(path), f"{stem}{infix}.safetensors")
    place = os.path.join(folder, out)
    taken = os.path.lexists(place) and not _is_itself(place, name)
    beside = sidecars(Path(name), stem + infix)
    return Facts(
        path,
        there.st_size,
        there.st_mtime_ns,
        (there.st_dev, there.st_ino),
        is_link=os.path.islink(name),
        is_outside=is_outside or there.st_dev != os.stat(folder).st_dev,
        part_of=_part_of(Path(name)),
        out=out,
        is_out_taken=taken,
        sidecars=tuple(os.path.relpath(one, folder) for one in beside if not _is_model(one)),
    )


def _is_itself(place: str, name: str) -> bool:
    """Whether two paths that differ in capitals at most are one file: on many disks they are."""
    if place.casefold() != name.casefold():
        return False
    try:
        return os.path.samefile(place, name)
    except OSError:
        return False


def _judged(
    item: Item, facts: Facts, options: TidyOptions, allow: Mapping[str, str]
) -> Facts | None:
    with item.opened() as file, judged(file, allow) as (taken, report):
        verdict = report.verdict
        if verdict is Verdict.NOT_A_CHECKPOINT and not item.looks_like_model:
            return None
        if verdict in (Verdict.UNSAFE, Verdict.SUSPICIOUS):
            return replace(facts, verdict=verdict, reason=worst_message(report))
        if verdict is not Verdict.CLEAN:
            return replace(facts, verdict=verdict, reason=report.error or "could not be read")
        if is_training_state(item.path):
            return replace(facts, verdict=verdict, kind="training-state")
        try:
            checkpoint = admit(taken, report, disarm=False)
        except InputError as e:  # harmless, and nothing that could be written
            return replace(facts, verdict=verdict, why_not=e.what)
        if is_only_training(checkpoint):
            return replace(facts, verdict=verdict, kind="training-state")
        identity = identity_of(checkpoint)
        facts = replace(
            facts,
            verdict=verdict,
            kind=identity.kind,
            is_safetensors=checkpoint.format is Format.SAFETENSORS,
        )
        if checkpoint.kind == "module":
            return replace(facts, why_not="it is a whole pickled model, not only weights")
        out = Path(os.path.dirname(item.path), os.path.basename(facts.out))
        try:
            return replace(facts, change=_change(checkpoint, identity, options, out, facts))
        except (InputError, UsageError) as e:
            return replace(facts, why_not=e.what)


def _change(
    checkpoint: Checkpoint, identity: Identity, options: TidyOptions, out: Path, facts: Facts
) -> Change | None:
    """Lay out what would be written; None where there is nothing to gain.

    Raises:
        SdtoolError: it cannot be written.
    """
    recipe = _recipe(checkpoint, identity, options)
    selection = selection_of(checkpoint, recipe)
    if selection is None:
        if facts.is_safetensors:
            return None
        recipe = Converting()
        selection = select_all(checkpoint)
    plan = plan_safetensors(selection)
    check_expansion(plan.tensors, plan.nbytes, facts.path)
    accepted = _BY_CHOICE if options.variant is not None else ()
    return Change(
        recipe,
        plan.nbytes,
        _by_reason(plan.left_out),
        tuple(lost_weights([plan.left_out], accepted)),
        facts.is_out_taken and _begins_alike(selection, out),
    )


def _recipe(checkpoint: Checkpoint, identity: Identity, options: TidyOptions) -> Recipe:
    """Return what to make: of whole models what inference needs, of all others the weights."""
    if checkpoint.others and options.variant is None:
        return Converting()  # nobody loads a file with two sets under other names than it has
    if identity.kind not in PRUNABLE and not checkpoint.others:
        return Converting()
    has_ema = identity.ema.state not in ("none", "scalars-only")
    variant = (options.variant or "keep-both") if has_ema else "raw-only"
    is_cast = identity.kind in PRUNABLE and not identity.quantization
    return Pruning(variant, options.dtype if is_cast else "keep")


def selection_of(checkpoint: Checkpoint, recipe: Recipe) -> Selection | None:
    """Return what a recipe takes of a file; None where it has nothing to do there.

    Raises:
        SdtoolError: it cannot take it.
    """
    if isinstance(recipe, Converting):
        return None if checkpoint.format is Format.SAFETENSORS else select_all(checkpoint)
    assert recipe.variant != "all"
    plan = plan_prune(checkpoint, variant=recipe.variant, dtype=recipe.dtype)
    return plan.selection if plan.nothing_to_do is None else None


def _begins_alike(selection: Selection, out: Path) -> bool:
    """Whether a file has all that is selected, under the same names and in the same types, as far
    as the beginning of each tensor tells.
    """
    try:
        with open_checkpoint(out) as checkpoint:
            there = {entry.name: entry for entry in checkpoint.tensors}
            return all(
                (other := there.get(one.name)) is not None
                and other.shape == one.entry.shape
                and other.dtype is one.entry.dtype is one.dtype
                and _beginning(other) == _beginning(one.entry)
                for one in selection.entries
            )
    except InputError:
        return False


def _beginning(entry: TensorEntry) -> bytes:
    return bytes(next(row_major_chunks(entry, None, _PROBE_NBYTES), b""))


def _by_reason(left_out: tuple[LeftOut, ...]) -> dict[str, tuple[int, int]]:
    sums: dict[str, tuple[int, int]] = {}
    for left in left_out:
        count, nbytes = sums.get(left.reason, (0, 0))
        sums[left.reason] = count + 1, nbytes + left.nbytes
    return sums


def _part_of(path: Path) -> str | None:
    """Return the folder whose model a file belongs to."""
    folder = path.parent
    if (folder.parent / "model_index.json").is_file():
        return os.fspath(folder.parent)
    has_config = any((folder / f"{word}.json").is_file() for word in ("config", "adapter_config"))
    if _PART.fullmatch(path.name) and (has_config or any(folder.glob("*.index*.json"))):
        return os.fspath(folder)
    return None


def _is_model(path: Path) -> bool:
    return Item(os.fspath(path)).looks_like_model
