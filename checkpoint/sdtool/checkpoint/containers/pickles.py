"""Pickles that are a file of their own: torch's legacy files, and pickles behind each other.

    80 04 95 ...        PROTO: a pickle
    63 6f 73 0a ...     GLOBAL 'os': without PROTO, a pickle if an unpickler would look a name up

Nothing has to stand at the beginning: what an unpickler would follow is a pickle, so the machine is
what recognises one.

Source: Lib/pickle.py (`_Unpickler.load`: PROTO is optional at every protocol).
"""

from __future__ import annotations

from collections.abc import Iterator

from sdtool.checkpoint.containers.container import Container
from sdtool.checkpoint.containers.opening import Opening
from sdtool.checkpoint.containers.pickle_rows import looks_like_pickle, reached_stop, too_many
from sdtool.checkpoint.containers.torch_legacy import is_torch_legacy, read_torch_legacy
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.reading import Reading, Stream
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.trace import Anomaly


def _begins(opening: Opening) -> bool:
    return opening.first is not None


def _read(opening: Opening) -> Iterator[Reading]:
    first = opening.first
    assert first is not None, "it was asked for before"
    if is_torch_legacy(first):
        yield read_torch_legacy(opening, first)
    else:
        yield from _read_row(opening, first)


def _read_row(opening: Opening, first: Stream) -> Iterator[Reading]:
    """Read pickles in a row, of which `first` is the first; nothing where nothing is a pickle.

    A loader may stop at the first STOP or go on, so each of them counts. Bytes that a loader is
    handed as a pickle are one, whatever they look like.
    """
    source = opening.source
    streams = [first, *_following(opening, first)]
    is_whole = first.error is None and first.trace.nbytes == source.nbytes > 1
    if not (is_whole or opening.announced or any(map(looks_like_pickle, streams))):
        return
    anomalies: tuple[Anomaly, ...] = ()
    last = streams[-1]
    end = last.offset + last.trace.nbytes
    if last.error is None and end < source.nbytes:
        detail = f"{source.nbytes - end:,} bytes after the pickle"
        anomalies = (Anomaly(RuleId.TRAILING_DATA, detail, end),)
    yield Reading(Format.PICKLE, source, tuple(streams), anomalies=anomalies)


def _following(opening: Opening, first: Stream) -> list[Stream]:
    """The pickles behind the first one, up to the last that matters.

    `N.` is a pickle of None that nobody minds; the next one may be another.
    """
    found: list[Stream] = []
    matter = 0
    last = first
    for _ in range(opening.limits.pickles):
        offset = last.offset + last.trace.nbytes
        if not reached_stop(last) or offset >= opening.source.nbytes:
            break
        last = opening.pickle(opening.source, offset)
        found.append(last)
        if looks_like_pickle(last):
            matter = len(found)
    else:
        matter = len(found)
        found[-1] = too_many(opening, found[-1])
    return found[:matter]


PICKLES = Container((Format.TORCH_LEGACY, Format.PICKLE), _begins, _read)
