"""The models below the folders that were named, and what is known of them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sdtool.batch import Item, as_error, as_models, expand_inputs, looked_at, without_set_aside
from sdtool.checkpoint import InputError, NotACheckpoint
from sdtool.cli.arguments import file_size, held_lines
from sdtool.cli.exit_codes import TROUBLE
from sdtool.cli.results import about
from sdtool.cli.totals import Totals
from sdtool.cli.ui.run import Run
from sdtool.scan import Settings


class Library:
    """What is below some folders. A file has a number as long as the run lasts, and only these."""

    def __init__(self, folders: Sequence[str], settings: Settings) -> None:
        self.files: list[dict[str, Any]] = []
        """As JSON has them."""
        self.summary: dict[str, Any] = Totals().as_json()
        self._folders = folders
        self._settings = settings
        self._items: dict[str, Item] = {}
        self._numbers: dict[str, str] = {}

    @property
    def allow(self) -> Mapping[str, str]:
        """Names that may load, as the settings say."""
        return self._settings.allow

    @property
    def exclude(self) -> Sequence[str]:
        """What is left out, as the settings say."""
        return self._settings.exclude

    @property
    def folders(self) -> Mapping[str, str]:
        """The folders that were named, by their numbers."""
        named = dict.fromkeys(self._folders)
        return {str(number): path for number, path in enumerate(named, 1) if os.path.isdir(path)}

    @property
    def numbers(self) -> Mapping[str, str]:
        """The number of each file, by its path."""
        return {path: number for number, path in self._paths().items()}

    def folder(self, number: str) -> str:
        """Return the folder of this number.

        Raises:
            InputError: there is no such folder.
        """
        found = self.folders.get(number)
        if found is None:
            raise InputError("no folder has this number", where=number)
        return found

    def nbytes_below(self, folder: str) -> int:
        """Return the bytes of the models in a folder, as far as they are known."""
        return sum(file_size(i.path) for i in self._items.values() if i.root == folder)

    def chosen(self, numbers: Sequence[str]) -> list[Item]:
        """Return the files of these numbers.

        Raises:
            InputError: there is no such file.
        """
        missing = [number for number in numbers if number not in self._items]
        if missing:
            raise InputError("no file has this number", where=missing[0])
        return [self._items[number] for number in dict.fromkeys(numbers)]

    def found(self) -> list[Item]:
        """Search the folders anew, and return the models in them."""
        found, problems = expand_inputs(self._folders, exclude=self._settings.exclude)
        found, self._aside = without_set_aside(found)
        items = sorted(as_models(found), key=lambda item: os.path.islink(item.path))
        for item in items:
            self._numbers.setdefault(item.path, str(len(self._numbers) + 1))
        self._items = {self._numbers[item.path]: item for item in items}
        self._problems = problems
        return items

    def look(self, run: Run, items: Sequence[Item]) -> None:
        """Say what each file is; what was known before stands until all are known."""
        totals, files = Totals(), list[dict[str, Any]]()
        for error in self._problems:
            run.report("error", str(error))
        run.report("result", *held_lines(self._aside))
        for item in items:
            begun = time.monotonic()
            run.advance(0)
            try:
                with looked_at(item, allow=self.allow) as seen:
                    files.append(totals.taken_up(seen, time.monotonic() - begun))
            except Exception as e:
                if isinstance(e, NotACheckpoint) and not item.looks_like_model:
                    continue
                totals.failed += 1
                nbytes, seconds = file_size(item.path), time.monotonic() - begun
                files.append(about(item.path, nbytes, seconds, TROUBLE, as_error(e, item.path)))
            run.advance(file_size(item.path))
        self.files, self.summary = files, totals.as_json()

    def _paths(self) -> dict[str, str]:
        return {number: item.path for number, item in self._items.items()}
