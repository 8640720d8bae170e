"""Whether two paths are one file, and which names only one input of a run could give an output."""

from __future__ import annotations

import os
import re
import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Protocol, TypeAlias

from sdtool.batch.items import Item
from sdtool.convert import base_name, split_name

AnyPath: TypeAlias = str | os.PathLike[str]

_PARTS = 64


class Placed(Protocol):
    """An input with the outputs that are to be made of it."""

    @property
    def item(self) -> Item:
        """What is read."""
        ...

    @property
    def out_names(self) -> tuple[str, ...]:
        """What is written, by the paths that are planned."""
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


class Hashes:
    """Hashes of very many names, in 8 bytes each: the names themselves would take hundreds."""

    def __init__(self, hashes: Iterable[int]) -> None:
        self._parts = [array("q") for _ in range(_PARTS)]
        for one in hashes:
            self._parts[one % _PARTS].append(one)
        for part in self._parts:  # sorted one by one: meanwhile a list takes five times the memory
            part[:] = array("q", sorted(part))

    def __contains__(self, one: int) -> bool:
        part = self._parts[one % _PARTS]
        at = bisect_left(part, one)
        return at < len(part) and part[at] == one

    def repeated(self) -> set[int]:
        """Return those that are there more than once."""
        return {one for part in self._parts for one, other in pairwise(part) if one == other}


def apart_from_others(
    jobs: Sequence[Placed], key_of: Callable[[AnyPath], str]
) -> Callable[[Placed], bool]:
    """Return a function that says whether no other input could take the names of a job's outputs.

    What a file is called in the end may depend on what is in it. It begins with the stem of the
    input or of an output that was planned, and a `-` or a `.` follows.

    (It knows the names by their hashes. Of two that are equal by chance it says too little.)
    """
    inputs = Hashes(hash(key_of(job.item.path)) for job in jobs)
    stems = Hashes(stem for job in jobs for stem in _own_stems(job, key_of))
    shared = stems.repeated()

    def is_apart(job: Placed) -> bool:
        own = _own_stems(job, key_of)
        for key in map(key_of, job.out_names):
            if hash(key) in inputs:
                return False
            before = {one for one in map(hash, _before(key)) if one in stems}
            if not before <= own or before & shared:
                return False
        return True

    return is_apart


def _own_stems(job: Placed, key_of: Callable[[AnyPath], str]) -> set[int]:
    return {hash(key_of(stem)) for stem in {*_stems(job)}}


def _split(path: AnyPath) -> tuple[str, str]:
    """Return the folder and the name of a path; the name is one of a file."""
    folder, name = os.path.split(os.fspath(path))
    return os.path.split(os.path.abspath(path)) if name in ("", ".", "..") else (folder, name)


def _stems(job: Placed) -> Iterator[str]:
    """Give what names of outputs may begin with, in their folders."""
    stem, _ = split_name(base_name(job.item.called))
    for out in job.out_names:
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
