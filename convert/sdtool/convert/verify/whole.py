"""Is this file whole: container, bounds, CRC-32, header rules, NaN and Inf."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterable, Iterator
from typing import Any

from sdtool.checkpoint import checkpoint_of, readings
from sdtool.checkpoint.errors import InputError, LimitExceeded, Truncated, Unreadable
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.reading import Reading
from sdtool.checkpoint.source import File, LocalFile
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.convert.elements.nonfinite import nonfinite
from sdtool.convert.elements.row_major import row_major_chunks
from sdtool.convert.plan.expansion import check_reading
from sdtool.convert.verify.cut import how_far
from sdtool.convert.verify.found import SHOWN, Difference, Progress, Verification
from sdtool.convert.write.hashes import hash_file


def check_whole(
    file: File, sha256: str | None, autov2: str | None, progress: Progress | None
) -> Verification:
    """See `verify_file`, which opens the file."""
    wrong: list[Difference] = []
    hashes = None
    if sha256 is not None or autov2 is not None:
        hashes = hash_file(file, progress)
        for label, expected, found in (
            ("SHA-256", sha256, hashes.sha256),
            ("AutoV2", autov2, hashes.autov2),
        ):
            if expected is not None and expected.strip().lower().removeprefix("0x") != found:
                wrong.append(Difference(label, f"is {found}, should be {expected}"))
    wrong_hashes = len(wrong)
    several = readings(file, deep=True)
    wrong.extend(difference for one in several for difference in _of_reading(file, one))
    notes = ("the file carries no checksums: damaged values would go unseen",)
    has_notes = any(map(_lacks_checksums, several))
    nan: dict[str, int] = {}
    inf: dict[str, int] = {}
    tensors: tuple[TensorEntry, ...] = ()
    if len(wrong) == wrong_hashes:
        try:
            checkpoint = checkpoint_of(several)
            del several  # of many small tensors they take more than the values
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
        wrong_hashes=wrong_hashes,
        notes=notes if has_notes else (),
    )


def _of_reading(file: File, reading: Reading) -> Iterator[Difference]:
    """What is wrong with the container, whatever the values are."""
    if reading.error is not None:
        yield Difference(reading.slug, reading.error.what)
        if isinstance(reading.error, Truncated):
            yield from (Difference(*where) for where in how_far(file, reading))
    for anomaly in reading.anomalies:
        yield Difference(anomaly.member or reading.slug, anomaly.detail)
    is_plain = reading.format is Format.SAFETENSORS and reading.error is None
    if is_plain and isinstance(file, LocalFile):
        yield from _second_reader(file)


def _lacks_checksums(reading: Reading) -> bool:
    """Whether no storage of a reading has a checksum: either all have one, or none."""
    first = next(iter(reading.storages.values()), None)
    return first is not None and first.crc32 is None


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
        with library.safe_open(file.name, frameworks[0]):
            pass
    except library.SafetensorError as e:
        yield Difference("safetensors library", str(e))
