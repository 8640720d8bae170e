"""What the page may ask of a tidy, checked to the last word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sdtool.batch import PROGRAMS, TidyOptions
from sdtool.checkpoint import UsageError
from sdtool.cli.ui.job_request import VARIANTS, one_of
from sdtool.convert import DTYPES

FOUND = "found"
"""The word for the program that the folder shows."""
_KEYS = {"folder", "program", "variant", "dtype", "strict"}


@dataclass(frozen=True, slots=True)
class TidyRequest:
    """A folder, by its number, and what is wanted of it."""

    folder: str
    program: str | None
    options: TidyOptions


def tidy_request_of(data: Mapping[str, Any]) -> TidyRequest:
    """Return what a request asks for.

    Raises:
        UsageError: it is anything but that.
    """
    if set(data) != _KEYS or not isinstance(data["strict"], bool):
        raise UsageError("is no request of the page")
    program = one_of((FOUND, *PROGRAMS), data["program"])
    variant = one_of(VARIANTS, data["variant"])
    return TidyRequest(
        number_in(data, "folder"),
        None if program == FOUND else program,
        TidyOptions(
            None if variant == "keep-both" else variant,
            one_of(("keep", *DTYPES), data["dtype"]),
            data["strict"],
        ),
    )


def only(data: Mapping[str, Any], key: str) -> str:
    """Return the one thing that a request names.

    Raises:
        UsageError: it names anything else.
    """
    if set(data) != {key}:
        raise UsageError("is no request of the page")
    return number_in(data, key)


def number_in(data: Mapping[str, Any], key: str) -> str:
    """Return a number of this run, which is text.

    Raises:
        UsageError: it is no text.
    """
    value = data[key]
    if not isinstance(value, str):
        raise UsageError("is no request of the page")
    return value
