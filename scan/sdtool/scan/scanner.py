"""From a file to its report: every reading, every pickle in it, and what they amount to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, replace
from functools import lru_cache

from sdtool.checkpoint import readings
from sdtool.checkpoint.containers.opening import Budget
from sdtool.checkpoint.errors import NotACheckpoint
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.limits import DEFAULT_LIMITS, Limits
from sdtool.checkpoint.numpy_values import as_bytes
from sdtool.checkpoint.reading import Reading, Stream
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import File, Memory, Slice, Source, opened
from sdtool.checkpoint.trace import Anomaly
from sdtool.checkpoint.values import Extent, Global, Value
from sdtool.checkpoint.wording import escape
from sdtool.scan.collecting import Collector
from sdtool.scan.findings import LONGEST, Finding, Name, Report, Severity, Verdict, verdict_of
from sdtool.scan.judging import judge_stream
from sdtool.scan.settings import allowed_globals

_NO_NAMES: Mapping[str, str] = {}


def scan_file(
    path: str | os.PathLike[str] | File,
    *,
    allow: Mapping[str, str] = _NO_NAMES,
    deep: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    progress: Callable[[int], object] | None = None,
    begun: float | None = None,
) -> Report:
    """Scan one file, by its path or open; nothing in it is imported, called or unpickled.

    `allow` maps names to the reason why they may load. `progress` is called with the bytes of each
    read. `begun` is the `time.perf_counter()` of the beginning, where that was before.

    Raises:
        UsageError: a name of `allow` has no module.
        Unreadable: the operating system refused to open or read the file.
    """
    begun = begun or time.perf_counter()
    with opened(path, progress) as source:
        found = readings(source, limits=limits, deep=deep)
        return judge(found, path=source.name, allow=allow, deep=deep, limits=limits, begun=begun)


@dataclass(slots=True)
class _State:
    """What the judging of one file has come to."""

    found: Collector
    limits: Limits
    deep: bool
    budget: Budget
    """What all nested pickles of the file may cost together."""
    gaps: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, str | None]])
    """Why something was not read to its end, and what to do about it."""
    nested: set[tuple[object, ...]] = field(default_factory=set[tuple[object, ...]])
    """The nested pickles that were read already: the same bytes run the same way again."""


def judge(
    readings: Iterable[Reading],
    *,
    path: str | os.PathLike[str],
    allow: Mapping[str, str] = _NO_NAMES,
    deep: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    begun: float | None = None,
) -> Report:
    """Judge the readings of one file; its source must still be open.

    `begun` is the `time.perf_counter()` of the beginning, where that was before.

    Raises:
        UsageError: a name of `allow` has no module.
        Unreadable: the operating system refused a read of a nested pickle.
    """
    begun = begun or time.perf_counter()
    all_readings = tuple(readings)
    source = all_readings[0].source
    budget = Budget.for_file(source.nbytes, limits)
    state = _State(Collector(allowed_globals(allow)), limits, deep, budget)
    for reading in all_readings:
        _judge_reading(reading, state, "", 0)
    if state.found.unjudged is not None:
        _gap(state, state.found.unjudged, None)
    findings = tuple(sorted(state.found.findings(), key=_rank))
    foreign = [r.error for r in all_readings if isinstance(r.error, NotACheckpoint)]
    verdict = verdict_of(findings, read_to_the_end=not state.gaps)
    error, hint = state.gaps[0] if state.gaps else (None, None)
    if foreign and len(foreign) == len(all_readings) and verdict is Verdict.CLEAN:
        verdict, error = Verdict.NOT_A_CHECKPOINT, escape(foreign[0].what, LONGEST)
        hint = foreign[0].hint
    names = sorted(state.found.known.items(), key=lambda item: (item[0].module, item[0].name))
    return Report(
        path=os.fspath(path),
        format=all_readings[0].slug,
        verdict=verdict,
        findings=findings,
        globals=tuple(
            _named(name, "unknown" if known.kind == "model" else known.kind, known.called)
            for name, known in names
        ),
        coverage=_coverage(state, findings, deep=deep),
        nbytes=source.nbytes,
        # asked so: isinstance() of a protocol costs as much as a tenth of a small scan
        nbytes_read=getattr(source, "nbytes_read", 0),
        requests=getattr(source, "requests", 0),
        seconds=time.perf_counter() - begun,
        error=error,
        hint=hint and escape(hint, LONGEST),
    )


@lru_cache(256)  # most files have the same few
def _named(name: Global, kind: str, called: bool) -> Name:
    return Name(escape(str(name), LONGEST), kind, called)


def _coverage(state: _State, findings: Iterable[Finding], *, deep: bool) -> str:
    """`partial` as well where records of a file on a server were not fetched: see that rule."""
    if state.gaps or any(finding.rule is RuleId.RECORDS_NOT_FETCHED for finding in findings):
        return "partial"
    return "deep" if deep else "full"


_ORDER = (Severity.CRITICAL, Severity.HIGH, Severity.LOW, Severity.INFO)


def _rank(finding: Finding) -> int:
    return _ORDER.index(finding.severity)


def _judge_reading(reading: Reading, state: _State, prefix: str, depth: int) -> None:
    for anomaly in (*reading.anomalies, *_of_values(reading)):
        state.found.add(
            anomaly,
            offset=anomaly.offset,
            member=_member(prefix, anomaly.member),
        )
    for stream in reading.streams:
        if prefix:
            stream = replace(stream, member=_member(prefix, stream.member))
        for argument in judge_stream(stream, state.found, state.limits):
            _judge_nested(argument, stream, state, depth)
        if stream.error is not None:
            _gap(state, stream.error.what, stream.member, stream.error.hint)
    if reading.error is not None and not isinstance(reading.error, NotACheckpoint):
        _gap(state, reading.error.what, prefix or None, reading.error.hint)
    for reason in reading.unread:
        _gap(state, f"not looked into: {reason}", prefix or None)
    for inner in reading.inner:
        if not isinstance(inner.error, NotACheckpoint):
            name = inner.source.name.removeprefix(reading.source.name).lstrip("!")
            _judge_reading(inner, state, _member(prefix, name) or "", depth)


def _of_values(reading: Reading) -> Iterable[Anomaly]:
    """What stands out among the values beside the tensors, where a format has such."""
    if not reading.leaves:
        return ()
    from sdtool.scan.templates import template_anomalies  # few files have any

    return template_anomalies(reading.leaves)


def _judge_nested(argument: Value, stream: Stream, state: _State, depth: int) -> None:
    """Follow bytes that a loader is handed as a pickle."""
    where = _member(stream.member or "", "nested pickle") or ""
    content = _content(argument, stream, where)
    if content is None:
        _gap(state, "a nested pickle that cannot be located", stream.member)
        return
    state.found.add(Anomaly(RuleId.NESTED_PICKLE), offset=stream.offset, member=stream.member)
    if depth >= state.limits.nesting:
        _gap(state, f"pickles more than {state.limits.nesting} deep", stream.member)
        return
    key = _identity(argument, stream)
    if key in state.nested:
        return
    state.nested.add(key)
    # A loader is handed these bytes: what no reader can take to its end is a gap, and never
    # something that is no checkpoint.
    for reading in readings(
        content, limits=state.limits, deep=state.deep, announced=True, budget=state.budget
    ):
        _judge_reading(reading, state, where, depth + 1)
        if isinstance(reading.error, NotACheckpoint):
            _gap(state, reading.error.what, where, reading.error.hint)


def _identity(argument: Value, stream: Stream) -> tuple[object, ...]:
    """What equal nested bytes have in common."""
    if type(argument) is Extent:
        return stream.source.name, argument.offset, argument.nbytes
    return (as_bytes(argument),)


def _content(argument: Value, stream: Stream, name: str) -> Source | None:
    if type(argument) is Extent:
        if argument.is_text:
            return None
        return Slice(stream.source, argument.offset, argument.nbytes, name)
    data = as_bytes(argument)
    return None if data is None else Memory(data, name)


def _member(prefix: str, member: str | None) -> str | None:
    if not prefix:
        return None if member is None else escape(member, LONGEST)
    return prefix if not member else f"{prefix}!{escape(member, LONGEST)}"


def _gap(state: _State, reason: str, member: str | None, hint: str | None = None) -> None:
    text = escape(reason, LONGEST)
    state.gaps.append((f"{text}: {escape(member, LONGEST)}" if member else text, hint))
