"""What the process of a run knows and decides for all of its jobs, wherever these are worked on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from sdtool.batch.claims import Claims
from sdtool.checkpoint import dataclass

Warn: TypeAlias = Callable[[str, str], object]
"""Takes a warning and the file that it is about."""


@dataclass(frozen=True, slots=True)
class JobHost:
    """The host of the jobs of a run (see `sdtool.batch.engines.Host`), which `Shared` asks."""

    claims: Claims
    warn: Warn
    advance: Callable[[int], None]

    def claim(self, out: Path, called: str, source: str, *, is_made_of_it: bool) -> None:
        """See `Claims.claim`."""
        self.claims.claim(out, called, source, is_made_of_it=is_made_of_it)

    def link_to(self, path: str) -> str | None:
        """See `Claims.link_to`."""
        return self.claims.link_to(path)
