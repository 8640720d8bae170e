"""Tidy on the page: a plan, which is carried out after a second yes; and the ways back and on."""

from __future__ import annotations

import os
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sdtool.batch import (
    Held,
    Tidied,
    TidyPlan,
    Undone,
    carry_out,
    forget_tidy,
    held_by_tidy,
    plan_tidy,
    undo_tidy,
)
from sdtool.checkpoint import UsageError, counted, size
from sdtool.cli.tidying import deed, done_lines, undone_line
from sdtool.cli.ui.library import Library
from sdtool.cli.ui.messages import answer, sent
from sdtool.cli.ui.run import Run
from sdtool.cli.ui.runs import Confirmation, Question, Runs
from sdtool.cli.ui.tidy_request import TidyRequest, only, tidy_request_of
from sdtool.cli.ui.tidy_view import view_of

_WAYS = "Undo puts them back, Delete held originals deletes them"
_LOOK_AGAIN = "Read the folders again to see what is there now."


class TidyDesk:
    """What the page asks of tidy, by the functions of the verb. A plan is carried out once."""

    def __init__(self, library: Library, runs: Runs, confirmation: Confirmation) -> None:
        self._library = library
        self._runs = runs
        self._confirmation = confirmation
        self._plan: tuple[Run, TidyPlan] | None = None
        """The last one, and the run that has made it."""

    def routes(self) -> list[Route]:
        """Return its requests."""
        return [
            Route("/tidy/plans", self.plan, methods=["POST"]),
            Route("/tidy/plans/{number:int}", self.show),
            Route("/tidy/plans/{number:int}/run", self.carry_out, methods=["POST"]),
            Route("/tidy/undo", self.undo, methods=["POST"]),
            Route("/tidy/forget", self.forget, methods=["POST"]),
        ]

    async def plan(self, request: Request) -> Response:
        """Look at a folder. Nothing is changed."""
        wanted = tidy_request_of(await sent(request))
        folder = self._library.folder(wanted.folder)
        self._runs.check_free()
        run = Run("planning", self._library.nbytes_below(folder))
        return answer({"run": self._runs.begin(run, lambda run: self._look(run, folder, wanted))})

    async def show(self, request: Request) -> Response:
        """Show a plan that was made."""
        number: int = request.path_params["number"]
        return Response(view_of(self._planned(number), number), media_type="text/html")

    async def carry_out(self, request: Request) -> Response:
        """Carry a plan out, after a second yes."""
        data = await sent(request)
        number: int = request.path_params["number"]
        plan = self._planned(number)
        if not data.keys() <= {"confirmed"}:
            raise UsageError("is no request of the page")
        question = Question(
            f"Change {counted(len(plan.work), 'file')}?",
            tuple(f"{plan.path(entry.facts.path)}: {deed(entry)}" for entry in plan.work),
            f"Unsafe files go to {plan.places.quarantine}, the other originals are held in"
            f" {plan.places.state} once their outputs were compared with them. Undo puts all back.",
            "Yes, change them",
        )
        nbytes = sum(entry.facts.nbytes for entry in plan.work)
        return self._after_yes(
            data.get("confirmed"), ("tidy", number), question, Run("tidying", nbytes),
            lambda run: self._carry_out(run, plan),
        )  # fmt: skip

    async def undo(self, request: Request) -> Response:
        """Put back what a tidy has moved, after a second yes."""
        folder, held, confirmed = await self._held(request)
        nbytes = held.nbytes + held.nbytes_quarantined
        return self._after_yes(
            confirmed, ("undo", folder, held), _undo_question(folder, held),
            Run("undoing", nbytes), lambda run: _undo(run, folder),
        )  # fmt: skip

    async def forget(self, request: Request) -> Response:
        """Delete the originals that are held, after a second yes."""
        folder, held, confirmed = await self._held(request)
        return self._after_yes(
            confirmed, ("forget", folder, held), _forget_question(folder, held),
            Run("forgetting", held.nbytes), lambda run: _forget(run, folder),
        )  # fmt: skip

    async def _held(self, request: Request) -> tuple[str, Held, object]:
        """Return a folder and what is held of it, and the word of a second yes.

        What is held is a part of what is asked: once it is something else, the yes counts no more.
        """
        data = await sent(request)
        confirmed = data.pop("confirmed", None)
        folder = self._library.folder(only(data, "folder"))
        self._runs.check_free()
        return folder, held_by_tidy(folder), confirmed

    def _after_yes(
        self,
        confirmed: object,
        subject: object,
        question: Question,
        run: Run,
        work: Callable[[Run], None],
    ) -> Response:
        self._runs.check_free()
        if not self._confirmation.counts(confirmed, subject):
            return answer(self._confirmation.ask(question, subject), 409)
        return answer({"run": self._runs.begin(run, work)})

    def _planned(self, number: int) -> TidyPlan:
        run = self._runs.numbered(number)
        if self._plan is None or self._plan[0] is not run:
            raise UsageError("this plan is not the last one, or was carried out: make a new one")
        return self._plan[1]

    def _look(self, run: Run, folder: str, wanted: TidyRequest) -> None:
        self._plan = None
        plan = plan_tidy(
            folder,
            program=wanted.program,
            options=wanted.options,
            allow=self._library.allow,
            exclude=self._library.exclude,
            progress=run.advance,
        )
        self._plan = run, plan

    def _carry_out(self, run: Run, plan: TidyPlan) -> None:
        self._plan = None
        done: list[Tidied] = []

        def report(one: Tidied) -> None:
            done.append(one)
            if one.error is not None:
                run.report("error", str(one.error))
            else:
                run.report("result", f"{one.entry.facts.path}: {deed(one.entry)}")

        try:
            carry_out(plan, report=report, progress=run.advance, cancelled=run.cancelled)
        finally:
            run.report("result", *done_lines(plan, done, _WAYS), _LOOK_AGAIN)


def _undo_question(folder: str, held: Held) -> Question:
    if not held.paths and not held.quarantined:
        raise UsageError("there is nothing to undo", where=folder)
    count = counted(len(held.paths) + len(held.quarantined), "file")
    return Question(
        f"Put {count} back?",
        tuple(os.path.join(folder, path) for path in (*held.paths, *held.quarantined)),
        "What was unsafe is in its place again then. Outputs are deleted once their originals are"
        " back.",
        "Yes, put them back",
    )


def _forget_question(folder: str, held: Held) -> Question:
    if not held.paths:
        raise UsageError("there is nothing to forget", where=folder)
    return Question(
        f"Delete {counted(len(held.paths), 'original')} ({size(held.nbytes)}) for good?",
        tuple(os.path.join(folder, path) for path in held.paths),
        "Their outputs stay, and so does what is in quarantine. This cannot be undone.",
        "Yes, delete them",
    )


def _undo(run: Run, folder: str) -> None:
    def report(one: Undone) -> None:
        line = undone_line(one)
        if line is not None:
            run.report("result", line)
        if one.error is not None:
            run.report("error", str(one.error))
        run.advance(sum(move.nbytes for move in one.step.moves if move.to != "made"))

    undo_tidy(folder, report=report)
    run.report("result", _LOOK_AGAIN)


def _forget(run: Run, folder: str) -> None:
    deleted = forget_tidy(folder)
    run.done += deleted  # not by `advance`: what was deleted cannot be cancelled
    run.report("result", f"{size(deleted)} deleted", _LOOK_AGAIN)
