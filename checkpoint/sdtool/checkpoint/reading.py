"""What one reading of a file yields: streams, records and tensors, with nothing judged yet."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from sdtool.checkpoint.dtypes import DType
from sdtool.checkpoint.errors import InputError
from sdtool.checkpoint.foreign import Foreign
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.source import LocalFile, Source
from sdtool.checkpoint.trace import Anomaly, Trace
from sdtool.checkpoint.values import Value

if TYPE_CHECKING:
    from sdtool.checkpoint.crc32c import Checksum


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


class Storage:
    """The bytes of one storage, as they stand in a file. Compared by identity.

    `nbytes` bytes from `offset` of `source` when `compression` is 0; else `stored_nbytes` bytes
    that inflate to them (8 is deflate). `crc32` is the declared checksum of the record, None where
    there is none. `record_nbytes` is the size of the record, as well-formed files declare it.
    `dtype` is the type of its elements where it stands beside them; None where only a persistent
    id gives it. `header_offset` is where the local header of its record begins, in a zip.
    """

    __slots__ = (
        "_locate", "_offset", "byteorder", "compression", "crc32", "dtype", "header_offset", "key",
        "member",
        "nbytes", "record_nbytes", "source", "stored_nbytes",
    )  # fmt: skip

    def __init__(
        self,
        key: str,
        source: Source,
        offset: int | Callable[[str], int],
        nbytes: int,
        *,
        dtype: DType | None = None,
        byteorder: str = "little",
        member: str | None = None,
        crc32: int | None = None,
        compression: int = 0,
        stored_nbytes: int | None = None,
        record_nbytes: int | None = None,
        header_offset: int | None = None,
    ) -> None:
        self.key = key
        self.source = source
        self._offset = offset if isinstance(offset, int) else None
        self._locate = offset if not isinstance(offset, int) else None
        self.nbytes = nbytes
        self.dtype = dtype
        self.byteorder = byteorder
        self.member = member
        self.crc32 = crc32
        self.compression = compression
        self.stored_nbytes = nbytes if stored_nbytes is None else stored_nbytes
        self.record_nbytes = nbytes if record_nbytes is None else record_nbytes
        self.header_offset = header_offset

    @property
    def offset(self) -> int:
        """Where its bytes begin in `source`; a zip's local header is read when first asked.

        Raises:
            Malformed: there is no local header where the directory says.
            Truncated: the file ends before it.
        """
        if self._offset is None:
            assert self._locate is not None
            self._offset = self._locate(self.key)
        return self._offset


@dataclass(frozen=True, slots=True, eq=False)
class TensorEntry:
    """One tensor, and where its bytes are.

    `path` holds the keys that lead to it, `name` is its flat name. `shape` and `stride` count
    elements, `offset` is in elements from the start of `storage`. `conj` and `neg` are torch's lazy
    bits: the stored values still have to be conjugated or negated.
    """

    path: tuple[Value, ...]
    name: str
    dtype: DType
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    storage: Storage
    conj: bool = False
    neg: bool = False
    unsupported: str | None = None
    """Why its values cannot be had: `quantized`, `sparse`, `nested`, `meta`, `packed`; None when
    they can."""

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
        return tuple(replace(entry, name=f"{self.key}.{entry.name}") for entry in self.tensors)


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
