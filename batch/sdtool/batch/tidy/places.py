"""Where the files of a tidied folder are when they are not in their places, and what was moved.

Files are only ever renamed: an original to `held/`, what is unsafe to the quarantine, an output
from `new/` to its name. Where each of them is shows how far a step has come.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from sdtool.batch.place import make_folder
from sdtool.batch.set_aside import HELD, SUFFIX
from sdtool.checkpoint import UsageError, dataclass
from sdtool.convert import sync_folder

STATE = ".sdtool-tidy"
"""The folder, in the one that is tidied, where originals are held."""
QUARANTINE = "sdtool-quarantine"
_LIST = "undo.jsonl"
NAMES = {
    "held": re.compile(r"\d{6}(-\d{4,})?"),
    "made": re.compile(r"\d{6}(-\d{4,}\.json|(-\d{4,})?\.safetensors)"),
    "quarantined": re.compile(rf"\d{{6}}-[^/\\\0]+{re.escape(SUFFIX)}", re.DOTALL),
}
To: TypeAlias = Literal["held", "quarantined", "made"]


@dataclass(frozen=True, slots=True)
class Move:
    """One file: `path` is its name in the folder, `name` the other one, in the place that `to` is.

    `held` and `quarantined` files go from `path` to `name`, `made` ones from `name` to `path`.
    """

    to: To
    path: str
    name: str
    nbytes: int
    modified: int
    """Nanoseconds since 1970, as its file system has it."""


@dataclass(frozen=True, slots=True)
class Step:
    """What was done with one model. A step with a `held` move is done when that file is there."""

    number: int
    did: str
    moves: tuple[Move, ...]
    quarantine: str | None = None
    """The folder of what is `quarantined`, where it is not the usual one."""

    def as_json(self) -> dict[str, object]:
        """The step as a line of the list has it."""
        data: dict[str, object] = {
            "step": self.number,
            "did": self.did,
            "moves": [
                {"to": m.to, "path": m.path, "name": m.name, "size_bytes": m.nbytes,
                 "modified_ns": m.modified}
                for m in self.moves
            ],
        }  # fmt: skip
        return data if self.quarantine is None else data | {"quarantine": self.quarantine}


@dataclass(frozen=True, slots=True)
class Places:
    """Where the files of one folder are when they are not in their places."""

    folder: Path
    quarantine: Path

    @property
    def state(self) -> Path:
        """The folder of the list, and of what is held."""
        return self.folder / STATE

    @property
    def list(self) -> Path:
        """The undo list."""
        return self.state / _LIST

    @property
    def rewritten(self) -> Path:
        """The undo list while it is written anew."""
        return self.list.with_suffix(".new")

    @property
    def lock(self) -> Path:
        """The file that whoever is at work has locked."""
        return self.state / "lock"

    @property
    def held(self) -> Path:
        """The originals."""
        return self.state / HELD

    @property
    def new(self) -> Path:
        """Outputs that have no name yet, and those that were taken back."""
        return self.state / "new"

    def ends(self, move: Move) -> tuple[Path, Path]:
        """Return where a file is before and after it was moved."""
        here = self.folder / move.path
        if move.to == "made":
            return self.new / move.name, here
        return here, (self.held if move.to == "held" else self.quarantine) / move.name

    @property
    def elsewhere(self) -> str | None:
        """The quarantine, where it is not the usual one: what a step says of it."""
        usual = self.folder / QUARANTINE
        return None if self.quarantine == usual else os.path.abspath(self.quarantine)

    def make(self) -> None:
        """Make the folders of the state.

        Raises:
            OutputError: the operating system refused.
        """
        check_own(self)
        for folder in (self.held, self.new):
            make_folder(folder)
        sync_folder(self.folder)


def places_of(folder: str | os.PathLike[str], quarantine: str | None = None) -> Places:
    """Return the places of a folder; the quarantine is in it unless another one is named."""
    folder = Path(folder)
    return Places(folder, folder / QUARANTINE if quarantine is None else Path(quarantine))


def has_state(places: Places) -> bool:
    """Whether a tidy was ever at work on a folder.

    Raises:
        UsageError: it is no folder.
    """
    if not places.folder.is_dir():
        raise UsageError("is not a folder", where=os.fspath(places.folder))
    return os.path.lexists(places.state)


def check_own(places: Places) -> None:
    """Check that the state is in the folder itself.

    Raises:
        UsageError: a link leads elsewhere.
    """
    here = (places.state, places.lock, places.held, places.new, places.list, places.rewritten)
    for path in here:
        if path.is_symlink():
            raise UsageError("is a link, which sdtool never makes", where=os.fspath(path))


def own_name(number: int, position: int, count: int) -> str:
    """Return what the file of a step is called in the state: one of `count`."""
    return f"{number:06}" if count == 1 else f"{number:06}-{position:04}"


def quarantine_names(number: int, paths: Sequence[str]) -> list[str]:
    """Return what the files of a step are called in quarantine: cut where that is long, each
    another name even where capitals do not count.
    """
    names: dict[str, str] = {}
    for position, path in enumerate(paths):
        name = os.path.basename(path)
        while len(os.fsencode(name)) > 200:
            name = name[1:]
        if name.casefold() in names:
            name = f"{position:04}-{name}"
        names[name.casefold()] = f"{number:06}-{name}{SUFFIX}"
    return list(names.values())
