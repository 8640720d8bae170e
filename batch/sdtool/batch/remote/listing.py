"""The files of a repository or a bucket, as a folder has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase

from sdtool.batch.remote.location import WEB, Location
from sdtool.checkpoint import LimitExceeded

MOST_FILES = 1_000_000
_WILDCARD = re.compile(r"[*?\[]")


def is_several(location: Location) -> bool:
    """Whether it stands for several files: a folder, or a pattern."""
    return location.is_folder or _pattern(location) is not None


def root_of(location: Location) -> Location:
    """Return the folder that is listed: that of a pattern stands before its first wildcard."""
    match = _pattern(location)
    if match is None:
        return location
    return replace(location, path=location.path[: location.path.rfind("/", 0, match.start()) + 1])


def listed_in(location: Location) -> Iterator[Location]:
    """Yield the files in a folder, or those that fit a pattern.

    Raises:
        LimitExceeded: there are too many.
        Unreadable: the list cannot be fetched.
        UsageError: a package is missing.
    """
    has_pattern = _pattern(location) is not None
    for count, found in enumerate(_all(root_of(location))):
        if count == MOST_FILES:
            raise LimitExceeded(
                f"lists more than {MOST_FILES:,} files",
                where=location.shown,
                hint="name a folder in it",
            )
        if not has_pattern or fnmatchcase(found.path, location.path):
            yield found


def _pattern(location: Location) -> re.Match[str] | None:
    """The first wildcard; an address of a web server has none, whatever it holds."""
    return None if location.scheme in WEB else _WILDCARD.search(location.path)


def _all(folder: Location) -> Iterator[Location]:
    if folder.scheme == "hf":
        from sdtool.batch.remote.hub import hub_listing

        return hub_listing(folder)
    if folder.scheme in WEB:
        from sdtool.batch.remote.conventional import web_listing

        return web_listing(folder)
    from sdtool.batch.remote.buckets import bucket_listing

    return bucket_listing(folder)
