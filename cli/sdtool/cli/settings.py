"""`sdtool.toml` in the current folder: the names that its owner allows, each with a reason.

[scan.allow]
"ultralytics.nn.tasks.DetectionModel" = "our own detector, trained in-house"
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sdtool.checkpoint.errors import UsageError
from sdtool.cli.console import Console, counted

FILE = "sdtool.toml"


def allowed_names(console: Console, given: tuple[str, ...] = ()) -> dict[str, str]:
    """Return allowed names with their reasons: those of `sdtool.toml`, then those `given`.

    Only the current folder's file counts, and a note says that it does.

    Raises:
        UsageError: it is not valid TOML, or an entry is not a name with a reason.
    """
    names = _read(Path(FILE))
    if names:
        console.note(f"{counted(len(names), 'allowed name')} from {FILE}")
    return names | dict.fromkeys(given, "--allow")


def _read(path: Path) -> dict[str, str]:
    import tomllib

    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"cannot be read ({e})", where=FILE) from e
    try:
        settings: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"is not valid TOML ({e})", where=FILE) from e
    names = settings
    for key in ("scan", "allow"):
        names = names.get(key, {})
        if not isinstance(names, dict):
            raise UsageError("[scan.allow] is not a table", where=FILE)
    for name, reason in names.items():
        if not isinstance(reason, str) or not reason.strip():
            raise UsageError(f'[scan.allow] needs a reason: "{name}" = "why"', where=FILE)
    return names
