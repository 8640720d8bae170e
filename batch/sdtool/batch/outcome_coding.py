"""The outcomes of an input from JSON: whole, as `coding` writes them, not as people see them."""

from __future__ import annotations

from typing import Any

from sdtool.batch.coding import Decoder, NotOfThisType
from sdtool.batch.outcome import (
    Failed,
    Input,
    NothingToDo,
    Outcome,
    Output,
    Planned,
    Refused,
    Remarks,
    Shard,
    Skipped,
    Written,
)
from sdtool.checkpoint import ERRORS
from sdtool.convert import Census, Hashes
from sdtool.prune import Row

_OUTCOMES = Decoder(
    (
        Written, Planned, Skipped, NothingToDo, Refused, Failed, Input, Output, Remarks, Shard,
        Census, Hashes, Row, *ERRORS,
    )
)  # fmt: skip


def outcomes_of(data: Any) -> list[Outcome]:
    """Return the outcomes that `encoded` made `data` of.

    Raises:
        NotOfThisType: it was made of something else.
    """
    if not isinstance(data, list):
        raise NotOfThisType
    return [_OUTCOMES.decoded(one, Outcome) for one in data]
