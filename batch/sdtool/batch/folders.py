"""What is in a folder, on this machine or elsewhere."""

from __future__ import annotations

import os
from dataclasses import replace

from sdtool.batch.items import Item


def names_in(folder: Item) -> list[str]:
    """Return the files in a folder and in those inside of it, as paths from there with `/`.

    What is no folder, or is not there, has none. On this machine one level of folders is looked
    into; elsewhere what a server lists is listed.

    Raises:
        InputError: a server does not say.
    """
    if folder.remote is None:
        inside = _listed(folder.path)
        below = (f"{name}/{n}" for name in inside for n in _listed(os.path.join(folder.path, name)))
        return [*inside, *below]
    if folder.names is not None:
        return [*folder.names]
    if not folder.remote.is_folder:
        return []
    from sdtool.batch.remote.listing import listed_in  # what is here needs none of it

    return [one.path.removeprefix(folder.remote.path) for one in listed_in(folder.remote)]


def with_names(item: Item) -> Item:
    """Return an item that knows what is in it, where it is a folder elsewhere; any other as it is.

    Raises:
        InputError: a server does not say.
    """
    if item.remote is None or not item.remote.is_folder:
        return item
    return replace(item, names=tuple(names_in(item)))


def _listed(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []
