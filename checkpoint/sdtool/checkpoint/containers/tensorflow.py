"""TensorFlow checkpoints: what a file ends with. Its readers are imported when one is there.

    model.ckpt                         V1: one table of LevelDB with names, shapes and values
    model.ckpt-7.index                 V2: such a table with names, shapes and places,
    model.ckpt-7.data-00000-of-00001   and the values beside it

Neither holds code. Graphs (`.meta`, `saved_model.pb`) can, and are not read.

Source: tensorflow/core/lib/io/format.h (kTableMagicNumber), core/util/tensor_slice_writer.cc,
core/util/tensor_bundle/tensor_bundle.cc.
"""

from __future__ import annotations

from collections.abc import Iterator

from sdtool.checkpoint.containers.container import Container
from sdtool.checkpoint.containers.opening import Opening
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.reading import Reading

_MAGIC = bytes.fromhex("57fb808b247547db")
_SMALLEST_NBYTES = 48


def _begins(opening: Opening) -> bool:
    source = opening.source
    return source.nbytes >= _SMALLEST_NBYTES and source.read_at(source.nbytes - 8, 8) == _MAGIC


def _read(opening: Opening) -> Iterator[Reading]:
    from sdtool.checkpoint.containers.tensorflow_table import read_tensorflow

    yield read_tensorflow(opening.source, opening.limits, deep=opening.deep)


TENSORFLOW = Container((Format.TENSORFLOW_V1, Format.TENSORFLOW_V2), _begins, _read)
