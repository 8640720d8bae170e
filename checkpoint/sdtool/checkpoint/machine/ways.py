"""Each other way in which a pickle is read is followed, and all of them together are bounded.

See `frame_cuts` for what these ways are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from sdtool.checkpoint.errors import InputError, LimitExceeded
from sdtool.checkpoint.machine.frame_cuts import FRAME_NBYTES, other_ways
from sdtool.checkpoint.machine.state import Bounds, Machine
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Source
from sdtool.checkpoint.trace import Trace
from sdtool.checkpoint.values import Value

Run: TypeAlias = Callable[[Machine, int], tuple[Value, InputError | None]]
"""Follows a pickle from a place in its source: see `loop.run`."""


def follow_ways(
    m: Machine,
    offset: int,
    error: InputError | None,
    run: Run,
    *,
    since: int = 0,
    before: Machine | None = None,
) -> InputError | None:
    """Follow each other way in which the pickle that `m` has read from `offset` is read; return the
    error that counts.

    `before` is in the state in which `m` began, unless that is the beginning of a pickle; `since`
    is where a run that is another way leaves that of its parent. What they find is taken up behind
    what was found before the opcode in question.
    """
    trace, left = m.trace, m.ways
    for crossing, source in other_ways(m.source, m.crossings):
        if crossing.at < since:
            continue
        left[0] -= 1
        bounds = (
            min(left[1], m.bounds[0] - trace.opcodes), min(left[2], m.bounds[1] - trace.objects)
        )  # fmt: skip
        if left[0] < 0 or min(bounds) <= 0:
            return LimitExceeded("too many ways to read opcodes that cross the end of a frame")
        other = _begun(m, source, bounds, before)
        _, why = run(other, offset)
        found, leaves = other.trace, crossing.at - FRAME_NBYTES
        left[1] -= found.opcodes
        left[2] -= found.objects
        found.events[:] = [event for event in found.events if event.offset >= leaves]
        if other.crossings:
            why = follow_ways(other, offset, why, run, since=leaves, before=before)
        found.anomalies[:] = [one for one in found.anomalies if one not in trace.anomalies]
        if found.events or why is None:  # else it breaks off there as well: a damaged file
            found.goes_on = found.goes_on or why is None
            if RuleId.OPCODE_CROSSES_FRAME not in trace.noted:
                m.note(RuleId.OPCODE_CROSSES_FRAME, "an opcode ends behind its frame", crossing.at)
            m.take_over(found)
        else:
            trace.opcodes += found.opcodes
            trace.objects += found.objects
        if isinstance(why, LimitExceeded):
            return why
    return error


def _begun(m: Machine, source: Source, bounds: Bounds, before: Machine | None) -> Machine:
    """Return a machine for another way: the same as `m` when it began, over other bytes."""
    if before is not None:
        return before.beside(Trace(), m.profile, bounds, source)
    other = Machine(source, source.nbytes, Trace(), m.profile, m.limits, bounds)
    other.ways = m.ways
    return other
