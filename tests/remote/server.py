"""A web server on this machine that gives parts of files, and does what servers do wrong."""

from __future__ import annotations

import io
import re
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol


class Content(Protocol):
    """What a served file holds."""

    nbytes: int

    def read_at(self, offset: int, nbytes: int) -> bytes: ...


class Bytes:
    """Content that is all there."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.nbytes = len(data)

    def read_at(self, offset: int, nbytes: int) -> bytes:
        return self.data[offset : offset + nbytes]


class Holes(io.RawIOBase):
    """A file of any size in little memory: what was skipped by `seek` reads as zeros."""

    def __init__(self) -> None:
        self.nbytes = 0
        self._at = 0
        self._pieces: list[tuple[int, bytes]] = []

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append((self._at, piece))
        return self.skip(len(piece))

    def skip(self, nbytes: int) -> int:
        self._at += nbytes
        self.nbytes = max(self.nbytes, self._at)
        return nbytes

    def tell(self) -> int:
        return self._at

    def read_at(self, offset: int, nbytes: int) -> bytes:
        nbytes = max(0, min(nbytes, self.nbytes - offset))
        data = bytearray(nbytes)
        for begin, piece in self._pieces:
            start, end = max(begin, offset), min(begin + len(piece), offset + nbytes)
            if start < end:
                data[start - offset : end - offset] = piece[start - begin : end - begin]
        return bytes(data)


@dataclass
class File:
    """One served file. `tag` is its ETag, None for a server that has none."""

    content: Content
    tag: str | None = '"one"'
    date: str | None = None
    ranges: bool = True


@dataclass(frozen=True)
class Asked:
    """One request, and what was answered."""

    path: str
    range: str | None
    headers: Mapping[str, str]
    status: int
    nbytes: int


@dataclass
class Reply:
    """An answer. `cut` ends the body after so many bytes, `delay` is in seconds."""

    status: int
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    cut: int | None = None
    delay: float = 0.0


Fault = Callable[[str, Mapping[str, str], Callable[[], Reply]], Reply]
"""From a path, the headers of a request and what a good server would answer to an answer."""


class Server:
    """The files it has, what it was asked, and what goes wrong: the next `faults`, each once."""

    def __init__(self, scheme: str = "http") -> None:
        self.scheme = scheme
        self.files: dict[str, File] = {}
        self.asked: list[Asked] = []
        self.faults: list[Fault] = []
        self.always: Fault | None = None
        self.port = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def nbytes(self) -> int:
        """Bytes of bodies that were sent."""
        return sum(one.nbytes for one in self.asked)

    def serve(self, path: str, data: bytes | Content, **options: Any) -> str:
        content = Bytes(data) if isinstance(data, bytes) else data
        self.files[path] = File(content, **options)
        return self.url + path

    def answer(self, path: str, headers: Mapping[str, str]) -> Reply:
        plain = path.partition("?")[0]
        with self._lock:
            fault = self.faults.pop(0) if self.faults else self.always

        def good() -> Reply:
            return answered(self.files.get(plain), headers)

        return good() if fault is None else fault(path, headers, good)


def answered(file: File | None, headers: Mapping[str, str]) -> Reply:
    if file is None:
        return Reply(404)
    about = {} if file.tag is None else {"ETag": file.tag}
    about |= {} if file.date is None else {"Last-Modified": file.date}
    wanted = headers.get("If-Match")
    if wanted is not None and file.tag not in (wanted, None):
        return Reply(412, about)
    total = file.content.nbytes
    match = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("Range", ""))
    if match is None or not file.ranges:
        return Reply(200, about, file.content.read_at(0, total))
    begin, end = int(match[1]), min(int(match[2]) + 1, total)
    if begin >= total:
        return Reply(416, {**about, "Content-Range": f"bytes */{total}"})
    about["Content-Range"] = f"bytes {begin}-{end - 1}/{total}"
    return Reply(206, about, file.content.read_at(begin, end - begin))


def busy(status: int = 503, **headers: str) -> Fault:
    """A server that has no time."""
    return lambda path, asked, good: Reply(status, dict(headers))


def cut(after: int) -> Fault:
    """An answer that ends early."""

    def fault(path: str, asked: Mapping[str, str], good: Callable[[], Reply]) -> Reply:
        reply = good()
        reply.cut = after
        return reply

    return fault


def slow(seconds: float) -> Fault:
    def fault(path: str, asked: Mapping[str, str], good: Callable[[], Reply]) -> Reply:
        reply = good()
        reply.delay = seconds
        return reply

    return fault


def with_header(name: str, value: str) -> Fault:
    """An answer of which one header lies."""

    def fault(path: str, asked: Mapping[str, str], good: Callable[[], Reply]) -> Reply:
        reply = good()
        reply.headers[name] = value
        return reply

    return fault


def good(path: str, asked: Mapping[str, str], answer: Callable[[], Reply]) -> Reply:
    """No fault."""
    return answer()


def redirect(to: str, status: int = 302, **headers: str) -> Fault:
    return lambda path, asked, good: Reply(status, {"Location": to, **headers})


class QuietHandler(BaseHTTPRequestHandler):
    """What the handlers of both servers have in common: they write no log."""

    protocol_version = "HTTP/1.1"
    timeout = 10

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextmanager
def listening(handler: type[QuietHandler], tls: ssl.SSLContext | None = None) -> Generator[int]:
    """Answer requests in a thread, on the port that this yields; encrypted ones with `tls`."""
    http = _QuietServer(("127.0.0.1", 0), handler)
    if tls is not None:
        http.socket = tls.wrap_socket(http.socket, server_side=True)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield http.server_address[1]
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


@contextmanager
def saying(pieces: Callable[[], Iterator[bytes]]) -> Generator[str]:
    """Say to whoever connects what `pieces` gives, whatever HTTP has to say about it."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 16)
            with suppress(OSError):
                for piece in pieces():
                    self.request.sendall(piece)

    class Talker(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Talker(("127.0.0.1", 0), Handler) as talker:
        thread = threading.Thread(target=talker.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{talker.server_address[1]}/x.ckpt"
        finally:
            talker.shutdown()
            thread.join()


@contextmanager
def running(tls: ssl.SSLContext | None = None) -> Generator[Server]:
    """Run a server on a free port; an encrypted one with `tls`."""
    ours = Server("http" if tls is None else "https")

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            headers = {name.title(): value for name, value in self.headers.items()}
            reply = ours.answer(self.path, headers)
            body = reply.body if reply.cut is None else reply.body[: reply.cut]
            one = Asked(self.path, headers.get("Range"), headers, reply.status, len(body))
            ours.asked.append(one)
            time.sleep(reply.delay)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in reply.headers:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(body)
            if reply.cut is not None:
                self.close_connection = True

    with listening(Handler, tls) as ours.port:
        yield ours
