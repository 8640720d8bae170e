"""A file on a web server: ranges of one version of it are fetched, through redirects."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from http.client import HTTPMessage
from typing import TypeAlias
from urllib.parse import quote, urljoin

from sdtool.batch.remote.asking import Answer, ask
from sdtool.batch.remote.connections import Connections, Origin
from sdtool.batch.remote.patience import Patience
from sdtool.batch.remote.ranged import PAGE_NBYTES, Moved, changed, strong
from sdtool.checkpoint import Unreadable, dataclass

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_EXPIRED = frozenset({400, 401, 403, 404, 410})
"""Status codes for an address that has expired."""
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_URL_SAFE = "%:/?#[]@!$&'()*+,;=~-._"

_OTHER_BYTES = "the server returned other bytes than requested"
_COMMIT = re.compile(r"[0-9a-f]{40}")

Repin: TypeAlias = Callable[[str], str]
"""From a commit to the address that stands for just this version from then on."""


class Absent(Unreadable):
    """There is no such file."""


class NoParts(Unreadable):
    """The server gives files as a whole only."""


@dataclass(slots=True)
class _Version:
    """By what a version is told from the next."""

    nbytes: int
    tag: str | None
    date: str | None

    @classmethod
    def of(cls, nbytes: int, headers: HTTPMessage) -> _Version:
        tag = headers.get("ETag", "").strip()
        return cls(nbytes, tag or None, headers.get("Last-Modified"))

    @property
    def conditions(self) -> dict[str, str]:
        """What has a server that can tell refuse to give another version."""
        tag = strong(self.tag)
        if tag is not None:
            return {"If-Match": tag}
        return {} if self.date is None else {"If-Unmodified-Since": self.date}

    def is_that_of(self, other: _Version) -> bool:
        if self.tag is not None or other.tag is not None:
            return (self.nbytes, self.tag) == (other.nbytes, other.tag)
        return (self.nbytes, self.date) == (other.nbytes, other.date)


@dataclass(slots=True)
class WebFile:
    """A file behind a URL. `login` are the headers that say who asks; only the server of the URL
    gets them, never one to which it sends us.
    """

    url: str
    name: str
    login: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    repin: Repin | None = None
    """Of a hub, whose files belong to commits."""
    commit: str | None = None
    """See `Parts`."""
    moved: Moved = field(default_factory=Moved)
    nbytes: int = 0
    first: bytes = b""
    """What it begins with: it came with the answer that gave the size."""
    hint: str | None = None
    """What to do where the server wants to know who asks."""
    patience: Patience = field(default_factory=Patience)
    _connections: Connections = field(default_factory=Connections)
    _found_at: str | None = None
    """Where the redirects ended."""
    _version: _Version | None = None
    _linked: str | None = None
    """What Hugging Face calls the version of a large file, when it sends us to where that is."""
    _resolving: threading.Lock = field(default_factory=threading.Lock)

    @property
    def version(self) -> str | None:
        """See `Parts`."""
        return strong(self._linked) or strong(None if self._version is None else self._version.tag)

    def open(self) -> None:
        """Ask for the first bytes: the size comes with them.

        Raises:
            NoParts: the server gives the whole file or nothing.
            Unreadable: there is no such file, or no way to it.
        """
        self.first = self.patience.get(self._opened, self.name)

    def is_there(self) -> bool:
        """Ask for one byte; a file that must not be read is not there for whoever asks.

        Raises:
            Unreadable: the server does not say.
        """
        return self.patience.get(self._is_there, self.name)

    def fetch(self, offset: int, nbytes: int) -> bytes:
        """Return `nbytes` bytes from `offset`, which have to be there.

        Raises:
            Unreadable: they cannot be had, or the file is no longer the one that was opened.
        """
        return self.patience.get(lambda: self._fetched(offset, nbytes), self.name)

    def whole(self) -> Iterator[bytes]:
        """Yield all of it, for a server that gives no parts.

        Raises:
            Unreadable: it cannot be had.
            Again: the answer was cut.
        """
        answer = self._asked({})
        if answer.status != 200:
            raise self._refused(answer)
        if not _is_plain(answer):
            answer.close()
            raise Unreadable(_OTHER_BYTES, where=self.name)
        length = answer.length
        if length is None:
            answer.close()
            raise Unreadable("the server does not report the size of the file", where=self.name)
        self.nbytes = length
        for piece in answer.pieces(self.nbytes):
            self.moved.count(len(piece))
            yield piece

    def close(self) -> None:
        """Close its connections; a pending retry gives up."""
        self.patience.stopped.set()
        self._connections.close()  # those that are at work too: their threads end at once

    def _is_there(self) -> bool:
        answer = self._asked({"Range": "bytes=0-0"})
        if answer.status in (401, 403, 404, 410):
            answer.drop()
            return False
        if answer.status not in (200, 206, 416):
            raise self._refused(answer)
        answer.drop()
        return True

    def _opened(self) -> bytes:
        answer = self._asked({"Range": f"bytes=0-{PAGE_NBYTES - 1}"})
        if self._found_at == self.url:
            self._found_at = self._pinned(answer.headers)
        if answer.status == 416 and answer.headers.get("Content-Range") == "bytes */0":
            answer.close()
            self._version = _Version.of(0, answer.headers)
            return b""
        if answer.status == 206:
            _, end, total = self._range(answer, 0, PAGE_NBYTES)
        elif answer.status == 200:
            end = total = self._small(answer)
        else:
            raise self._refused(answer)
        data = answer.take(end)
        self.moved.count(len(data))
        self.nbytes = total
        self._version = _Version.of(total, answer.headers)
        return data

    def _small(self, answer: Answer) -> int:
        """Return the size of a file that was sent as a whole, where that is no more than a part."""
        if not _is_plain(answer):
            answer.close()
            raise Unreadable(_OTHER_BYTES, where=self.name)
        if answer.length is not None and answer.length <= PAGE_NBYTES:
            return answer.length
        answer.close()
        raise NoParts(
            "the server does not support range requests",
            where=self.name,
            hint="--download fetches all of it first, to a temporary file",
        )

    def _fetched(self, offset: int, nbytes: int) -> bytes:
        assert self._version is not None
        part = {"Range": f"bytes={offset}-{offset + nbytes - 1}"}
        found_at = self._found_at
        answer = None
        if found_at is not None:
            answer = self._ask(found_at, {**part, **self._version.conditions})
            if answer.status in _EXPIRED and found_at != self.url:
                answer.close()
                answer = None
        is_found_again = answer is None
        if answer is None:
            answer = self._found_again(found_at, part)
        if answer.status in (412, 416):
            answer.close()
            raise changed(self.name)
        if answer.status == 200:
            answer.close()
            raise Unreadable(
                "the server supported range requests before, and now does not", where=self.name
            )
        if answer.status != 206:
            raise self._refused(answer)
        _, _, total = self._range(answer, offset, nbytes)
        version = _Version.of(total, answer.headers)
        if is_found_again and strong(self._linked) is not None and total == self.nbytes:
            self._version = version  # the hub says it is the same; another store may tag it anew
        if not version.is_that_of(self._version):
            answer.close()
            raise changed(self.name)
        data = answer.take(nbytes)
        self.moved.count(len(data))
        return data

    def _range(self, answer: Answer, offset: int, nbytes: int) -> tuple[int, int, int]:
        """Return begin, end and total size of what an answer says it holds, if that was asked."""
        match = _RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
        begin, last, total = (int(n) for n in match.groups()) if match else (-1, -1, -1)
        end = min(offset + nbytes, total)
        is_asked = (begin, last + 1) == (offset, end) and answer.length in (None, end - offset)
        if not is_asked or not _is_plain(answer):
            answer.close()
            raise Unreadable(_OTHER_BYTES, where=self.name)
        return begin, end, total

    def _asked(self, wanted: Mapping[str, str]) -> Answer:
        """Follow the redirects from the beginning, and note where they ended."""
        url = self.url
        for _ in range(_MOST_REDIRECTS + 1):
            answer = self._ask(url, wanted)
            if answer.status not in _REDIRECTS:
                self._found_at = url
                return answer
            answer.close()
            url = self._next(url, answer.headers)
        raise Unreadable("the server redirects too many times", where=self.name)

    def _found_again(self, expired: str | None, wanted: Mapping[str, str]) -> Answer:
        """Resolve the redirect again, as such addresses expire after minutes; in one thread."""
        with self._resolving:
            found_at = self._found_at
            if found_at is None or found_at == expired:
                return self._asked(wanted)
        return self._ask(found_at, wanted)

    def _ask(self, url: str, wanted: Mapping[str, str]) -> Answer:
        self.moved.count(0, requests=1)
        is_ours = Origin.of(url) == Origin.of(self.url)
        return ask(self._connections, url, {**wanted, **(self.login if is_ours else {})}, self.name)

    def _next(self, url: str, headers: HTTPMessage) -> str:
        """Return where a redirect leads to."""
        location = headers.get("Location", "").encode("latin-1", "replace")
        try:
            target = urljoin(url, quote(location, safe=_URL_SAFE))
            schemes = Origin.of(url).scheme, Origin.of(target).scheme
        except ValueError as e:
            raise Unreadable("the server redirects to an invalid URL", where=self.name) from e
        if schemes == ("https", "http"):
            raise Unreadable("the server redirects to an unencrypted address", where=self.name)
        if url == self.url:
            linked = headers.get("X-Linked-ETag")
            if self._linked not in (None, linked):
                raise changed(self.name)
            self._linked = linked
            self._pinned(headers)
        return target

    def _pinned(self, headers: HTTPMessage) -> str:
        """Keep to the commit that a branch was at when it was first asked for."""
        commit = headers.get("X-Repo-Commit", "")
        if self.repin is not None and _COMMIT.fullmatch(commit):
            self.commit, self.url = commit, self.repin(commit)
        return self.url

    def _refused(self, answer: Answer) -> Unreadable:
        answer.close()
        match answer.status:
            case 404 | 410:
                return Absent("no such file on the server", where=self.name, hint=self.hint)
            case 401 | 403:
                what = f"the server denies access ({answer.status})"
                hint = self.hint or "a signed URL is valid only for a limited time"
                return Unreadable(what, where=self.name, hint=hint)
            case status:
                return Unreadable(f"the server answers {status}", where=self.name)


def _is_plain(answer: Answer) -> bool:
    """Whether a body holds the bytes of the file, not those that they were compressed to."""
    return answer.headers.get("Content-Encoding", "identity").strip().lower() == "identity"
