"""`sdtool info --compare`: how far the weights of two files are apart, part by part."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from sdtool.batch.expand import Item
from sdtool.batch.looking import Seen, looked_at
from sdtool.batch.version import version
from sdtool.checkpoint import TensorEntry, UsageError
from sdtool.checkpoint.identify.ema import raw_and_ema
from sdtool.checkpoint.identify.quantization import quantization_of
from sdtool.checkpoint.prefixes import plain_name
from sdtool.checkpoint.sets import every_tensor
from sdtool.cli.console import Console, escape
from sdtool.cli.exit_codes import DONE
from sdtool.convert import check_reading
from sdtool.convert.plan.metadata import stored_metadata
from sdtool.convert.verify.compare import Distance, distance

_SHOWN = 5
"""Tensors named, the farthest first."""


def compare_files(
    console: Console, items: Sequence[Item], allow: Mapping[str, str], *, as_json: bool
) -> int:
    """Compare two files, or the EMA weights of one with its raw ones.

    Raises:
        UsageError: there are more files, or one without EMA weights.
        InputError: one of them cannot be read.
    """
    if len(items) not in (1, 2):
        raise UsageError("--compare takes two files, or one that has raw and EMA weights")
    with looked_at(items[0], allow=allow) as a:
        if len(items) == 1:
            pairs = raw_and_ema(a.checkpoint)
            if not pairs:
                raise UsageError(
                    "has no EMA weights to compare with its raw ones", where=items[0].path
                )
            return _distances(console, a, a, pairs, [], as_json=as_json)
        with looked_at(items[1], allow=allow) as b:
            right = {entry.name: entry for entry in every_tensor(b.checkpoint)}
            left = {entry.name: entry for entry in every_tensor(a.checkpoint)}
            pairs = [(entry, right[name]) for name, entry in left.items() if name in right]
            single = [
                (f"only in {os.path.basename(here)}", [name for name in one if name not in other])
                for here, one, other in ((a.path, left, right), (b.path, right, left))
            ]
            return _distances(console, a, b, pairs, single, as_json=as_json)


def _distances(
    console: Console,
    a: Seen,
    b: Seen,
    pairs: list[tuple[TensorEntry, TensorEntry]],
    single: list[tuple[str, list[str]]],
    *,
    as_json: bool,
) -> int:
    alike = [(x, y) for x, y in pairs if x.shape == y.shape]
    single = [*single, ("of another shape", [x.name for x, y in pairs if x.shape != y.shape])]
    for seen, entries in ((a, (x for x, _ in alike)), (b, (y for _, y in alike))):
        check_reading(entries, seen.path)
    with console.progress(sum(x.nbytes + y.nbytes for x, y in alike), "comparing") as progress:
        each = [(distance(x, y, progress), x, y) for x, y in alike]
    same = [(x, y) for one, x, y in each if one.equal and x.dtype is y.dtype]
    left, right = _apart(a, (x for x, _ in same)), _apart(b, (y for _, y in same))
    codes = [x.name for _, x, y in each if x.name in left or y.name in right]
    found = [one for one, x, y in each if x.name not in left and y.name not in right]
    single = [*single, ("quantized and not compared", codes)]
    place = _placer(a)
    parts: dict[str, list[Distance]] = {}
    for one in found:
        parts.setdefault(place(one.name), []).append(one)
    far = sorted((one for one in found if not one.equal), key=lambda one: -one.relative)
    if as_json:
        console.json(
            {
                "tool": "sdtool",
                "version": version(),
                "components": [_component(label, group) for label, group in parts.items()],
                "different": [_tensor(one) for one in far],
                "unmatched": dict(single),
            }
        )
        return DONE
    console.out(f"{'part':<24} {'tensors':>8} {'different':>10} {'largest':>10} {'relative':>10}")
    for label, group in parts.items():
        console.out(
            f"{label:<24.24} {len(group):>8,} {sum(not one.equal for one in group):>10,}"
            f" {max(one.largest for one in group):>10.3g} {_relative(group):>10.3g}"
        )
    if far:
        console.out("\nfarthest, by relative difference")
    for one in far[:_SHOWN]:
        console.out(f"  {one.relative:<10.3g} {escape(one.name)}")
    for what, names in single:
        if names:
            console.out(f"{len(names):,} {escape(what)}: {escape(', '.join(names[:3]))}")
    if not far and not any(names for _, names in single):
        console.out("every value is the same")
    return DONE


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
        "relative": _finite(_relative(group)),
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


def _relative(group: Sequence[Distance]) -> float:
    """The relative difference of several tensors as if they were one."""
    squares, norm = math.fsum(one.squares for one in group), math.fsum(one.norm for one in group)
    if norm:
        return math.sqrt(squares / norm)
    return math.inf if squares else 0.0


def _placer(seen: Seen) -> Callable[[str], str]:
    """Return what names the component that a tensor belongs to."""
    parts = sorted(seen.identity.components, key=lambda part: -len(part.prefix))

    def place(name: str) -> str:
        name = plain_name(name)
        return next((part.label for part in parts if name.startswith(part.prefix)), "other tensors")

    return place
