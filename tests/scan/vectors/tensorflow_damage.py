"""TensorFlow checkpoints that break the rules of their tables and messages."""

from __future__ import annotations

from collections.abc import Iterator

from tests.forge import pickled
from tests.protobuf import message, number, varint
from tests.scan.vectors.vector import BOOM, Vector, silent
from tests.tensorflow_files import (
    INT32,
    Damage,
    Saved,
    bundle,
    floats,
    header,
    table,
    v1,
)

_ONE = Saved([1], floats(1.0))
_GOOD = [("a", _ONE), ("b", _ONE)]


def tensorflow_damage() -> Iterator[Vector]:
    """Tables whose places, sizes and checksums lie; they hold no code, and must not be believed."""
    cases: tuple[tuple[str, str, bytes], ...] = (
        ("footer-cut", "nothing but a footer", table([])[-48:]),
        ("index-crc", "the index does not match its sum", _damaged(index_crc=bytes(4))),
        ("block-crc", "the block of keys does not match its sum", _damaged(crc=bytes(4))),
        ("snappy", "blocks that are compressed by snappy", _damaged(compression=1)),
        ("compressed", "blocks that are compressed somehow", _damaged(compression=9)),
        ("block-behind", "a block behind the file", _damaged(offset=1 << 62)),
        ("block-huge", "a block of 2**63 bytes", _damaged(nbytes=1 << 63)),
        ("block-empty", "a block of no bytes", _damaged(nbytes=0)),
        ("shared-first", "a key that shares bytes with none", _damaged(shared=5)),
        ("restarts-huge", "2**32 - 1 places to enter", _damaged(restarts=(1 << 32) - 1)),
        (
            "keys-unsorted",
            "keys that are not in order",
            _keyed(b"b", b"a"),
        ),
        ("keys-twice", "one key, twice", _keyed(b"a", b"a")),
        ("head-group", "a group in the header", table([(b"", b"\x0b\x0c")])),
        ("head-cut", "a number that does not end", table([(b"", b"\x08" + b"\xff" * 12)])),
        ("head-field-0", "a field of the number 0", table([(b"", b"\x02\x00")])),
        ("head-reaching", "a field that reaches out", table([(b"", b"\x0a\x7fx")])),
        ("shards-none", "an index of no data files", bundle({}, head=number(2, 0)).index),
        ("shards-many", "an index of 2**62 data files", bundle({}, head=header(1 << 62)).index),
        ("values-missing", "a tensor without values", v1([], listed=_GOOD)),
        ("values-unlisted", "values of no tensor", v1(_GOOD, listed=_GOOD[:1])),
        ("name-twice", "one name, two tensors", v1([], listed=[("a", _ONE), ("a", _ONE)])),
        ("name-bytes", "a name that is not UTF-8", v1([(b"\xff", _ONE)])),
        ("name-long", "a name of 70,000 bytes", v1([("n" * 70_000, _ONE)])),
        ("shape-lie", "more elements than values", _saved([9], floats(1.0))),
        ("shape-negative", "a negative size", _saved([-1], floats(1.0))),
        ("shape-overflow", "sizes that overflow", _saved([1 << 40] * 2, floats(1.0))),
        (
            "ints-short",
            "fewer bytes than numbers",
            v1([("a", Saved([9], message(7, varint(1)), INT32))]),
        ),
        (
            "slice-outside",
            "a slice behind the tensor",
            _sliced(message(1, number(1, 5), number(2, 1))),
        ),
        ("slice-rank", "a slice of two dimensions of one", _sliced(message(1) * 2)),
        ("slice-deep", "a slice of a hundred dimensions", _sliced(message(1) * 100)),
        ("pickle", "a pickle before a table", pickled(BOOM) + v1(_GOOD)),
    )
    for name, why, data in cases:
        yield silent(f"tensorflow-{name}", why, data, suffix=".ckpt")


def _damaged(**fields: object) -> bytes:
    return v1(_GOOD, damage=Damage(**fields))  # type: ignore[arg-type]


def _keyed(*keys: bytes) -> bytes:
    return table([(b"", message(1)), *((key, b"") for key in keys)])


def _saved(*fields: object) -> bytes:
    return v1([("a", Saved(*fields))])  # type: ignore[arg-type]


def _sliced(extents: bytes) -> bytes:
    return v1([("a", Saved([1], floats(1.0), slices=[extents]))])
