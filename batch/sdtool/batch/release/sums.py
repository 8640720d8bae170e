"""SHA256SUMS: the digests of files by their names, as sha256sum writes and reads them.

Source: GNU coreutils, `cksum --tag` and md5sum's manual: two characters between digest and name,
and a backslash before a line whose name has a newline or a backslash, which are escaped then.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from sdtool.checkpoint import Malformed, local_file

NAME = "SHA256SUMS"
_LINE = re.compile(r"(\\?)([0-9a-fA-F]{64}) [ *](.+)", re.DOTALL)
_LIMIT_NBYTES = 16 << 20


def is_sums(path: str | os.PathLike[str]) -> bool:
    """Whether a file is called as a list of digests is."""
    name = os.path.basename(path)
    return name.upper().startswith(NAME) or name.lower().endswith(".sha256")


def sums_text(digests: Mapping[str, str]) -> str:
    """Return the list of `digests`, by their names, in the order of the names."""
    lines: list[str] = []
    for name, digest in sorted(digests.items()):
        safe = name.replace("\\", "\\\\").replace("\n", "\\n")
        mark = "" if safe == name else "\\"
        lines.append(f"{mark}{digest}  {safe}\n")
    return "".join(lines)


def read_sums(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the digests that a list names, by the paths of their files beside it.

    Raises:
        Malformed: it is no such list, or names a file outside its folder.
        Unreadable: the operating system refused.
    """
    where = os.fspath(path)
    folder = Path(where).parent
    with local_file(where) as file:
        if file.nbytes > _LIMIT_NBYTES:
            raise Malformed("is too large for a list of digests", where=where)
        text = os.fsdecode(file.read_at(0, file.nbytes))
    digests: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise Malformed(f"line {number} is not a SHA-256 and a name", where=where)
        name = match[3]
        if match[1]:
            name = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], name)
        inside = os.path.normpath(name)
        if os.path.isabs(inside) or inside.split(os.sep)[0] == os.pardir or "\0" in name:
            raise Malformed(f"line {number} names a file outside its folder", where=where)
        digests[os.fspath(folder / inside)] = match[2].lower()
    if not digests:
        raise Malformed("names no file", where=where)
    return digests
