"""One request to a web server: it is sent, and its response is read, all within bounds."""

from __future__ import annotations

import email.utils
import http.client
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from sdtool.batch.remote.connections import Connections, Origin
from sdtool.batch.remote.pace import TooLong, TooSlow, expect
from sdtool.batch.remote.patience import Again
from sdtool.batch.remote.silence import check_answering, has_answered
from sdtool.batch.version import sdtool_version
from sdtool.checkpoint import Unreadable, dataclass

_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT = frozenset({200, 206})
"""With these a body has to come, before a server has answered."""
_BROKEN = (OSError, http.client.HTTPException, ValueError)
"""What is raised for a response that is none; ValueError for a chunk of negative size."""
_PIECE_NBYTES = 1 << 18


@dataclass(slots=True)
class Answer:
    """The head of a response whose body was not read yet."""

    status: int
    headers: http.client.HTTPMessage
    _response: http.client.HTTPResponse
    _connection: http.client.HTTPConnection
    _origin: Origin
    _connections: Connections

    @property
    def length(self) -> int | None:
        """The size of the body, where the server tells it."""
        length = self.headers.get("Content-Length", "")
        return int(length) if re.fullmatch(r"\d{1,18}", length, re.ASCII) else None

    def take(self, nbytes: int) -> bytes:
        """Return the body, which must have `nbytes` bytes.

        Raises:
            Again: it is shorter, or does not come.
        """
        data = b"".join(self.pieces(nbytes))
        if len(data) != nbytes:
            raise Again(f"the response ended after {len(data):,} of {nbytes:,} bytes")
        return data

    def pieces(self, most: int) -> Iterator[bytes]:
        """Yield the body, `most` bytes of it at most; the connection is used again at its end.

        Raises:
            Again: it is cut, or does not come.
        """
        left = most
        expect(self._response, most)
        try:
            while left:
                piece = self._response.read(min(left, _PIECE_NBYTES))
                if not piece:
                    break
                left -= len(piece)
                yield piece
        except _BROKEN as e:
            raise again(e, self._origin) from e
        else:
            has_answered(self._origin)
            if self._response.isclosed() and not self._response.will_close:
                self._connections.give_back(self._origin, self._connection)
                return
        finally:
            if not self._response.isclosed():
                self.close()

    def drop(self) -> None:
        """Do without the body; if it is short, the connection is used again."""
        if self.length is not None and self.length <= _PIECE_NBYTES:
            for _ in self.pieces(_PIECE_NBYTES):
                pass
        else:
            self.close()

    def close(self) -> None:
        """Close the connection without reading the rest of the body."""
        self._response.close()
        self._connections.hang_up(self._connection)


def ask(connections: Connections, url: str, headers: Mapping[str, str], where: str) -> Answer:
    """Request a URL and return the response, whatever its status, except those to retry.

    Raises:
        Again: there is no connection, or the server is busy.
        Unreadable: connecting to this server is not allowed, or it was given up.
    """
    origin = Origin.of(url)
    check_answering(origin, where)
    while True:
        try:
            connection, is_used = connections.take(origin)
        except Unreadable as e:
            raise Unreadable(e.what, where=where, hint=e.hint) from e
        except ssl.SSLCertVerificationError as e:
            raise Unreadable(
                f"the certificate of {origin} is not valid ({e.verify_message})",
                where=where,
                hint="set SSL_CERT_FILE to trust a certificate authority of your own",
            ) from e
        except socket.gaierror as e:
            raise Unreadable(f"there is no server called {origin.host}", where=where) from e
        except UnicodeError as e:  # a label of more than 63 letters
            raise Unreadable("there is no server of this name", where=where) from e
        except OSError as e:
            raise again(e, origin) from e
        try:
            connection.request("GET", _target(url), headers=_headers(headers))
            response = connection.getresponse()
            break
        except _BROKEN as e:
            connections.hang_up(connection)
            if not is_used:  # an idle connection may have been closed by the server
                raise again(e, origin) from e
    if response.status not in _CONTENT:
        has_answered(origin)
    answer = Answer(response.status, response.msg, response, connection, origin, connections)
    if response.status in _BUSY:
        answer.close()
        raise Again(f"the server answers {_named(response)}", _seconds(response.msg))
    return answer


def _headers(wanted: Mapping[str, str]) -> dict[str, str]:
    ours = {"Accept-Encoding": "identity", "User-Agent": f"sdtool/{sdtool_version()}"}
    return {**ours, **wanted}


def again(e: Exception, origin: Origin) -> Again:
    """Return what went wrong with a connection to a server, without what was sent over it."""
    return Again(_what(e), silent=origin)


def _what(e: Exception) -> str:
    if isinstance(e, TooSlow):
        return "the server sends data too slowly"
    if isinstance(e, TooLong):
        return "the server sends headers without end"
    if isinstance(e, TimeoutError):
        return "the server does not answer"
    if isinstance(e, ssl.SSLError):
        return f"the encrypted connection failed ({e.reason or 'no reason given'})"
    if not isinstance(e, OSError):
        return "the connection was closed during a response"
    reason = e.strerror or str(e)
    return f"the connection failed ({reason.lower() or type(e).__name__})"


def _named(response: http.client.HTTPResponse) -> str:
    reason = http.client.responses.get(response.status, "")
    return f"{response.status} {reason}".strip()


def _target(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _seconds(headers: http.client.HTTPMessage) -> float:
    """The delay in seconds that the server requests."""
    delay = headers.get("Retry-After", "").strip()
    if delay.isdecimal():
        return float(delay[:9])
    if delay:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(delay).timestamp() - time.time())
        except (ValueError, OverflowError):
            return 0.0
    # Hugging Face: `RateLimit: "resolvers";r=0;t=55`
    left = re.search(r"\br=0\b.*?\bt=(\d{1,9})", headers.get("RateLimit", ""))
    return float(left[1]) if left else 0.0
