"""The files that a run reads and those that it writes: none is both, none is written twice."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from sdtool.batch.clashes import takes_an_input, takes_an_output
from sdtool.batch.file_keys import file_keys


class Claims:
    """What one run reads and writes.

    `--force` is for what was there before. Names are only known for certain when an input was
    opened (the tokens of an embedding), so this is asked just before each output is written. Not
    of names that are `apart`, each with its input: those are taken from the beginning.
    """

    def __init__(self, inputs: Iterable[str] = (), apart: Iterable[tuple[Path, str]] = ()) -> None:
        paths = list(inputs)
        self._key = file_keys()
        self._inputs = {self._key(path) for path in paths}
        self._links = {_target(path): path for path in paths if os.path.islink(path)}
        self._outputs = {self._key(out): (out, source) for out, source in apart}

    def claim(self, out: Path, called: str, source: str, *, is_made_of_it: bool) -> None:
        """Take a name for an output of `source`; `called` is what a person calls it.

        Raises:
            UsageError: another input is called so and does not hold the same, or another output is.
        """
        key = self._key(out)
        if key in self._inputs and key != self._key(source) and not is_made_of_it:
            raise takes_an_input(called, source)
        _, other = self._outputs.setdefault(key, (out, source))
        if other != source:
            raise takes_an_output(called, source, other)

    def outputs_of(self, source: str) -> list[Path]:
        """Return the names that were taken for outputs of `source`."""
        return [out for out, other in self._outputs.values() if other == source]

    def link_to(self, path: str) -> str | None:
        """Return another input that is a link to `path`, which is none itself; None without one."""
        return None if os.path.islink(path) else self._links.get(_target(path))


def _target(path: str) -> str:
    return os.path.normcase(os.path.realpath(path))
