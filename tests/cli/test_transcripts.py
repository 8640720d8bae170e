"""Sessions as a person sees them: tests/transcripts/*.txt, the README's and those of
docs/recipes.md, run and compared.

A line `$ COMMAND` is followed by all that it writes and by `[N]` where the exit code N is not 0.
`SDTOOL_TRANSCRIPTS=write` rewrites the sessions from what the command says now; read the diff.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SESSIONS = [
    *sorted((ROOT / "tests" / "transcripts").glob("*.txt")),
    ROOT / "README.md",
    ROOT / "docs" / "recipes.md",
]
BLOCK = re.compile(r"(?<=```console\n).*?(?=```)", re.DOTALL)


def run(line: str, folder: Path) -> str:
    """Run one command; what takes time takes none here, and paths have slashes."""
    words = shlex.split(line.removeprefix("sdtool "))
    done = subprocess.run(
        [sys.executable, "-m", "sdtool", *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
        check=False,
    )
    text = done.stdout.decode().replace("\r\n", "\n").replace("\\", "/")
    text = re.sub(r"\b\d+\.\d s$", "0.0 s", text, flags=re.MULTILINE)
    return text + (f"[{done.returncode}]\n" if done.returncode else "")


def played(session: str, folder: Path) -> str:
    """Return the session with every command's answer replaced by what it is now."""
    parts: list[str] = []
    for paragraph in re.split(r"^(?=\$ )", session, flags=re.MULTILINE):
        if not paragraph.startswith("$ "):
            parts.append(paragraph)
            continue
        line = paragraph.splitlines()[0]
        tail = "\n" if paragraph.endswith("\n\n") else ""
        parts.append(f"{line}\n{run(line.removeprefix('$ '), folder)}{tail}")
    return "".join(parts)


@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.name)
def test_a_session_is_as_it_is_told(
    path: Path, training: Path, trapped: Path, tmp_path: Path
) -> None:
    (tmp_path / "page.ckpt").write_text("<!DOCTYPE html><html><title>Sign in</title></html>")
    (tmp_path / "README.md").write_text("# Models\n")
    told = path.read_text("utf-8")
    if path.suffix == ".md":
        now = BLOCK.sub(lambda block: played(block[0], tmp_path), told)
    else:
        now = played(told, tmp_path)
    if os.environ.get("SDTOOL_TRANSCRIPTS") == "write":
        path.write_text(now, "utf-8")
    assert now.splitlines() == told.splitlines()
