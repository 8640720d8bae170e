"""Components that several files share, found by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from sdtool.batch import Item, Seen, looked_at
from sdtool.checkpoint import TensorEntry, every_tensor
from sdtool.checkpoint.identify import Component
from sdtool.cli.console import Console, Progress
from sdtool.cli.totals import Alike
from sdtool.convert import check_reading, row_major_chunks


def duplicates_among(
    console: Console, parts: Mapping[Alike, list[tuple[Item, str]]], allow: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Hash the components that could be equal, and return the groups of those that are.

    `parts` has, for each sort of component, the files it is in and its prefix there.
    """
    groups: list[dict[str, Any]] = []
    several = {alike: places for alike, places in parts.items() if len(places) > 1}
    total = sum(alike[2] * len(places) for alike, places in several.items())
    with console.progress(total, "comparing") as progress:
        for alike, places in several.items():
            found: dict[str, list[str]] = {}
            for item, prefix in places:
                with looked_at(item, allow=allow) as seen:
                    part = next(
                        part
                        for part in seen.identity.components
                        if (part.label, part.prefix) == (alike[0], prefix)
                    )
                    entries = _of_part(seen, part)
                    check_reading(entries, item.path)
                    found.setdefault(_digest(entries, prefix, progress), []).append(item.path)
            groups += [
                {
                    "label": alike[0],
                    "size_bytes": alike[2],
                    "wasted_bytes": alike[2] * (len(paths) - 1),
                    "sha256": digest,
                    "paths": paths,
                }
                for digest, paths in found.items()
                if len(paths) > 1
            ]
    return groups


def _of_part(seen: Seen, part: Component) -> list[TensorEntry]:
    """The tensors of a component: what its prefix holds and no longer prefix claims."""
    others = [
        other.prefix
        for other in seen.identity.components
        if other is not part and len(other.prefix) > len(part.prefix)
    ]
    return [
        entry
        for entry in every_tensor(seen.checkpoint)
        if entry.name.startswith(part.prefix) and not entry.name.startswith(tuple(others))
    ]


def _digest(entries: Iterable[TensorEntry], prefix: str, progress: Progress) -> str:
    digest = hashlib.sha256()
    for entry in sorted(entries, key=lambda entry: entry.name):
        name = entry.name[len(prefix) :]
        digest.update(f"{name}\0{entry.dtype.name}\0{entry.shape}\0".encode(errors="replace"))
        for chunk in row_major_chunks(entry):
            digest.update(chunk)
            progress(len(chunk))
    return digest.hexdigest()
