"""Whether a file is whole, or holds the values of another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from threading import Event
from typing import TypeAlias

from sdtool.batch.folders import with_names
from sdtool.batch.foresight import all_of
from sdtool.batch.items import Item, item_of
from sdtool.batch.pipelines import is_pipeline, pipeline_of
from sdtool.batch.progress import Progress, Stop, stoppable
from sdtool.batch.sets import SetIndex, check_set, index_in, with_index
from sdtool.checkpoint import (
    Checkpoint,
    File,
    Malformed,
    Unsupported,
    UsageError,
    counted,
    dataclass,
    open_checkpoint,
    together,
)
from sdtool.convert import (
    Difference,
    Verification,
    check_reading,
    verify_against,
    verify_components,
    verify_folder,
    verify_single,
)
from sdtool.convert import verify_file as check_file
from sdtool.prune import Role, plan_prune, recorded_options, weight_role

_Path: TypeAlias = str | os.PathLike[str]


def verify_file(
    path: _Path,
    *,
    against: _Path | None = None,
    baked_vae: _Path | None = None,
    sha256: str | None = None,
    autov2: str | None = None,
    download: bool = False,
    progress: Progress | None = None,
    cancelled: Event | None = None,
) -> Verification:
    """Check that a file is whole, or that every value in it is one of the file `against`.

    An index of shards, or a folder with one, stands for all of them. Either of two that are
    compared can be a folder of diffusers.

    Without `against`: container, bounds, CRC-32, rules for headers, a hash that it should have; NaN
    and Inf are counted. With it, through the casts and renames of convert and prune; `baked_vae` is
    the file whose VAE was put in. What is wrong is in the result. Neither file is judged, nothing
    of them is run. `download` fetches files whole whose servers give no parts of them; `progress`
    is called with bytes of `path` that are done.

    Raises:
        UsageError: the arguments contradict each other, or what the file says of itself.
        InputError: one of the files cannot be read, or its metadata is wrong.
        Cancelled: `cancelled` was set.
    """
    if against is not None and (sha256 or autov2):
        raise UsageError("--against cannot be used with a hash")
    if baked_vae is not None and against is None:
        raise UsageError("--baked-vae requires --against")
    for name, digits, length in (("--sha256", sha256, 64), ("--autov2", autov2, 10)):
        if digits is not None:
            _check_digits(name, digits, length)
    advance = stoppable(progress, cancelled)
    item = item_of(path, download=download)
    try:
        model = with_index(index_in(with_names(item)))
        if against is not None:
            source = with_index(index_in(with_names(item_of(against, download=download))))
            baked = None if baked_vae is None else item_of(baked_vae, download=download)
            with ExitStack() as stack:
                checked = _Opening(stack)
                found = _against(model, source, baked, checked, advance)
                return replace(found, file_nbytes=checked.nbytes)
        if model.index is not None:
            if sha256 or autov2:
                raise UsageError(
                    "a hash is of one file, and this is an index of several",
                    where=model.path,
                    hint="name one of the shards",
                )
            return _of_set(model, model.index, advance)
        with model.opened() as file, all_of(file):
            found = check_file(file, sha256=sha256, autov2=autov2, progress=advance)
            return replace(found, file_nbytes=file.nbytes)
    except Stop as stop:
        raise stop.cause from None


def _of_set(item: Item, index: SetIndex, progress: Progress) -> Verification:
    """Check each shard of an index, and that they hold what it says."""
    with ExitStack() as stack:
        files = [stack.enter_context(shard.opened()) for shard in index.shards]
        return _of_shards(item, index, files, progress)


def _of_shards(
    item: Item, index: SetIndex, files: Sequence[File], progress: Progress
) -> Verification:
    found: list[Verification] = []
    held: dict[str, Checkpoint] = {}
    for file in files:
        with all_of(file):
            found.append(check_file(file, progress=progress))
            if not found[-1].failures:
                held[file.name] = open_checkpoint(file)
    named = [os.path.basename(shard.path) for shard in index.shards]
    wrong = [
        replace(difference, name=f"{name}: {difference.name}")
        for name, one in zip(named, found, strict=True)
        for difference in one.differences
    ]
    failures = sum(one.failures for one in found)
    if not failures:
        try:
            check_set(index, item.path, held)
        except Malformed as e:
            wrong.append(Difference(os.path.basename(item.path), e.what))
            failures += 1
    return Verification(
        tensors=sum(one.tensors for one in found),
        nbytes=sum(one.nbytes for one in found),
        differences=tuple(wrong),
        failures=failures,
        nan={name: count for one in found for name, count in one.nan.items()},
        inf={name: count for one in found for name, count in one.inf.items()},
        notes=tuple(dict.fromkeys(note for one in found for note in one.notes)),
        file_nbytes=sum(file.nbytes for file in files),
    )


def _against(
    item: Item, against: Item, baked_vae: Item | None, checked: _Opening, progress: Progress
) -> Verification:
    """Compare with the input, through the renames and repairs that a pruned file has recorded."""
    others = _Opening(checked.stack)
    if is_pipeline(item) or is_pipeline(against):
        if baked_vae is not None:
            raise UsageError("--baked-vae cannot be used with a folder of diffusers")
        return _across(item, against, checked, others, progress)
    out, source = checked.open(item), others.open(against)
    for checkpoint in (out, source):
        check_reading(checkpoint.tensors, checkpoint.source.name)
    options = recorded_options(out)
    baked = None if options is None else options.pop("bake", None)
    if baked is None and baked_vae is not None:
        raise UsageError("its metadata names no baked VAE", where=item.path)
    vae = None if baked_vae is None else others.open(baked_vae)
    if options is None:
        return verify_against(out, source, progress=progress)
    selection = plan_prune(source, **options, bake=vae).selection
    if baked is None or vae is not None:
        return verify_against(out, source, selection=selection, progress=progress)
    kept = tuple(s for s in selection.entries if weight_role(s.name) is not Role.VAE)
    foreign = {e.name for e in out.tensors if weight_role(e.name) is Role.VAE}
    found = verify_against(
        out,
        source,
        selection=replace(selection, entries=kept),
        foreign=foreign,
        progress=progress,
    )
    note = (
        f"NOT compared: {counted(len(foreign), 'tensor')} of the VAE, baked in from {baked};"
        " --baked-vae FILE compares them"
    )
    return replace(found, notes=(*found.notes, note))


def _across(
    item: Item, against: Item, checked: _Opening, others: _Opening, progress: Progress
) -> Verification:
    """Compare with a folder of diffusers, or a folder with whatever it was made from."""
    parts, sources = _parts(item, checked), _parts(against, others)
    if parts and sources:
        return verify_components(parts, sources, where=item.path, progress=progress)
    if parts:
        source = others.open(against)
        return verify_folder(parts, source, where=item.path, progress=progress)
    out = checked.open(item)
    return verify_single(out, sources, where=against.path, progress=progress)


def _parts(item: Item, opening: _Opening) -> dict[str, Checkpoint]:
    """Open the components of a folder of diffusers, by their folders; nothing of what is none."""
    if not is_pipeline(item):
        return {}
    files = pipeline_of(item).parts
    parts = {folder: opening.open(file) for folder, file in files.items()}
    for checkpoint in parts.values():
        check_reading(checkpoint.tensors, checkpoint.source.name)
    if not parts:
        raise Unsupported("holds no component with weights", where=item.path)
    return parts


@dataclass(slots=True)
class _Opening:
    """Opens the files of a model, and counts their bytes."""

    stack: ExitStack
    nbytes: int = 0

    def open(self, item: Item) -> Checkpoint:
        """Open a file, or all shards of an index as one checkpoint."""
        opened: dict[str, Checkpoint] = {}
        for one in item.files:
            file = self.stack.enter_context(one.opened())
            self.nbytes += file.nbytes
            opened[one.path] = open_checkpoint(file)
        if item.index is not None:
            check_set(item.index, item.path, opened)
        return together(list(opened.values()))


def _check_digits(option: str, digits: str, length: int) -> None:
    plain = digits.strip().lower().removeprefix("0x")
    if len(plain) != length or set(plain) - set("0123456789abcdef"):
        raise UsageError(f"{option} must be {length} hexadecimal digits", where=digits)
