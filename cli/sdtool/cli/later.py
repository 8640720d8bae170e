"""`inspect` at its first use: click and dataclasses import it, and few commands need any of it."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


class _Inspect(ModuleType):
    """Stands for `inspect` until something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get("inspect") is self:  # asked during the imports: the real one, for good
            del sys.modules["inspect"]
        return getattr(import_module("inspect"), name)

    @staticmethod
    def cleandoc(text: str) -> str:
        """Return what `inspect.cleandoc` does: click asks it about every help text."""
        first, *others = text.expandtabs().split("\n")
        margins = [len(line) - len(line.lstrip()) for line in others if line.lstrip()]
        margin = min(margins, default=0)
        lines = [first.lstrip(), *(line[margin:] for line in others)]
        while lines and not lines[-1]:
            lines.pop()
        while lines and not lines[0]:
            lines.pop(0)
        return "\n".join(lines)


@contextmanager
def inspect_later() -> Generator[None]:
    """Let what is imported in this block have `inspect` at its first use, and nobody else.

    A tenth of the time that one small file takes, and a process has this once.
    """
    if "inspect" in sys.modules:
        yield
        return
    sys.modules["inspect"] = later = _Inspect("inspect")
    try:
        yield
    finally:
        if sys.modules.get("inspect") is later:
            del sys.modules["inspect"]
