"""What an output is called: known suffixes replaced, kinds kept, nothing stacked."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import PurePath

from sdtool.convert.plan.target import Target

REPLACED_SUFFIXES = (
    ".ckpt", ".pt", ".pth", ".bin", ".safetensors", ".sft", ".pkl", ".pickle", ".pth.tar",
    ".gguf", ".index",
)  # fmt: skip
"""The suffixes that are replaced; anything else after a dot belongs to the name."""
_LONGEST_FIRST = sorted(REPLACED_SUFFIXES, key=len, reverse=True)

VARIANTS = {"raw-only": "-pruned", "ema-only": "-pruned-emaonly", "keep-both": "-pruned-full"}
PARTIAL = ".sdtool-partial-"
"""What the name of a file on its way holds, so that a leftover of a killed run is recognised."""
DTYPES = ("fp32", "fp16", "bf16", "fp8_e4m3fn", "fp8_e5m2")

PARTS = ("unet", "vae", "text")
"""The components that may have a type of their own, in the order of a name."""

KINDS = (".vae", ".unet", ".text")
"""What stands before the suffix of a file that holds one component."""

_DTYPE = rf"[-_.](?:{'|'.join(DTYPES)})"
_PART = rf"-(?:unet|vae|text)-(?:{'|'.join(DTYPES)}|keep)"
_STEM = re.compile(
    rf"(?P<name>.+?)(?P<early>{_DTYPE})?"
    rf"(?P<variant>[-_]pruned(?:[-_](?:emaonly|full))?|[-_]emaonly)?(?P<dtype>{_DTYPE})?"
    rf"(?(variant)(?P<parts>(?:{_PART})*))",
    re.IGNORECASE | re.DOTALL,
)
_PARTIAL = re.compile(rf"\.(?P<name>.*){re.escape(PARTIAL)}(?P<pid>\d+-)?[0-9a-f]{{8}}", re.DOTALL)
_TELLING = 50
"""Letters of a name that are never cut off, and tell it from the others of a run."""
_INERT = re.compile(r"-inert(?![^-_.])", re.IGNORECASE)


def output_name(
    path: str | PurePath,
    *,
    variant: str | None = None,
    dtype: str | None = None,
    parts: Mapping[str, str | None] | None = None,
    to: Target = Target.SAFETENSORS,
) -> str:
    """Return the file name (no folder) for what is made of `path`.

    `variant` is one of `VARIANTS`, `dtype` one of `DTYPES` or `keep`. `parts` gives
    components (`unet`, `vae`, `text`) a type of their own. A name that says it
    already is left alone, one that says otherwise is corrected. An inert `.pt` made of a `.pt` of
    the same name is called `-inert`; one that is called so is its own output.
    """
    name = base_name(path)
    stem, kind = split_name(name)
    # transformers looks for `model.safetensors` where it looked for `pytorch_model.bin`
    if to is Target.SAFETENSORS and re.match(r"pytorch_model(?=$|[.-])", stem):
        stem = stem.removeprefix("pytorch_")
    match = _STEM.fullmatch(stem)
    if match is not None:
        early, form, late = (match[group] or "" for group in ("early", "variant", "dtype"))
        if variant is not None and _plain(form) != _plain(VARIANTS[variant]):
            form = VARIANTS[variant]
        if dtype not in (None, "keep") and _plain(late or early) != _plain(f"-{dtype}"):
            early, late = "", f"-{dtype}"
        own = {part: own for part, own in (parts or {}).items() if own not in (None, dtype)}
        named_parts = "".join(f"-{part}-{own[part]}" for part in PARTS if part in own)
        if not own and dtype in (None, "keep"):
            named_parts = match["parts"] or ""
        stem = match["name"] + early + form + late + named_parts
    result = f"{stem}{kind}.{to}"
    if to is Target.PT and result == name and not _INERT.search(stem):
        return f"{stem}-inert{kind}.{to}"
    return result


def base_name(path: str | os.PathLike[str]) -> str:
    """Return the last part of a path, as `PurePath(path).name` does in five times the time."""
    name = os.path.basename(path)
    return PurePath(path).name if name in ("", ".", "..") else str(name)


@lru_cache(256)  # the same one is asked for by all that plan the output of a file
def split_name(name: str) -> tuple[str, str]:
    """Return the stem and the kind infix (one of `KINDS`, or nothing) of a file name."""
    lower = name.lower()
    for suffix in _LONGEST_FIRST:
        if lower.endswith(suffix) and len(name) > len(suffix):
            name = name[: -len(suffix)]
            break
    for kind in KINDS:
        if name.lower().endswith(kind) and len(name) > len(kind):
            return name[: -len(kind)], name[-len(kind) :]
    return name, ""


def partial_name(name: str) -> str:
    """Return what a file is called before it is whole: a new name, with the id of this process."""
    # a name may have 255 bytes, as the file system counts them
    cut = os.fsencode(name)[:210].decode(sys.getfilesystemencoding(), "ignore")
    return f".{cut}{PARTIAL}{os.getpid()}-{os.urandom(4).hex()}"


def is_partial(name: str) -> bool:
    """Whether a file is called as one is that has not got its final name yet."""
    return _PARTIAL.fullmatch(name) is not None


def is_left_of(name: str, out: str, pid: int) -> bool:
    """Whether a file is called as process `pid` calls what is to be `out`, or a sidecar of it."""
    found = _PARTIAL.fullmatch(name)
    stem = split_name(out)[0][:_TELLING]
    return found is not None and found["pid"] == f"{pid}-" and found["name"].startswith(stem)


def token_name(name: str, token: str) -> str:
    """Return `name`, an output's file name, for the one of its embeddings that `token` calls up."""
    stem, kind = split_name(name)
    suffix = name[len(stem) + len(kind) :]
    # what Windows forbids in a name, and what would leave the folder
    safe = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]+', "", token).strip(". ") or "token"
    return f"{stem}-{safe}{kind}{suffix}"


def _plain(text: str) -> str:
    return text.lower().replace("_", "-").replace(".", "-")
