"""What a person set once for all runs: allowed names with their reasons, and files to leave out.

It is read from `--config FILE`, or from `sdtool.toml` in the user's own configuration folder. It is
never read from the current folder nor from one that is worked on: whoever made a download could put
a file there that allows what the download does.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from sdtool.checkpoint import UsageError, counted
from sdtool.cli.console import Console
from sdtool.scan import Settings, allowed_globals, load_settings

FILE = "sdtool.toml"

Verb = Callable[..., int]


def settings_options(function: Verb) -> Verb:
    """Add the options that choose files and names; the function gets them as `settings`."""

    @functools.wraps(function)
    def run(
        console: Console,
        *,
        config: str | None,
        no_config: bool,
        exclude: tuple[str, ...],
        **options: Any,
    ) -> int:
        settings = read_settings(console, config, no_config=no_config)
        settings = Settings(settings.allow, (*settings.exclude, *exclude))
        return function(console, settings=settings, **options)

    for option in reversed(
        (
            click.option(
                "--exclude", multiple=True, metavar="GLOB",
                help="Leave out matching files and folders.",
            ),
            click.option(
                "--config", metavar="FILE",
                help=f"Read {FILE} from here, not from the user's folder.",
            ),
            click.option("--no-config", is_flag=True, help=f"Read no {FILE}."),
        )
    ):  # fmt: skip
        run = option(run)
    return run


def read_settings(console: Console, config: str | None, *, no_config: bool = False) -> Settings:
    """Return the settings of `config`, or of the user's own file where there is one.

    A note says which file it was, under `--quiet` too, if the file changes anything.

    Raises:
        UsageError: the options contradict each other, or as `load_settings` does.
    """
    if no_config:
        if config is not None:
            raise UsageError("--config and --no-config cannot be used together")
        return Settings({})
    path = user_file() if config is None else config
    _warn_of_local_file(console, path, config)
    if path is None or (config is None and not os.path.lexists(path)):
        return Settings({})
    found = load_settings(path)
    parts = [counted(len(found.allow), "allowed name")] if found.allow else []
    if found.exclude:
        parts.append(counted(len(found.exclude), "excluded pattern"))
    if parts:
        console.note(f"{' and '.join(parts)} from {path}", always=True)
    return found


def with_allowed(settings: Settings, given: tuple[str, ...]) -> dict[str, str]:
    """Return the allowed names of the settings and those `given` with `--allow`.

    Raises:
        UsageError: one is not the full name of one thing, or is known to be dangerous.
    """
    named = dict.fromkeys(given, "--allow")
    allowed_globals(named)
    return {**settings.allow, **named}


def user_file() -> str | None:
    """Where the user's own settings are; None where there is no such place.

    Source: XDG Base Directory Specification (a relative path does not count), Apple's File System
    Programming Guide, Microsoft's FOLDERID_RoamingAppData.
    """
    if os.name == "nt":
        folder = os.environ.get("APPDATA", "")
    elif sys.platform == "darwin":
        folder = os.path.expanduser("~/Library/Application Support")
    else:
        folder = os.environ.get("XDG_CONFIG_HOME", "")
        if not os.path.isabs(folder):
            folder = os.path.expanduser("~/.config")
    # a relative one would be looked for in the current folder
    return os.path.join(folder, "sdtool", FILE) if os.path.isabs(folder) else None


def _warn_of_local_file(console: Console, path: str | None, config: str | None) -> None:
    """Say that a settings file in the current folder counts for nothing."""
    if config is not None or not os.path.lexists(FILE):
        return
    if path is not None and os.path.realpath(path) == os.path.realpath(FILE):
        return
    console.note(f"{FILE} of the current folder is not read; use --config {FILE} to read it")
