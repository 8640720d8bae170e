"""What a result depends on besides the files: the options, and the version of the rules."""

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

    `asked` is every option that can change a result. Python's version is included, because its tar
    and xz readers are used.

    Raises:
        UsageError: an option is not plain data, such as an open model.
    """
    try:
        options = encoded(asked)
    except TypeError as e:
        raise UsageError(f"a journal cannot record these options ({e})") from e
    return json.dumps({"verb": verb, **options, **answering()}, sort_keys=True)


def is_current(asked: Mapping[str, object]) -> bool:
    """Whether a task in a journal was done by the version that would do it now."""
    return all(asked.get(name) == value for name, value in answering().items())


@cache
def answering() -> Mapping[str, str]:
    """Return what identifies the version of everything that decides a result."""
    return {
        "version": sdtool_version(),
        "rules": rules_version(),
        "python": platform.python_version(),
    }


def rules_version() -> str:
    """Return a hash of every line that a verdict or an output depends on.

    The rule tables refer to functions, and the readers decide what these see, so the source of all
    rooms is hashed.
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
