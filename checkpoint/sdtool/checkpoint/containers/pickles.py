"""Pickles behind each other, and whether bytes that nobody announced are a pickle."""

from __future__ import annotations

from collections.abc import Iterator
from sys import stdlib_module_names

from sdtool.checkpoint.errors import LimitExceeded, Truncated
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.machine import run_pickle
from sdtool.checkpoint.reading import PICKLE, Stream
from sdtool.checkpoint.source import Source
from sdtool.checkpoint.trace import Resolve, Trace


def pickles_in_a_row(
    content: Source, offset: int, limits: Limits, member: str | None
) -> Iterator[Stream]:
    """Pickles behind each other from `offset`, while they look like pickles."""
    for _ in range(limits.pickles):
        if offset >= content.nbytes:
            return
        stream = run_pickle(content, offset, profile=PICKLE, limits=limits, member=member)
        if not looks_like_pickle(stream):
            return
        yield stream
        if stream.trace.nbytes <= 0 or stream.error is not None:
            return
        offset += stream.trace.nbytes
    yield Stream(
        member, offset, PICKLE, content, Trace(), None,
        LimitExceeded(f"more than {limits.pickles:,} pickles in a row"),
    )  # fmt: skip


def looks_like_pickle(stream: Stream) -> bool:
    """Whether bytes that nobody declared to be a pickle are one that matters.

    Without a PROTO opcode it must look up a name: nothing else can do harm, and two bytes of a
    tensor (`N.`) make a perfect pickle of None.
    """
    head = stream.source.read_at(stream.offset, 2)
    if head[:1] == b"\x80" and head[1:] <= b"\x05":
        cut = isinstance(stream.error, (Truncated, LimitExceeded))
        return stream.trace.opcodes > 2 or stream.error is None or cut
    names = (event.target for event in stream.trace.events if isinstance(event, Resolve))
    if stream.error is None:
        return any(True for _ in names)
    # "config\nfoo\n" is text that begins with GLOBAL; what can be imported everywhere is a reason
    # to take it seriously.
    return any(
        name.module.split(".")[0] in stdlib_module_names and name.name.isidentifier()
        for name in names
    )
