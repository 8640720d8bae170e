"""From a location to a file that can be read like any other."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from urllib.parse import unquote

from sdtool.batch.remote.connections import Connections, basic
from sdtool.batch.remote.location import WEB, Location
from sdtool.batch.remote.patience import Again
from sdtool.batch.remote.ranged import Parts, RemoteFile
from sdtool.batch.remote.web import NoParts, WebFile
from sdtool.checkpoint import File, LocalFile, OutputError, UsageError, os_reason


@contextmanager
def open_remote(location: Location) -> Generator[File]:
    """Open a remote file, and close it at the end.

    Where its server gives no parts of files and `location.download` is set, all of it is fetched
    to a temporary file, which is removed in the end.

    Raises:
        Unreadable: there is no such file, no way to it, or its server gives no parts.
        UsageError: a package is missing, or the environment has a setting that is none.
        OutputError: the temporary file cannot be written.
    """
    with ExitStack() as stack:
        yield _opened(location, stack)


def version_of(location: Location) -> tuple[int, str] | None:
    """Ask for a file's size in bytes and the name of its version; None where it has no such name.

    Raises:
        Unreadable: there is no such file, no way to it, or its server gives no parts.
        UsageError: a package is missing.
    """
    with open_remote(replace(location, download=False)) as file:
        assert isinstance(file, RemoteFile)
        return None if file.version is None else (file.nbytes, file.version)


def _opened(location: Location, stack: ExitStack) -> File:
    if location.is_folder:
        raise UsageError("names a folder, not a file", where=location.shown)
    if location.scheme not in WEB | {"hf"}:
        from sdtool.batch.remote.buckets import BucketFile

        found = BucketFile(location)
        stack.callback(found.close)
        found.open()
        return _remote(found, stack)
    if location.scheme == "hf":
        from sdtool.batch.remote.hub import hub_file

        file = hub_file(location)
    else:
        file = web_file(location)
    stack.callback(file.close)
    try:
        file.open()
    except NoParts:
        if not location.download:
            raise
        return _downloaded(file, stack)
    return _remote(file, stack)


def _remote(parts: Parts, stack: ExitStack) -> RemoteFile:
    file = RemoteFile(parts)
    stack.callback(file.close)
    return file


def web_file(location: Location, connections: Connections | None = None) -> WebFile:
    """Return a file on a web server that is not open yet; `connections` are shared with others."""
    query = f"?{location.query}" if location.query else ""
    url = f"{location.scheme}://{location.place}/{location.path}{query}"
    login = {"Authorization": basic(unquote(location.login))} if location.login else {}
    file = WebFile(url, location.shown, login)
    return file if connections is None else replace(file, _connections=connections)


def _downloaded(file: WebFile, stack: ExitStack) -> LocalFile:
    """Fetch all of a file, and open what was fetched under the name that a person knows."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sdtool-"))
    path = os.path.join(folder, "download")
    file.patience.get(lambda: _fetch_whole(file, path), file.name)
    local = LocalFile(path)
    local.name = file.name
    stack.callback(local.close)
    return local


def _fetch_whole(file: WebFile, path: str) -> None:
    try:
        with open(path, "wb") as out:
            out.writelines(file.whole())
    except OSError as e:
        raise OutputError(
            f"the temporary file cannot be written ({os_reason(e)})",
            where=path,
            hint="set TMPDIR to use another folder",
        ) from e
    if os.path.getsize(path) != file.nbytes:
        raise Again("the response ended early")
