"""`sdtool.toml` in the current folder: the names that its owner allows, each with a reason.

[scan.allow]
"ultralytics.nn.tasks.DetectionModel" = "our own detector, trained in-house"
"""

from __future__ import annotations

from pathlib import Path

from sdtool.cli.console import Console, counted
from sdtool.scan.allowlist import load_allow

FILE = "sdtool.toml"


def allowed_names(console: Console, given: tuple[str, ...] = ()) -> dict[str, str]:
    """Return allowed names with their reasons: those of `sdtool.toml`, then those `given`.

    Only the current folder's file counts, and a note says that it does.

    Raises:
        UsageError: it is not valid TOML, or an entry is not a name with a reason.
    """
    path = Path(FILE)
    names = load_allow(path) if path.exists() else {}
    if names:
        console.note(f"{counted(len(names), 'allowed name')} from {FILE}")
    return names | dict.fromkeys(given, "--allow")
