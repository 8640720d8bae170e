"""What one reading of a file yields: its streams and its tensors, with nothing judged yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, Literal, Self

from sdtool.checkpoint.errors import InputError
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.members import Member
from sdtool.checkpoint.source import LocalFile, Source
from sdtool.checkpoint.tensors import Storage, TensorEntry
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


@dataclass(slots=True, eq=False)
class Repeat:
    """A pickle that came again: what it does, and what was found out about that once for all."""

    trace: Trace
    value: Value
    records: Mapping[str, int | None] | None = None
    """The sizes of the records with which all that it claims of its storages is true."""
    judged: Any = None
    """What a judge has made of it: see `scan.judging`."""


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
    repeat: Repeat | None = None
    """Where the same pickle was met before."""


@dataclass(frozen=True, slots=True)
class Unloaded:
    """A tensor that is neither a weight nor training state, so that no loader takes it, and why."""

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
    left_out: tuple[Unloaded, ...] = ()
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
