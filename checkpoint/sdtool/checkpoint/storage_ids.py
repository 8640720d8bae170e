"""Persistent ids of torch's files: which storage, of which type and size, and which part of it.

    ("storage", class, key, location, elements)          zip
    ("storage", class, key, location, elements, view)    legacy; view is (key, offset, elements)

torch keeps a storage by its key, and a view of a legacy file by the key of the view, beside them.
Where ids disagree on what a key means, which of them counts depends on their order.

Source: torch/serialization.py (`persistent_load` of `_load` and `_legacy_load`).
"""

from __future__ import annotations

from collections.abc import KeysView, ValuesView
from typing import NamedTuple

from sdtool.checkpoint.dtypes import BY_STORAGE, UINT8, DType
from sdtool.checkpoint.reading import Stream
from sdtool.checkpoint.values import Global, Persistent, Value


class StorageId(NamedTuple):
    """A persistent id of a storage: sizes in bytes, `view_offset` in elements."""

    key: str
    dtype: DType
    nbytes: int
    view_offset: int = 0
    view: str | None = None
    """The key of a view of a legacy file, and below it the elements that it holds."""
    view_numel: int = 0
    is_text: bool = True
    """Whether the key is text; torch keeps 0 and "0" apart."""
    is_meta: bool = False
    """Whether it was without data when it was saved; whatever the record holds is not loaded."""


def storage_id(value: Persistent) -> StorageId | None:
    """What torch's `persistent_load` makes of an id, or None when it is no storage's."""
    pid = value.pid
    if type(pid) is not tuple or len(pid) not in (5, 6) or pid[0] != "storage":
        return None
    kind, key, numel = pid[1], pid[2], pid[4]
    if type(kind) is not Global or type(key) not in (str, int) or type(numel) is not int:
        return None
    # torch's find_class takes a name for a storage class whatever its module is.
    dtype = BY_STORAGE.get(kind.name, UINT8)
    is_text = type(key) is str
    is_meta = pid[3] == "meta" or pid[3] == b"meta"
    nbytes = numel * dtype.itemsize
    if len(pid) == 6 and pid[5] is not None:
        view = pid[5]
        if type(view) is not tuple or len(view) != 3 or type(view[1]) is not int:
            return None
        if type(view[0]) not in (str, int) or type(view[2]) is not int or min(view[1:]) < 0:
            return None
        return StorageId(str(key), dtype, nbytes, view[1], str(view[0]), view[2], is_text, is_meta)
    return StorageId(str(key), dtype, nbytes, 0, None, 0, is_text, is_meta)


class Whole(NamedTuple):
    """What an id says of the whole storage."""

    dtype: DType
    nbytes: int
    is_text: bool
    is_meta: bool


class StorageIds:
    """What the persistent ids of one stream declare, and where they contradict each other.

    The first id of a key counts, as in torch: it makes the storage, and later ones find it made.
    """

    def __init__(self) -> None:
        self._first: dict[str, Whole] = {}
        self._alike: dict[tuple[object, ...], Whole] = {}
        """Each only once: of 200,000 storages most are declared alike."""
        self._conflicts: set[str] = set()
        self._views: dict[str, StorageId] = {}
        self._ambiguous: set[str] = set()

    @classmethod
    def of_stream(cls, stream: Stream) -> StorageIds:
        """All that the ids of a pickle declare."""
        ids = cls()
        for event in stream.trace.events:
            if type(event) is Persistent:
                declared = storage_id(event)
                if declared is not None:
                    ids.declare(declared)
        return ids

    def all(self) -> ValuesView[Whole]:
        """What counts for each storage."""
        return self._first.values()

    @property
    def keys(self) -> KeysView[str]:
        """The keys of all storages, in the order in which they are named first."""
        return self._first.keys()

    def first(self, key: str) -> Whole | None:
        """What counts for the storage of a key; None where no id has named it."""
        return self._first.get(key)

    def declare(self, declared: StorageId) -> Whole:
        """Note what an id says of its storage; return what counts for that: the first one's."""
        dtype = declared.dtype
        alike = dtype.name, declared.nbytes, declared.is_text, declared.is_meta
        whole = self._alike.get(alike)
        if whole is None:
            whole = self._alike[alike] = Whole(dtype, *alike[1:])
        first = self._first.setdefault(declared.key, whole)
        if first is not whole:
            self._conflicts.add(declared.key)
        if (
            declared.view is not None
            and self._views.setdefault(declared.view, declared) != declared
        ):
            self._ambiguous.add(declared.view)
        return first

    def settle(self) -> None:
        """Keep what `problem` goes by: all is declared. 200,000 storages in order are much else."""
        if not self._views:
            self._first.clear()

    def of(self, value: Value) -> StorageId | None:
        """What a value declares if it is a persistent id of a storage."""
        return storage_id(value) if type(value) is Persistent else None

    def problem(self, declared: StorageId) -> str | None:
        """Why torch may give another storage than the one that an id names, or None."""
        if declared.key in self._conflicts:
            return f"storage {declared.key!a} is declared in two ways that disagree"
        view = declared.view
        if declared.key in self._views or (view is not None and view in self._first):
            return f"storage {declared.key!a} shares a key with a view"
        if view is None:
            return None
        if view in self._ambiguous:
            return f"view {view!a} of storage {declared.key!a} is declared in two ways"
        end = declared.view_offset + declared.view_numel
        if end * declared.dtype.itemsize > declared.nbytes:
            return f"view {view!a} reaches beyond storage {declared.key!a}"
        return None
