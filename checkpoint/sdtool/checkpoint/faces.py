"""What a package exports, imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, tuple[str, ...]]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package that exports the names in `homes` (PEP 562).

    Each key is a module, as `import_module` takes it from inside the package: `.plan.names`, or
    `sdtool.scan`. A command then pays for the modules that it uses, and for no others.
    """
    modules = {name: module for module, names in homes.items() for name in names}

    def exported(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name], package), name)

    return exported
