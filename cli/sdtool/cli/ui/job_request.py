"""What the page may ask for, checked to the last word, and how it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sdtool.batch import (
    Item,
    Options,
    Outcome,
    Pruning,
    Recipe,
    check_trash,
    inputs_of,
    plan_outputs,
    recipe_for,
    run_each,
    scanned,
)
from sdtool.checkpoint import UsageError
from sdtool.cli.arguments import file_size
from sdtool.cli.outcomes import error_of, lines
from sdtool.cli.ui.run import Run
from sdtool.convert import DTYPES
from sdtool.prune import Variant
from sdtool.scan.report import text

T = TypeVar("T")

VERBS = ("scan", "convert", "prune")
VARIANTS: tuple[Variant, ...] = ("raw-only", "ema-only", "keep-both")
_KEYS = {"verb", "files", "variant", "dtype", "replace"}


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What is to be done, and with which files, by their numbers."""

    verb: str
    files: tuple[str, ...]
    variant: Variant
    dtype: str
    replace: bool
    """Whether originals go to the trash, once their outputs are verified."""

    @property
    def recipe(self) -> Recipe:
        """What to make of each file."""
        if self.verb == "convert":
            return recipe_for(self.dtype)
        return Pruning(self.variant, self.dtype)


def job_request_of(data: Any) -> JobRequest:
    """Return what a request asks for.

    Raises:
        UsageError: it is anything but that; the trash cannot be used here.
    """
    if not isinstance(data, dict) or data.keys() != _KEYS:
        raise UsageError("is no request of the page")
    request = JobRequest(
        one_of(VERBS, data["verb"]),
        _texts(data["files"]),
        one_of(VARIANTS, data["variant"]),
        one_of(("keep", *DTYPES), data["dtype"]),
        data["replace"] is True,
    )
    if request.replace and request.verb != "scan":
        check_trash()
    return request


def work_of(
    request: JobRequest, items: Sequence[Item], allow: Mapping[str, str]
) -> tuple[int, Callable[[Run], None]]:
    """Return the bytes that are worked on, and the work.

    Raises:
        UsageError: the outputs cannot be placed.
    """
    nbytes = sum(file_size(item.path) for item in items)
    if request.verb == "scan":
        return nbytes, lambda run: _scan(run, items, allow)
    recipe = request.recipe
    jobs = plan_outputs(inputs_of(recipe, items), recipe.names)
    options = Options(allow=allow, verify=True, replace="trash" if request.replace else None)

    def write(run: Run) -> None:
        run_each(
            jobs,
            recipe,
            options,
            report=lambda made: _report(run, made),
            warn=run.warn,
            progress=run.advance,
            cancelled=run.cancelled,
        )

    return nbytes, write


def one_of(words: Sequence[T], word: Any) -> T:
    """Return the word of a request, which is one of these.

    Raises:
        UsageError: it is none of them.
    """
    for known in words:
        if known == word:
            return known
    raise UsageError("is no request of the page")


def _scan(run: Run, items: Sequence[Item], allow: Mapping[str, str]) -> None:
    with scanned(items, allow=allow, deep=True) as reports:
        for item, report in zip(items, reports, strict=True):
            run.report("result", *text.lines(report))
            run.advance(file_size(item.path))


def _report(run: Run, made: Sequence[Outcome]) -> None:
    for outcome in made:
        run.report("result", *lines(outcome, with_table=False))
        for warning in outcome.remarks.warnings:
            run.warn(warning, outcome.input.path)
        error = error_of(outcome)
        if error is not None:
            run.report("error", str(error))


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise UsageError("is no request of the page")
    return tuple(value)
