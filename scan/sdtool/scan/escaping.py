"""Text from a file, made fit for a terminal and for one line."""

from __future__ import annotations

from functools import cache


@cache
def _shown(char: str) -> str:
    if char == "\\":
        return "\\\\"
    if char.isprintable():
        return char
    return char.encode("unicode_escape").decode("ascii")


def escape(text: str, limit: int = 400) -> str:
    """`text` without control, format and surrogate characters, cut to `limit` characters.

    A backslash is doubled, so that what is shown can be told from what stands in the file.
    """
    if len(text) <= limit and text.isascii() and text.isprintable() and "\\" not in text:
        return text
    shown = "".join(map(_shown, text[: limit + 1]))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
