"""The names that a person allows, each with a reason: `sdtool.toml`, or --allow.

[scan]
exclude = ["backup/*"]

[scan.allow]
"ultralytics.nn.tasks.DetectionModel" = "the face detector, checked on 3 May"
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from sdtool.checkpoint.errors import Unreadable, UsageError
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.source import local_file
from sdtool.checkpoint.values import Global
from sdtool.scan.known_names import judge_name

_MOST_NBYTES = 1 << 20
"""No settings file that a person wrote is larger."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a settings file says: allowed names with their reasons, and files to leave out."""

    allow: Mapping[str, str]
    exclude: tuple[str, ...] = ()


def load_settings(path: str | os.PathLike[str]) -> Settings:
    """Read a TOML file with the table `[scan]`; what it does not know in it is an error.

    Raises:
        UsageError: the file cannot be read, is not valid TOML, has a key or a table that has no
            meaning, allows a name without a reason, or allows one that is known to do harm.
    """
    where = os.fspath(path)
    document = _document(where)
    _check_keys(document, ("scan",), "", where)
    scan: Any = document.get("scan", {})
    if not isinstance(scan, dict):
        raise UsageError("[scan] must be a table", where=where)
    _check_keys(scan, ("allow", "exclude"), "scan.", where)
    allow: Any = scan.get("allow", {})
    if not isinstance(allow, dict):
        raise UsageError("[scan.allow] must be a table of names and reasons", where=where)
    for name, reason in allow.items():
        if not isinstance(reason, str) or not reason.strip():
            raise UsageError(
                f"{name!a} is allowed without a reason",
                where=where,
                hint='write [scan.allow] as "module.Name" = "why it may load"',
            )
    exclude: Any = scan.get("exclude", [])
    if not isinstance(exclude, list) or not all(type(one) is str and one for one in exclude):
        raise UsageError('exclude of [scan] must be a list of patterns: ["*.bak"]', where=where)
    try:
        allowed_globals(allow)
    except UsageError as e:
        e.where = where
        raise
    return Settings(dict(allow), tuple(exclude))


def load_allow(path: str | os.PathLike[str]) -> dict[str, str]:
    """The table `[scan.allow]` of a TOML file: name -> reason; empty when it has none.

    Raises:
        UsageError: as `load_settings` does.
    """
    return dict(load_settings(path).allow)


def allowed_globals(allow: Mapping[str, str]) -> dict[Global, str]:
    """The names of an allow table as a pickle has them.

    `a.b.C` is C of the module a.b; `a.b:C.D` is D inside C, which dots alone do not show.

    Raises:
        UsageError: something that is not the full name of one thing in a module, or a name that is
            known to do harm: no setting makes that clean.
    """
    found: dict[Global, str] = {}
    for name, reason in allow.items():
        module, sep, attribute = name.partition(":") if ":" in name else name.rpartition(".")
        if not (sep and module and attribute):
            raise UsageError(
                f"cannot allow {name!a}: it has no module", hint="write MODULE.NAME in full"
            )
        # other letters than a module's can only be there to look like another name
        if not all(p.isidentifier() and p.isascii() for p in f"{module}.{attribute}".split(".")):
            raise UsageError(
                f"cannot allow {name!a}: it is not the name of one thing",
                hint="write MODULE.NAME in full, without patterns",
            )
        target = Global(module, attribute)
        known = judge_name(target)
        if known.danger is not None:
            raise UsageError(
                f"cannot allow {name!a}: it is known to be dangerous ({known.danger.why})",
                hint="sdtool convert --disarm extracts the tensors (no code is run)",
            )
        found[target] = reason
    return found


def _document(where: str) -> dict[str, Any]:
    import tomllib  # only a run with a settings file needs it

    try:
        with local_file(where) as file:
            if file.nbytes > _MOST_NBYTES:
                raise UsageError("too large for a settings file", where=where)
            return tomllib.loads(file.read_at(0, file.nbytes).decode("utf-8-sig"))
    except Unreadable as e:
        raise UsageError(e.what, where=where) from e
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as e:
        raise UsageError(f"is not valid TOML ({e})", where=where) from e


def _check_keys(table: Mapping[str, Any], known: Iterable[str], prefix: str, where: str) -> None:
    """Refuse what has no meaning: a setting with a typing error would be none, in silence."""
    for key in table:
        if key not in known:
            import difflib

            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {prefix}{near[0]}?" if near else None
            known_keys = ", ".join(f"{prefix}{one}" for one in known)
            raise UsageError(
                f"{prefix}{key} is not a setting", where=where, hint=hint or f"known: {known_keys}"
            )
