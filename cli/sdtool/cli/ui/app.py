"""The page and its few requests."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files as package_files
from typing import Any

from anyio import sleep, to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from sdtool.checkpoint import SdtoolError, UsageError, counted
from sdtool.cli.arguments import file_size
from sdtool.cli.console import as_json
from sdtool.cli.picture import Live, page
from sdtool.cli.ui.guard import Guard
from sdtool.cli.ui.job_request import JobRequest, job_request_of, work_of
from sdtool.cli.ui.library import Library
from sdtool.cli.ui.run import Run

_LONGEST = 1 << 20
"""Bytes of a request: the numbers of a hundred thousand files."""
_PAUSE = 0.2
"""Seconds between two looks at what a run has told."""


def app(library: Library, token: str, port: int) -> Guard:
    """Return the application (ASGI 3) over a library; the first look at it begins with it."""
    return Guard(_Desk(library).routes(), token, port)


class _Desk:
    """What runs, what has run, and the question that waits for an answer. One thing at a time."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._runs: list[Run] = []
        self._asked: tuple[str, JobRequest] | None = None

    def routes(self) -> Starlette:
        """Return the application without its guard."""
        return Starlette(
            routes=[
                Route("/", self.page),
                Route("/look", self.look, methods=["POST"]),
                Route("/runs", self.run, methods=["POST"]),
                Route("/runs/{number:int}", self.events),
                Route("/runs/{number:int}/cancel", self.cancel, methods=["POST"]),
            ],
            exception_handlers={SdtoolError: _refused},
            lifespan=self._alive,
        )

    @asynccontextmanager
    async def _alive(self, app: Starlette) -> AsyncGenerator[None]:
        self._look()
        yield
        for run in self._runs:
            run.cancelled.set()
        for run in self._runs:
            await to_thread.run_sync(run.join)

    async def page(self, request: Request) -> Response:
        """Show the library as it is known, and what runs."""
        data, library = package_files("sdtool.cli.ui"), self._library
        running = len(self._runs) - 1 if self._runs and self._runs[-1].ended is None else ""
        live = Live(
            numbers=library.numbers,
            panel=(data / "panel.html").read_text("utf-8").replace("$running", str(running)),
            style=(data / "panel.css").read_text("utf-8"),
            script=(data / "panel.js").read_text("utf-8"),
        )
        return Response(
            page("info", library.files, {"summary": library.summary}, live=live),
            media_type="text/html",
        )

    async def look(self, request: Request) -> Response:
        """Search the folders anew."""
        self._check_free()
        return _answer({"run": self._look()})

    async def run(self, request: Request) -> Response:
        """Begin what is asked for; an original is removed after a second yes only."""
        data = await _sent(request)
        confirmed = data.pop("confirmed", None)
        wanted = job_request_of(data)
        items = self._library.chosen(wanted.files)
        self._check_free()
        if wanted.replace and wanted.verb != "scan":
            asked, self._asked = self._asked, None
            if asked is None or asked != (confirmed, wanted):
                self._asked = secrets.token_urlsafe(16), wanted
                question = f"Move {counted(len(items), 'original')} to the trash?"
                paths = [item.path for item in items]
                return _answer(
                    {"confirm": self._asked[0], "question": question, "paths": paths}, 409
                )
        total, work = work_of(wanted, items, self._library.allow)
        return _answer({"run": self._begin(Run(wanted.verb, total), work)})

    async def events(self, request: Request) -> Response:
        """Tell how a run goes on, until it ends (server-sent events)."""
        return StreamingResponse(_told(self._numbered(request)), media_type="text/event-stream")

    async def cancel(self, request: Request) -> Response:
        """End a run; what is half-written is removed."""
        self._numbered(request).cancelled.set()
        return _answer({})

    def _look(self) -> int:
        items = self._library.found()
        run = Run("reading", sum(file_size(item.path) for item in items))
        return self._begin(run, lambda run: self._library.look(run, items))

    def _begin(self, run: Run, work: Callable[[Run], None]) -> int:
        self._runs.append(run)
        run.start(work)
        return len(self._runs) - 1

    def _check_free(self) -> None:
        if self._runs and self._runs[-1].ended is None:
            raise UsageError(f"{self._runs[-1].label} goes on: wait for its end, or cancel it")

    def _numbered(self, request: Request) -> Run:
        number: int = request.path_params["number"]
        if number >= len(self._runs):
            raise UsageError("there is no such run")
        return self._runs[number]


async def _told(run: Run) -> AsyncGenerator[str]:
    sent = 0
    while True:
        ended = run.ended  # first: what was told by then is among the lines
        lines = run.lines[sent:]
        sent += len(lines)
        told = {
            "label": run.label,
            "done": min(run.done, run.total),
            "total": run.total,
            "lines": [{"level": level, "text": text} for level, text in lines],
            "ended": ended,
        }
        yield f"data: {as_json(told, indent=None)}\n\n"
        if ended is not None:
            return
        await sleep(_PAUSE)


async def _sent(request: Request) -> dict[str, Any]:
    """Return the object that was posted.

    Raises:
        UsageError: it is none, or too long.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST:
            raise UsageError("the request is too long")
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError) as e:
        raise UsageError("is not valid JSON") from e
    if not isinstance(data, dict):
        raise UsageError("is no request of the page")
    return data


def _answer(document: object, status: int = 200) -> Response:
    return Response(as_json(document, indent=None), status, media_type="application/json")


async def _refused(request: Request, e: Exception) -> Response:
    assert isinstance(e, SdtoolError)
    return _answer({"error": str(e), "hint": e.hint}, 400)
