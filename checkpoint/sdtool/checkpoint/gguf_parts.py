"""A model in several GGUF files, the first of which stands for all: `X-00001-of-00003.gguf`, ...

Each part has a header and tensors of its own, and says which one it is: `split.no` from 0,
`split.count`, and in `split.tensors.count` how many tensors all of them hold.

Source: llama.cpp src/llama-model-loader.cpp, `llama_split_path`; tools/gguf-split/gguf-split.cpp.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace

from sdtool.checkpoint.errors import Malformed
from sdtool.checkpoint.reading import Checkpoint

_PART = r"(?as:(.+)-(\d{5})-of-(\d{5})\.gguf)"
_MOST_PARTS = 512
"""A name that says more is that of a file by itself: it could make any file cost 99,999 looks."""
_NO, _COUNT, _TENSORS = "split.no", "split.count", "split.tensors.count"


def is_first_part(path: str | os.PathLike[str]) -> bool:
    """Whether a file is called as the first of several parts is."""
    return _first(os.path.basename(path)) is not None


def parts_of(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return what the parts are called of which `path` is the first; none for any other file."""
    folder, name = os.path.split(os.fspath(path))
    match = _first(name)
    if match is None:
        return ()
    count = int(match[3])
    names = (f"{match[1]}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1))
    return tuple(os.path.join(folder, name) for name in names)


def _first(name: str) -> re.Match[str] | None:
    """Return the match of a name that the first of several parts has."""
    match = re.fullmatch(_PART, name)
    if match is None or int(match[2]) != 1 or not 1 < int(match[3]) <= _MOST_PARTS:
        return None
    return match


def name_without_part(name: str) -> str:
    """Return what a model would be called if all its parts were one file."""
    match = re.fullmatch(_PART, name)
    return name if match is None else f"{match[1]}.gguf"


def part_note(count: int) -> str:
    """Return what is said of a part alone."""
    return f"one of {count:,} parts of a model ({_COUNT})"


def without_part_note(part: Checkpoint, count: int) -> Checkpoint:
    """Return one of `count` files that are read together."""
    note = part_note(count)
    return replace(part, notes=tuple(other for other in part.notes if other != note))


def check_parts(parts: Mapping[str, Checkpoint]) -> None:
    """Check that files, by their paths and in order, are the parts of one model.

    Raises:
        Malformed: one of them is not; it is named.
    """
    total = sum(len(part.tensors) for part in parts.values())
    holders: dict[str, str] = {}
    for number, (path, part) in enumerate(parts.items()):
        found, count = part.leaves.get(_NO), part.leaves.get(_COUNT)
        if (found, count) != (number, len(parts)):
            said = "no part of a model" if count is None else _called(found, count)
            raise Malformed(
                f"is called part {number + 1:,} of {len(parts):,}; its header says that it is"
                f" {said}",
                where=path,
                hint="give it the name that it had, or download it again",
            )
        for entry in part.tensors:
            if holders.setdefault(entry.name, path) != path:
                raise Malformed(
                    f"two parts hold {entry.name!a}", where=f"{holders[entry.name]} and {path}"
                )
        wanted = part.leaves.get(_TENSORS, total)
        if wanted != total:
            raise Malformed(
                f"says that the parts hold {wanted!s:.20} tensors; they hold {total:,}",
                where=path,
                hint="the parts are not of one model: download them again",
            )


def _called(number: object, count: object) -> str:
    shown = number + 1 if type(number) is int else number
    return f"part {shown!s:.20} of {count!s:.20}"
