"""What is sent to the page and what comes from it, as JSON."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from sdtool.batch import as_error
from sdtool.checkpoint import SdtoolError, UsageError
from sdtool.cli.console import as_json

_LONGEST = 1 << 20
"""Bytes of a request: the numbers of a hundred thousand files."""


async def sent(request: Request) -> dict[str, Any]:
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


def answer(document: object, status: int = 200) -> Response:
    """Return a document for the page."""
    return Response(as_json(document, indent=None), status, media_type="application/json")


async def refused(request: Request, e: Exception) -> Response:
    """Say what was wrong with a request."""
    assert isinstance(e, SdtoolError)
    return _error(e, 400)


def failing(
    report: Callable[[Exception], None],
) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Return what answers a request that nothing was wrong with; `report` gets the error too."""

    async def failed(request: Request, e: Exception) -> Response:
        report(e)
        return _error(as_error(e), 500)

    return failed


def _error(e: SdtoolError, status: int) -> Response:
    return answer({"error": str(e), "hint": e.hint}, status)
