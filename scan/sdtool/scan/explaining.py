"""A flagged pickle step by step, as sdtool understood it, and as fickling decompiles it; and what
chat templates say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sdtool.checkpoint.chat_templates import templates_in
from sdtool.checkpoint.limits import DEFAULT_LIMITS, Limits
from sdtool.checkpoint.reading import Reading, Stream
from sdtool.checkpoint.trace import Event, Mutation, Resolve
from sdtool.checkpoint.values import Extent, Global, Instance, Pairs, Persistent, Value
from sdtool.checkpoint.wording import escape
from sdtool.scan.collecting import Collector
from sdtool.scan.findings import LONGEST, Severity
from sdtool.scan.judging import class_of, judge_stream
from sdtool.scan.second_opinion import MAX_LINES, MAX_NBYTES, counted, decompile
from sdtool.scan.settings import allowed_globals

_MAX_STEPS = 200
_DEPTH = 4
_NO_NAMES: Mapping[str, str] = {}


def explain(
    readings: Iterable[Reading],
    *,
    allow: Mapping[str, str] = _NO_NAMES,
    limits: Limits = DEFAULT_LIMITS,
) -> Iterator[str]:
    """The lines that explain every flagged pickle, and the chat templates of a GGUF file as text;
    their sources must still be open.

    Steps that do nothing but rebuild tensors, or fill allowlisted objects, are counted only; those
    that a finding points at are always shown.

    Raises:
        Unreadable: the operating system refused a read.
    """
    pending = list(readings)
    while pending:
        reading = pending.pop(0)
        pending.extend(reading.inner)
        for key, text in templates_in(reading.leaves):
            yield f"{escape(key, LONGEST)}, as text:"
            yield from _shown(text)
        for stream in reading.streams:
            found = Collector(allowed_globals(allow))
            judge_stream(stream, found, limits)
            if any(finding.severity is not Severity.INFO for finding in found.findings()):
                yield from _steps(stream, found)
                yield from _decompiled(stream, found)


def _steps(stream: Stream, found: Collector) -> Iterator[str]:
    where = f"{escape(stream.member, LONGEST)}, " if stream.member else ""
    yield f"{where}pickle at offset {stream.offset:,}, step by step:"
    flagged = _flagged(found)
    tensors = quiet = shown = 0
    for event in stream.trace.events:
        if _is_quiet(event, found, flagged):
            quiet += 1
            tensors += _is_tensor(event)
            continue
        if quiet:
            yield f"  {'':>10}  {counted(tensors, quiet)}"
            tensors = quiet = 0
        if shown == _MAX_STEPS:
            yield f"  {'':>10}  (and more; the first {_MAX_STEPS:,} steps are shown)"
            break
        shown += 1
        yield f"  {event.offset:>10,}  {_step(event)}"
    if quiet:
        yield f"  {'':>10}  {counted(tensors, quiet)}"
    if stream.error is not None:
        yield f"  {'':>10}  then it fails: {escape(stream.error.what, LONGEST)}"


def _flagged(found: Collector) -> set[int | None]:
    return {f.offset for f in found.findings() if f.severity is not Severity.INFO}


def _is_quiet(event: Event, found: Collector, flagged: set[int | None]) -> bool:
    if event.offset in flagged:
        return False
    if isinstance(event, Persistent):
        return True
    target = class_of(event.target)
    known = found.known.get(target) if isinstance(target, Global) else None
    return known is not None and known.kind == "allowlisted"


def _is_tensor(event: Event) -> bool:
    return (
        isinstance(event, Instance)
        and isinstance(event.target, Global)
        and event.target.name.startswith("_rebuild_tensor")
    )


def _step(event: Event) -> str:
    if isinstance(event, Resolve):
        text = f"import {_value(event.target, 0)}"
        if event.written != event.target:
            text += f" (written {_value(event.written, 0)})"
        return text
    if isinstance(event, Mutation):
        return f"{event.opcode} {_value(event.target, 1)} with {_value(event.value, 1)}"
    if isinstance(event, Instance):
        return f"call {_value(event.target, 1)} with {_value(event.args, 1)} [{event.opcode}]"
    return f"ask the loader for {_value(event.pid, 1)}"


def _value(value: Value, depth: int) -> str:
    """A value in a few words, never deeper than a few levels and never in full."""
    if isinstance(value, Global):
        return escape(f"{value.module}.{value.name}", 200)
    if isinstance(value, Persistent):
        return "<storage>"
    if isinstance(value, Instance):
        name = _value(value.target, depth + 1) if depth < _DEPTH else "…"
        if value.opcode in ("REDUCE", "OBJ", "INST", "NEWOBJ", "NEWOBJ_EX"):
            return f"{name}({'…' if value.args != () else ''})"
        return f"<{name.removeprefix('builtins.')} of {len(value.pairs) or len(value.items):,}>"
    if isinstance(value, (str, bytes)):
        return escape(repr(value[:80]), 200)
    if isinstance(value, Extent):
        return f"<{value.nbytes:,} bytes>"
    if isinstance(value, int) and value.bit_length() > 512:
        return "<a huge number>"
    if isinstance(value, (tuple, list, Pairs)):
        if depth >= _DEPTH:
            return "(…)"
        parts = [_value(part, depth + 1) for part in list(value)[:6]]
        return f"({', '.join(parts)}{', …' if len(value) > 6 else ''})"
    return escape(repr(value), 80)


def _inert(stream: Stream, found: Collector) -> set[str]:
    """The names, as the pickle writes them, that no step to be shown has to do with."""
    flagged = _flagged(found)
    loud = {
        class_of(event.target)
        for event in stream.trace.events
        if not isinstance(event, Persistent)
        and isinstance(class_of(event.target), Global)
        and not _is_quiet(event, found, flagged)
    }
    return {
        f"{event.written.module}.{event.written.name}"
        for event in stream.trace.events
        if isinstance(event, Resolve)
        and event.target not in loud
        and _is_quiet(event, found, flagged)
    }


def _decompiled(stream: Stream, found: Collector) -> Iterator[str]:
    nbytes = min(stream.trace.nbytes, MAX_NBYTES + 1)
    pickle = stream.source.read_at(stream.offset, nbytes)
    text, why = decompile(pickle, inert=_inert(stream, found))
    if text is None:
        yield f"not decompiled: {escape(why or '', LONGEST)}"
        return
    yield "decompiled by fickling:"
    yield from _shown(text)


def _shown(text: str) -> Iterator[str]:
    """The first lines of a text from a file."""
    lines = text.splitlines()
    for line in lines[:MAX_LINES]:
        yield f"  {escape(line, LONGEST)}"
    if len(lines) > MAX_LINES:
        yield f"  (and {len(lines) - MAX_LINES:,} lines more)"
