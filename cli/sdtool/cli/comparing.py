"""`sdtool info --compare`: how far the weights of two files are apart, part by part."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from sdtool.batch import Seen, as_error, looked_at
from sdtool.checkpoint import SdtoolError, TensorEntry, UsageError, escape, every_tensor, plain_name
from sdtool.checkpoint.identify import quantization_of, raw_and_ema
from sdtool.cli.arguments import Found, file_size
from sdtool.cli.console import Console
from sdtool.cli.exit_codes import DONE, TROUBLE
from sdtool.cli.results import Results, about
from sdtool.convert import Distance, check_reading, distance, relative_distance, stored_metadata

_SHOWN = 5
"""Tensors named, the farthest first."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far the weights of two files are apart, or the EMA and the raw weights of one."""

    paths: tuple[str, ...]
    parts: Mapping[str, Sequence[Distance]]
    """By component: each tensor that both have."""
    only_in_first: Sequence[str]
    only_in_second: Sequence[str]
    shape_differs: Sequence[str]
    quantized: Sequence[str]
    """Codes and scales that differ: their distance says nothing of the weights."""

    @property
    def different(self) -> list[Distance]:
        """What is not the same, the farthest first."""
        found = (one for part in self.parts.values() for one in part if not one.equal)
        return sorted(found, key=lambda one: -one.relative)

    def as_json(self) -> dict[str, object]:
        """What JSON has of it."""
        return {
            "components": [_component(label, group) for label, group in self.parts.items()],
            "different": [_tensor(one) for one in self.different],
            "only_in_first": list(self.only_in_first),
            "only_in_second": list(self.only_in_second),
            "shape_differs": list(self.shape_differs),
            "not_compared": list(self.quantized),
        }

    def lines(self) -> Iterator[str]:
        """What a person sees of it: a line for each component, then the tensors that stand out."""
        yield f"{'part':<24} {'tensors':>8} {'different':>10} {'largest':>10} {'relative':>10}"
        for label, group in self.parts.items():
            yield (
                f"{label:<24.24} {len(group):>8,} {sum(not one.equal for one in group):>10,}"
                f" {max(one.largest for one in group):>10.3g} {relative_distance(group):>10.3g}"
            )
        far = self.different
        if far:
            yield "\nfarthest, by relative difference"
        yield from (f"  {one.relative:<10.3g} {escape(one.name)}" for one in far[:_SHOWN])
        first, second = os.path.basename(self.paths[0]), os.path.basename(self.paths[-1])
        unmatched = (
            (f"only in {first}", self.only_in_first),
            (f"only in {second}", self.only_in_second),
            ("of another shape", self.shape_differs),
            ("quantized and not compared", self.quantized),
        )
        for what, names in unmatched:
            if names:
                yield f"{len(names):,} {escape(what)}: {escape(', '.join(names[:3]))}"
        if not far and not any(names for _, names in unmatched):
            yield "every value is the same"


def compare_files(console: Console, found: Found, allow: Mapping[str, str], form: str) -> int:
    """Compare two files, or the EMA weights of one with its raw ones, and show the result.

    Raises:
        UsageError: there are more files, or one without EMA weights.
    """
    if len(found.items) + len(found.problems) not in (1, 2):
        raise UsageError("--compare expects two files, or one that has raw and EMA weights")
    results = Results("compare", form, console.data)
    comparison: Comparison | None = None
    with ExitStack() as stack:
        opened: list[Seen] = []
        problems: list[tuple[str, SdtoolError]] = [(p.where or "", p) for p in found.problems]
        for item in found.items:
            begun = time.monotonic()
            try:
                seen = stack.enter_context(looked_at(item, allow=allow))
            except Exception as e:
                problems.append((item.path, as_error(e, item.path)))
                continue
            opened.append(seen)
            results.add(about(seen.path, seen.nbytes, time.monotonic() - begun, DONE))
        for path, error in problems:
            console.failed(error)
            results.add(about(path, file_size(path), 0.0, TROUBLE, error))
        if not problems:
            comparison = _compared(console, opened[0], opened[-1])
    if form == "text" and comparison is not None:
        console.out("\n".join(comparison.lines()))
    code = TROUBLE if problems else DONE
    results.finish(code, {"comparison": comparison and comparison.as_json()})
    return code


def _compared(console: Console, a: Seen, b: Seen) -> Comparison:
    left = {entry.name: entry for entry in every_tensor(a.checkpoint)}
    right = {entry.name: entry for entry in every_tensor(b.checkpoint)}
    if a is b:
        pairs = raw_and_ema(a.checkpoint)
        if not pairs:
            raise UsageError("has no EMA weights to compare with its raw ones", where=a.path)
    else:
        pairs = [(entry, right[name]) for name, entry in left.items() if name in right]
    alike = [(x, y) for x, y in pairs if x.shape == y.shape]
    for seen, entries in ((a, (x for x, _ in alike)), (b, (y for _, y in alike))):
        check_reading(entries, seen.path)
    with console.progress(sum(x.nbytes + y.nbytes for x, y in alike), "comparing") as progress:
        each = [(distance(x, y, progress), x, y) for x, y in alike]
    same = [(x, y) for one, x, y in each if one.equal and x.dtype is y.dtype]
    left_codes, right_codes = _apart(a, (x for x, _ in same)), _apart(b, (y for _, y in same))
    place = _placer(a)
    parts: dict[str, list[Distance]] = {}
    codes: list[str] = []
    for one, x, y in each:
        if x.name in left_codes or y.name in right_codes:
            codes.append(x.name)
        else:
            parts.setdefault(place(one.name), []).append(one)
    return Comparison(
        (a.path,) if a is b else (a.path, b.path),
        parts,
        only_in_first=[name for name in left if name not in right],
        only_in_second=[name for name in right if name not in left],
        shape_differs=[x.name for x, y in pairs if x.shape != y.shape],
        quantized=codes,
    )


def _apart(seen: Seen, same: Iterable[TensorEntry]) -> frozenset[str]:
    """The tensors of quantized weights that are not the same throughout.

    Their numbers are codes and scales: the distance of one says nothing of the weights.
    """
    if not seen.identity.quantization:
        return frozenset()
    names = {entry.name for entry in same}
    groups = quantization_of(every_tensor(seen.checkpoint), stored_metadata(seen.checkpoint)).groups
    return frozenset(
        name for one in groups if not names.issuperset(one.members) for name in one.members
    )


def _component(label: str, group: Sequence[Distance]) -> dict[str, object]:
    return {
        "component": label,
        "tensors": len(group),
        "different": sum(not one.equal for one in group),
        "largest": _finite(max(one.largest for one in group)),
        "relative": _finite(relative_distance(group)),
    }


def _tensor(one: Distance) -> dict[str, object]:
    return {
        "name": one.name,
        "largest": _finite(one.largest),
        "relative": _finite(one.relative),
    }


def _finite(x: float) -> float | None:
    """JSON has no infinity."""
    return x if math.isfinite(x) else None


def _placer(seen: Seen) -> Callable[[str], str]:
    """Return what names the component that a tensor belongs to."""
    parts = sorted(seen.identity.components, key=lambda part: -len(part.prefix))

    def place(name: str) -> str:
        name = plain_name(name)
        return next((part.label for part in parts if name.startswith(part.prefix)), "other tensors")

    return place
