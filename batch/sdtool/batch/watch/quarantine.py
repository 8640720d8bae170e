"""Unsafe files are moved to where no program looks for models, with their sidecars."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path

from sdtool.batch.moving import move_file
from sdtool.batch.place import make_folder
from sdtool.batch.sidecars import own_sidecars
from sdtool.checkpoint import OutputError


def quarantined(files: Sequence[Path], folder: Path, root: Path) -> Iterator[tuple[Path, Path]]:
    """Move the files of one model, and then their sidecars, into `folder`; yield from and to.

    Below `folder` they keep their names and their path relative to `root`. If one of these names is
    taken, all of them go into a numbered subfolder.

    Raises:
        OutputError: one is a link, or could not be moved: it and what follows stay where they are.
    """
    for file in files:
        if file.is_symlink():
            raise OutputError(
                f"is a link to {os.path.realpath(file)}, and was not moved",
                where=os.fspath(file),
                hint="move its target, and remove the link",
            )
    sidecars = [sidecar for file in files for sidecar in own_sidecars(file)]
    wanted = [*files, *(one for one in sidecars if one not in files and not one.is_symlink())]
    inside = os.path.relpath(files[0].parent, root)
    free = _free(Path(folder, inside), [one.name for one in wanted])
    make_folder(free)
    for file in wanted:
        move_file(file, free / file.name)
        yield file, free / file.name


def _free(folder: Path, names: Sequence[str]) -> Path:
    """Return a folder in which none of the names is taken."""
    candidates = chain([folder], (folder / str(number) for number in count(2)))
    return next(
        candidate
        for candidate in candidates
        if not any(os.path.lexists(candidate / name) for name in names)
    )
