"""What is known of a file: the answer of `identify`, ready for people and for JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from sdtool.checkpoint.identify.ema import State
from sdtool.checkpoint.identify.kinds import BY_SLUG
from sdtool.checkpoint.identify.quantization import Part
from sdtool.checkpoint.identify.schemes import BLOCKS, SLUGS
from sdtool.checkpoint.identify.words import families_in
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.tensors import TensorEntry

Confidence = Literal["certain", "likely", "guess", "none"]
"""`certain`: every tensor stands where a known layout has it; `likely`: a signature that only one
kind has; `guess`: shapes that more than one kind could have; `none`: unknown."""

_PLAIN: dict[Confidence, str] = {
    "certain": "every tensor stands where this network has it",
    "likely": "it has names and shapes that only this network has",
    "guess": "more than one network could have these names and shapes",
}
_SHOWN_BY_NAMES = BY_SLUG.keys() - {
    "unknown",
    "training-state",
    "textual-inversion",
    "hypernetwork",
}
"""Kinds whose reason names a tensor."""
_SOURCES = r" \([^()]*\)"

SHORT = {
    "float64": "fp64",
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float8_e4m3fn": "fp8_e4m3fn",
    "float8_e5m2": "fp8_e5m2",
}


@dataclass(frozen=True, slots=True)
class Fit:
    """How a component differs from the nearest known layout; names are whole names of the file."""

    layout: str
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]
    """Names whose shape is not the layout's."""

    @property
    def exact(self) -> bool:
        """Whether nothing is missing, unexpected or misshapen."""
        return not (self.missing or self.unexpected or self.misshapen)


@dataclass(frozen=True, slots=True)
class Component:
    """One part of a file; `precision` counts the elements of each dtype, and the weights of each
    scheme where those are quantized to integers.
    """

    role: str
    """`unet`, `transformer`, `vae`, `text-encoder`, `ema`, `schedule`, `other`, ..."""
    label: str
    prefix: str
    tensors: int
    parameters: int
    nbytes: int
    precision: Mapping[str, int]
    fit: Fit | None = None

    @property
    def dtype(self) -> str:
        """Its precision in one word: of its floats, all that hold a hundredth of them or more."""
        return dtype_word(self.precision)


def dtype_word(precision: Mapping[str, int]) -> str:
    """Sum up elements per dtype: `fp16`, `fp32 + fp16` (the larger share first), `-` for none."""
    codes = SLUGS | BLOCKS.keys()
    floats = {name: n for name, n in precision.items() if "float" in name or name in codes}
    counted = floats if any(floats.values()) else precision
    total = sum(counted.values())
    large = [name for name, n in counted.items() if n * 100 >= total]
    large.sort(key=lambda name: -counted[name])
    return " + ".join(SHORT.get(name, name) for name in large) or "-"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the network predicts: `epsilon`, `v`, `edm`, `flow`, or `undecided` until a value is
    read.
    """

    type: str
    reason: str


@dataclass(frozen=True, slots=True)
class EmaState:
    """The EMA weights of a file; `pairs` of them have a raw weight of the same shape."""

    state: State
    tensors: int
    nbytes: int
    pairs: int
    orphans: tuple[str, ...]
    bare: tuple[str, ...]
    misfits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Training:
    """What only a training needs."""

    tensors: int
    nbytes: int
    epoch: int | None
    global_step: int | None


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA or one of its relatives."""

    algorithms: Mapping[str, int]
    """Modules changed by each algorithm."""
    modules: Mapping[str, int]
    """Modules changed in each part: `unet`, `text-encoder`, `text-encoder-2`, ..."""
    ranks: Mapping[int, int]
    """Modules of each rank (of OFT, of each block size)."""
    alpha: float | None
    """From the metadata, or once a value is read."""
    naming: str
    """`kohya`, `diffusers`, `peft`, `xlabs`, `simo`: whose names the keys follow."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """Textual inversion: vectors and width of each tensor, by the name it has in the file."""

    tokens: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Hypernetwork:
    """`widths` of the attention contexts it serves, and the layer sizes as multiples of those."""

    widths: tuple[int, ...]
    layer_structure: tuple[float, ...]
    activation: str | None
    layer_norm: bool


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file is. `probe` is the one tensor whose values would still decide something."""

    kind: str
    family: str | None
    version: str | None
    confidence: Confidence
    reason: str
    components: tuple[Component, ...]
    ema: EmaState
    training: Training
    prediction: Prediction | None = None
    adapter: Adapter | None = None
    embedding: Embedding | None = None
    hypernetwork: Hypernetwork | None = None
    quantization: tuple[Part, ...] = ()
    """The schemes of its quantized weights."""
    notes: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    """Families that its layers fit alike, where nothing decides; `family` names the likely ones of
    them if few."""
    probe: TensorEntry | None = None

    @property
    def families(self) -> tuple[str, ...]:
        """Every family that it could be of or serves; none where that is not known."""
        return self.candidates or families_in(self.family)

    @property
    def title(self) -> str:
        """Family, kind and version in one line: `SD 1.x checkpoint, inpainting`."""
        label = BY_SLUG[self.kind].label
        title = f"{self.family} {label}" if self.family else label
        return f"{title}, {self.version}" if self.version else title

    @property
    def plain_reason(self) -> str:
        """The reason without names of tensors and sources."""
        if self.adapter is not None or self.kind not in _SHOWN_BY_NAMES:
            return re.sub(_SOURCES, "", self.reason)
        return _PLAIN.get(self.confidence, self.reason)

    @property
    def tensors(self) -> int:
        """Tensors of all components."""
        return sum(part.tensors for part in self.components)

    @property
    def nbytes(self) -> int:
        """Bytes of all components' tensors."""
        return sum(part.nbytes for part in self.components)

    @property
    def precision(self) -> Mapping[str, int]:
        """Elements of each dtype over all components."""
        total: dict[str, int] = {}
        for part in self.components:
            for name, n in part.precision.items():
                total[name] = total.get(name, 0) + n
        return total

    @property
    def dtype(self) -> str:
        """The precision of the whole in one word, as `Component.dtype`."""
        return dtype_word(self.precision)

    def as_json(self) -> dict[str, Any]:
        """All of it as plain dicts, lists, strings and numbers."""
        data: dict[str, Any] = {"kind": self.kind, "family": self.family}
        data |= {"families": list(self.families), "version": self.version}
        data |= {"title": self.title, "confidence": self.confidence, "reason": self.reason}
        data |= {"tensors": self.tensors, "tensor_bytes": self.nbytes, "dtype": self.dtype}
        data["components"] = [_plain(part) | {"dtype": part.dtype} for part in self.components]
        for name in ("ema", "training", "prediction", "adapter", "embedding", "hypernetwork"):
            value = getattr(self, name)
            data[name] = None if value is None else _plain(value)
        data["quantization"] = [_plain(part) for part in self.quantization]
        data["notes"] = list(self.notes)
        data["probe"] = self.probe.name if self.probe else None
        return data


_JSON_KEYS = {"nbytes": "size_bytes", "bare": "missing"}
"""What a field is called in JSON, where that is not its name."""


def _plain(value: Any) -> dict[str, Any]:
    return {_JSON_KEYS.get(name, name): held for name, held in asdict(value).items()}
