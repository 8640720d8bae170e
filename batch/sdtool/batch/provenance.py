"""What an output says of where it came from."""

from __future__ import annotations

import os
from pathlib import Path

from sdtool.batch.version import version
from sdtool.checkpoint import Checkpoint


def provenance(checkpoint: Checkpoint) -> dict[str, str]:
    """Return what `--provenance` notes: the tool's version, the source's name and its hashes."""
    from sdtool.convert import hash_file

    hashes = hash_file(checkpoint.source).as_json()
    return {
        "sdtool.version": version(),
        "sdtool.source": as_text(Path(checkpoint.source.name).name),
        **{f"sdtool.source.{name}": value for name, value in hashes.items()},
    }


def as_text(name: str) -> str:
    """Return a file's name as text that every program can store, escapes for what is no text."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
