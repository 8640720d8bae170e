"""GGUF files: what they begin with. `gguf_header.py` reads them, and is imported when one is there.

Source: ggml docs/gguf.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from sdtool.checkpoint.containers.container import Container
from sdtool.checkpoint.containers.opening import Opening
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.reading import Reading


def _begins(opening: Opening) -> bool:
    return opening.head.startswith(b"GGUF")


def _read(opening: Opening) -> Iterator[Reading]:
    from sdtool.checkpoint.containers.gguf_header import read_gguf

    yield read_gguf(opening.source, opening.limits)


GGUF = Container((Format.GGUF,), _begins, _read)
