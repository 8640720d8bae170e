"""What a hostile file is, and what many of them hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.forge import call, dict_of, name, pickled, tensor
from tests.scan.gadgets import MARKER, MKDIR

PICKLE = ("c-file", "c-bytes", "python")
TORCH = ("torch", "torch-mmap", "torch-file", "comfyui")

BOOM = call(MKDIR, MARKER)
"""The payload: os.mkdir(MARKER)."""
HONEST = pickled(dict_of({"weight": tensor()}))
"""The data.pkl of a state dict with one tensor, in storage 0."""
HOSTILE = pickled(dict_of({"weight": BOOM}))
"""The data.pkl of a dict with the payload in it."""
NAMESPACE = name("argparse", "Namespace")
EXEC = name("builtins", "exec")


@dataclass(frozen=True)
class Vector:
    """One hostile file; what a scan must say of it is its line in ledger.txt.

    `loaders` are those of live.py that are proven to run the payload.
    """

    name: str
    why: str
    build: Callable[[], bytes]
    loaders: tuple[str, ...] = ()
    suffix: str = ".pkl"
    until: int = 99
    """The last minor version of CPython 3 on which it runs."""
    needs_torch: bool = False
    deep: bool = False
    """Whether it takes a deep scan: no loader reads the place."""
    threat: int = 0
    """The class of attack, numbered as in docs/threat-model.md."""


def v(
    name: str,
    why: str,
    data: bytes | Callable[[], bytes],
    loaders: tuple[str, ...] = PICKLE,
    *,
    suffix: str = ".pkl",
    until: int = 99,
    needs_torch: bool = False,
) -> Vector:
    """A file whose payload runs in `loaders`: in any unpickler, unless they are given."""
    return Vector(name, why, _maker(data), loaders, suffix, until, needs_torch)


def zipped(
    name: str,
    why: str,
    data: bytes | Callable[[], bytes],
    loaders: tuple[str, ...] = TORCH,
    *,
    until: int = 99,
) -> Vector:
    """A torch zip whose payload runs in torch.load."""
    return Vector(name, why, _maker(data), loaders, ".pt", until)


def silent(
    name: str,
    why: str,
    data: bytes | Callable[[], bytes],
    *,
    suffix: str = ".pkl",
    deep: bool = False,
) -> Vector:
    """A file that no loader runs: a structure that no real serializer writes, or a bomb."""
    return Vector(name, why, _maker(data), (), suffix, deep=deep)


def _maker(data: bytes | Callable[[], bytes]) -> Callable[[], bytes]:
    return data if callable(data) else lambda: data
