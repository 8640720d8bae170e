"""The page and its few requests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files as package_files

from anyio import sleep, to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from sdtool.checkpoint import SdtoolError, counted
from sdtool.cli.arguments import file_size
from sdtool.cli.console import as_json
from sdtool.cli.picture import Live, page
from sdtool.cli.ui.guard import Guard
from sdtool.cli.ui.job_request import job_request_of, work_of
from sdtool.cli.ui.library import Library
from sdtool.cli.ui.messages import answer, failing, refused, sent
from sdtool.cli.ui.panel import panel_of
from sdtool.cli.ui.run import Run
from sdtool.cli.ui.runs import Confirmation, Question, Runs
from sdtool.cli.ui.tidy_desk import TidyDesk

_PAUSE = 0.2
"""Seconds between two looks at the events of a run."""


def app(library: Library, token: str, port: int, report: Callable[[Exception], None]) -> Guard:
    """Return the application (ASGI 3) over a library; the first look at it begins with it.

    `report` gets the errors that are mistakes of sdtool itself, or the machine's.
    """
    return Guard(_Desk(library).routes(report), token, port)


class _Desk:
    """The page, and what is done with files that were chosen on it."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._runs = Runs()
        self._confirmation = Confirmation()

    def routes(self, report: Callable[[Exception], None]) -> Starlette:
        """Return the application without its guard; see `app`."""
        tidy = TidyDesk(self._library, self._runs, self._confirmation)
        return Starlette(
            routes=[
                Route("/", self.page),
                Route("/look", self.look, methods=["POST"]),
                Route("/runs", self.run, methods=["POST"]),
                Route("/runs/{number:int}", self.events),
                Route("/runs/{number:int}/cancel", self.cancel, methods=["POST"]),
                *tidy.routes(),
            ],
            exception_handlers={SdtoolError: refused},
            # Starlette's own place for other errors answers in plain text and raises them again.
            middleware=[Middleware(ExceptionMiddleware, handlers={Exception: failing(report)})],
            lifespan=self._alive,
        )

    @asynccontextmanager
    async def _alive(self, app: Starlette) -> AsyncGenerator[None]:
        self._look()
        yield
        self._runs.cancel()
        await to_thread.run_sync(self._runs.join)

    async def page(self, request: Request) -> Response:
        """Show the library as it is known, and what runs."""
        library = self._library
        live = Live(
            numbers=library.numbers,
            panel=panel_of(library, self._runs.current),
            style=_data("panel.css"),
            script=_data("panel.js") + _data("tidy.js"),
        )
        return Response(
            page("info", library.files, {"summary": library.summary}, live=live),
            media_type="text/html",
        )

    async def look(self, request: Request) -> Response:
        """Search the folders anew."""
        self._runs.check_free()
        return answer({"run": self._look()})

    async def run(self, request: Request) -> Response:
        """Begin what is asked for; an original is removed after a second yes only."""
        data = await sent(request)
        confirmed = data.pop("confirmed", None)
        wanted = job_request_of(data)
        items = self._library.chosen(wanted.files)
        self._runs.check_free()
        is_asked = wanted.replace and wanted.verb != "scan"
        if is_asked and not self._confirmation.counts(confirmed, wanted):
            question = Question(
                f"Move {counted(len(items), 'original')} to the trash?",
                tuple(item.path for item in items),
                "Each is moved only after its output was compared with it.",
                "Yes, move them",
            )
            return answer(self._confirmation.ask(question, wanted), 409)
        total, work = work_of(wanted, items, self._library.allow)
        return answer({"run": self._runs.begin(Run(wanted.verb, total), work)})

    async def events(self, request: Request) -> Response:
        """Send the events of a run until it ends (server-sent events)."""
        run = self._runs.numbered(request.path_params["number"])
        return StreamingResponse(_events(run), media_type="text/event-stream")

    async def cancel(self, request: Request) -> Response:
        """End a run; what is half-written is removed."""
        self._runs.numbered(request.path_params["number"]).cancelled.set()
        return answer({})

    def _look(self) -> int:
        items = self._library.found()
        run = Run("reading", sum(file_size(item.path) for item in items))
        return self._runs.begin(run, lambda run: self._library.look(run, items))


def _data(name: str) -> str:
    return (package_files("sdtool.cli.ui") / name).read_text("utf-8")


async def _events(run: Run) -> AsyncGenerator[str]:
    sent = 0
    while True:
        ended = run.ended  # first: what was reported by then is among the lines
        lines = run.lines[sent:]
        sent += len(lines)
        event = {
            "label": run.label,
            "done": min(run.done, run.total),
            "total": run.total,
            "lines": [{"level": level, "text": text} for level, text in lines],
            "ended": ended,
        }
        yield f"data: {as_json(event, indent=None)}\n\n"
        if ended is not None:
            return
        await sleep(_PAUSE)
