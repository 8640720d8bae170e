"""The programs that read a folder of models: how it is recognised, and what they take.

Source: AUTOMATIC1111/stable-diffusion-webui modules/sd_models.py (`ext_filter=[".ckpt",
".safetensors"]`), modules/sd_vae.py, extensions-builtin/Lora/networks.py,
modules/hypernetworks/hypernetwork.py (`**/*.pt`), modules/esrgan_model.py (`[".pt", ".pth"]`);
Mikubill/sd-webui-controlnet scripts/global_state.py; comfyanonymous/ComfyUI folder_paths.py
(`supported_pt_extensions`); invoke-ai/InvokeAI services/model_records (paths and hashes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from sdtool.batch.kinds import LORAS
from sdtool.checkpoint import dataclass
from sdtool.checkpoint.identify import BY_SLUG

_BY_ALL = LORAS | {
    "checkpoint", "unet", "transformer", "vae",
    "controlnet", "control-lora", "controllllite", "t2i-adapter",
}  # fmt: skip
"""What A1111, Forge and ComfyUI all load from a safetensors file that has the old file's stem."""

_HYPERNETWORK = "programs load hypernetworks from .pt files only"
_EMBEDDING = "an embedding is small, and A1111 goes on training from its .pt"
_DETECTOR = "ADetailer loads the whole pickled model"
_FOR_ALL = {
    "hypernetwork": _HYPERNETWORK,
    "textual-inversion": _EMBEDDING,
    "detector": _DETECTOR,
    "training-state": "only a training program reads it",
    "unknown": "what it is for is not known",
}
_UPSCALER = {"upscaler": "A1111 and Forge load an upscaler from .pt and .pth files only"}
_NEARBY = 3
"""How many folders above the one that was named belong to the program, at most."""


@dataclass(frozen=True, slots=True)
class Program:
    """What one program takes. `rewritten` are the kinds that may become safetensors."""

    slug: str
    label: str
    rewritten: frozenset[str]
    kept: Mapping[str, str] = field(default_factory=dict[str, str])
    """Why a kind stays as it is."""
    names_have_suffixes: bool = False
    """Whether what people save (workflows) names a file with its suffix."""

    def why_kept(self, kind: str) -> str | None:
        """Return why files of a kind stay as they are; None where they need not."""
        if kind in self.rewritten:
            return None
        known = self.kept.get(kind) or _FOR_ALL.get(kind)
        return known or f"it is not known that {self.label} takes this kind as safetensors"

    def why_set_kept(self, kind: str) -> str | None:
        """Return why a sharded set stays as it is: libraries load it, by its index, but for a
        program that has the paths of all models.
        """
        return None if self.rewritten else self.why_kept(kind)


_INVOKE = "InvokeAI's database has the path of each model: convert it before it is imported"

PROGRAMS: Mapping[str, Program] = {
    one.slug: one
    for one in (
        Program("a1111", "A1111", _BY_ALL, _UPSCALER),
        Program("forge", "Forge", _BY_ALL | {"text-encoder"}, _UPSCALER),
        Program(
            "comfyui",
            "ComfyUI",
            _BY_ALL | {"text-encoder", "clip-vision", "upscaler"},
            names_have_suffixes=True,
        ),
        Program(
            "invokeai", "InvokeAI", frozenset(), dict.fromkeys(BY_SLUG, _INVOKE) | _FOR_ALL
        ),
    )
}  # fmt: skip
"""By the word that `--for` takes."""

ANY = Program("any", "every program", _BY_ALL, _UPSCALER, names_have_suffixes=True)
"""What suits all of them: for a folder that shows no program, or several."""


def program_of(folder: str | Path) -> Program:
    """Return the program whose folder it is, or is in, by the names of the folders around it.

    A folder that shows none or several gets the rules that suit all.
    """
    here = Path(folder).resolve()
    found: set[str] = set()
    bases = (here, *here.parents[:_NEARBY])
    for models in (*(base / "models" for base in bases), *(b for b in bases if b.name == "models")):
        if (models / "Stable-diffusion").is_dir():
            is_forge = (models.parent / "modules_forge").is_dir()
            found.add("forge" if is_forge else "a1111")
        if (models / "checkpoints").is_dir():
            found.add("comfyui")
        if (models / "core").is_dir() or (models.parent / "invokeai.yaml").is_file():
            found.add("invokeai")
    return PROGRAMS[found.pop()] if len(found) == 1 else ANY
