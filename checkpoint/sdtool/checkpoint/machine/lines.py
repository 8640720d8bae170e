"""Arguments that are lines of text, as protocol 0 writes all of them."""

from __future__ import annotations

import re

from sdtool.checkpoint.errors import LimitExceeded, Malformed
from sdtool.checkpoint.machine.state import Machine

LINE_NBYTES = 1 << 20
"""What is kept of a line."""
_CHUNK_NBYTES = 1 << 20
_PACKAGE = r"[\w-]+\Z"
"""What is imported first: a folder of any other name is on no path."""


def line(m: Machine, code: bytes) -> bytes:
    """The next line, newline included if there is one; of a long one the first megabyte.

    Raises:
        Malformed: it is long where no unpickler would go on behind it.
        LimitExceeded: it is longer than the limits allow.
    """
    start = m.pos
    stop = m.buf.find(b"\n", start) + 1
    if stop:
        m.pos = stop
        return m.buf[start:stop]
    at = m.base + start
    found = b""
    offset, most = at, at + m.limits.line_nbytes
    while offset < most:
        chunk = m.source.read_at(offset, min(_CHUNK_NBYTES, most - offset))
        if not chunk:
            m.pos = offset - m.base
            return found
        stop = chunk.find(b"\n") + 1
        part = chunk[:stop] if stop else chunk
        offset += len(part)
        # Of a long line its beginning is kept: Python's import of a name ends at a NUL as well.
        found += part[: max(0, LINE_NBYTES - len(found))]
        if len(found) == LINE_NBYTES and not _may_be_long(code, found):
            raise Malformed(f"a line of more than {LINE_NBYTES:,} bytes at {at:,}")
        if stop:
            m.pos = offset - m.base
            return found if found[-1:] == b"\n" else found + b"\n"
    raise LimitExceeded(f"a line of more than {m.limits.line_nbytes:,} bytes at {at:,}")


def _may_be_long(code: bytes, begin: bytes) -> bool:
    """Whether an unpickler would go on behind a line of more than a megabyte that begins so."""
    if code in b"ci":  # no module has such a name, but for one that a NUL ends
        name, nul, _ = begin.partition(b"\0")
        package = name.decode("utf-8", "replace").partition(".")[0]
        return bool(nul) and re.match(_PACKAGE, package) is not None
    return code in b"VSP" or not begin.strip(b"0123456789")
