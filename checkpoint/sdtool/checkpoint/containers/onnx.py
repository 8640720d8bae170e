"""ONNX models: what one begins with. `onnx_graph.py` walks it, and is imported when one is there.

Source: onnx/onnx.proto (`ModelProto`).
"""

from __future__ import annotations

from collections.abc import Iterator

from sdtool.checkpoint.containers.container import Container
from sdtool.checkpoint.containers.opening import Opening
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.reading import Reading

_LATEST = 31
"""No version of the format is so high."""
_SECOND = frozenset(b"\x12\x1a\x22\x28\x32\x3a\x42")
"""The keys of the fields 2 to 8: producer, domain, ..., graph, operator sets."""


def _begins(opening: Opening) -> bool:
    first, version, second = opening.head[:3].ljust(3, b"\0")
    return first == 0x08 and 0 < version <= _LATEST and second in _SECOND


def _read(opening: Opening) -> Iterator[Reading]:
    from sdtool.checkpoint.containers.onnx_graph import read_onnx

    reading = read_onnx(opening.source, opening.limits)
    if reading is not None:
        yield reading


ONNX = Container((Format.ONNX,), _begins, _read)
