"""Objects in buckets, read and written: S3 and its like, Google Cloud Storage, Azure Blob Storage.

Who asks is settled by the store's own means (`AWS_*`, `GOOGLE_*`, `AZURE_*`, the machine's role):
obstore looks for them; nothing here sees a key.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import field
from datetime import timedelta
from importlib import import_module
from typing import Any, TypeVar

from sdtool.batch.items import MODEL_SUFFIXES
from sdtool.batch.remote.connections import SILENCE_SECONDS
from sdtool.batch.remote.location import Location
from sdtool.batch.remote.ranged import PAGE_NBYTES, Moved, changed, strong
from sdtool.checkpoint import OutputError, SdtoolError, Unreadable, UsageError, dataclass

T = TypeVar("T")

_RETRY = {"max_retries": 5, "retry_timeout": timedelta(seconds=180)}
_REQUEST_TIME = timedelta(minutes=10)
"""For a part on a slow line, or for a store that copies gigabytes; the package's own are 30 s."""
_SILENCE = timedelta(seconds=SILENCE_SECONDS)
_COPYING_SECONDS = 600.0
_ASK_AGAIN_SECONDS = 1.0
"""Between looks at whether a store has copied what it said it would."""
_ENVIRONMENT = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE"}
LIST_SECONDS = 60.0
"""How long a store may think about the next files of a list."""
_PART_NBYTES = 8 << 20
_PARTS_AT_ONCE = 4
"""Parts of an object that are on their way at once, and in memory."""
_MOST_PARTS = 9_000
"""Stores take 10,000."""
_CHUNKS = 4
"""Pages of a list that wait to be taken."""
_CHUNK_FILES = 1_000
_MOST_CHUNKS = 1_002
"""One more than the most files of a list need, whatever it lists beside files."""
_NO_LOGIN = re.compile(
    r"/latest/(?:api/token|meta-data)|computeMetadata|metadata/identity|MissingAccount|[Cc]redential"
)
"""Where a machine would have its role, which is asked last; or what the package says instead."""
_LOGINS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; public buckets: AWS_SKIP_SIGNATURE=true",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS; public buckets: GOOGLE_SKIP_SIGNATURE=true",
    "az": "AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY",
}


_ODD_NAME = "the name of an object has an empty part, . or .., which cannot be read"


class Missing(Unreadable):
    """There is no such object, or no such bucket."""


class Taken(OutputError):
    """There is an object that is not to be replaced."""


class _OutOfRange(Unreadable):
    """The object ends before the part that was asked for."""


@dataclass(slots=True)
class BucketFile:
    """One version of an object."""

    location: Location
    nbytes: int = 0
    first: bytes = b""
    moved: Moved = field(default_factory=Moved)
    _store: Any = None
    _tag: str | None = None
    _date: Any = None

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.location.shown

    @property
    def version(self) -> str | None:
        """See `Parts`."""
        return strong(self._tag)

    @property
    def commit(self) -> None:
        """See `Parts`: a bucket has none."""
        return None

    def open(self) -> None:
        """Ask for the first bytes: size and version come with them.

        Raises:
            Unreadable: there is no such object, or nobody who may read it.
            UsageError: the package that reads buckets is not installed.
        """
        self._store = store_of(self.location)
        try:
            result = self._get({"range": (0, PAGE_NBYTES)})
        except _OutOfRange:  # of an empty object there is no part
            self._note(self._get({"head": True}).meta)
            if self.nbytes:
                raise
            return
        self._note(result.meta)
        self.first = self._bytes(result)
        if len(self.first) != min(PAGE_NBYTES, self.nbytes):
            raise Unreadable("the store returned other bytes than requested", where=self.name)

    def fetch(self, offset: int, nbytes: int) -> bytes:
        """See `Parts`."""
        wanted: dict[str, Any] = {"range": (offset, offset + nbytes)}
        if self._tag is not None:
            wanted["if_match"] = self._tag
        result = self._get(wanted)
        meta = result.meta
        is_same = (meta["size"], meta["e_tag"]) == (self.nbytes, self._tag)
        if not is_same or (self._tag is None and meta["last_modified"] != self._date):
            raise changed(self.name)
        data = self._bytes(result)
        if len(data) != nbytes:
            raise Unreadable("the store returned other bytes than requested", where=self.name)
        return data

    def close(self) -> None:
        """See `Parts`; the connections are the package's."""
        self._store = None

    def _get(self, wanted: dict[str, Any]) -> Any:
        self.moved.count(0, requests=1)
        get = _package().get
        return _asked(lambda: get(self._store, self.location.path, options=wanted), self.location)

    def _note(self, meta: Any) -> None:
        self.nbytes, self._tag, self._date = meta["size"], meta["e_tag"], meta["last_modified"]

    def _bytes(self, result: Any) -> bytes:
        data = bytes(_asked(result.bytes, self.location))
        self.moved.count(len(data))
        return data


def bucket_listing(location: Location) -> Iterator[Location]:
    """Yield the objects below a prefix.

    Raises:
        Unreadable: they cannot be listed, or the store thinks too long about the next.
        UsageError: the package that reads buckets is not installed.
    """
    store = store_of(location)
    listed: queue.Queue[list[Any] | Unreadable] = queue.Queue(_CHUNKS)
    stopped = threading.Event()

    def hand_over(chunk: list[Any] | Unreadable) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                listed.put(chunk, timeout=0.1)
                return

    def work() -> None:  # a thread of its own: one that gets no answer can be left alone
        try:
            chunks = iter(
                _package().list(store, prefix=location.path or None, chunk_size=_CHUNK_FILES)
            )
            while not stopped.is_set():
                chunk: list[Any] = _asked(lambda: list(next(chunks, ())), location)
                hand_over(chunk)
                if not chunk:
                    return
        except Unreadable as e:
            hand_over(e)

    threading.Thread(target=work, daemon=True).start()
    try:
        for _ in range(_MOST_CHUNKS):
            chunk = _next(listed, location)
            if not chunk:
                return
            for meta in chunk:
                if not _shows_folder(meta):
                    yield location.at(meta["path"])
        raise Unreadable("the list of the store does not end", where=location.shown)
    finally:
        stopped.set()


def _shows_folder(meta: Any) -> bool:
    """Whether an object is what a console makes to show a folder.

    The package leaves out the slash at the end of its name. Any other that is empty, and not called
    like a model, would be passed over as well.
    """
    return not meta["size"] and os.path.splitext(meta["path"])[1].lower() not in MODEL_SUFFIXES


def size_of(location: Location) -> int | None:
    """Return the bytes of an object, None where it is not there.

    Raises:
        Unreadable: the store does not say.
    """
    store = store_of(location)
    try:
        return int(_asked(lambda: _package().head(store, location.path), location)["size"])
    except Missing:
        return None


def put(location: Location, pieces: Iterator[bytes], nbytes: int) -> None:
    """Write an object of `nbytes` bytes, whatever is there: it appears when all of it was sent.

    What `pieces` raises abandons it.

    Raises:
        OutputError: the store does not take it.
    """
    store = store_of(location, to_write=True)
    _sent(
        lambda: _package().put(
            store, location.path, pieces,
            chunk_size=max(_PART_NBYTES, -(-nbytes // _MOST_PARTS)), max_concurrency=_PARTS_AT_ONCE,
        ),
        location,
    )  # fmt: skip


def copy(location: Location, to: Location, nbytes: int, *, force: bool) -> None:
    """Give an object of `nbytes` bytes another name in its bucket, in one step.

    Raises:
        Taken: something is there, and `force` is false.
        OutputError: the store does not do it.
    """
    store = store_of(location, to_write=True)
    _sent(lambda: _package().copy(store, location.path, to.path, overwrite=force), to)
    if location.scheme == "az":
        _wait_for_copy(to, nbytes)


def _wait_for_copy(to: Location, nbytes: int) -> None:
    """Wait for a copy that was only accepted: Azure may do it later, and needs its source until
    then.

    Raises:
        OutputError: it is not done in time.
    """
    end = time.monotonic() + _COPYING_SECONDS
    while size_of(to) != nbytes:
        if time.monotonic() > end:
            raise OutputError("the store has not copied it", where=to.shown)
        time.sleep(_ASK_AGAIN_SECONDS)


def delete(location: Location) -> None:
    """Delete an object, if it is there.

    Raises:
        OutputError: the store does not do it.
    """
    store = store_of(location)
    with contextlib.suppress(Missing):
        _sent(lambda: _package().delete(store, location.path), location)


def _sent(call: Callable[[], T], location: Location) -> T:
    """Return what a call that writes gives."""
    try:
        return _asked(call, location, unable="the store does not support conditional writes")
    except Missing:
        raise
    except Unreadable as e:
        raise OutputError(e.what, where=e.where, hint=e.hint) from None


def _next(listed: queue.Queue[list[Any] | Unreadable], location: Location) -> list[Any]:
    try:
        chunk = listed.get(timeout=LIST_SECONDS)
    except queue.Empty:
        what = f"the store has listed nothing for {LIST_SECONDS:.0f} seconds"
        raise Unreadable(what, where=location.shown) from None
    if isinstance(chunk, Unreadable):
        raise chunk
    return chunk


def store_of(location: Location, *, to_write: bool = False) -> Any:
    """Return the package's view of a bucket; nothing is asked for yet.

    Raises:
        Unreadable: the environment says nothing of who asks, or nonsense.
        UsageError: the package is not installed.
    """
    from_url = _package("obstore.store").from_url
    url = f"{location.scheme}://{location.place}"
    wanted: dict[str, Any] = {"retry_config": _RETRY}
    wanted["client_options"] = _client_options(location.scheme)
    if not to_write:  # a store that copies may be silent for long
        wanted["client_options"]["read_timeout"] = _SILENCE
    if location.scheme == "s3":
        wanted["copy_if_not_exists"] = "multipart"  # the others can do it by themselves
        if os.environ.get("AWS_PROFILE"):
            wanted["credential_provider"] = _profile()
    return _asked(lambda: from_url(url, **wanted), location)


def _client_options(scheme: str) -> dict[str, Any]:
    """Return the settings of a connection, in place of the environment's."""
    allowed = os.environ.get(f"{_ENVIRONMENT[scheme]}_ALLOW_HTTP", "").lower()
    return {"timeout": _REQUEST_TIME, "allow_http": allowed in {"1", "true", "on", "yes", "y"}}


def _profile() -> Any:
    """Return what asks for the keys of a profile of `~/.aws`: the package itself reads no profiles.

    Raises:
        UsageError: the packages that do are not installed, or there is no such profile.
    """
    try:
        provider = import_module("obstore.auth.boto3").Boto3CredentialProvider
        return provider(import_module("boto3").Session())
    except ImportError as e:
        raise UsageError(
            "AWS profiles require the package boto3, which is not installed",
            hint=f"{sys.executable} -m pip install boto3, or unset AWS_PROFILE",
        ) from e
    except Exception as e:
        raise UsageError(
            "the profile in AWS_PROFILE cannot be used",
            hint="`aws configure list` shows the configuration",
        ) from e


def _asked(
    call: Callable[[], T],
    location: Location,
    *,
    unable: str = "the store does not support range requests",
) -> T:
    """Return what a call to the package gives; its errors quote requests, so only their kind is."""
    try:
        return call()
    except SdtoolError:  # raised by what is sent
        raise
    except Exception as e:
        name, where = type(e).__name__, location.shown
        hint = _LOGINS[location.scheme]
        match name:
            case "NotFoundError" | "FileNotFoundError":
                raise Missing(
                    "no such file in the bucket, or no such bucket", where=where
                ) from None
            case "AlreadyExistsError":
                raise Taken(
                    "already exists", where=where, hint="overwrite it with --force"
                ) from None
            case "PermissionDeniedError" | "UnauthenticatedError":
                raise Unreadable("the store denies access", where=where, hint=hint) from None
            case "PreconditionError":
                raise changed(where) from None
            case "InvalidPathError":
                raise Unreadable(_ODD_NAME, where=where) from None
            case "ValueError" if "parse path" in str(e):
                raise Unreadable(_ODD_NAME, where=where) from None
            case "NotSupportedError":
                raise Unreadable(unable, where=where) from None
            case _:
                pass
        text = str(e)
        if _NO_LOGIN.search(text):
            raise Unreadable("no credentials for the store", where=where, hint=hint) from None
        status = re.search(r"status code: (\d{3})", text)
        if status and status[1] == "404":  # of a bucket: of an object the package knows it
            raise Missing("no such file in the bucket, or no such bucket", where=where) from None
        if status and status[1] == "416":
            raise _OutOfRange("the store has no such range", where=where) from None
        what = f"the store answers {status[1]}" if status else "the store cannot be reached"
        raise Unreadable(what, where=where) from None


def _package(name: str = "obstore") -> Any:
    try:
        return import_module("obstore") if name == "obstore" else import_module("obstore.store")
    except ImportError as e:
        raise UsageError(
            "buckets require the package obstore, which is not installed",
            hint=f"{sys.executable} -m pip install 'obstore>=0.12,<0.13'",
        ) from e
