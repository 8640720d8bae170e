"""The picture of all sizes: a block a file, grouped by kind, with the part that is wasted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sdtool.checkpoint import counted, escape, size
from sdtool.cli.picture.blocks import Block, divided
from sdtool.cli.picture.facts import Facts
from sdtool.cli.picture.markup import text

COLOURS = 8
"""Kinds with a colour of their own; the stylesheet has them."""

_WHOLE = Block(0, 0, 1000, 420)
"""About the shape that a wide screen gives it."""
_LEAST = 1 / 2000
"""Share of all bytes below which files of a kind are drawn as one block."""
_LABELLED = (60, 30)
"""Width and height from which a block has room for a name."""


@dataclass(frozen=True, slots=True)
class Kind:
    """All files of a kind, the largest first."""

    title: str
    files: Sequence[Facts]
    colour: int

    @property
    def nbytes(self) -> int:
        """What they take."""
        return sum(file.counted for file in self.files)

    @property
    def wasted(self) -> int:
        """What of that could go."""
        return sum(file.wasted for file in self.files)


def kinds_of(files: Sequence[Facts]) -> list[Kind]:
    """Return the kinds of files, that which takes most first."""
    held: dict[str, list[Facts]] = {}
    for file in files:
        held.setdefault(file.kind, []).append(file)
    order = sorted(held.items(), key=lambda item: (-sum(f.counted for f in item[1]), item[0]))
    return [
        Kind(title, sorted(found, key=lambda f: -f.counted), min(number, COLOURS))
        for number, (title, found) in enumerate(order, 1)
    ]


def treemap(kinds: Sequence[Kind]) -> str:
    """Return an SVG whose positions are percents, so that letters keep their size."""
    drawn = [kind for kind in kinds if kind.nbytes]
    total = sum(kind.nbytes for kind in drawn)
    parts = [
        part
        for kind, block in zip(drawn, divided(_WHOLE, [k.nbytes for k in drawn]), strict=True)
        for part in _of_kind(kind, block, total)
    ]
    return (
        '<svg id="map" role="img" aria-labelledby="map-title" width="100%" height="26rem">'
        '<title id="map-title">Sizes by kind; the table below has them as numbers</title>'
        '<defs><pattern id="wasted" width="6" height="6" patternUnits="userSpaceOnUse"'
        ' patternTransform="rotate(45)"><rect class="stripe" width="2" height="6"/></pattern>'
        f"</defs>{''.join(parts)}</svg>"
    )


def _of_kind(kind: Kind, block: Block, total: int) -> Iterator[str]:
    shown = [file for file in kind.files if file.counted >= total * _LEAST]
    rest = [file for file in kind.files[len(shown) :] if file.counted]
    small = sum(file.counted for file in rest)
    entries = [(file.counted, _of_file(file, kind)) for file in shown]
    if rest:
        label = f"{escape(kind.title)}: {counted(len(rest), 'smaller file')}"
        entries.append((small, (label, f"{label}, {size(small)}", "", 0.0, "")))
        entries.sort(key=lambda entry: -entry[0])
    blocks = divided(block, [nbytes for nbytes, _ in entries])
    for (_, (label, title, path, wasted, verdict)), place in zip(entries, blocks, strict=True):
        yield _block(place, kind.colour, label, title, path, wasted, verdict)


def _of_file(file: Facts, kind: Kind) -> tuple[str, str, str, float, str]:
    """Return label, title, path, the part of it that is wasted, and its verdict."""
    label = escape(file.path.replace("\\", "/").rpartition("/")[2])
    title = f"{file.path}\n{kind.title}, {size(file.nbytes)}, {file.verdict}"
    if file.wasted:
        title += f", {size(file.wasted)} wasted"
    return label, title, file.path, file.wasted / file.nbytes, file.verdict


def _block(
    place: Block, colour: int, label: str, title: str, path: str, wasted: float, verdict: str
) -> str:
    x, width = (f"{100 * n / _WHOLE.width:.3f}%" for n in (place.x, place.width))
    y, height = (f"{100 * n / _WHOLE.height:.3f}%" for n in (place.y, place.height))
    lines = (text(line) for line in title.split("\n"))
    inside = f'<title>{"&#10;".join(lines)}</title><rect class="k{colour}" {_FULL}/>'
    if wasted:
        above = f"{100 * (1 - wasted):.1f}%"
        inside += f'<rect class="waste" y="{above}" {_FULL}/>'
    if verdict in ("unsafe", "suspicious"):
        inside += f'<rect class="frame {verdict}" {_FULL}/>'
    if place.width >= _LABELLED[0] and place.height >= _LABELLED[1]:
        inside += f'<text x="6" y="18">{text(label)}</text>'
    data = f' data-path="{text(path)}"' if path else ""
    return f'<svg x="{x}" y="{y}" width="{width}" height="{height}"{data}>{inside}</svg>'


_FULL = 'width="100%" height="100%"'
