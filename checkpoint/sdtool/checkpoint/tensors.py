"""A tensor, and the storage that its bytes are in. No byte of either is read here."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final, NamedTuple

from sdtool.checkpoint.dtypes import DType
from sdtool.checkpoint.members import Records
from sdtool.checkpoint.source import Source
from sdtool.checkpoint.values import Value


class _Encoding(NamedTuple):
    """How the bytes of a storage are to be read: few ways for many storages."""

    dtype: DType | None
    byteorder: str
    compression: int


_encoding = lru_cache(maxsize=64)(_Encoding)


class Storage:
    """The bytes of one storage, as they stand in a file. Compared by identity.

    `nbytes` bytes from `offset` of `source` when `compression` is 0; else `stored_nbytes` bytes
    that inflate to them (8 is deflate). `dtype` is the type of its elements where it stands beside
    them; None where only a persistent id gives it. One that is a record of an archive knows the
    `records`, and asks them for what is seldom wanted: 200,000 storages need no copies of it.
    """

    __slots__ = ("_encoding", "_offset", "_records", "key", "nbytes", "source")

    def __init__(
        self,
        key: str,
        source: Source,
        offset: int | Records,
        nbytes: int,
        *,
        dtype: DType | None = None,
        byteorder: str = "little",
        compression: int = 0,
    ) -> None:
        self.key = key
        self.source = source
        if isinstance(offset, int):
            self._offset: int | None = offset
            self._records: Records | None = None
        else:
            self._offset = None
            self._records = offset
        self.nbytes = nbytes
        self._encoding = _encoding(dtype, byteorder, compression)

    @property
    def dtype(self) -> DType | None:
        """The type of its elements, where that stands beside them."""
        return self._encoding.dtype

    @property
    def byteorder(self) -> str:
        """`little` or `big`."""
        return self._encoding.byteorder

    @property
    def compression(self) -> int:
        """0 where its bytes stand in the file as they are; else the zip's number for the method."""
        return self._encoding.compression

    @property
    def offset(self) -> int:
        """Where its bytes begin in `source`; a zip's local header is read when first asked.

        Raises:
            Malformed: there is no local header where the directory says.
            Truncated: the file ends before it.
        """
        if self._offset is None:
            assert self._records is not None
            self._offset = self._records.data_offset(self.key)
        return self._offset

    @property
    def member(self) -> str | None:
        """The name of its record, in an archive."""
        return None if self._records is None else self._records.record(self.key).name

    @property
    def header_offset(self) -> int | None:
        """Where the local header of its record begins, in a zip."""
        return None if self._records is None else self._records.record(self.key).header_offset

    @property
    def crc32(self) -> int | None:
        """The declared checksum of its record; None where there is none."""
        if self._records is None or not self._records.has_crc32:
            return None
        return self._records.record(self.key).crc32

    @property
    def stored_nbytes(self) -> int:
        """Bytes that it takes in the file."""
        if self._records is None or not self.compression:
            return self.nbytes
        return self._records.record(self.key).stored_nbytes


class _Oddity(NamedTuple):
    """What few tensors have."""

    conj: bool
    neg: bool
    unsupported: str | None


_PLAIN = _Oddity(conj=False, neg=False, unsupported=None)


class TensorEntry:
    """One tensor, and where its bytes are. Compared by identity, and never changed.

    `path` holds the keys that lead to it, `name` is its flat name. `shape` and `stride` count
    elements, `offset` is in elements from the start of `storage`. `conj` and `neg` are torch's lazy
    bits: the stored values still have to be conjugated or negated. `unsupported` says why its
    values cannot be had: `quantized`, `sparse`, `nested`, `meta`, `packed`; None when they can.
    """

    __slots__ = ("_oddity", "_path", "dtype", "name", "offset", "shape", "storage", "stride")

    def __init__(
        self,
        path: tuple[Value, ...],
        name: str,
        dtype: DType,
        shape: tuple[int, ...],
        stride: tuple[int, ...],
        offset: int,
        storage: Storage,
        conj: bool = False,
        neg: bool = False,
        unsupported: str | None = None,
    ) -> None:
        # In a plain state dict the one key is the name: 200,000 tensors need no tuples for that.
        self._path = None if len(path) == 1 and path[0] is name else path
        self.name: Final = name
        self.dtype: Final = dtype
        self.shape: Final = shape
        self.stride: Final = stride
        self.offset: Final = offset
        self.storage: Final = storage
        is_odd = conj or neg or unsupported is not None
        self._oddity = _Oddity(conj, neg, unsupported) if is_odd else _PLAIN

    @property
    def conj(self) -> bool:
        """Whether the stored values still have to be conjugated."""
        return self._oddity.conj

    @property
    def neg(self) -> bool:
        """Whether the stored values still have to be negated."""
        return self._oddity.neg

    @property
    def unsupported(self) -> str | None:
        """Why its values cannot be had; None when they can."""
        return self._oddity.unsupported

    @property
    def path(self) -> tuple[Value, ...]:
        """The keys that lead to it."""
        return (self.name,) if self._path is None else self._path

    def named(self, path: tuple[Value, ...], name: str) -> TensorEntry:
        """The same tensor in another place; short, as every tensor of a file goes through it."""
        return TensorEntry(
            path, name, self.dtype, self.shape, self.stride, self.offset, self.storage,
            *self._oddity,
        )  # fmt: skip

    def changed(
        self,
        *,
        path: tuple[Value, ...] | None = None,
        name: str | None = None,
        dtype: DType | None = None,
        shape: tuple[int, ...] | None = None,
        stride: tuple[int, ...] | None = None,
        offset: int | None = None,
        conj: bool | None = None,
        neg: bool | None = None,
        unsupported: str | None = None,
    ) -> TensorEntry:
        """The same bytes in another place, by another name, or seen in another way."""
        return TensorEntry(
            self.path if path is None else path,
            self.name if name is None else name,
            self.dtype if dtype is None else dtype,
            self.shape if shape is None else shape,
            self.stride if stride is None else stride,
            self.offset if offset is None else offset,
            self.storage,
            self.conj if conj is None else conj,
            self.neg if neg is None else neg,
            self.unsupported if unsupported is None else unsupported,
        )

    @property
    def numel(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, each once: what a file that holds this tensor needs."""
        return self.dtype.nbytes(self.numel)

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements stand in the storage in row-major order without gaps."""
        if 0 in self.shape:
            return True
        expected = 1
        for size, step in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if size != 1 and step != expected:
                return False
            expected *= size
        return True

    @property
    def is_plain_copy(self) -> bool:
        """Whether its bytes in the storage are its bytes in a little-endian row-major file."""
        swapped = self.storage.byteorder != "little" and self.dtype.swap > 1
        return self.is_contiguous and not (self.conj or self.neg or swapped)
