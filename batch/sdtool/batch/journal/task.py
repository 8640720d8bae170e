"""What a result depends on besides the files: what was asked for, and who answered."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from sdtool.batch.coding import encoded
from sdtool.batch.version import sdtool_version
from sdtool.checkpoint import UsageError

_ROOMS = ("checkpoint", "scan", "convert", "prune", "batch")


def task_of(verb: str, **asked: object) -> str:
    """Return what identifies a task: two results of one task and one file are the same.

    `asked` is every option that can change a result. Python's version belongs to it, whose tar and
    xz readers are used.

    Raises:
        UsageError: an option is no plain data, such as a model that is open.
    """
    try:
        options = encoded(asked)
    except TypeError as e:
        raise UsageError(f"a journal cannot record these options ({e})") from e
    return json.dumps({"verb": verb, **options, **answering()}, sort_keys=True)


def is_current(asked: Mapping[str, object]) -> bool:
    """Whether a task of a journal was done by what would do it now."""
    return all(asked.get(name) == value for name, value in answering().items())


@cache
def answering() -> Mapping[str, str]:
    """Return what tells one version of all that decides a result from another."""
    return {
        "version": sdtool_version(),
        "rules": rules_version(),
        "python": platform.python_version(),
    }


def rules_version() -> str:
    """Return a hash of every line that a verdict or an output hangs on.

    The tables of rules name functions, and the readers decide what these see: so it is one of the
    source of all rooms.
    """
    total = hashlib.sha256()
    for room in _ROOMS:
        spec = find_spec(f"sdtool.{room}")
        assert spec is not None
        for folder in spec.submodule_search_locations or ():
            for path in sorted(Path(folder).rglob("*.py")):
                total.update(path.relative_to(folder).as_posix().encode() + b"\0")
                total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:16]
