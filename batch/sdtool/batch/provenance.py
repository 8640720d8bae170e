"""What an output says of where it came from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from sdtool.batch.version import sdtool_version
from sdtool.checkpoint import Checkpoint


def provenance(checkpoint: Checkpoint) -> dict[str, str]:
    """Return what `--provenance` notes: the tool's version, the source's name and its hashes."""
    from sdtool.convert import hash_file

    hashes = hash_file(checkpoint.source).as_json()
    return {
        "sdtool.version": sdtool_version(),
        "sdtool.source": as_text(Path(checkpoint.source.name).name),
        **{f"sdtool.source.{name}": value for name, value in hashes.items()},
    }


def provenance_of_parts(name: str, parts: Mapping[str, Sequence[Checkpoint]]) -> dict[str, str]:
    """Return what `--provenance` notes of one file that is made of several: `parts` by their names.

    Each part is noted by the name and the SHA-256 of its file, or of each of its shards.
    """
    from sdtool.convert import hash_file

    origin = {"sdtool.version": sdtool_version(), "sdtool.source": as_text(Path(name).name)}
    for part, files in parts.items():
        for i, file in enumerate(files):
            key = f"sdtool.source.{part}" + (f".{i + 1}" if len(files) > 1 else "")
            origin[key] = as_text(Path(file.source.name).name)
            origin[f"{key}.sha256"] = hash_file(file.source).sha256
    return origin


def as_text(name: str) -> str:
    """Return a file's name as text that every program can store, escapes for what is no text."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
