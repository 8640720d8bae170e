"""Google's and Azure's stores on this machine: the calls of their documents, with one container.

Source: "XML API" and "XML API multipart uploads" of Google Cloud Storage; "Put Blob", "Put Block",
"Put Block List", "Copy Blob", "Get Blob", "List Blobs", "Blob Batch" of Azure.
"""

from __future__ import annotations

import email
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.remote.server import Bytes, File, QuietHandler, Reply, answered, listening

PLACE = "models"
_DATE = "Fri, 29 Nov 2024 10:00:00 GMT"


@dataclass
class Request:
    """One request, as far as it matters."""

    method: str
    name: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def creates_only(self) -> bool:
        return self.headers.get("If-None-Match") == "*" or (
            self.headers.get("X-Goog-If-Generation-Match") == "0"
        )


@dataclass
class Store:
    """What it holds, what was begun and not ended, and what it was asked."""

    objects: dict[str, bytes] = field(default_factory=dict[str, bytes])
    parts: dict[str, dict[str, bytes]] = field(default_factory=dict[str, dict[str, bytes]])
    """Of uploads that are open: their parts. Azure has one for each name."""
    asked: list[Request] = field(default_factory=list[Request])
    keeps_promises: bool = True
    late: int = 0
    """How often a copy is empty before it is there (Azure)."""
    tags: dict[str, int] = field(default_factory=dict[str, int])
    port: int = 0

    def answer(self, asked: Request) -> Reply:
        self.asked.append(asked)
        if asked.method in ("GET", "HEAD") and asked.name:
            return self._given(asked)
        if asked.method == "PUT" and not {"partNumber", "comp"} & asked.query.keys():
            source = asked.headers.get("X-Goog-Copy-Source") or asked.headers.get(
                "X-Ms-Copy-Source"
            )
            data = asked.body if source is None else self.objects[_name_in(source)]
            return self._kept(asked, data, 200 if source is None else 202)
        return self._of_its_own(asked)

    def put(self, name: str, data: bytes) -> None:
        self.objects[name] = data
        self.tags[name] = self.tags.get(name, 0) + 1

    def _given(self, asked: Request) -> Reply:
        data = self.objects.get(asked.name)
        if (
            data is not None
            and self.late
            and not asked.name.startswith(".")
            and (asked.method == "HEAD")
        ):
            self.late -= 1
            data = b""
        tag = f'"{self.tags.get(asked.name, 0)}"'
        headers = {**asked.headers}
        if "X-Ms-Range" in headers:
            headers["Range"] = headers["X-Ms-Range"]
        file = None if data is None else File(Bytes(data), tag, _DATE)
        reply = answered(file, headers)
        if data is not None:
            reply.headers["X-Goog-Generation"] = "1"
            if asked.method == "HEAD":
                reply.headers["Content-Length"] = str(len(data))
        return reply

    def _kept(self, asked: Request, data: bytes, status: int = 200) -> Reply:
        if asked.creates_only and asked.name in self.objects and self.keeps_promises:
            return Reply(409 if "X-Ms-Version" in asked.headers else 412)
        self.put(asked.name, data)
        return Reply(status, {"ETag": f'"{self.tags[asked.name]}"', "Last-Modified": _DATE})

    def _of_its_own(self, asked: Request) -> Reply:
        raise NotImplementedError


class Google(Store):
    def _of_its_own(self, asked: Request) -> Reply:
        match asked.method, asked.query:
            case "POST", {"uploads": _}:
                self.parts["1"] = {}
                return Reply(200, {}, _xml("InitiateMultipartUploadResult", UploadId="1"))
            case "PUT", {"partNumber": number, "uploadId": upload}:
                self.parts[upload][number] = asked.body
                return Reply(200, {"ETag": f'"{number}"'})
            case "POST", {"uploadId": upload}:
                parts = self.parts.pop(upload)
                numbers = re.findall(r"<PartNumber>(\d+)<", asked.body.decode())
                kept = self._kept(asked, b"".join(parts[number] for number in numbers))
                tag = kept.headers["ETag"]
                return Reply(200, {}, _xml("CompleteMultipartUploadResult", ETag=tag))
            case "DELETE", {"uploadId": upload}:
                del self.parts[upload]
                return Reply(204)
            case "DELETE", _:
                return Reply(204 if self.objects.pop(asked.name, None) is not None else 404)
            case "GET", _:
                entries = "".join(
                    f"<Contents><Key>{escape(name)}</Key><Size>{len(data)}</Size><ETag>x</ETag>"
                    "<LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>"
                    for name, data in sorted(self.objects.items())
                    if name.startswith(asked.query.get("prefix", ""))
                )
                return Reply(200, {}, f"<ListBucketResult>{entries}</ListBucketResult>".encode())
            case _:
                return Reply(501)


class Azure(Store):
    def _of_its_own(self, asked: Request) -> Reply:
        match asked.method, asked.query.get("comp"):
            case "PUT", "block":
                self.parts.setdefault(asked.name, {})[asked.query["blockid"]] = asked.body
                return Reply(201)
            case "PUT", "blocklist":
                parts = self.parts.pop(asked.name)
                ids = re.findall(r"<Uncommitted>(.*?)<", asked.body.decode())
                return self._kept(asked, b"".join(parts[one] for one in ids), 201)
            case "POST", "batch":
                return self._deleted(asked)
            case "GET", "list":
                blobs = "".join(
                    f"<Blob><Name>{escape(name)}</Name><Properties>"
                    f"<Last-Modified>{_DATE}</Last-Modified><Etag>x</Etag>"
                    f"<Content-Length>{len(data)}</Content-Length>"
                    "<Content-Type>x</Content-Type></Properties></Blob>"
                    for name, data in sorted(self.objects.items())
                    if name.startswith(asked.query.get("prefix", ""))
                )
                listed = (
                    f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>"
                )
                return Reply(200, {}, listed.encode())
            case _:
                return Reply(501)

    def _deleted(self, asked: Request) -> Reply:
        kind = asked.headers["Content-Type"]
        message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + asked.body)
        answers: list[str] = []
        parts = [one for one in message.walk() if one.get_content_type() == "application/http"]
        for number, part in enumerate(parts):
            path = re.match(r"\s*DELETE (\S+)", str(part.get_payload()))
            assert path is not None
            is_there = self.objects.pop(_name_in(path[1]), None) is not None
            answers.append(
                f"--batch\r\nContent-Type: application/http\r\nContent-ID: {number}\r\n\r\n"
                f"HTTP/1.1 {'202 Accepted' if is_there else '404 Not Found'}\r\n\r\n\r\n"
            )
        body = "".join(answers) + "--batch--\r\n"
        return Reply(202, {"Content-Type": "multipart/mixed; boundary=batch"}, body.encode())


def _name_in(path: str) -> str:
    """The name of an object in the path of a URL, or in what a copy names."""
    plain = unquote(urlsplit(path).path)
    return plain.partition(f"{PLACE}/")[2]


def _xml(_root: str, **values: str) -> bytes:
    inside = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in values.items())
    return f"<{_root}>{inside}</{_root}>".encode()


@contextmanager
def store_running(store: Store) -> Generator[str]:
    """Serve a store on a free port; gives its address."""

    class Handler(QuietHandler):
        def answer(self) -> None:
            url = urlsplit(self.path)
            headers = {name.title(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("Content-Length", 0)))
            query = dict(parse_qsl(url.query, keep_blank_values=True))
            place = unquote(url.path)
            if f"/{PLACE}" not in place:
                reply = Reply(404)
            else:
                reply = store.answer(
                    Request(self.command, _name_in(self.path), query, headers, body)
                )
            self.send_response(reply.status)
            reply.headers.setdefault("Content-Length", str(len(reply.body)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    with listening(Handler) as port:
        yield f"http://127.0.0.1:{port}"
