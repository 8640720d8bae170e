"""What a journal keeps and a cluster hands over: every error comes back as one of the twelve."""

from __future__ import annotations

import json

import pytest

from sdtool.batch import Failed, Input
from sdtool.batch.coding import encoded
from sdtool.batch.outcome_coding import outcomes_of
from sdtool.batch.remote import buckets, web
from sdtool.checkpoint import ERRORS, OutputError, SdtoolError, Unreadable, UsageError, errors
from sdtool.prune.components import NotHeld


def test_the_errors_are_all_listed() -> None:
    named = {one for one in vars(errors).values() if isinstance(one, type)}
    assert set(ERRORS) == {one for one in named if issubclass(one, SdtoolError)}


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        *((one, one) for one in ERRORS),
        (buckets.Missing, Unreadable),
        (buckets.Taken, OutputError),
        (web.NoParts, Unreadable),
        (NotHeld, UsageError),
    ],
)
def test_an_error_is_told_as_what_everybody_knows(
    kind: type[SdtoolError], known: type[SdtoolError]
) -> None:
    failed = Failed(input=Input("x"), error=kind("what", where="where", hint="hint"))
    (back,) = outcomes_of(json.loads(json.dumps(encoded([failed]))))
    assert isinstance(back, Failed)
    assert type(back.error) is known
    assert (back.error.what, back.error.where, back.error.hint) == ("what", "where", "hint")
