"""Pickles that come again, byte for byte: each is run once.

The checkpoints of one architecture have the same `data.pkl` where nothing but weights is in them:
names, shapes and storages in one order. What a pickle does follows from its bytes and from nothing
else, so that the Trace of the first is that of all.

One is kept when it is met for the second time; of those that come once the hash is. What has an
error is not kept, and neither is what was made to cost much.
"""

from __future__ import annotations

from sdtool.checkpoint.limits import DEFAULT_LIMITS, Limits
from sdtool.checkpoint.machine.loop import run_pickle
from sdtool.checkpoint.machine.state import Bounds
from sdtool.checkpoint.reading import LoaderProfile, Repeat, Stream
from sdtool.checkpoint.source import Memory, Source

_MOST_NBYTES = 1 << 20
_OBJECTS = 50_000
"""Of all pickles that are kept together: some 5 MB."""
_MET = 10_000

met: set[int] = set()
"""Hashes of pickles that were met once. Nobody who writes a file can foresee one."""
kept: dict[tuple[bytes, LoaderProfile], Repeat] = {}


def run_or_repeat(
    content: Source, *, profile: LoaderProfile, limits: Limits, bounds: Bounds, member: str | None
) -> Stream:
    """Give what `run_pickle` gives of the pickle at the beginning of `content`.

    Raises:
        Unreadable: the operating system refused a read.
    """
    if content.nbytes > _MOST_NBYTES or limits is not DEFAULT_LIMITS:
        return run_pickle(content, profile=profile, limits=limits, bounds=bounds, member=member)
    data = content.read_at(0, content.nbytes)
    key = data, profile
    repeat = kept.get(key)
    if repeat is not None:
        trace = repeat.trace
        if trace.opcodes < bounds[0] and trace.objects < bounds[1]:
            return Stream(member, 0, profile, content, trace, repeat.value, None, repeat)
    hashed = hash(key)
    if hashed not in met:
        if len(met) >= _MET:
            met.clear()
        met.add(hashed)
        del data, key  # nobody holds the bytes while they are run
        return run_pickle(content, profile=profile, limits=limits, bounds=bounds, member=member)
    # run from the same bytes: the file may have changed since they were read
    found = run_pickle(
        Memory(data, content.name), profile=profile, limits=limits, bounds=bounds, member=member
    )
    trace, value, error = found.trace, found.value, found.error
    if repeat is None and error is None and trace.objects <= _OBJECTS:
        # a copy of them: another thread may keep one meanwhile
        if trace.objects + sum(other.trace.objects for other in list(kept.values())) > _OBJECTS:
            kept.clear()
        repeat = kept[key] = Repeat(trace, value)
        return Stream(member, 0, profile, content, trace, value, None, repeat)
    return Stream(member, 0, profile, content, trace, value, error)
