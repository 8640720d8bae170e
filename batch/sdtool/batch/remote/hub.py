"""Hugging Face: `hf://owner/repo[@revision]/file`, and the list of a repository's files.

Its rate limits count requests to `/resolve/`, so there is one such request for each file: it
redirects to the store that has the bytes, and all further requests go there.

Source: huggingface_hub, file_download.py (`get_hf_file_metadata`), utils/_auth.py, hf_api.py
(`list_repo_tree`); the pages "Hub API endpoints" and "Rate limits" of the documentation.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import partial
from http.client import HTTPMessage
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

from sdtool.batch.remote.asking import Answer, ask
from sdtool.batch.remote.connections import Connections, Origin
from sdtool.batch.remote.location import Location
from sdtool.batch.remote.patience import Patience
from sdtool.batch.remote.web import WebFile
from sdtool.checkpoint import Unreadable, UsageError

_PUBLIC = "https://huggingface.co"
_HINT = "check the name; a private or gated repository requires a token in HF_TOKEN"
_PAGE_NBYTES = 32 << 20
_MOST_PAGES = 10_000
_ODD = re.compile(r"^$|(?:^|/)\.{0,2}(?:/|$)")
"""A path that leads elsewhere: no file of a repository has one."""
_NEXT = re.compile(r'<([^<>]+)>\s*;\s*rel="next"')


def hub_file(location: Location) -> WebFile:
    """Return a file of a repository, not yet opened.

    Raises:
        UsageError: `HF_ENDPOINT` is no URL.
    """
    return WebFile(
        _address(location, location.commit or location.revision or "main"),
        location.shown,
        login=_login(),
        repin=partial(_address, location),
        hint=_HINT,
    )


def hub_listing(location: Location) -> Iterator[Location]:
    """Yield the files below a folder of a repository, as the hub lists them.

    Raises:
        Unreadable: there is no such folder, or no way to the hub.
    """
    connections, patience = Connections(), Patience()
    endpoint, folder = _endpoint(), quote(location.path.rstrip("/"))
    revision = quote(location.commit or location.revision or "main", safe="")
    url = f"{endpoint}/api/models/{location.place}/tree/{revision}/{folder}?recursive=true"
    origin = Origin.of(endpoint)
    asked: set[str] = set()

    def page() -> tuple[HTTPMessage, bytes]:
        answer = ask(connections, url, _login(), location.shown)
        if answer.status != 200:
            raise _refused(answer, location)
        return answer.headers, b"".join(answer.pieces(_PAGE_NBYTES))

    try:
        for _ in range(_MOST_PAGES):
            headers, body = patience.get(page, location.shown)
            entries = _entries(body, location)
            yield from entries
            following = _NEXT.search(headers.get("Link", ""))
            if following is None:
                return
            asked.add(url)
            try:
                url = urljoin(url, following[1])
                is_ours = Origin.of(url) == origin
            except ValueError:
                break
            if not entries or not is_ours or url in asked:
                break
        raise _strange(location)
    finally:
        connections.close()


def _entries(body: bytes, location: Location) -> list[Location]:
    """The files on one page of a list."""
    try:
        entries: Any = json.loads(body)
        paths = [entry["path"] for entry in entries if entry["type"] == "file"]
        are_plain = all(type(path) is str and not _ODD.search(path) for path in paths)
        if type(entries) is not list or not are_plain:
            raise _strange(location)
        return [location.at(path) for path in paths]
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise _strange(location) from e


def _strange(location: Location) -> Unreadable:
    return Unreadable("the hub's list of files is invalid", where=location.shown)


def _refused(answer: Answer, location: Location) -> Unreadable:
    answer.close()
    if answer.status in (401, 403, 404):
        return Unreadable("no such repository or folder", where=location.shown, hint=_HINT)
    return Unreadable(f"the hub answers {answer.status}", where=location.shown)


def _address(location: Location, revision: str) -> str:
    """The address that the hub counts: from there it sends us on."""
    path = quote(location.path)
    return f"{_endpoint()}/{location.place}/resolve/{quote(revision, safe='')}/{path}"


def _endpoint() -> str:
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or _PUBLIC
    try:
        Origin.of(endpoint)
    except ValueError as e:
        raise UsageError(
            "HF_ENDPOINT is not a valid URL", hint=f"without it, {_PUBLIC} is used"
        ) from e
    return endpoint


def _login() -> dict[str, str]:
    """The header that says who asks: a token of the environment, or of `hf auth login`."""
    token = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
    if not token and os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() not in _YES:
        token = _stored_token()
    token = "" if token is None else token.strip()
    if not token:
        return {}
    if not (token.isascii() and token.isprintable()):
        raise UsageError("HF_TOKEN is not a valid token: it contains invalid characters")
    return {"Authorization": f"Bearer {token}"}


_YES = frozenset({"1", "ON", "YES", "TRUE"})


def _stored_token() -> str | None:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    home = os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")
    path = os.environ.get("HF_TOKEN_PATH") or os.path.join(home, "token")
    try:
        return Path(path).read_text("utf-8")
    except (OSError, ValueError):
        return None
