"""What one reading of a file yields: streams, records and tensors, with nothing judged yet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, Self

from sdtool.checkpoint.dtypes import DType
from sdtool.checkpoint.errors import InputError
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.source import LocalFile, Source
from sdtool.checkpoint.trace import Anomaly, Trace
from sdtool.checkpoint.values import Value

if TYPE_CHECKING:
    from sdtool.checkpoint.crc32c import Checksum
    from sdtool.checkpoint.foreign import Foreign


@dataclass(frozen=True, slots=True)
class LoaderProfile:
    """How the loader that a stream is meant for treats what plain pickle leaves open."""

    name: str


TORCH = LoaderProfile("torch")
"""torch.load: persistent ids are storages."""
SCRIPT = LoaderProfile("torchscript")
"""torch.jit.load, torch.package: as torch; names below `__torch__` are the archive's own code."""
PICKLE = LoaderProfile("pickle")
"""pickle.load and its kin: a persistent id is an error."""
NUMPY = LoaderProfile("numpy")
"""numpy.load, for arrays of objects."""


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """One pickle: where it stands, what a loader would do with it, and what comes out.

    `offset` is its position in the member (or the file). `value` is None when `error` is set: the
    Trace up to the bad byte is kept all the same.
    """

    member: str | None
    offset: int
    profile: LoaderProfile
    source: Source
    """The bytes of the member; positions in the Trace are offsets in it."""
    trace: Trace
    value: Value = None
    error: InputError | None = None


class Member(NamedTuple):
    """One entry of an archive as its directory describes it; sizes and positions are bytes."""

    name: str
    header_offset: int
    nbytes: int
    stored_nbytes: int
    crc32: int
    compression: int
    flags: int = 0
    is_folder: bool = False
    marked_folder: bool = False
    """Whether it has the attribute of a folder, and bytes: torch leaves their memory unset."""


class Records(Protocol):
    """The records of an archive, by the keys of their storages."""

    has_crc32: bool
    """Whether what the directory gives as checksums are any."""

    def record(self, key: str) -> Member:
        """Return the entry of a record."""
        ...

    def data_offset(self, key: str) -> int:
        """Return where its bytes begin.

        Raises:
            Malformed: there is no local header where the directory says.
            Truncated: the file ends before it.
        """
        ...


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


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A tensor that is neither a weight nor training state, and why."""

    entry: TensorEntry
    why: str


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One way to take a file: as a torch zip, as a legacy torch file, as pickles in a row, ...

    `error` says why it could not be read to the end. `anomalies` are the container's; those of a
    pickle stand in its Trace.
    """

    format: Format
    source: Source
    streams: tuple[Stream, ...] = ()
    members: Sequence[Member] = ()
    storages: Mapping[str, Storage] = field(default_factory=dict[str, Storage])
    anomalies: tuple[Anomaly, ...] = ()
    error: InputError | None = None
    byteorder: str = "little"
    tensors: tuple[TensorEntry, ...] = ()
    """Of a format whose header lists them (safetensors, GGUF, TensorFlow)."""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    """The `__metadata__` of a safetensors file; the texts of a GGUF file that are about it."""
    leaves: Mapping[str, bool | int | float | str | None] = field(
        default_factory=dict[str, bool | int | float | str | None]
    )
    """The other values of a GGUF file."""
    notes: tuple[str, ...] = ()
    """What a person should know of."""
    checksums: tuple[Checksum, ...] = ()
    """Of the values in a TensorFlow checkpoint, not compared yet: see `check_sums`."""
    inner: tuple[Reading, ...] = ()
    """Readings of what is wrapped: an archive in an archive, a compressed pickle."""
    unread: tuple[str, ...] = ()
    """Members that were not looked into, with the reason; anything here forbids `clean`."""
    foreign: Foreign | None = None
    """What it is where sdtool does not read it; its format is `UNKNOWN` then."""

    @property
    def slug(self) -> str:
        """What JSON and reports call it: its format, or what else it is."""
        return self.format if self.foreign is None else self.foreign.slug


@dataclass(frozen=True, slots=True, eq=False)
class WeightSet:
    """The same weights once more: those of the last step beside averages, or the other way round.

    `key` is where they stand beside the others, `tensors` have their names below it.
    """

    key: str
    holds: Literal["raw", "EMA"]
    tensors: tuple[TensorEntry, ...]

    @property
    def named(self) -> tuple[TensorEntry, ...]:
        """The tensors under names that no other set has: the key before each."""
        return tuple(entry.changed(name=f"{self.key}.{entry.name}") for entry in self.tensors)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The one loadable reading of a file, flattened by `weights.py`.

    `tensors` are the weights, in file order, with unique names. `training` holds the tensors of
    optimizer, scheduler, callback and loop state, named by their whole path. `leaves` are the
    non-tensor values by dotted path (`epoch`, `global_step`, `name`, ...), only None, bool, int,
    float and str. `kind` says how the file wraps its weights.
    """

    reading: Reading
    kind: str
    """`state-dict`, `embedding`, `hypernetwork`, `module` or `safetensors`."""
    tensors: tuple[TensorEntry, ...]
    training: tuple[TensorEntry, ...]
    leaves: Mapping[str, bool | int | float | str | None]
    metadata: Mapping[str, str]
    wrappers: tuple[str, ...] = ()
    """The keys that were taken off to get at the weights, such as `("state_dict",)`."""
    notes: tuple[str, ...] = ()
    """What a person should know of, such as tensors without names."""
    left_out: tuple[LeftOut, ...] = ()
    """Tensors that are no weights to torch either: attributes of pickled modules."""
    others: tuple[WeightSet, ...] = ()
    """Further sets of the same weights, which loaders pass over where `tensors` are."""

    @property
    def source(self) -> Source:
        """Where the bytes are."""
        return self.reading.source

    @property
    def format(self) -> Format:
        """The format of the file."""
        return self.reading.format

    def close(self) -> None:
        """Close the file, if it is one; the tensors can be read no more."""
        if isinstance(self.source, LocalFile):
            self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
