"""The names that a person allows, each with a reason: `sdtool.toml`, or --allow.

[scan.allow]
"ultralytics.nn.tasks.DetectionModel" = "the face detector, checked on 3 May"
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdtool.checkpoint.errors import UsageError
from sdtool.checkpoint.values import Global


def load_allow(path: str | os.PathLike[str]) -> dict[str, str]:
    """The table `[scan.allow]` of a TOML file: name -> reason; empty when it has none.

    Raises:
        UsageError: the file cannot be read, or the table holds something other than reasons.
    """
    import tomllib  # only a run with a settings file needs it

    where = os.fspath(path)
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as e:
        raise UsageError(f"cannot be read ({e.strerror or type(e).__name__})", where=where) from e
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise UsageError(f"not valid TOML: {e}", where=where) from e
    scan: Any = document.get("scan", {})
    table: Any = scan.get("allow", {}) if isinstance(scan, dict) else None
    if not isinstance(table, dict):
        raise UsageError("[scan.allow] must be a table of names and reasons", where=where)
    for name, reason in table.items():
        if not isinstance(reason, str) or not reason.strip():
            raise UsageError(
                f"{name!a} is allowed without a reason",
                where=where,
                hint='write [scan.allow] as "module.Name" = "why it may load"',
            )
    return dict(table)


def allowed_globals(allow: Mapping[str, str]) -> dict[Global, str]:
    """The names of an allow table as a pickle has them.

    `a.b.C` is C of the module a.b; `a.b:C.D` is D inside C, which cannot be told by dots alone.

    Raises:
        UsageError: a name without a module.
    """
    found: dict[Global, str] = {}
    for name, reason in allow.items():
        module, sep, attribute = name.partition(":") if ":" in name else name.rpartition(".")
        if not (sep and module and attribute):
            raise UsageError(
                f"cannot allow {name!a}: it has no module", hint="write MODULE.NAME in full"
            )
        found[Global(module, attribute)] = reason
    return found
