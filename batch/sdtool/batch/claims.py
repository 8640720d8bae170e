"""The files that a run reads and those that it writes: none is both, none is written twice."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sdtool.batch.clashes import takes_an_input, takes_an_output
from sdtool.batch.file_keys import Placed, file_keys


class Claimant(Placed, Protocol):
    """An input with the outputs that are to be made of it."""

    @property
    def is_apart(self) -> bool:
        """Whether no other input could have an output of these names."""
        ...


class Claims:
    """What one run reads and writes.

    `--force` is for what was there before. Names are only known for certain when an input was
    opened (the tokens of an embedding), so this is asked just before each output is written. Not
    of names that are apart, which are taken from the beginning.
    """

    def __init__(self, jobs: Sequence[Claimant] = ()) -> None:
        self._jobs = jobs
        self._key = file_keys()
        paths = (job.item.path for job in jobs)
        self._links = {_target(path): path for path in paths if os.path.islink(path)}
        self._inputs: set[str] | None = None
        """None as long as nobody asked: in most runs nobody does, and it takes memory."""
        self._outputs: dict[str, tuple[Path, str]] = {}

    def claim(self, out: Path, called: str, source: str, *, is_made_of_it: bool) -> None:
        """Take a name for an output of `source`; `called` is what a person calls it.

        Raises:
            UsageError: another input is called so and does not hold the same, or another output is.
        """
        if self._inputs is None:
            self._inputs = {self._key(job.item.path) for job in self._jobs}
            self._outputs |= {
                self._key(name): (Path(name), job.item.path)
                for job in self._jobs
                if job.is_apart
                for name in job.out_names
            }
        key = self._key(out)
        if key in self._inputs and key != self._key(source) and not is_made_of_it:
            raise takes_an_input(called, source)
        _, other = self._outputs.setdefault(key, (out, source))
        if other != source:
            raise takes_an_output(called, source, other)

    def outputs_of(self, source: str) -> list[Path]:
        """Return the names that were taken for outputs of `source`, beside those that are apart."""
        return [out for out, other in self._outputs.values() if other == source]

    def link_to(self, path: str) -> str | None:
        """Return another input that is a link to `path`, which is none itself; None without one."""
        return None if os.path.islink(path) else self._links.get(_target(path))


def _target(path: str) -> str:
    return os.path.normcase(os.path.realpath(path))
