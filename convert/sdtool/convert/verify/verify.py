"""Is this output what its input holds, and is this file whole?"""

from __future__ import annotations

import importlib
import importlib.util
import os
import struct
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from sdtool.checkpoint import checkpoint_of, open_checkpoint, readings
from sdtool.checkpoint.dtypes import DType
from sdtool.checkpoint.errors import InputError, LimitExceeded, Truncated, Unreadable
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.identify.ema import PREFIX, ema_name
from sdtool.checkpoint.reading import Checkpoint, TensorEntry
from sdtool.checkpoint.source import File, LocalFile, opened
from sdtool.convert.copy.buffered import READERS
from sdtool.convert.elements.chunks import Buffer
from sdtool.convert.elements.nonfinite import nonfinite
from sdtool.convert.elements.rescale import PRODUCTS, casting
from sdtool.convert.elements.row_major import row_major_chunks
from sdtool.convert.elements.scales import Scale
from sdtool.convert.plan.casts import CASTABLE
from sdtool.convert.plan.dequantize import Origins, origins_of
from sdtool.convert.plan.expansion import check_reading
from sdtool.convert.plan.metadata import QUANTIZED, told_left_out
from sdtool.convert.plan.selection import Selection, joined_shape
from sdtool.convert.verify.cut import how_far
from sdtool.convert.write.hashes import Hashes, hash_file

SHOWN = 8
"""Differences that are described; more are only counted."""
_AHEAD = 64
"""Comparisons that wait or run."""

Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Difference:
    """A tensor, or a file, that is not what it should be."""

    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check found. `differences` are the first; `failures` counts all."""

    tensors: int
    """Tensors that were compared or read."""
    nbytes: int
    differences: tuple[Difference, ...] = ()
    failures: int = 0
    missing: tuple[str, ...] = ()
    """Weights of the input that the output lacks, but for EMA and training losses."""
    unproven: tuple[str, ...] = ()
    """Tensors that were not compared: they are of another file than the input."""
    ema: int = 0
    """Tensors that hold the EMA values of the input."""
    cast: int = 0
    """Tensors in another type, proven by casting once more."""
    dequantized: int = 0
    """Tensors that are quantized in the input, proven by multiplying with their scales again."""
    nan: Mapping[str, int] = field(default_factory=dict[str, int])
    inf: Mapping[str, int] = field(default_factory=dict[str, int])
    """NaN and infinite elements, by tensor."""
    hashes: Hashes | None = None
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether all is proven. NaN and Inf are facts, not failures."""
        return not (self.is_wrong or self.unproven)

    @property
    def is_wrong(self) -> bool:
        """Whether something is not what it should be."""
        return self.failures > 0 or bool(self.missing)


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
        pairs = _pairs(there, _opened(source, stack), selection)
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
        return _verified(file, sha256, autov2, progress)


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
    return what if isinstance(what, Checkpoint) else stack.enter_context(open_checkpoint(what))


def _pairs(out: Checkpoint, source: Checkpoint, selection: Selection | None) -> _Pairs:
    here = {entry.name for entry in out.tensors}
    if selection is not None:
        chosen = {
            s.name: (_Candidate(s.entry, s.dtype, scale=s.scale, joined=s.joined),)
            for s in selection.entries
        }
        gone = tuple(
            Difference(name, "is not in the output") for name in chosen if name not in here
        )
        return _Pairs(chosen, (), gone)
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
        found[name] = tuple(
            candidate
            for candidate in (
                _of_same_name(by_name[name], origins) if name in by_name else None,
                None if ema is None else _Candidate(ema, is_ema=True),
            )
            if candidate is not None
        )
        used.add(name)
    used |= told_left_out(out.metadata) | origins.gone
    false = [
        Difference(key, "describes quantized weights, and they were dequantized")
        for key in QUANTIZED
        if origins.scales and key in out.metadata
    ]
    return _Pairs(
        found,
        tuple(
            name for name in by_name if name not in used and not name.startswith((PREFIX, "loss."))
        ),
        tuple(false),
    )


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
    if candidate.scale is not None and entry.dtype.name not in PRODUCTS:
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


def _verified(
    file: File, sha256: str | None, autov2: str | None, progress: Progress | None
) -> Verification:
    wrong: list[Difference] = []
    notes: list[str] = []
    hashes = None
    if sha256 is not None or autov2 is not None:
        hashes = hash_file(file, progress)
        for label, expected, found in (
            ("SHA-256", sha256, hashes.sha256),
            ("AutoV2", autov2, hashes.autov2),
        ):
            if expected is not None and expected.strip().lower().removeprefix("0x") != found:
                wrong.append(Difference(label, f"is {found}, should be {expected}"))
    several = readings(file, deep=True)
    for reading in several:
        if reading.error is not None:
            wrong.append(Difference(reading.slug, reading.error.what))
            if isinstance(reading.error, Truncated):
                wrong.extend(Difference(*where) for where in how_far(file, reading))
        wrong.extend(
            Difference(anomaly.member or reading.slug, anomaly.detail)
            for anomaly in reading.anomalies
        )
        is_plain = reading.format is Format.SAFETENSORS and reading.error is None
        if is_plain and isinstance(file, LocalFile):
            wrong.extend(_second_reader(file))
        if any(s.crc32 is None for s in reading.storages.values()):
            notes.append("the file carries no checksums: damaged values would go unseen")
    nan: dict[str, int] = {}
    inf: dict[str, int] = {}
    tensors: tuple[TensorEntry, ...] = ()
    if not wrong:
        try:
            checkpoint = checkpoint_of(several)
            tensors = tuple(e for e in checkpoint.tensors if e.unsupported is None)
            check_reading(tensors, file.name)
            _count(tensors, nan, inf, progress)
        except (Unreadable, LimitExceeded):
            raise  # not wrong: not known
        except InputError as e:
            wrong.append(Difference(os.path.basename(file.name), e.what))
    return Verification(
        tensors=len(tensors),
        nbytes=file.nbytes,
        differences=tuple(wrong[:SHOWN]),
        failures=len(wrong),
        nan=nan,
        inf=inf,
        hashes=hashes,
        notes=tuple(notes),
    )


def _count(
    tensors: Iterable[TensorEntry],
    nan: dict[str, int],
    inf: dict[str, int],
    progress: Progress | None,
) -> None:
    for entry in tensors:
        if not (entry.dtype.is_floating or entry.dtype.is_complex):
            continue
        for chunk in row_major_chunks(entry):
            nans, infs = nonfinite(chunk, entry.dtype)
            if nans:
                nan[entry.name] = nan.get(entry.name, 0) + nans
            if infs:
                inf[entry.name] = inf.get(entry.name, 0) + infs
            if progress is not None:
                progress(len(chunk))


def _second_reader(file: LocalFile) -> Iterator[Difference]:
    """What the safetensors library itself says of the header.

    It wants a library for values to begin with, although none is asked for here: without one it
    cannot be asked.
    """
    frameworks = [name for name in ("numpy", "torch") if importlib.util.find_spec(name)]
    if not frameworks:
        return
    library: Any = importlib.import_module("safetensors")
    try:
        with library.safe_open(os.fspath(file.path), frameworks[0]):
            pass
    except library.SafetensorError as e:
        yield Difference("safetensors library", str(e))
