"""Whether two paths are one file, and which names only one input of a run could give an output."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Protocol, TypeAlias

from sdtool.batch.items import Item
from sdtool.convert import split_name

AnyPath: TypeAlias = str | os.PathLike[str]


class Placed(Protocol):
    """An input with the outputs that are to be made of it."""

    @property
    def item(self) -> Item:
        """What is read."""
        ...

    @property
    def outs(self) -> tuple[Path, ...]:
        """What is written, by the names that are planned."""
        ...


def file_keys() -> Callable[[AnyPath], str]:
    """Return a function that gives what two paths of one file share, whatever the case of letters.

    It looks once where a folder is.
    """
    real: dict[str, str] = {}

    def key(path: AnyPath) -> str:
        folder, name = _split(path)
        if folder not in real:
            real[folder] = os.path.join(os.path.realpath(os.path.abspath(folder)), "")
        return _folded(real[folder] + name)

    return key


def same_file(a: AnyPath, b: AnyPath) -> bool:
    """Whether two paths are one file, through links and whatever the case of their letters."""
    if _folded(_split(a)[1]) == _folded(_split(b)[1]):
        key_of = file_keys()
        if key_of(a) == key_of(b):
            return True
    try:
        return os.path.samefile(a, b)
    except OSError:
        return False


def apart_from_others(jobs: Sequence[Placed], key_of: Callable[[AnyPath], str]) -> set[str]:
    """Return the inputs whose outputs no other input could take the names of: by their paths.

    What a file is called in the end may depend on what is in it. It begins with the stem of the
    input or of an output that was planned, and a `-` or a `.` follows.
    """
    inputs = {key_of(job.item.path) for job in jobs}
    stems: dict[str, str | None] = {}
    for job in jobs:
        for stem in {*map(key_of, {*_stems(job)})}:
            path = job.item.path
            stems[stem] = path if stems.get(stem, path) == path else None
    return {
        path
        for job in jobs
        for path in [job.item.path]
        if not any(
            key in inputs or any(stems.get(stem, path) != path for stem in _before(key))
            for key in map(key_of, job.outs)
        )
    }


def _split(path: AnyPath) -> tuple[str, str]:
    """Return the folder and the name of a path; the name is one of a file."""
    folder, name = os.path.split(os.fspath(path))
    return os.path.split(os.path.abspath(path)) if name in ("", ".", "..") else (folder, name)


def _stems(job: Placed) -> Iterator[str]:
    """Give what names of outputs may begin with, in their folders."""
    stem, _ = split_name(PurePath(job.item.called).name)
    for out in job.outs:
        folder, name = os.path.split(out)
        for one in (split_name(name)[0], stem, stem.removeprefix("pytorch_")):
            yield os.path.join(folder, one)


def _before(key: str) -> Iterator[str]:
    """Give what stands before each `-` and `.` of the name in `key`."""
    at = key.rfind(os.sep) + 1
    for found in re.finditer("[-.]", key[at:]):
        yield key[: at + found.start()]


def _folded(path: str) -> str:
    path = os.path.normcase(path)
    return path.casefold() if sys.platform == "darwin" else path
