"""One file to work on: what it is called, where it is, how it is opened."""

from __future__ import annotations

import os
import re
from contextlib import AbstractContextManager
from dataclasses import field, replace
from typing import TYPE_CHECKING

from sdtool.checkpoint import File, Format, InputError, dataclass, local_file

if TYPE_CHECKING:
    from sdtool.batch.remote.location import Location
    from sdtool.batch.sets import SetIndex

MODEL_SUFFIXES = frozenset({".h5", ".onnx", *(suffix for row in Format for suffix in row.suffixes)})
"""A file that ends so and is no model is trouble; any other is passed over in silence."""

_URL = r"[A-Za-z][A-Za-z0-9+.-]+://"


@dataclass(frozen=True, slots=True)
class Item:
    """One file to work on. `root` is the folder that was named and that it was found in.

    Of a file that is elsewhere `path` is what may be shown of its URL.
    """

    path: str
    root: str | None = None
    alone: bool = False
    """Whether it was named by itself, and not through a folder, a pattern or a list."""
    remote: Location | None = None
    """Where it is, if not on this machine."""
    index: SetIndex | None = field(default=None, compare=False)
    """Of the index of a sharded set: what it says, once that was read (`sets.with_index`)."""
    names: tuple[str, ...] | None = field(default=None, compare=False)
    """Of a folder elsewhere: the files in it, once they were listed (`folders.with_names`)."""

    @property
    def files(self) -> tuple[Item, ...]:
        """The files that hold its tensors: the item, or the shards of which it is the index."""
        return (self,) if self.index is None else self.index.shards

    @property
    def looks_like_model(self) -> bool:
        """Whether a person expects a model here: it was named itself, or its suffix says so."""
        return self.alone or os.path.splitext(self.path)[1].lower() in MODEL_SUFFIXES

    @property
    def called(self) -> str:
        """The path that outputs are named by; of a file that is elsewhere a plain file name."""
        if self.remote is None:
            return self.path
        from sdtool.batch.remote.location import file_name

        return file_name(self.remote)

    @property
    def folders(self) -> tuple[str, ...]:
        """Of a file elsewhere: the folders between `root` and it, as plain names."""
        if self.remote is None or self.root is None:
            return ()
        from sdtool.batch.remote.location import plain_folders

        return plain_folders(self.path[len(self.root) :])

    def beside(self, name: str) -> Item:
        """Return another file of its folder."""
        if self.remote is None:
            folder = os.path.dirname(self.path)
            return replace(self, path=os.path.join(folder, name), index=None)
        location = self.remote.inside(name)
        return replace(self, path=location.shown, remote=location, index=None, names=None)

    def inside(self, name: str) -> Item:
        """Return a file of the folder that it is; `name` has `/` between folders."""
        if self.remote is None:
            return replace(self, path=os.path.join(self.path, *name.split("/")))
        location = self.remote.inside(name)
        return replace(self, path=location.shown, remote=location, names=None)

    def opened(self) -> AbstractContextManager[File]:
        """Open it, wherever it is; closed in the end.

        Raises:
            Unreadable: the operating system, or the server, refused.
            UsageError: a package is missing.
        """
        if self.remote is None:
            return local_file(self.path)
        from sdtool.batch.remote.opening import open_remote  # what is here needs none of it

        return open_remote(self.remote)


def item_of(path: str | os.PathLike[str], *, download: bool = False) -> Item:
    """Return the one file that a path or a URL names.

    Raises:
        InputError: the URL is not understood.
    """
    name = os.fspath(path)
    if not is_remote(name):
        return Item(name, alone=True)
    from sdtool.batch.remote.location import parse

    location = replace(parse(name), download=download)
    return Item(location.shown, alone=True, remote=location)


def whole_path(path: str) -> str:
    """Return a path as it is called from every folder; a URL is called so already."""
    return path if is_remote(path) else os.path.abspath(path)


def shown_path(path: str) -> str:
    """Return what may be shown of a path: of a URL neither a password nor a signature."""
    try:
        return item_of(path).path
    except InputError as e:
        return e.where or ""


def open_file(
    path: str | os.PathLike[str], *, download: bool = False
) -> AbstractContextManager[File]:
    """Open a path or a URL, for `scan_file`, `open_judged` and `open_checkpoint`.

    Raises:
        InputError: it cannot be read, or the URL is not understood.
        UsageError: a package is missing.
    """
    return item_of(path, download=download).opened()


def is_remote(path: str) -> bool:
    """Whether a path begins as a URL does, such as `https://`; one letter is a drive."""
    return "://" in path and re.match(_URL, path) is not None
