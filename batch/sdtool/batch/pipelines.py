"""Folders of diffusers, on this machine or elsewhere: where there are some, and what they hold."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from sdtool.batch.folders import names_in
from sdtool.batch.items import Item
from sdtool.batch.sets import with_index
from sdtool.checkpoint import dataclass
from sdtool.convert import PIPELINE_INDEX, SCHEDULER, component_files


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The files of a model that is in several."""

    parts: Mapping[str, Item]
    """The file of each component, or the index of its shards, by its folder in diffusers."""
    scheduler: Item | None = None
    """The configuration of its scheduler."""


def is_folder(item: Item) -> bool:
    """Whether an item stands for a folder."""
    return os.path.isdir(item.path) if item.remote is None else item.remote.is_folder


def is_pipeline(item: Item) -> bool:
    """Whether an item is the folder of a pipeline.

    Raises:
        InputError: a server does not say what is there.
    """
    return PIPELINE_INDEX in names_in(item)


def pipeline_of(folder: Item) -> Pipeline:
    """Return what is in the folder of a pipeline.

    Raises:
        InputError: an index cannot be read, or a server does not say what is there.
    """
    names = names_in(folder)
    parts = {part: folder.inside(name) for part, name in component_files(names).items()}
    return Pipeline(
        {part: with_index(item) for part, item in parts.items()},
        folder.inside(SCHEDULER) if SCHEDULER in names else None,
    )


def pipelines_in(items: Sequence[Item]) -> list[Item]:
    """Put each pipeline of diffusers in the place of the files that were found in its folder."""
    listed = [item.path for item in items if item.remote is not None]
    known = frozenset(listed)
    above = {item.path: _folders_above(item) for item in items}
    folders = {
        folder.path
        for folder in dict.fromkeys(chain.from_iterable(above.values()))
        if _is_pipeline(folder, known)
    }
    found: dict[str, Item] = {}
    for item in items:
        folder = next((one for one in above[item.path] if one.path in folders), None)
        if folder is None:
            found[item.path] = item
        else:
            is_named = item.root is None or item.root.rstrip("/") == folder.path.rstrip("/")
            names = tuple(_names_below(folder.path, listed))
            found[folder.path] = replace(
                folder, root=None if is_named else item.root, names=names or None
            )
    alone = len(found) == 1
    return [replace(item, alone=alone or item.alone) for item in found.values()]


def _folders_above(item: Item) -> list[Item]:
    """Return the folders that a file is in, the nearest first."""
    if item.remote is None:
        return [Item(os.fspath(folder)) for folder in Path(item.path).parents]
    parts = item.remote.path.split("/")[:-1]
    folders = ("".join(f"{part}/" for part in parts[:n]) for n in range(len(parts), -1, -1))
    places = [replace(item.remote, path=folder) for folder in folders]
    return [Item(place.shown.rstrip("/"), remote=place) for place in places]


def _names_below(folder: str, listed: Sequence[str]) -> Iterator[str]:
    """Yield what servers listed in a folder, as paths from there."""
    beginning = f"{folder}/"
    return (path.removeprefix(beginning) for path in listed if path.startswith(beginning))


def _is_pipeline(folder: Item, listed: Collection[str]) -> bool:
    """Whether a folder has the file that makes it a pipeline; `listed` is what servers listed."""
    index = folder.inside(PIPELINE_INDEX)
    return os.path.isfile(index.path) if index.remote is None else index.path in listed
