"""safetensors files: what one begins with. `safetensors_header.py` reads it, and is imported when
one is there.

Source: the format's README.
"""

from __future__ import annotations

from collections.abc import Iterator

from sdtool.checkpoint.containers.container import Container
from sdtool.checkpoint.containers.opening import Opening
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.reading import Reading


def begins_safetensors(head: bytes) -> bool:
    """Whether a file that begins with `head` is meant to be safetensors: a length, then `{"`.

    A header of more than a terabyte is text that happens to have a brace in the ninth place.
    """
    nbytes = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and head[9:10] in b'"} \n\t\r' and 2 <= nbytes < 1 << 40


def _begins(opening: Opening) -> bool:
    return begins_safetensors(opening.head)


def _read(opening: Opening) -> Iterator[Reading]:
    from sdtool.checkpoint.containers.safetensors_header import read_safetensors

    yield read_safetensors(opening.source, opening.limits)


SAFETENSORS = Container((Format.SAFETENSORS,), _begins, _read)
