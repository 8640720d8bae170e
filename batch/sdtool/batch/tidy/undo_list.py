"""The undo list: what is moved, on the disk before it is moved.

`FOLDER/.sdtool-tidy/undo.jsonl` has one step a line. A list may have come with a download: it
moves nothing out of the folder, and nothing into it that it has not in its own places.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sdtool.batch.tidy.places import NAMES, QUARANTINE, Move, Places, Step, check_own
from sdtool.checkpoint import InputError, Malformed, OutputError, UsageError, os_reason
from sdtool.convert import sync_folder


def steps_of(places: Places) -> list[Step]:
    """Return what the list says was done, the earliest first; a last line that was cut is none.

    Raises:
        InputError: there is a list, and it cannot be read or is not one.
    """
    check_own(places)
    try:
        text = places.list.read_text("utf-8")
    except FileNotFoundError:
        return []
    except OSError as e:
        raise InputError(f"cannot be read ({os_reason(e)})", where=os.fspath(places.list)) from e
    except UnicodeDecodeError as e:
        raise _no_list(places, 1) from e
    *lines, rest = text.split("\n")
    steps = [_step(places, number, line) for number, line in enumerate(lines, 1)]
    if rest:  # a kill may cut the last one, before anything was moved
        with contextlib.suppress(Malformed):
            steps.append(_step(places, len(lines) + 1, rest))
    return steps


def note(places: Places, step: Step) -> None:
    """Add a step to the list, on the disk before this returns.

    Raises:
        OutputError: the operating system refused.
    """
    line = json.dumps(step.as_json()) + "\n"
    try:
        is_new = not places.list.exists()
        with places.list.open("a+b") as file:
            end = file.seek(0, os.SEEK_END)
            if end:  # a line that was cut goes: nothing was moved for it
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_folder(places.state)
    except OSError as e:
        raise OutputError(
            f"cannot be written ({os_reason(e)})", where=os.fspath(places.list)
        ) from e


def check_quarantine(places: Places, steps: Iterable[Step]) -> None:
    """Check that the quarantine of all steps was named.

    A list that came with a download could name any folder, so it is not believed.

    Raises:
        UsageError: it is another one.
    """
    for step in steps:
        if step.quarantine != places.elsewhere and any(m.to == "quarantined" for m in step.moves):
            where = step.quarantine or os.fspath(places.folder / QUARANTINE)
            raise UsageError(
                f"files of it are in quarantine in {where}",
                where=os.fspath(places.folder),
                hint=f"if you have put them there, add --quarantine {where}",
            )


def rewrite(places: Places, steps: Sequence[Step]) -> None:
    """Have the list say `steps` alone; without any there is no list.

    Raises:
        OutputError: the operating system refused.
    """
    try:
        if not steps:
            places.list.unlink(missing_ok=True)
            return
        with places.rewritten.open("wb") as file:
            file.write("".join(json.dumps(step.as_json()) + "\n" for step in steps).encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(places.rewritten, places.list)
        sync_folder(places.state)
    except OSError as e:
        raise OutputError(
            f"cannot be written ({os_reason(e)})", where=os.fspath(places.list)
        ) from e


def _step(places: Places, number: int, line: str) -> Step:
    try:
        data: Any = json.loads(line)
        moves = tuple(_move(places, one) for one in data["moves"])
        where = data.get("quarantine")
        return Step(
            int(data["step"]), str(data["did"]), moves, None if where is None else str(where)
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise _no_list(places, number) from e


def _move(places: Places, data: Any) -> Move:
    to, path, name = data["to"], str(data["path"]), str(data["name"])
    if to not in NAMES or not NAMES[to].fullmatch(name) or not _is_inside(places.folder, path):
        raise ValueError(path)
    return Move(to, path, name, int(data["size_bytes"]), int(data["modified_ns"]))


def _is_inside(folder: Path, path: str) -> bool:
    """Whether a path of a list stays in the folder, through links too."""
    if "\0" in path or os.path.isabs(path) or os.path.splitdrive(path)[0]:
        return False
    where = os.path.realpath(os.path.join(folder, os.path.dirname(path)))
    root = os.path.realpath(folder)
    inside = os.path.commonpath((where, root)) == root
    return inside and os.path.basename(path) not in ("", os.curdir, os.pardir)


def _no_list(places: Places, line: int) -> Malformed:
    return Malformed(
        f"is not a valid undo list (line {line})",
        where=os.fspath(places.list),
        hint=f"originals are in {places.held}",
    )
