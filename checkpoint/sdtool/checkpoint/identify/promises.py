"""What a file's name promises and its content does not keep."""

from __future__ import annotations

import os
import re

from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.identify.identity import Identity

_PRECISIONS = {
    "fp32": "fp32",
    "float32": "fp32",
    "fp16": "fp16",
    "float16": "fp16",
    "bf16": "bf16",
    "fp8": "fp8",
    "e4m3fn": "fp8",
    "e5m2": "fp8",
}
_NETWORKS = ("checkpoint", "unet", "transformer")


def broken_promises(name: str, identity: Identity, format: Format) -> tuple[str, ...]:
    """Return a sentence for each promise of the name that the content breaks.

    `name` is the file's name, with or without folders.
    """
    name = os.path.basename(name).lower()
    stem, suffix = os.path.splitext(name)
    words = set(re.split(r"[^a-z0-9]+", stem))
    article = "an" if identity.title[0] in "AEIOU" or identity.title.startswith("SD") else "a"
    what = f"it is {article} {identity.title}"
    found: list[str] = []
    promised_format = Format.of_suffix(suffix)
    if promised_format is Format.SAFETENSORS and format is not Format.SAFETENSORS:
        kind = ", a pickle" if format.unpickles else ""
        found.append(f"its suffix says safetensors; its content is {format}{kind}")
    if promised_format and promised_format.unpickles and format is Format.SAFETENSORS:
        found.append(f"its suffix says pickle ({suffix}); its content is safetensors")
    if identity.kind == "unknown":
        return tuple(found)
    if "emaonly" in re.sub(r"[^a-z0-9]+", "", stem) and identity.ema.state in ("full", "partial"):
        found.append(
            f"its name says emaonly; {identity.ema.tensors:,} EMA weights stand beside the raw ones"
        )
    if "pruned" in words and identity.training.nbytes:
        found.append("its name says pruned; optimizer state is still inside")
    is_vae = stem.endswith(".vae")
    if is_vae and identity.kind != "vae":
        found.append(f"its name says VAE; {what}")
    is_ti = stem.endswith(".ti")  # so cloneofsimo's trainer calls the words beside a LoRA
    others = ("vae", "upscaler") if is_ti else ("vae", "textual-inversion", "upscaler")
    if words & {"lora", "locon"} and identity.kind in others:
        found.append(f"its name says LoRA; {what}")
    if identity.kind in _NETWORKS:
        found.extend(_of_network(words, identity, what))
    promised = {_PRECISIONS[word] for word in words if word in _PRECISIONS}
    most = identity.dtype.split(" ")[0]
    if len(promised) == 1 and most != "-" and not most.startswith(tuple(promised)):
        found.append(f"its name says {promised.pop()}; most of its weights are {most}")
    return tuple(found)


def _of_network(words: set[str], identity: Identity, what: str) -> list[str]:
    found: list[str] = []
    if words & {"inpainting", "inpaint"} and "inpainting" not in (identity.version or ""):
        if identity.family in ("SD 1.x", "SD 2.x", "SDXL"):
            found.append(f"its name says inpainting; {what} with the usual 4 channels")
    if words & {"sdxl", "xl"} and identity.family in ("SD 1.x", "SD 2.x"):
        found.append(f"its name says SDXL; {what}")
    return found
