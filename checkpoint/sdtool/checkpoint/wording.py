"""How sizes, counts, names and refusals are worded: the same in every room."""

from __future__ import annotations


def size(nbytes: int) -> str:
    """Return a byte count for people: `7.70 GB` (decimal, as model pages give sizes)."""
    if nbytes < 1000:
        return f"{nbytes} bytes"
    number, unit = nbytes / 1000, "KB"
    for larger in ("MB", "GB", "TB"):
        if number < 999.5:
            break
        number, unit = number / 1000, larger
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f} {unit}"


def counted(number: int, noun: str) -> str:
    """Return `1 tensor`, `1,145 tensors`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def escape(text: str, limit: int | None = None) -> str:
    r"""Return `text` with `\x1b` and the like for what does not print, cut to `limit` characters.

    A backslash stays as it is: paths of Windows can be read, and escaping twice changes nothing.
    """
    if limit is not None and len(text) > limit:
        text = text[: limit + 1]  # enough to see that it must be cut, however long it is
    if not text.isprintable():
        text = "".join(c if c.isprintable() else _escaped(c) for c in text)
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"


def os_reason(e: OSError) -> str:
    """Return what the operating system says, in lower case: `permission denied`."""
    return (e.strerror or type(e).__name__).lower()


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
