"""The walk over what a pickle holds: tensors and plain values, with the keys that lead to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sdtool.checkpoint.errors import LimitExceeded, Malformed
from sdtool.checkpoint.keys import is_text, key_name, what_it_is
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.modules import children
from sdtool.checkpoint.numpy_values import as_bytes, numpy_dtype
from sdtool.checkpoint.rebuild import INLINE, Rebuilder
from sdtool.checkpoint.small_values import numbers
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.checkpoint.values import Global, Instance, Persistent, Value

SHOWN = 200
"""Characters of a name, and keys of a path, that a message shows."""
_LEAVES_PER_TENSOR, _LEAVES_PER_OBJECT = 4, 2
_LONG_LIST = 1_000
_PLAIN = frozenset({bool, int, float, str, type(None)})

Leaf = None | bool | int | float | str
Path = tuple[Value, ...]


@dataclass(slots=True)
class Found:
    """What a walk has come by so far."""

    tensors: list[TensorEntry]
    leaves: dict[str, Leaf]


class Walker:
    """Walks values without recursion, with bounds on how much and how deep."""

    def __init__(self, rebuild: Rebuilder, limits: Limits, where: str) -> None:
        self.rebuild = rebuild
        self.limits = limits
        self.where = where
        self._visited = 0
        self._named_nbytes = 0
        self.enclosing: set[int] = set()
        """What is around all that is walked: meeting it again is a cycle."""
        self._known: dict[int, TensorEntry | None] = {}

    def tensor(self, value: Value, path: Path) -> TensorEntry | None:
        """The tensor that `value` is, or None; its errors name the path."""
        if type(value) is not Instance and type(value) is not Persistent:
            return None
        key = id(value)  # the stream's value keeps every object alive
        if key in self._known:
            return self._known[key]
        try:
            tensor = self._known[key] = self.rebuild.tensor(value)
        except Malformed as e:
            name = ".".join(key_name(key)[:SHOWN] for key in path[:SHOWN]) or "tensor"
            raise Malformed(f"{name[:SHOWN]!a}: {e.what}", where=self.where) from e
        return tensor

    def holds_tensors(self, value: Value) -> bool:
        """Whether any tensor is at or below `value`."""
        return any(True for _ in self._items(value, (), once=True, only_tensors=True))

    def weights(
        self, value: Value, path: Path, *, skip: int = 0, found: Found | None = None
    ) -> Found:
        """Tensors and scalars at and below `value`; names leave out the first `skip` keys.

        What is there is added to `found`, if that is given. A tensor with a key that is no text has
        no name; its entry says so in `unsupported`.
        """
        if found is None:
            found = Found([], {})
        for at, item in self._items(value, path, once=False):
            if isinstance(item, TensorEntry):
                keys = at[skip:]
                found.tensors.append(_named(item, at, keys, self._name(keys)))
            else:
                found.leaves[self._name(at)] = item
        return found

    def training(self, value: Value, path: Path) -> Found:
        """Tensors and scalars at and below what is no weight, by their whole paths.

        An object that is met again by another way is left out.
        """
        found = Found([], {})
        for at, item in self._items(value, path, once=True):
            name = self._name(at)
            if isinstance(item, TensorEntry):
                found.tensors.append(item.changed(path=at, name=name))
            else:
                found.leaves[name] = item
        return found

    def _name(self, path: Path) -> str:
        """The flat name, paid for from what all names of a file may take together."""
        if len(path) == 1 and type(path[0]) is str:
            parts: Sequence[str] = path  # in a plain state dict
        else:
            parts = [key_name(key) for key in path]
        self._named_nbytes += sum(map(len, parts))
        if self._named_nbytes > self.limits.names_nbytes:
            raise LimitExceeded(
                f"names of more than {self.limits.names_nbytes:,} bytes", where=self.where
            )
        return ".".join(parts)

    def _items(
        self, value: Value, path: Path, *, once: bool, only_tensors: bool = False
    ) -> Iterable[tuple[Path, TensorEntry | Leaf]]:
        """The tensors and plain values at and below `value`, with the keys that lead to them."""
        tensor = self._met(value, path)
        if tensor is not None:
            return ((path, tensor),)  # as nearly always: it takes no walk
        return self._below(value, path, once=once, only_tensors=only_tensors)

    def _met(self, item: Value, at: Path) -> TensorEntry | None:
        """The tensor that `item` is, if it is one; what was met is paid for."""
        self._visited += _LEAVES_PER_OBJECT if type(item) is Instance else 1
        if self._visited > self.limits.leaves:
            raise LimitExceeded(f"more than {self.limits.leaves:,} leaves", where=self.where)
        tensor = self.tensor(item, at)
        if tensor is not None:
            self._visited += _LEAVES_PER_TENSOR - _LEAVES_PER_OBJECT
            if tensor.storage.key != INLINE:
                self._known.pop(id(item), None)  # it is made anew, should it come again
        return tensor

    def _below(
        self, value: Value, path: Path, *, once: bool, only_tensors: bool
    ) -> Iterator[tuple[Path, TensorEntry | Leaf]]:
        limits = self.limits
        on_path: set[int] = set()
        seen: set[int] = set()
        # A frame is an open container: its id, its path, and what is left of its children.
        frames: list[tuple[int, Path, Iterator[tuple[Value, Value]]]] = []
        at, item = path, value
        while True:  # `item` was met, and is no tensor
            scalar, is_leaf = _scalar(item)
            key = id(item)
            if is_leaf:
                if not only_tensors:
                    yield at, scalar
            elif (
                key not in on_path
                and key not in self.enclosing
                and not (once and key in seen)
                and not _is_long_list(item)
            ):
                below = children(item)
                if below:
                    if len(frames) >= limits.depth:
                        raise LimitExceeded(f"more than {limits.depth} levels", where=self.where)
                    on_path.add(key)
                    seen.add(key)
                    frames.append((key, at, iter(below)))
            while frames:
                key, above, rest = frames[-1]
                step = next(rest, None)
                if step is None:
                    frames.pop()
                    on_path.discard(key)
                    continue
                at, item = (*above, step[0]), step[1]
                tensor = self._met(item, at)
                if tensor is None:
                    break
                yield at, tensor
            else:
                return


def _is_long_list(value: Value) -> bool:
    """Whether it is a long row of numbers or strings: there is no tensor in it, and no setting."""
    if type(value) is tuple:
        row: Sequence[Value] = value
    elif type(value) is Instance and not (value.pairs or value.states):
        row = value.items
    else:
        return False
    return len(row) > _LONG_LIST and _PLAIN.issuperset(map(type, row))


def _named(tensor: TensorEntry, path: Path, keys: Path, name: str) -> TensorEntry:
    entry = tensor.named(path, name)
    for key in keys:
        if type(key) is not str and not is_text(key):
            why = f"a tensor whose key is {what_it_is(key)}"
            return entry.changed(unsupported=entry.unsupported or why)
    return entry


def _scalar(value: Value) -> tuple[Leaf, bool]:
    """A plain value, or a numpy scalar as the number it is; the second says whether it is one."""
    if value is None or type(value) in (bool, int, float, str):
        return value, True
    if (
        type(value) is Instance
        and type(value.target) is Global
        and value.target.name == "scalar"
        and value.target.module in ("numpy.core.multiarray", "numpy._core.multiarray")
        and type(value.args) is tuple
        and len(value.args) == 2
    ):
        kind = numpy_dtype(value.args[0])
        raw = as_bytes(value.args[1])
        if kind is not None and raw is not None:
            dtype, byteorder = kind
            if dtype.code is not None and len(raw) == dtype.itemsize:
                return numbers(raw, dtype, byteorder)[0], True
    return None, False
