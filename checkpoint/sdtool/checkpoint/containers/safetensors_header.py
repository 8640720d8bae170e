"""The header of a safetensors file: every entry by the format's own rules.

    8 bytes     N, little-endian: the length of the header
    N bytes     {"__metadata__": {str: str}, "name": {"dtype", "shape", "data_offsets"}, ...}
    the rest    every byte belongs to exactly one tensor

Source: the format's README; safetensors/src/tensor.rs (`Metadata::validate`, `deserialize`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import prod
from typing import Any, TypeAlias

from sdtool.checkpoint.dtypes import BY_SAFETENSORS, PACKED, DType
from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed, Truncated
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.reading import Reading
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Source, read_exactly
from sdtool.checkpoint.strides import row_major
from sdtool.checkpoint.tensors import Storage, TensorEntry
from sdtool.checkpoint.trace import Anomaly


def read_safetensors(source: Source, limits: Limits) -> Reading:
    """Read the header by the format's own rules; every departure is the error of the Reading."""
    anomalies: list[Anomaly] = []
    tensors: tuple[TensorEntry, ...] = ()
    metadata: dict[str, str] = {}
    error: InputError | None = None
    try:
        tensors, metadata, end = _read_header(source, limits, anomalies)
        _check_end(source, end)
    except InputError as e:
        error = e
    return Reading(
        Format.SAFETENSORS,
        source,
        anomalies=tuple(anomalies),
        error=error,
        tensors=tensors,
        metadata=metadata,
    )


def _read_header(
    source: Source, limits: Limits, anomalies: list[Anomaly]
) -> tuple[tuple[TensorEntry, ...], dict[str, str], int]:
    """The tensors in the order of their bytes, the metadata, and where the last tensor ends."""
    nbytes = int.from_bytes(source.read_at(0, 8), "little")
    if nbytes > limits.header_nbytes:
        raise LimitExceeded(
            f"a header of {nbytes:,} bytes; the format allows {limits.header_nbytes:,}",
            where=source.name,
        )
    text = _text(source, nbytes)
    metadata: dict[str, str] = {}
    tensors: list[TensorEntry] = []
    seen: set[str] = set()
    base = 8 + nbytes
    table = _Table(source, base)
    for key, value in _members(text, source):
        if key in seen:
            raise Malformed(f"the safetensors header names {key!a} twice", where=source.name)
        seen.add(key)
        if type(value) is not tuple:
            if not _is_unicode(key):
                raise Malformed(
                    f"the safetensors header has no Unicode name: {key!a}", where=source.name
                )
            if key == "__metadata__":
                metadata = _metadata(value, source)
                continue
            if "\0" in key:
                anomalies.append(Anomaly(RuleId.NUL_IN_NAME, ascii(key), 8))
            tensors.append(table.entry(key, _tensor(key, value, source), _kind(key, value, source)))
        elif key == "__metadata__":
            raise Malformed(
                "metadata 'shape' is not a string; the format allows nothing else",
                where=source.name,
            )
        else:
            tensors.append(table.matched(*value))
    del seen, text
    if not table.is_in_order:
        tensors.sort(key=lambda entry: (entry.storage.offset, entry.storage.nbytes))
    is_certain = table.is_in_order and table.is_exact
    end = base + table.end if is_certain else _checked_end(tensors, base, source)
    return tuple(tensors), metadata, end


def _checked_end(tensors: list[TensorEntry], base: int, source: Source) -> int:
    """Where the tensors end that fill the file from `base` on, in the order of their bytes.

    Raises:
        Malformed: they leave gaps, or one has not the bytes that its shape needs.
    """
    at = base
    for entry in tensors:
        storage = entry.storage
        if storage.offset != at or storage.nbytes < 0:
            raise Malformed(
                f"tensor {entry.name!a} does not begin where the one before it ends",
                where=source.name,
            )
        at += storage.nbytes
        if entry.nbytes != storage.nbytes:
            raise Malformed(
                f"tensor {entry.name!a} has {storage.nbytes:,} bytes; its shape needs"
                f" {entry.nbytes:,}",
                where=source.name,
            )
    return at


def _check_end(source: Source, end: int) -> None:
    """Refuse a file that is cut, with its tensors known all the same, or goes on."""
    if end > source.nbytes:
        raise Truncated(
            f"the file has {source.nbytes:,} bytes; its tensors end at {end:,}",
            where=source.name,
            hint="download it again and compare its size with the one published",
        )
    if end < source.nbytes:
        raise Malformed(f"{source.nbytes - end:,} bytes after the last tensor", where=source.name)


def _text(source: Source, nbytes: int) -> str:
    raw = read_exactly(source, 8, nbytes, "the safetensors header")
    try:
        return str(raw, "utf-8")
    except ValueError as e:
        raise Malformed("the safetensors header is not valid JSON", where=source.name) from e


_BLANK = re.compile(r"[ \t\n\r]*")
_SIZE = r"(?:0|[1-9][0-9]{0,18})"
_ENTRY = re.compile(
    r'[ \t\n\r]*"([^"\\\x00-\x1f]*)" ?: ?'
    r'\{ ?"dtype" ?: ?"([A-Z0-9_]{1,16})" ?, ?'
    rf'"shape" ?: ?\[((?:{_SIZE}(?:, ?{_SIZE})*)?)\] ?, ?'
    rf'"data_offsets" ?: ?\[({_SIZE}), ?({_SIZE})\] ?\}}[ \t\n\r]*'
)
"""An entry as nearly every writer has it: a million of them are read without a JSON tree."""


def _members(text: str, source: Source) -> Iterator[tuple[str, Any]]:
    """The members of the header, one at a time: a key, and the groups of `_ENTRY` or JSON.

    Objects are lists of pairs: a key may be there twice.
    """
    import json  # a scan of any other file does without

    decode = json.JSONDecoder(object_pairs_hook=list).raw_decode
    entry = _ENTRY.match
    try:
        at = _behind(text, 0, "{")
        while at < len(text) and text[at] != "}":
            found = entry(text, at)
            fields = None if found is None else found.groups()
            if found is not None and fields is not None and fields[1] in BY_SAFETENSORS:
                at = found.end()
                yield fields[0], fields
            else:
                at = _skip(text, at)
                if text[at] != '"':
                    raise ValueError("a key")
                key, at = decode(text, at)
                at = _behind(text, at, ":")
                value, at = decode(text, at)
                at = _skip(text, at)
                yield key, value
            if text[at] == ",":
                at += 1
                if text[at] != '"':
                    at = _skip(text, at)
                if text[at] != '"':
                    raise ValueError("a key")
            elif text[at] != "}":
                raise ValueError("a comma")
        if _behind(text, at, "}") != len(text):
            raise ValueError("more")
    except (ValueError, IndexError, RecursionError) as e:
        raise Malformed("the safetensors header is not valid JSON", where=source.name) from e


def _skip(text: str, at: int) -> int:
    """Where the blanks at `at` end."""
    found = _BLANK.match(text, at)
    return at if found is None else found.end()


def _behind(text: str, at: int, sign: str) -> int:
    """Where what follows `sign` begins, which has to be next."""
    at = _skip(text, at)
    if text[at] != sign:
        raise ValueError(sign)
    return _skip(text, at + 1)


_Shape: TypeAlias = tuple[DType, tuple[int, ...], tuple[int, ...], int]
"""A type and a shape, its strides, and the bytes that it needs."""


class _Table:
    """Makes the entries of one file; equal shapes are one object."""

    def __init__(self, source: Source, base: int) -> None:
        self._source = source
        self._base = base
        self.end = 0
        """Where the last entry ends, counted from the end of the header."""
        self.is_in_order = True
        """Whether each entry begins where the one before it ends."""
        self.is_exact = True
        """Whether each has the bytes that its shape needs, as far as that was looked at."""
        self._shapes: dict[tuple[str, str], _Shape] = {}

    def matched(self, name: str, code: str, sizes: str, begin: str, end: str) -> TensorEntry:
        """The entry that the groups of `_ENTRY` describe."""
        known = self._shapes.get((code, sizes))
        if known is None:
            shape = tuple(map(int, sizes.split(","))) if sizes else ()
            dtype = BY_SAFETENSORS[code]
            known = dtype, shape, row_major(shape), prod(shape) * dtype.itemsize
            if len(self._shapes) < _SHAPES:
                self._shapes[code, sizes] = known
        return self._made(name, int(begin), int(end), *known)

    def entry(
        self, name: str, span: tuple[int, int], kind: tuple[DType, tuple[int, ...]]
    ) -> TensorEntry:
        """The entry of a name, its place and its type and shape."""
        self.is_exact = False  # what is written in another way is looked at once more
        dtype, shape = kind
        return self._made(name, *span, dtype, shape, row_major(shape), span[1] - span[0])

    def _made(
        self, name: str, begin: int, end: int, dtype: DType, shape: tuple[int, ...],
        stride: tuple[int, ...], needed: int,
    ) -> TensorEntry:  # fmt: skip
        nbytes = end - begin
        if begin != self.end:
            self.is_in_order = False
        if nbytes != needed:
            self.is_exact = False
        self.end = end
        storage = Storage(name, self._source, self._base + begin, nbytes, dtype=dtype)
        packed = "packed" if dtype.block > 1 else None
        return TensorEntry((name,), name, dtype, shape, stride, 0, storage, unsupported=packed)


_SHAPES = 1_000


def _is_unicode(name: str) -> bool:
    """Whether it has no lone surrogate, which JSON can escape and UTF-8 cannot hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _metadata(value: Any, source: Source) -> dict[str, str]:
    if value is None:
        return {}  # an optional field to the library, which leaves it out or writes null
    if type(value) is not list or not all(type(item) is tuple for item in value):
        raise Malformed("`__metadata__` is not a JSON object", where=source.name)
    metadata: dict[str, str] = {}
    for key, text in value:
        if type(text) is not str:
            raise Malformed(
                f"metadata {key!a} is not a string; the format allows nothing else",
                where=source.name,
            )
        if key in metadata:
            raise Malformed(f"metadata names {key!a} twice", where=source.name)
        metadata[key] = text
    return metadata


def _fields(name: str, value: Any, source: Source) -> dict[str, Any]:
    if type(value) is list and value and all(type(item) is tuple for item in value):
        fields = dict(value)
        if len(fields) == len(value) and {"dtype", "shape", "data_offsets"} <= fields.keys():
            return fields
    raise Malformed(f"tensor {name!a} lacks dtype, shape or data_offsets", where=source.name)


def _tensor(name: str, value: Any, source: Source) -> tuple[int, int]:
    offsets = _fields(name, value, source)["data_offsets"]
    if type(offsets) is not list or len(offsets) != 2 or not all(_is_size(x) for x in offsets):
        raise Malformed(f"the offsets of tensor {name!a} are not two sizes", where=source.name)
    return offsets[0], offsets[1]


def _kind(name: str, value: Any, source: Source) -> tuple[DType, tuple[int, ...]]:
    fields = _fields(name, value, source)
    dtype, shape = fields["dtype"], fields["shape"]
    if type(shape) is not list or not all(_is_size(size) for size in shape):
        raise Malformed(f"the shape of tensor {name!a} is not a list of sizes", where=source.name)
    if type(dtype) is str and dtype in PACKED:
        if prod(shape) % PACKED[dtype].block:
            raise Malformed(f"tensor {name!a} ends in the middle of a byte", where=source.name)
        return PACKED[dtype], tuple(shape)
    if type(dtype) is not str or dtype not in BY_SAFETENSORS:
        raise Malformed(
            f"tensor {name!a} has an unknown dtype {ascii(dtype)[:40]}", where=source.name
        )
    return BY_SAFETENSORS[dtype], tuple(shape)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 64
