"""Chromium without a window, driven through its own protocol (Chrome DevTools Protocol)."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0",
)  # fmt: skip


class Page:
    """One page of a browser."""

    def __init__(self, socket: WebSocketClientConnection) -> None:
        self.events: list[dict[str, Any]] = []
        """What the browser has told of the page."""
        self._socket = socket
        self._number = 0

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask for something, and wait for the answer."""
        self._number += 1
        request = {"id": self._number, "method": method, "params": params}
        await self._socket.write_message(json.dumps(request))
        while True:
            message = await self._next()
            if message.get("id") == self._number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result

    async def open(self, url: str) -> None:
        """Load a page to the end."""
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.send(f"{domain}.enable")
        self.events.clear()
        await self.send("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            await self._next()

    async def value(self, script: str) -> Any:
        """What a script comes to, in the page."""
        answer = await self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def _next(self) -> dict[str, Any]:
        text = await self._socket.read_message()
        assert text is not None, "the browser has gone"
        message: dict[str, Any] = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message


@asynccontextmanager
async def opened(profile: Path) -> AsyncGenerator[Page]:
    """Start a browser with a profile of its own; it is ended in the end."""
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        address = ""
        while not address:
            line = await process.stderr.readline()
            assert line, "the browser did not start"
            address = line.decode().partition("DevTools listening on ")[2].strip()
        async with _connected(address) as browser:
            target = await browser.send("Target.createTarget", url="about:blank")
            page = f"{address.partition('/devtools/')[0]}/devtools/page/{target['targetId']}"
            async with _connected(page) as found:
                yield found
    finally:
        process.kill()
        await process.communicate()


@asynccontextmanager
async def _connected(address: str) -> AsyncGenerator[Page]:
    socket = await websocket_connect(address, max_message_size=1 << 26)
    try:
        yield Page(socket)
    finally:
        socket.close()
        while await socket.read_message() is not None:
            pass


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run what is asynchronous, some minutes at most."""
    asyncio.run(asyncio.wait_for(main, 300))
