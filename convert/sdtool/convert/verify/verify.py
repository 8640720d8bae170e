"""Is this output what its input holds, and is this file whole?"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from itertools import chain, islice

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.dtypes import DType
from sdtool.checkpoint.identify.ema import PREFIX, ema_name
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.source import File, opened
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.convert.copy.buffered import READERS
from sdtool.convert.elements.chunks import Buffer
from sdtool.convert.elements.rescale import DEQUANTIZED_DTYPES, casting
from sdtool.convert.elements.row_major import row_major_chunks
from sdtool.convert.elements.scales import Scale
from sdtool.convert.plan.casts import CASTABLE
from sdtool.convert.plan.dequantize import Origins, origins_of
from sdtool.convert.plan.metadata import QUANTIZED, stated_left_out
from sdtool.convert.plan.selection import Selection, joined_shape
from sdtool.convert.plan.unpacking import unpacked
from sdtool.convert.verify.found import SHOWN, Difference, Progress, Verification
from sdtool.convert.verify.whole import check_whole

_AHEAD = 64
"""Comparisons that wait or run."""


def verify_against(
    out: str | os.PathLike[str] | Checkpoint,
    source: str | os.PathLike[str] | Checkpoint,
    *,
    selection: Selection | None = None,
    foreign: Collection[str] = (),
    progress: Progress | None = None,
) -> Verification:
    """Compare every tensor of `out` with the one of `source` that it stands for, byte by byte.

    `selection` says which that is. Without it a name means the tensor of that name or its EMA,
    whichever has the values (an EMA-only prune); `emb_params` is the embedding of any token. Where
    the types differ the input is cast again. `foreign` names tensors of `out` that come from a file
    that is not at hand: they are not compared, and so not proven. `progress` is called with
    bytes of the output.

    Raises:
        InputError: one of the two cannot be read.
    """
    with ExitStack() as stack:
        there = _opened(out, stack)
        ours = [entry for entry in there.tensors if entry.name not in foreign]
        whole = _opened(source, stack)
        pairs = _likely(there, whole) if selection is None else _chosen(there, selection)
        results = list(_compared(ours, pairs, progress))
    wrong = [d for found in results if (d := found.difference) is not None]
    wrong.extend(pairs.absent)
    return Verification(
        tensors=len(ours),
        nbytes=sum(entry.nbytes for entry in ours),
        differences=tuple(wrong[:SHOWN]),
        failures=len(wrong),
        missing=pairs.missing,
        unproven=tuple(entry.name for entry in there.tensors if entry.name in foreign),
        ema=sum(found.is_ema for found in results if found.difference is None),
        cast=sum(found.is_cast for found in results if found.difference is None),
        dequantized=sum(found.is_product for found in results if found.difference is None),
    )


def verify_file(
    path: str | os.PathLike[str] | File,
    *,
    sha256: str | None = None,
    autov2: str | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Check that a file is whole: container, bounds, CRC-32, header rules; counts NaN and Inf.

    A hash that it should have is compared first. What is wrong is returned, not raised.

    Raises:
        Unreadable: the operating system refused.
    """
    with opened(path) as file:
        return check_whole(file, sha256, autov2, progress)


@dataclass(frozen=True, slots=True)
class _Candidate:
    entry: TensorEntry
    dtype: DType | None = None
    """The type it was to be written in; None where any cast of a float will do."""
    is_ema: bool = False
    scale: Scale | None = None
    """What its codes have to be multiplied with."""
    is_exact: bool = False
    """Whether it belongs to a quantized weight that is still one, so that no cast will do."""
    joined: tuple[TensorEntry, ...] = ()
    """What follows it along the first dimension, where one tensor is made of several."""


@dataclass(frozen=True, slots=True)
class _Pairs:
    candidates: Mapping[str, tuple[_Candidate, ...]]
    missing: tuple[str, ...]
    absent: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    difference: Difference | None = None
    is_ema: bool = False
    is_cast: bool = False
    is_product: bool = False


def _opened(what: str | os.PathLike[str] | Checkpoint, stack: ExitStack) -> Checkpoint:
    if not isinstance(what, Checkpoint):
        what = stack.enter_context(open_checkpoint(what))
    return unpacked(what)


def _chosen(out: Checkpoint, selection: Selection) -> _Pairs:
    """What `out` was made of, which is known."""
    here = {entry.name for entry in out.tensors}
    chosen = {
        s.name: (_Candidate(s.entry, s.dtype, scale=s.scale, joined=s.joined),)
        for s in selection.entries
    }
    gone = tuple(Difference(name, "is not in the output") for name in chosen if name not in here)
    return _Pairs(chosen, (), gone)


def _likely(out: Checkpoint, source: Checkpoint) -> _Pairs:
    """What each tensor of `out` may have been made of, by its name."""
    here = {entry.name for entry in out.tensors}
    by_name = {entry.name: entry for entry in source.tensors}
    origins = origins_of([source], here)
    found: dict[str, tuple[_Candidate, ...]] = {}
    used: set[str] = set()
    for name in here:
        if source.kind == "embedding" and name == "emb_params" and name not in by_name:
            found[name] = tuple(map(_Candidate, source.tensors))
            used.update(by_name)  # a file for each token: the others hold the others
            continue
        ema = by_name.get(ema_name(name))
        candidates = [_of_same_name(by_name[name], origins)] if name in by_name else []
        if ema is not None:
            candidates.append(_Candidate(ema, is_ema=True))
        found[name] = tuple(candidates)
        used.add(name)
    used |= stated_left_out(out.metadata) | origins.gone
    missing = tuple(
        name for name in by_name if name not in used and not name.startswith((PREFIX, "loss."))
    )
    false = tuple(
        Difference(key, "describes quantized weights, and they were dequantized")
        for key in QUANTIZED
        if origins.scales and key in out.metadata
    )
    return _Pairs(found, missing, false)


def _of_same_name(entry: TensorEntry, origins: Origins) -> _Candidate:
    scale = origins.scales.get(entry.name)
    return _Candidate(entry, scale=scale, is_exact=entry.name in origins.exact)


def _compared(
    entries: Iterable[TensorEntry], pairs: _Pairs, progress: Progress | None
) -> Iterator[_Found]:
    """Compare on a few threads, reported one by one as they are done, in the order of the file."""
    waiting = deque[tuple[TensorEntry, Future[_Found]]]()
    entries = tuple(entries)
    with ThreadPoolExecutor(READERS) as pool:
        try:
            rest = iter(entries)
            while True:
                for entry in islice(rest, _AHEAD - len(waiting)):
                    candidates = pairs.candidates.get(entry.name, ())
                    waiting.append((entry, pool.submit(_compare, entry, candidates)))
                if not waiting:
                    return
                entry, future = waiting.popleft()
                while not future.done():
                    wait([future], 0.1, FIRST_COMPLETED)  # Windows: Ctrl-C does not end a lock
                if progress is not None:
                    progress(entry.nbytes)
                yield future.result()
        except BaseException:
            for _, future in waiting:
                future.cancel()
            raise


def _compare(entry: TensorEntry, candidates: tuple[_Candidate, ...]) -> _Found:
    """Find the candidate whose values the tensor holds; else say how the first differs."""
    first: _Found | None = None
    for candidate in candidates:
        what = _difference(entry, candidate)
        if what is None:
            is_product = candidate.scale is not None
            is_cast = not is_product and entry.dtype is not candidate.entry.dtype
            return _Found(is_ema=candidate.is_ema, is_cast=is_cast, is_product=is_product)
        first = first or _Found(Difference(entry.name, what))
    return first or _Found(Difference(entry.name, "is not in the input"))


def _difference(entry: TensorEntry, candidate: _Candidate) -> str | None:
    origin = candidate.entry
    shape = joined_shape(origin, candidate.joined)
    if entry.shape != shape:
        return f"has the shape {list(entry.shape)}, in the input {list(shape)}"
    if candidate.dtype is not None and entry.dtype is not candidate.dtype:
        return f"is {entry.dtype}, should be {candidate.dtype}"
    if candidate.scale is not None and entry.dtype.name not in DEQUANTIZED_DTYPES:
        return f"is {entry.dtype}: a quantized weight whose scale is missing"
    if candidate.scale is None and entry.dtype is not origin.dtype:
        if candidate.is_exact:
            return f"is {entry.dtype}, in the input {origin.dtype}, a part of a quantized weight"
        if not {entry.dtype.name, origin.dtype.name} <= CASTABLE:
            return f"is {entry.dtype}, in the input {origin.dtype}"
    origins = chain.from_iterable(
        row_major_chunks(part, casting(part, entry.dtype, candidate.scale))
        for part in (origin, *candidate.joined)
    )
    position = 0
    for ours, theirs in _aligned(row_major_chunks(entry), origins):
        if ours != theirs:
            at = next(i for i, (x, y) in enumerate(zip(ours, theirs, strict=True)) if x != y)
            item = entry.dtype.itemsize
            cut = slice(at // item * item, at // item * item + item)
            return (
                f"element {(position + at) // item:,} of {entry.numel:,} is"
                f" {_shown(ours[cut], entry.dtype)}, should be {_shown(theirs[cut], entry.dtype)}"
            )
        position += len(ours)
    if position != entry.nbytes:
        return f"could be compared for {position:,} of its {entry.nbytes:,} bytes only"
    return None


def _aligned(a: Iterator[Buffer], b: Iterator[Buffer]) -> Iterator[tuple[bytes, bytes]]:
    """Yield equally long pieces of two streams of bytes of one length."""
    left, right = memoryview(b""), memoryview(b"")
    while True:
        if not left and not right:
            x, y = next(a, b""), next(b, b"")
            if isinstance(x, bytes) and isinstance(y, bytes) and len(x) == len(y) > 0:
                yield x, y  # as most are: no copy
                continue
            left, right = memoryview(x), memoryview(y)
        left = left or memoryview(next(a, b""))
        right = right or memoryview(next(b, b""))
        count = min(len(left), len(right))
        if not count:
            return
        # bytes compare at once where views compare one item after the other
        yield bytes(left[:count]), bytes(right[:count])
        left, right = left[count:], right[count:]


def _shown(raw: bytes, dtype: DType) -> str:
    codes = {"float64": "d", "float32": "f", "float16": "e", "int64": "q", "int32": "i"}
    if dtype.name in codes:
        return str(struct.unpack("<" + codes[dtype.name], raw)[0])
    return f"0x{raw[::-1].hex()}"
