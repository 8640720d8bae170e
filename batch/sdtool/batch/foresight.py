"""What is going to be read of files elsewhere, so that it is fetched ahead."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from sdtool.checkpoint import File, LocalFile
from sdtool.convert import ConvertPlan, PtPlan

Plan = TypeVar("Plan", bound=ConvertPlan | PtPlan)


def as_it_comes(plans: Sequence[Plan]) -> Sequence[Plan]:
    """Return plans to write together, whose tensors are in the order in which they are fetched."""
    if not _is_elsewhere(plans):
        return plans
    from sdtool.batch.remote.needs import as_they_come  # what is here needs none of it

    return as_they_come(plans)


def expect_again(plan: ConvertPlan | PtPlan) -> None:
    """Foresee the look at an output, which compares in that file's own order."""
    if _is_elsewhere([plan]):
        from sdtool.batch.remote.needs import expect_tensors

        there = sorted(plan.tensors, key=lambda placed: placed.offset)
        expect_tensors(piece.entry for placed in there for piece in placed.pieces)


@contextmanager
def all_of(file: File) -> Generator[None]:
    """Foresee that all of a file is read, in order."""
    if not file.requests:
        yield
        return
    from sdtool.batch.remote.needs import expect_all, expect_nothing

    expect_all(file)
    yield
    expect_nothing(file)


def _is_elsewhere(plans: Sequence[ConvertPlan | PtPlan]) -> bool:
    """Whether tensors are read from something that is no file on this machine."""
    return any(
        not isinstance(piece.entry.storage.source, LocalFile)
        for plan in plans
        for placed in plan.tensors
        for piece in placed.pieces
    )
