"""Responses that must come at a pace, and end: a head, a body, and what may be around them."""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Any

_LEAST_RATE = 10_000
"""Bytes a second: a server that sends less than this is given up."""
_GRACE_SECONDS = 60.0
_HEAD_NBYTES = 1 << 20
"""What may come before a body; and beside one that is sent in chunks."""


class TooSlow(OSError):
    """A response that takes longer than its bytes may."""


class TooLong(OSError):
    """A response with more around its body than any needs."""


def paced(sock: socket.socket, *arguments: Any, **options: Any) -> http.client.HTTPResponse:
    """Return the response that comes over a socket.

    `http.client` reads its head line by line and its body until there is enough, for as long as
    something comes: a byte now and then, or one interim response after the other.
    """
    response = http.client.HTTPResponse(sock, *arguments, **options)
    response.fp = io.BufferedReader(_Paced(response.fp.detach()))
    return response


def expect(response: http.client.HTTPResponse, nbytes: int) -> None:
    """Let so many bytes of a body come, in chunks of any reasonable size."""
    raw = getattr(response.fp, "raw", None)
    if isinstance(raw, _Paced):
        raw.left = _HEAD_NBYTES + 2 * nbytes


class _Paced(io.RawIOBase):
    """What comes over a connection; an error where it is too slow, or more than `left`."""

    def __init__(self, raw: Any) -> None:
        self.left = _HEAD_NBYTES
        self._raw = raw
        self._begun = time.monotonic()
        self._nbytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        count: int | None = self._raw.readinto(buffer)
        self._nbytes += count or 0
        self.left -= count or 0
        if self.left < 0:
            raise TooLong
        if time.monotonic() - self._begun > _GRACE_SECONDS + self._nbytes / _LEAST_RATE:
            raise TooSlow
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
