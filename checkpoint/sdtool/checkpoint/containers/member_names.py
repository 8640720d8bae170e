"""Names of members of an archive."""

from __future__ import annotations


def leads_out(name: str) -> bool:
    """Whether a member called `name` would be unpacked outside of the folder."""
    if name[:1] in ("/", "\\") or name[1:2] == ":":
        return True
    return ".." in name and ".." in name.replace("\\", "/").split("/")
