"""Who may ask: only this run's own page, on this machine."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
"""Sent with every answer. None of them lets another origin read it: there is no CORS."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Lets requests through to `app` that carry the token and come from the page itself."""

    app: ASGIApp
    token: str
    port: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # a websocket that is not accepted is closed

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        refusal = self.refusal(scope)
        if refusal is None:
            await self.app(scope, receive, with_headers)
            return
        body = f"{refusal}\n".encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        await with_headers({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def refusal(self, scope: Scope) -> str | None:
        """Return why a request is refused; None where it is not.

        The host tells a name of a stranger that was made to lead here (DNS rebinding), the origin
        a page of one that posts here, the token everything else that can reach the port.
        """
        headers: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value.decode("latin-1"))
        hosts = [f"{name}:{self.port}" for name in ("127.0.0.1", "localhost")]
        host = headers.get(b"host", [])
        if len(host) != 1 or host[0] not in hosts:
            return "this is not the host that the page is on"
        origin = headers.get(b"origin", [])
        is_reading = scope["method"] in ("GET", "HEAD")
        if origin != [f"http://{host[0]}"] and (origin or not is_reading):
            return "this is not asked by the page"
        if not {"same-origin", "none"}.issuperset(headers.get(b"sec-fetch-site", ())):
            return "this is not asked by the page"
        if not is_reading and headers.get(b"content-type") != ["application/json"]:
            return "this is not asked by the page"
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if len(given) != 1 or not secrets.compare_digest(given[0].encode(), self.token.encode()):
            return "the token is missing or wrong: open the address that sdtool ui has printed"
        return None
