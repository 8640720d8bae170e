"""Whether a model holds the values of the same model in the other layout.

The tables of `--to single` and `--to diffusers` say which tensor is which. Types may differ: what
was cast is proven by casting again, as in `verify_against`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from sdtool.checkpoint.errors import Unsupported
from sdtool.checkpoint.identify.oddities import text_model_names
from sdtool.checkpoint.prefixes import plain_entries
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.checkpoint.wording import counted
from sdtool.convert.layouts.models import Component, check_complete
from sdtool.convert.layouts.predicts import Predicts
from sdtool.convert.plan.layouts import Folder, select_folder, select_single
from sdtool.convert.plan.selection import Selection
from sdtool.convert.verify.found import SHOWN, Difference, Progress, Verification
from sdtool.convert.verify.verify import verify_against

_COMPARED = "a model is compared as a whole: --against takes two files of one component as well"

Parts = Mapping[str, Checkpoint]
"""The components of a model, by their folders in diffusers."""


def verify_folder(
    parts: Parts, source: Checkpoint, *, where: str, progress: Progress | None = None
) -> Verification:
    """Compare the components of a folder, called `where`, with the single file `source`.

    Raises:
        Unsupported: the model has only one layout, lacks a component or a tensor, or is quantized.
        InputError: one of the two cannot be read.
    """
    chosen = _folder_of(source)
    check_complete(chosen.model, parts, where, _COMPARED)
    found: list[Verification] = []
    for part in chosen.model.components:
        out = replace(parts[part.folder], tensors=_present(part, parts[part.folder]))
        selection = chosen.selections[part.folder]
        one = _compared(out, source, selection, [part], progress)
        found.append(_within(part.folder, one))
    left_out = len(chosen.left_out)
    note = f"of {source.source.name}, {counted(left_out, 'tensor')} have no place in a folder"
    return _summed(found, (note,) if left_out else ())


def verify_single(
    out: Checkpoint, parts: Parts, *, where: str, progress: Progress | None = None
) -> Verification:
    """Compare the single file `out` with the components of a folder, called `where`.

    What a folder has no place for, EMA weights and the noise schedule, is not compared.

    Raises:
        Unsupported: as `verify_folder` does.
        InputError: one of the two cannot be read.
    """
    chosen = _folder_of(out)
    entries = tuple(entry for entry in plain_entries(out.tensors) if entry.numel)
    new = text_model_names({entry.name for entry in entries})
    named = tuple(e.changed(name=new.get(e.name, e.name)) for e in entries)
    selection = select_single(parts, where=where)
    alone = {left.name for left in chosen.left_out}
    unet = parts["unet"]
    return _compared(
        replace(out, tensors=named), unet, selection, chosen.model.components, progress, alone
    )


def verify_components(
    parts: Parts, sources: Parts, *, where: str, progress: Progress | None = None
) -> Verification:
    """Compare the components of two folders, the first of which is called `where`.

    Raises:
        Unsupported: one of the folders lacks a component of the other.
        InputError: one of the files cannot be read.
    """
    if apart := sorted(parts.keys() ^ sources.keys()):
        holder = "the other folder has" if apart[0] in sources else "it alone has"
        raise Unsupported(f"cannot be compared: {holder} {apart[0]}", where=where)
    return _summed(
        [
            _within(folder, verify_against(out, sources[folder], progress=progress))
            for folder, out in parts.items()
        ]
    )


def _folder_of(single: Checkpoint) -> Folder:
    """What becomes of a single file as a folder. What it predicts is in no tensor of a folder."""
    return select_folder(single, prediction=Predicts.EPSILON)


def _compared(
    out: Checkpoint,
    source: Checkpoint,
    selection: Selection,
    components: Sequence[Component],
    progress: Progress | None,
    alone: Collection[str] = (),
) -> Verification:
    """Compare what is selected, in the types that `out` has; `alone` has no place in the other."""
    held = {entry.name: entry.dtype for entry in out.tensors}
    chosen = tuple(
        replace(one, dtype=held.get(one.name, one.dtype))
        for one in selection.entries
        if one.name in held or not _is_optional(one.name, components)
    )
    names = {one.name for one in chosen}
    foreign = {
        name
        for name in held.keys() - names
        if name in alone or _is_optional(name, components)
    }  # fmt: skip
    selection = replace(selection, entries=chosen)
    return verify_against(out, source, selection=selection, foreign=foreign, progress=progress)


def _is_optional(name: str, components: Iterable[Component]) -> bool:
    """Whether a tensor comes and goes with the version of the program that wrote the file."""
    return any(
        part.optional and re.fullmatch(f"(?:{re.escape(part.prefix)})?(?:{part.optional})", name)
        for part in components
    )


def _present(part: Component, checkpoint: Checkpoint) -> tuple[TensorEntry, ...]:
    """Return the tensors of a component under the names that diffusers uses now."""
    entries = plain_entries(checkpoint.tensors)
    new = text_model_names({entry.name for entry in entries})
    own = {new.get(entry.name, entry.name): entry for entry in entries}
    whole = {n: one for n, (one, *more) in part.names.to_single(own).items() if not more}
    kept = {
        name: entry
        for name, entry in own.items()
        if (at := part.names.in_single(name)) is None or at[0] not in whole
    }
    present = {**kept, **part.names.to_diffusers(whole)}
    return tuple(entry.changed(name=name) for name, entry in present.items())


def _within(folder: str, found: Verification) -> Verification:
    """The same, with the names of tensors below their folder."""
    below: Callable[[str], str] = f"{folder}/{{}}".format
    return replace(
        found,
        differences=tuple(Difference(below(d.name), d.what) for d in found.differences),
        missing=tuple(map(below, found.missing)),
        unproven=tuple(map(below, found.unproven)),
    )


def _summed(found: Sequence[Verification], notes: tuple[str, ...] = ()) -> Verification:
    """One result of those of several components."""
    differences = tuple(difference for one in found for difference in one.differences)
    return Verification(
        tensors=sum(one.tensors for one in found),
        nbytes=sum(one.nbytes for one in found),
        differences=differences[:SHOWN],
        failures=sum(one.failures for one in found),
        missing=tuple(name for one in found for name in one.missing),
        unproven=tuple(name for one in found for name in one.unproven),
        ema=sum(one.ema for one in found),
        cast=sum(one.cast for one in found),
        dequantized=sum(one.dequantized for one in found),
        notes=notes,
    )
