"""How a pruned file was made, where the names of its tensors do not tell: written and read.

The record is the options of the command: `--ema-only --dtype fp16 --fix nai-names`. Of a baked VAE
it has the file's name.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from sdtool.checkpoint.errors import Malformed
from sdtool.checkpoint.reading import Checkpoint

KEY = "sdtool.prune"
"""The metadata key of the record."""

_VALUED = {
    "--dtype": "dtype",
    "--unet-dtype": "unet_dtype",
    "--vae-dtype": "vae_dtype",
    "--text-dtype": "text_dtype",
    "--bake-vae": "bake",
    "--only": "only",
}
_REPEATED = {"--fix": "fix", "--drop": "drop"}
_FLAGS: Mapping[str, tuple[str, object]] = {
    "--raw-only": ("variant", "raw-only"),
    "--ema-only": ("variant", "ema-only"),
    "--keep-both": ("variant", "keep-both"),
    "--fill-from-raw": ("fill_from_raw", True),
    "--dequantize": ("dequantize", True),
}


def record_of(options: Mapping[str, object]) -> str:
    """Return the record of the keyword arguments of `plan_prune`; `bake` is a file's name."""
    words: list[str] = [word for word, (key, value) in _FLAGS.items() if options.get(key) == value]
    for word, key in _VALUED.items():
        if options.get(key) not in (None, "keep"):
            words += [word, str(options[key])]
    for word, key in _REPEATED.items():
        values = options.get(key)
        assert isinstance(values, Sequence)
        words += [part for value in values for part in (word, str(value))]
    # a pattern from the command line may hold bytes that are no text
    return shlex.join(words).encode(errors="backslashreplace").decode()


def recorded_options(out: Checkpoint) -> dict[str, Any] | None:
    """Return the keyword arguments of `plan_prune` that `out` says it was made with, if it does.

    `bake`, where a VAE was baked in, is the name that its file had.

    Raises:
        Malformed: the record is none that prune writes.
    """
    text = out.metadata.get(KEY)
    if text is None:
        return None
    options: dict[str, Any] = {key: [] for key in _REPEATED.values()}
    try:
        words = iter(shlex.split(text))
        for word in words:
            if word in _FLAGS:
                key, value = _FLAGS[word]
                options[key] = value
            elif word in _REPEATED:
                options[_REPEATED[word]].append(next(words))
            else:
                options[_VALUED[word]] = next(words)
    except (ValueError, KeyError, StopIteration) as e:
        raise Malformed(f"its metadata says {KEY}: {text!a}", where=out.source.name) from e
    return options
