"""What a dangerous name does."""

from __future__ import annotations

from sdtool.checkpoint.light_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Danger:
    """What a name does: a `kind` in one word, and `why` as the rest of "this name ..."."""

    kind: str
    why: str
