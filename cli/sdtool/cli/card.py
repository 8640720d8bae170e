"""What `info` shows of a file: a card of 80 columns, a line in a folder's list, a tree, a table."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from sdtool.batch import Seen
from sdtool.checkpoint import TensorEntry, counted, escape, size
from sdtool.checkpoint.identify import BY_SLUG, SHORT, Component, EmaState, Fit, Identity

WIDTH = 79
_LABEL = 11
_DEPTH = 3
_NAMED = 3
_LONGEST = 200


def card(seen: Seen, *, is_verbose: bool = False) -> list[str]:
    """Return the card of one file; if `is_verbose`, with the names that showed what it is."""
    identity = seen.identity
    lines = [escape(os.path.basename(seen.path)), f"  {escape(identity.title)}"]
    kind = BY_SLUG[identity.kind]
    facts: list[tuple[str, str]] = [
        ("format", f"{_format(seen)}, {size(seen.nbytes)}; scan: {seen.verdict}"),
        ("precision", identity.dtype),
    ]
    for part in identity.quantization:
        of = f"{part.tensors:,} of {identity.tensors:,} tensors"
        facts.append(("quantized", f"{part.label}, {counted(part.weights, 'weight')} in {of}"))
    if identity.prediction is not None:
        facts.append(("predicts", f"{identity.prediction.type} ({identity.prediction.reason})"))
    facts += _particular(identity)
    lines += _laid_out(facts)
    if len(identity.components) > 1 or identity.kind not in ("textual-inversion", "unknown"):
        lines += ["", *_parts(identity.components)]
    facts = [*_state(identity), *_fits(identity.components), *_sizes(seen)]
    folders = (("A1111, Forge", kind.webui), ("ComfyUI", kind.comfyui))
    belongs = ", ".join(f"{folder} ({program})" for program, folder in folders if folder)
    if belongs:
        facts.append(("belongs in", belongs))
    facts += [("note", note) for note in (*seen.checkpoint.notes, *identity.notes)]
    facts += [("warning", promise) for promise in seen.promises]
    why = identity.reason if is_verbose else identity.plain_reason
    facts.append(("confidence", f"{identity.confidence}: {why}"))
    return [*lines, "", *_laid_out(facts)]


def _format(seen: Seen) -> str:
    shards = f" in {counted(len(seen.shards), 'shard')}" if seen.shards else ""
    return f"{seen.checkpoint.format}{shards}"


def tree(tensors: Sequence[TensorEntry]) -> Iterator[str]:
    """Yield the modules of a file, three levels deep, with their tensors and sizes."""
    counted: dict[tuple[str, ...], list[int]] = {}
    for entry in tensors:
        parts = entry.name.split(".")
        for depth in range(1, min(_DEPTH, len(parts) - 1) + 1):
            held = counted.setdefault(tuple(parts[:depth]), [0, 0])
            held[0] += 1
            held[1] += entry.nbytes
    for path, (n, nbytes) in counted.items():
        name = "  " * (len(path) - 1) + escape(path[-1])
        yield f"{name:<50} {n:>8,} {size(nbytes):>10}"


def table(tensors: Iterable[TensorEntry], pattern: str) -> Iterator[str]:
    """Yield a line for each tensor whose name fits `pattern`: type, shape, size, name."""
    for entry in tensors:
        if fnmatchcase(entry.name, pattern):
            shape = "x".join(map(str, entry.shape)) or "scalar"
            dtype = SHORT.get(entry.dtype.name, entry.dtype.name)
            yield f"{dtype:<8} {shape:>20} {size(entry.nbytes):>10}  {escape(entry.name)}"


def values(seen: Seen) -> Iterator[str]:
    """Yield the metadata and the other values of a file, one a line, long ones cut."""
    held: Mapping[str, object] = {**seen.checkpoint.leaves, **seen.checkpoint.metadata}
    for name, value in held.items():
        yield f"{escape(_cut(name))}: {escape(_cut(str(readable(value))))}"


def readable(value: object) -> object:
    """What JSON and a line can hold: no infinity, no number of thousands of digits."""
    if isinstance(value, int) and value.bit_length() > 1024:
        return "a huge number"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _laid_out(facts: Iterable[tuple[str, str]]) -> list[str]:
    lines: list[str] = []
    for label, text in facts:
        lines += textwrap.wrap(
            escape(text),
            WIDTH,
            initial_indent=f"  {label:<{_LABEL}}",
            subsequent_indent=" " * (_LABEL + 2),
            break_on_hyphens=False,
        )
    return lines


def _parts(components: Sequence[Component]) -> list[str]:
    lines = [f"  {'part':<24} {'tensors':>7} {'parameters':>14} {'size':>9}  precision"]
    lines += [
        f"  {escape(part.label):<24.24} {part.tensors:>7,} {part.parameters:>14,}"
        f" {size(part.nbytes):>9}  {part.dtype:.18}"
        for part in components
    ]
    return lines


def _particular(identity: Identity) -> Iterator[tuple[str, str]]:
    if identity.adapter is not None:
        facts = identity.adapter
        ranks = ", ".join(f"{rank} ({_modules(n)})" for rank, n in list(facts.ranks.items())[:4])
        yield "rank", ranks or "-"
        if facts.alpha is not None:
            yield "alpha", f"{facts.alpha:g}"
        changed = (f"{_modules(n)} of the {part}" for part, n in facts.modules.items())
        yield "changes", ", ".join(changed)
    if identity.embedding is not None:
        for token, (vectors, width) in identity.embedding.tokens.items():
            yield "token", f"{_cut(token)}: {vectors} vector{'s' * (vectors != 1)} of {width}"
    if identity.hypernetwork is not None:
        net = identity.hypernetwork
        yield "widths", ", ".join(map(str, net.widths))
        structure = " -> ".join(f"{x:g}" for x in net.layer_structure)
        yield "layers", f"{structure}{', layer norm' * net.layer_norm}"
        if net.activation:
            yield "activation", net.activation


def _modules(n: int) -> str:
    return f"{n:,} module{'s' * (n != 1)}"


def _state(identity: Identity) -> Iterator[tuple[str, str]]:
    ema, training = identity.ema, identity.training
    match ema.state:
        case "full":
            yield "EMA", f"{ema.pairs:,} weights, {size(ema.nbytes)}: one for each raw weight"
        case "partial" | "orphan":
            yield "EMA", _incomplete(ema)
        case "scalars-only":
            yield "EMA", "only its two counters, as in an official pruned file"
        case "none":
            pass
    counters = [
        f"{name} {value:,}"
        for name, value in (("epoch", training.epoch), ("step", training.global_step))
        if value is not None
    ]
    if training.tensors:
        counters.append(f"{training.tensors:,} tensors of state ({size(training.nbytes)})")
    if counters:
        yield "training", ", ".join(counters)


def _incomplete(ema: EmaState) -> str:
    """What there is of an EMA that does not fit the raw weights: `partial: 5 of 8 ...`."""
    raw = ema.pairs + len(ema.bare)
    text = f"{ema.state}: {ema.pairs:,} of {counted(raw, 'raw weight')} have EMA"
    if ema.orphans:
        text += f"; {counted(len(ema.orphans), 'EMA weight')} without a raw one"
    return text


def _fits(components: Sequence[Component]) -> Iterator[tuple[str, str]]:
    for part in components:
        if part.fit is not None and not part.fit.exact:
            yield "layout", f"{part.label} against {part.fit.layout}: {'; '.join(_gaps(part.fit))}"


def _gaps(fit: Fit) -> Iterator[str]:
    for what, names in (
        ("missing", fit.missing),
        ("not in the layout", fit.unexpected),
        ("with another shape", fit.misshapen),
    ):
        if names:
            shown = ", ".join(map(_cut, names[:_NAMED])) + ", ..." * (len(names) > _NAMED)
            yield f"{len(names):,} {what} ({shown})"


def _sizes(seen: Seen) -> Iterator[tuple[str, str]]:
    options: list[str] = []
    if seen.pruned is not None and seen.pruned < 0.99 * seen.nbytes:
        options.append(f"{size(seen.pruned)} pruned")
    if seen.pruned_fp16 is not None and seen.pruned_fp16 < 0.95 * min(
        seen.nbytes, seen.pruned or seen.nbytes
    ):
        options.append(f"{size(seen.pruned_fp16)} pruned in fp16")
    if options:
        yield "could be", ", ".join(options)
