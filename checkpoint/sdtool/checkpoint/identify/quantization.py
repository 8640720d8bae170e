"""Which tensors of a file are quantized weights, and what belongs to each of them.

Names, shapes, element types and metadata together tell; no value is read. A cast of codes or of
their scales would make other weights of them, so convert and prune ask here first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any

from sdtool.checkpoint.identify.grids import grid_of
from sdtool.checkpoint.identify.schemes import (
    AFTER,
    BESIDE,
    BLOCKS,
    CODES,
    FLOAT,
    FP8,
    LEAVES,
    TABLE,
    UNKNOWN,
    Scheme,
)
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.tensors import TensorEntry

MARKER = "scaled_fp8"
"""The name, behind a prefix, of ComfyUI's tensor that says: the fp8 below has scales. Its element
type and its size mean something, its values do not. Source: ComfyUI comfy/utils.py
(`convert_old_quants`)."""

LAYERS = "_quantization_metadata"
"""The metadata key of ComfyUI's list of quantized layers. Source: ComfyUI QUANTIZATION.md."""

_METADATA = (LAYERS, "quantization_config")
_COMFY = ".comfy_quant"
_MARKERS = 64
_SCOPE = (
    r"(model\.diffusion_model|diffusion_model|first_stage_model|vae|cond_stage_model"
    r"|conditioner\.embedders\.\d+|text_encoders\.\w+)\."
)
_SIGNS = tuple({row.sign for row in TABLE})
_CODES = CODES | FP8
"""Types that codes may have, where nothing beside them says that they are codes."""
_ORPHANS = (".scale_weight", ".weight_scale", ".weight_scale_inv")


@dataclass(frozen=True, slots=True)
class Group:
    """One quantized weight; all names are of tensors in the file.

    `codes` or `scale` is None, and `lacks` says so, where a group is only half there.
    """

    scheme: Scheme
    codes: str | None
    scale: str | None
    others: tuple[str, ...] = ()
    lacks: str | None = None

    @property
    def members(self) -> tuple[str, ...]:
        """Every tensor of it: codes, scale and what else belongs to them."""
        return tuple(name for name in (self.codes, self.scale) if name is not None) + self.others


@dataclass(frozen=True, slots=True)
class Part:
    """What a file holds of one scheme: `weights` are groups, `tensors` all that belong to them."""

    scheme: str
    label: str
    weights: int
    tensors: int
    can_dequantize: bool


@dataclass(frozen=True, slots=True)
class Quantization:
    """The quantized weights of a file; false when there are none."""

    groups: tuple[Group, ...] = ()
    markers: tuple[str, ...] = ()
    """Tensors that speak of all: `scaled_fp8`."""
    metadata: tuple[str, ...] = ()
    """Keys of the metadata that speak of quantized layers."""
    of: Mapping[str, Group] = field(default_factory=dict[str, Group])
    """The group that a tensor belongs to, by name."""

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.groups)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Weights and tensors of each scheme, the most frequent first."""
        found: dict[str, list[Group]] = {}
        for group in self.groups:
            found.setdefault(group.scheme.label, []).append(group)
        parts = [_part(label, groups, self.markers) for label, groups in found.items()]
        return tuple(sorted(parts, key=lambda part: -part.weights))

    @property
    def label(self) -> str:
        """All of it in a few words: `304 in NF4 (bitsandbytes)`."""
        return "; ".join(f"{part.weights:,} in {part.label}" for part in self.parts)


def _part(label: str, groups: list[Group], markers: tuple[str, ...]) -> Part:
    scheme = groups[0].scheme
    members = {name for group in groups for name in group.members}
    if scheme.slug == "fp8-scaled":
        members.update(markers)
    weights = sum(group.codes is not None for group in groups)
    can = scheme.is_product and not any(group.lacks for group in groups)
    return Part(scheme.slug, label, weights, len(members), can)


def quantization_of(
    tensors: Iterable[TensorEntry], metadata: Mapping[str, str] | None = None
) -> Quantization:
    """Find the quantized weights among `tensors`, which are all of one file or of one set.

    `metadata` is that of a safetensors file.
    """
    named = {entry.name: entry for entry in tensors}
    finder = _Finder(named, declared_layers(metadata or {}))
    groups = finder.groups()
    keys = tuple(key for key in _METADATA if key in (metadata or {}))
    of = {name: group for group in groups for name in group.members}
    return Quantization(groups, finder.markers if groups else (), keys if groups else (), of)


def scope_of(name: str) -> str:
    """Return the prefix of the network that a tensor belongs to; "" where it stands alone."""
    match = re.match(_SCOPE, name)
    return "" if match is None else match[0]


def declared_layers(metadata: Mapping[str, str]) -> Mapping[str, Any] | None:
    """Return the layers that ComfyUI's metadata lists, with what it says of each; None without."""
    if LAYERS not in metadata:
        return None
    import json  # few files have such a list

    try:
        layers = json.loads(metadata[LAYERS])["layers"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return layers if isinstance(layers, dict) else {}


def declared_as(layers: Mapping[str, Any], codes: str) -> str | None:
    """Return the name under which a weight's layer is listed: the whole one, or that below the
    prefix of its network; None where it is not.
    """
    layer = codes.rpartition(".")[0]
    if layer in layers:
        return layer
    below = layer.removeprefix(scope_of(codes))
    return below if below in layers else None


class _Finder:
    def __init__(self, named: Mapping[str, TensorEntry], layers: Mapping[str, Any] | None) -> None:
        self._named = named
        self._layers = layers
        self._found: dict[str, Group] = {}
        self._taken: set[str] = set()
        self.markers = tuple(
            name
            for name, entry in named.items()
            if name.endswith(MARKER)
            and name.rpartition(".")[2] == MARKER
            and entry.dtype.is_floating
            and entry.numel <= 2
        )
        prefixes = tuple(name.removesuffix(MARKER) for name in self.markers)
        # a file has one for each network; each of a hostile file's would be asked of every name
        self._marked = prefixes if len(prefixes) <= _MARKERS else ("",)
        self._scopes: dict[str, bool] = {}
        """Networks that have scaled fp8, and whether ComfyUI's JSON declares their layers."""

    def groups(self) -> tuple[Group, ...]:
        """Whole groups first, then what is only half there."""
        signed = [name for name in self._named if name.endswith(_SIGNS)]
        for row in TABLE:
            for name in signed:
                if name.endswith(row.sign):
                    self._signed(row, name)
        for group in self._found.values():
            if group.scheme.is_product and group.codes is not None:
                scope = scope_of(group.codes)
                is_declared = any(name.endswith(_COMFY) for name in group.others)
                self._scopes[scope] = self._scopes.get(scope, False) or is_declared
        for name, entry in self._named.items():
            dtype = entry.dtype.name
            if dtype in BLOCKS:
                self._add(Group(BLOCKS[dtype], name, None))
            elif dtype in _CODES and name not in self._taken:
                self._lone_codes(name, entry)
        if self._found or self.markers:
            for name, entry in self._named.items():
                if name not in self._taken and name.endswith(_ORPHANS):
                    self._lone_scale(name, entry)
        if not any(group.codes is not None for group in self._found.values()):
            return ()
        return tuple(self._found.values())

    def _add(self, group: Group) -> None:
        self._found[group.codes or group.scale or ""] = group
        self._taken.update(group.members)

    def _signed(self, row: Scheme, name: str) -> None:
        """Take a tensor called as the scales of `row` are, if there are codes for it."""
        base = name[: -len(row.sign)]
        codes = self._named.get(base + row.codes)
        if codes is None or codes.name in self._found or name in self._taken:
            return
        if self._fits(row, codes, self._named[name]):
            self._add(Group(row, codes.name, name, self._others(base, codes.name, name, row)))

    def _fits(self, row: Scheme, codes: TensorEntry, sign: TensorEntry) -> bool:
        if sign.dtype.name not in row.scales:
            return False
        if codes.dtype.name not in row.of:
            # a layer left at full precision among scaled ones has a scale all the same
            is_spared = row.slug == "fp8-scaled" and codes.dtype.name in FLOAT
            return is_spared and codes.name.startswith(self._marked)
        return row.sign != ".scale" or _may_be_scale(codes, sign)

    def _others(self, base: str, codes: str, scale: str, row: Scheme) -> tuple[str, ...]:
        module, _, leaf = codes.rpartition(".")
        names = [base + suffix for suffix in row.more]
        names += [codes + suffix for suffix in AFTER]
        if leaf in LEAVES:
            names += [module + suffix for suffix in BESIDE]
        elif leaf in ("_data", "_qdata") or leaf.endswith("_qdata"):
            above = module.removesuffix("._data").rpartition(".")[0] or module
            names += [above + suffix for suffix in (".input_scale", ".output_scale")]
        known = dict.fromkeys(name for name in names if name in self._named)
        return tuple(name for name in known if name not in (codes, scale))

    def _lone_codes(self, name: str, entry: TensorEntry) -> None:
        """Codes that nothing gives a meaning: a half group, or a scheme that no row knows."""
        module, _, leaf = name.rpartition(".")
        if leaf not in LEAVES or len(entry.shape) < 2:
            return
        if entry.dtype.name in CODES:
            scheme, lacks = UNKNOWN, "has no scale that is known"
        elif entry.dtype.name in FP8 and self._wants_scale(name):
            is_legacy = name.startswith(self._marked)
            scheme, lacks = _row("fp8-scaled" if is_legacy else "fp8-weight-scale"), "has no scale"
        else:  # fp8 weights as they are
            return
        self._add(Group(scheme, name, None, self._others(module, name, "", UNKNOWN), lacks))

    def _wants_scale(self, name: str) -> bool:
        """Whether an fp8 weight without a scale stands where weights have one."""
        comfy = name.rpartition(".")[0] + _COMFY
        if comfy in self._named:
            return True
        if self._layers is not None:
            return declared_as(self._layers, name) is not None
        if name.startswith(self._marked):
            return True
        # where layers are declared one by one, those that are not are plain
        return not self._scopes.get(scope_of(name), True)

    def _lone_scale(self, name: str, entry: TensorEntry) -> None:
        suffix = next(suffix for suffix in _ORPHANS if name.endswith(suffix))
        codes = name[: -len(suffix)] + ".weight"
        if codes not in self._named and entry.dtype.name in FLOAT:
            row = next(row for row in TABLE if suffix.endswith(row.sign) and row.is_product)
            self._add(Group(row, None, name, (), f"has no {codes}"))


def _row(slug: str) -> Scheme:
    return next(row for row in TABLE if row.slug == slug)


def _may_be_scale(codes: TensorEntry, scale: TensorEntry) -> bool:
    return len(codes.shape) >= 2 and grid_of(codes.shape, scale.shape) is not None
