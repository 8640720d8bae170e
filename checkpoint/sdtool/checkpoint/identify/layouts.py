"""The layers of the diffusion networks: names, sizes and how many blocks there are.

A LoRA names the layers that it changes, and its matrices have their sizes. Both together tell the
network: the layers of FLUX.1 and of HunyuanVideo have the same names and sizes under diffusers'
names, but one has 19 blocks and the other 20.

The files in `layers/` hold a section for each network:

    [family | version] whose names these are
    blocks.#30.{self_attn,cross_attn}.{q,k,v,o} 1536>1536

`#30` stands for 0 to 29, `#*` for blocks whose number is not known, braces for each of what they
hold, `1536>1536` for inputs and outputs. Several sizes are those of different blocks; a layer
without one may have any. Of networks that share their layers the more frequent one comes first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache

from sdtool.checkpoint.light_dataclass import dataclass

Sides = tuple[int | None, int | None]
"""Inputs and outputs of a layer; None is not known."""
Size = Sides | int
"""What is known of a layer's size; a number alone is its inputs or its outputs."""

_SECTION = re.compile(r"\[([^|\]]+?)(?: \| ([^\]]+))?\] (.+)")
_BLOCKS = 8
"""How many blocks in a row are no choice of a few."""
_INNERMOST = re.compile(r"\{([^{}]*)\}")
_INDEX = re.compile(r"(?:(?<=s_)|(?<=refiner_)|(?<=image_)|(?<=cond_))(#?\d+|#\*)(?=_|\Z)")
"""The number of a block: behind the name of a list, `blocks`, `layers`, `attentions`."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Layers of one name: the first index that is too high at each place, and their sizes.

    An end of None is not known.
    """

    ends: tuple[int | None, ...]
    sizes: frozenset[Sides]

    def holds(self, highest: tuple[int, ...], size: Size) -> bool:
        """Whether layers of this `size`, with these highest indices, could be some of these."""
        pairs = zip(highest, self.ends, strict=True)
        if any(end is not None and index >= end for index, end in pairs):
            return False
        return not self.sizes or any(_agree(known, size) for known in self.sizes)

    def is_spanned(self, highest: tuple[int, ...]) -> bool:
        """Whether the last index is reached at every place."""
        return all(
            end is not None and index == end - 1
            for index, end in zip(highest, self.ends, strict=True)
        )

    def is_cut_short(self, highest: tuple[int, ...], count: int) -> bool:
        """Whether all of the first blocks are there and none of the others.

        Such layers are those of a network that has fewer blocks.
        """
        if len(self.ends) != 1 or self.ends[0] is None:
            return False
        return _BLOCKS <= count == highest[0] + 1 <= self.ends[0] * 3 // 4


def _agree(one: Sides, other: Size) -> bool:
    if isinstance(other, int):
        return other in one
    return all(a is None or b is None or a == b for a, b in zip(one, other, strict=True))


@dataclass(frozen=True, slots=True)
class Layout:
    """One network under one set of names; `layers` by the key of their names."""

    family: str
    version: str | None
    source: str
    layers: Mapping[str, tuple[Layer, ...]]


def key_of(module: str) -> tuple[str, tuple[int, ...]]:
    """Return what a layer is called in any block, and the numbers of its blocks.

    Dots and underscores are one: kohya's trainers write `blocks_0_attn` for `blocks.0.attn`.
    """
    name = module.replace(".", "_")
    return _INDEX.sub("#", name), tuple(int(index[:9]) for index in _INDEX.findall(name))


@cache
def layouts() -> tuple[Layout, ...]:
    """Return the networks of `layers/`, parsed when they are first asked for."""
    from importlib.resources import files  # it takes twenty modules with it

    folder = files("sdtool.checkpoint.identify") / "layers"
    texts = [folder.joinpath(f"{name}.txt") for name in ("unets", "native", "diffusers")]
    return tuple(layout for text in texts for layout in _parsed(text.read_text("utf-8")))


def _parsed(text: str) -> Iterator[Layout]:
    section: re.Match[str] | None = None
    layers: dict[str, list[Layer]] = {}
    for line in (*text.splitlines(), ""):
        if not line:
            if section is not None:
                found = {key: tuple(rows) for key, rows in layers.items()}
                yield Layout(section[1], section[2], section[3], found)
            section, layers = None, {}
        elif line[0] == "[":
            section = _SECTION.fullmatch(line)
        elif line[0] != "#":
            names, *sizes = line.split(" ")
            pairs = frozenset(_size(size) for size in sizes)
            for name in _expanded(names):
                key = _INDEX.sub("#", name.replace(".", "_"))
                layers.setdefault(key, []).append(Layer(_ends(name), pairs))


def _size(text: str) -> Sides:
    inputs, _, outputs = text.partition(">")
    return int(inputs), int(outputs)


def _ends(name: str) -> tuple[int | None, ...]:
    """The end of each index of a name in a file: of `#30` it is 30, of a plain 2 it is 3."""
    found = _INDEX.findall(name.replace(".", "_"))
    return tuple(map(_end, found))


def _end(index: str) -> int | None:
    if index == "#*":
        return None
    return int(index[1:]) if index[0] == "#" else int(index) + 1


def _expanded(names: str) -> Iterator[str]:
    match = _INNERMOST.search(names)
    if match is None:
        yield names
        return
    for choice in match[1].split(","):
        yield from _expanded(f"{names[: match.start()]}{choice}{names[match.end() :]}")
