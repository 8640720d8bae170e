"""Weights of GGUF files as the numbers that they stand for, computed as they are read.

    Q8_0    32 weights in 34 bytes: a scale (float16) and 32 codes (int8); weight = scale * code

The product has 18 significant bits at most, so float32 holds it exactly.

Source: ggml/src/ggml-common.h (`block_q8_0`), ggml-quants.c (`dequantize_row_q8_0`).
"""

from __future__ import annotations

import struct

from sdtool.checkpoint.dtypes import BY_NAME
from sdtool.checkpoint.ggml_types import Q8_0
from sdtool.checkpoint.source import LocalFile
from sdtool.checkpoint.tensors import Storage, TensorEntry
from sdtool.convert.elements.vectors import numpy_or_none

_FLOAT32 = BY_NAME["float32"]
_ROW_NBYTES = Q8_0.block * _FLOAT32.itemsize
"""Bytes of the weights of a block."""


def weights_of(entry: TensorEntry) -> TensorEntry:
    """Return a tensor of Q8_0 as one of float32 whose bytes are computed when they are read."""
    source = Weights(entry.storage, entry.name)
    storage = Storage(entry.name, source, 0, source.nbytes, dtype=_FLOAT32)
    return TensorEntry(entry.path, entry.name, _FLOAT32, entry.shape, entry.stride, 0, storage)


class Weights:
    """A source of float32, little-endian, over a storage of Q8_0 blocks."""

    def __init__(self, stored: Storage, name: str) -> None:
        self.stored = stored
        self._order = ">" if stored.byteorder == "big" else "<"
        self.name = f"{stored.source.name}!{name}"
        self.nbytes = stored.nbytes // Q8_0.itemsize * _ROW_NBYTES

    def read_at(self, offset: int, nbytes: int) -> bytes:
        """See `Source.read_at`."""
        end = min(offset + nbytes, self.nbytes)
        first, last = offset // _ROW_NBYTES, -(-end // _ROW_NBYTES)
        if last <= first:
            return b""
        stored, item = self.stored, Q8_0.itemsize
        blocks = stored.source.read_at(stored.offset + first * item, (last - first) * item)
        start = offset - first * _ROW_NBYTES
        return self._products(blocks)[start : start + end - offset]

    def locate(self, offset: int) -> tuple[LocalFile, int] | None:
        """See `Source.locate`."""
        return None

    def _products(self, blocks: bytes) -> bytes:
        numpy = numpy_or_none()
        if numpy is None:
            rows = struct.iter_unpack(f"{self._order}e{Q8_0.block}b", blocks)
            return b"".join(
                struct.pack(f"<{Q8_0.block}f", *(scale * code for code in codes))
                for scale, *codes in rows
            )
        row = numpy.dtype([("scale", f"{self._order}f2"), ("codes", "i1", (Q8_0.block,))])
        found = numpy.frombuffer(blocks, row)
        with numpy.errstate(all="ignore"):  # a scale that is no number
            weights = found["scale"].astype("<f4")[:, None] * found["codes"].astype("<f4")
        return bytes(weights.tobytes())
