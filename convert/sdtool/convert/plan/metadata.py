"""The metadata of an output: what was there and still holds, and the model's own few facts."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sdtool.checkpoint.identify.quantization import LAYERS, declared_as, declared_layers
from sdtool.checkpoint.reading import Checkpoint

if TYPE_CHECKING:
    from sdtool.convert.plan.selection import LeftOut, Selected

HASH_KEYS: Mapping[str, str] = {"modelspec.hash_sha256": "0x", "sshs_model_hash": ""}
"""Keys that hold the SHA-256 of all bytes after the header, and what stands before the digits.

Source: modelspec 1.0.1; kohya sd-scripts (`precalculate_safetensors_hashes`)."""

LEFT_OUT = "sdtool.left_out"
"""The key for the names of weights that the output could not hold, a JSON list."""

PICKLED = "__metadata__"
"""What holds, beside the weights of a .pt file, the metadata that a safetensors file had."""

QUANTIZED = (LAYERS, "quantization_config")
"""Keys that describe quantized weights, and nothing else."""

_MEANING = (*QUANTIZED, "tensor_names")
"""Keys without which quantized weights mean nothing: those, and torchao's list of its tensors."""

_PIECE = 1 << 13
"""Characters of a pickled text: a long one would not be read back as a string."""
_VALUE_NBYTES = 4096
_INT_LIMIT = 1 << 64


def metadata_of(
    checkpoint: Checkpoint,
    entries: Iterable[Selected],
    left_out: Iterable[LeftOut] = (),
    *,
    dequantized: bool = False,
) -> dict[str, str]:
    """Return the metadata for an output that holds `entries` of `checkpoint`.

    `format: pt`, what a safetensors input had (less what the rewrite makes false), the leaves at
    the top of a pickle as flat strings, and the names of weights that no output can hold.
    """
    entries = tuple(entries)
    leaves = {key: _text(value) for key, value in checkpoint.leaves.items() if "." not in key}
    metadata = {key: text for key, text in leaves.items() if text is not None and _is_text(key)}
    metadata["format"] = "pt"
    metadata.update(stored_metadata(checkpoint))
    # taken over a part of the file that changes with any metadata
    metadata.pop("sshs_legacy_hash", None)
    # how the input was made of another file: not how this one is made
    metadata.pop("sdtool.prune", None)
    if dequantized:
        for key in QUANTIZED:
            metadata.pop(key, None)
    else:
        _fit_layers(metadata, checkpoint, entries)
    if dequantized or any(s.dtype is not s.entry.dtype for s in entries):
        for key in [key for key in metadata if re.fullmatch(r"modelspec\..*dtype", key)]:
            del metadata[key]
    if names := [left.name for left in left_out]:
        import json  # as below: few outputs need it

        metadata[LEFT_OUT] = json.dumps(names)
    return metadata


def _fit_layers(
    metadata: dict[str, str], checkpoint: Checkpoint, entries: Iterable[Selected]
) -> None:
    """Have ComfyUI's list of quantized layers name those that are kept, as they are called now."""
    layers = declared_layers(metadata)
    names = {s.entry.name: s.name for s in entries}
    listed: dict[str, str | None] = {}
    for entry in checkpoint.tensors if layers else ():
        key = declared_as(layers or {}, entry.name) if entry.name.endswith(".weight") else None
        if key is None:
            continue
        name = names.get(entry.name)
        if name == entry.name:
            listed[key] = key
        else:
            listed[key] = None if name is None else name.removesuffix(".weight")
    if not layers or all(key == name for key, name in listed.items()):
        return
    renamed = {key: listed.get(key, key) for key in layers}
    kept = {name: layers[key] for key, name in renamed.items() if name is not None}
    import json

    whole = metadata.pop(LAYERS)
    if kept:
        with contextlib.suppress(RecursionError):  # nested more deeply than any program reads
            metadata[LAYERS] = json.dumps({**json.loads(whole), "layers": kept})


def stored_metadata(checkpoint: Checkpoint) -> Mapping[str, str]:
    """Return the metadata that a safetensors file has, or that a .pt file was given of one."""
    if checkpoint.metadata:
        return checkpoint.metadata
    found: dict[str, str] = {}
    for path, value in checkpoint.leaves.items():
        if path.startswith(PICKLED + ".") and isinstance(value, str):
            key = path.removeprefix(PICKLED + ".").rpartition(".")[0]
            found[key] = found.get(key, "") + value
    return found


def pickled_metadata(metadata: Mapping[str, str]) -> dict[str | int, list[str]]:
    """Return metadata as a .pt file holds it, each text a list of short pieces; nothing unless
    quantized weights need it.
    """
    if metadata.keys().isdisjoint(_MEANING):
        return {}
    return {
        key: [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)] or [""]
        for key, text in metadata.items()
    }


def stated_left_out(metadata: Mapping[str, str]) -> frozenset[str]:
    """Return the names of tensors that an output says it left out."""
    import json

    try:
        names: Any = json.loads(metadata.get(LEFT_OUT, "[]"))
        return frozenset(str(name) for name in names)
    except (ValueError, TypeError, RecursionError):
        return frozenset()


def _text(value: bool | float | str | None) -> str | None:
    """Return the flat string for a leaf; None for what is better not said."""
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case int():
            return str(value) if -_INT_LIMIT < value < _INT_LIMIT else None
        case float():
            return repr(value) if math.isfinite(value) else None
        case str():
            # A1111 decodes a value that starts with a brace as JSON
            return value if _is_text(value) and not value.startswith("{") else None


def _is_text(value: str) -> bool:
    try:
        return len(value.encode()) <= _VALUE_NBYTES
    except UnicodeEncodeError:
        return False
