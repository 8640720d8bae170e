"""The location of a remote file, and the part of it that may be shown.

The query of a URL may be a signature, and the part before an `@` a password: neither is ever
shown, logged or written.
"""

from __future__ import annotations

import re
from dataclasses import field, replace
from urllib.parse import quote, unquote, urlsplit

from sdtool.checkpoint import Unreadable, dataclass

WEB = frozenset({"https", "http"})
BUCKETS = frozenset({"s3", "gs", "az"})
SCHEMES = WEB | BUCKETS | {"hf"}

_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/@?#]+))?(?:/(?P<path>[^?#]*))?")
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE | re.DOTALL)
_PIPELINE_INDEX = "model_index.json"
"""What diffusers calls the file that makes a folder a pipeline."""
_LONGEST_NAME = 200
"""Bytes; file systems take 255, and an output's name is a little longer than its input's."""


@dataclass(frozen=True, slots=True)
class Location:
    """A file, or (`path` ends in a slash, or is empty) what begins with that path.

    `place` is a host with its port, a bucket, or `owner/repo` of Hugging Face. `path` has no slash
    in front; that of a web server is percent-encoded, the others are plain text.
    """

    scheme: str
    place: str
    path: str = ""
    revision: str | None = None
    """Of Hugging Face: a branch, a tag or a commit."""
    commit: str | None = None
    """Of Hugging Face: what the revision stood for when another file of a set was read."""
    query: str = field(default="", repr=False)
    login: str = field(default="", repr=False)
    """`user:password`, percent-encoded as it was given."""
    download: bool = False
    """Whether all of it may be fetched where a server gives no parts of files."""

    @property
    def shown(self) -> str:
        """What a person calls it, without whatever may be secret."""
        revision = f"@{self.revision}" if self.revision is not None else ""
        return f"{self.scheme}://{self.place}{revision}/{self.path}"

    @property
    def is_folder(self) -> bool:
        """Whether it stands for several files."""
        return not self.path or self.path.endswith("/")

    def at(self, path: str) -> Location:
        """Return another file of the same place."""
        return replace(self, path=path, query="")

    def inside(self, name: str) -> Location:
        """Return a file of this folder, or of the one that this file is in: `name` is plain text.

        It is asked for as this one is, whatever proves that somebody may.
        """
        folder = self.path[: self.path.rfind("/") + 1]
        return replace(self, path=folder + (quote(name) if self.scheme in WEB else name))


def parse(text: str) -> Location:
    """Return the location that a person typed.

    Raises:
        Unreadable: the scheme is not one that sdtool reads, or there is no file behind it.
    """
    scheme, _, rest = text.partition("://")
    scheme = scheme.lower()
    if scheme == "file":
        raise Unreadable("name the file without file://", where="file://...")
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in ("https", "s3", "gs", "az", "hf"))
        raise Unreadable(
            f"{scheme}:// is not supported", where=f"{scheme}://...", hint=f"{known} are"
        )
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise _not_understood(scheme, "contains control characters")
    if scheme == "hf":
        return _hub(rest)
    return _web(scheme, rest) if scheme in WEB else _bucket(scheme, rest)


def _web(scheme: str, rest: str) -> Location:
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        host, port = parts.hostname, parts.port
    except ValueError:  # which quotes what may hold a password
        raise _not_understood(scheme, "is not a URL") from None
    if not host or "%" in host:
        raise _not_understood(scheme, "does not name a host")
    login, _, _ = parts.netloc.rpartition("@")
    try:
        host = host if ":" in host else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise _not_understood(scheme, "does not name a host") from None
    place = f"[{host}]" if ":" in host else host
    place += "" if port is None else f":{port}"
    path = quote(parts.path.removeprefix("/"), safe="/%!$&'()*+,;=:@~-._")
    folder, slash, name = path.rpartition("/")
    if name == _PIPELINE_INDEX:  # it stands for its folder
        path = folder + slash
    return Location(scheme, place, path, query=quote(parts.query, safe="%=&+/:;,@!$'()*~-._?"),
                    login=login)  # fmt: skip


def _bucket(scheme: str, rest: str) -> Location:
    bucket, _, path = rest.partition("/")
    if not re.fullmatch(r"[\w.-]+", bucket, re.ASCII):
        raise _not_understood(scheme, "does not name a bucket")
    if "?" in path and scheme == "az":  # a SAS token: it belongs into the environment
        raise _not_understood(scheme, "has a query; tokens are taken from the environment")
    return Location(scheme, bucket, path)


def _hub(rest: str) -> Location:
    match = _HUB.fullmatch(rest)
    if match is None:
        raise _not_understood("hf", "is not hf://owner/repo[@revision][/file]")
    revision = match["revision"]
    return Location("hf", match["repo"], match["path"] or "", revision)


def _not_understood(scheme: str, what: str) -> Unreadable:
    # Not the text: what could not be taken apart may hold a password anywhere.
    return Unreadable(f"the {scheme}:// path {what}", where=f"{scheme}://...")


def file_name(location: Location) -> str:
    """Return a name for what is made of a file: a plain one, wherever it is used."""
    last = (location.path.rstrip("/") or location.place).rpartition("/")[2]
    return safe_name(unquote(last) if location.scheme in WEB else last)


def plain_folders(inside: str) -> tuple[str, ...]:
    """Return the folders of a path inside a bucket or a repository, as plain names."""
    return tuple(safe_name(part) for part in inside.split("/")[:-1] if part)


def safe_name(text: str) -> str:
    """Return one name for a file or folder, which every system takes and none follows elsewhere."""
    plain = "".join(c if c.isprintable() else "_" for c in _FORBIDDEN.sub("_", text))
    plain = plain.encode(errors="replace")[:_LONGEST_NAME].decode(errors="ignore").strip(". ")
    if not plain:
        return "model"
    return f"_{plain}" if _DEVICES.fullmatch(plain) else plain
