"""The files that programs find by a model's name: its config, its VAE, its picture, its notes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sdtool.checkpoint.errors import OutputError

_SUFFIXES = (
    ".yaml", ".json", ".txt", ".civitai.info", ".metadata.json",
    ".png", ".jpg", ".jpeg", ".webp",
    ".preview.png", ".preview.jpg", ".preview.jpeg", ".preview.webp",
    ".vae.pt", ".vae.ckpt", ".vae.safetensors",
)  # fmt: skip
"""What follows the model's stem.

Source: A1111 `sd_models_config.find_checkpoint_config_near_filename`,
`sd_vae.find_vae_near_checkpoint`, `ui_extra_networks.find_preview`; Civitai Helper."""


def sidecars(model: Path, stem: str) -> list[Path]:
    """Return the sidecars of `model` that exist; `stem` is its name without the suffix."""
    found = (model.with_name(stem + suffix) for suffix in _SUFFIXES)
    return [path for path in found if path.is_file() and path.name != model.name]


def renamed(sidecar: Path, stem: str, out: Path, out_stem: str) -> Path:
    """Return what a sidecar of `stem` is called beside an output of `out_stem`."""
    return out.with_name(out_stem + sidecar.name[len(stem) :])


def copy_sidecar(sidecar: Path, to: Path) -> bool:
    """Copy one sidecar; one that is there already stays, and the answer is False.

    Raises:
        OutputError: the operating system refused.
    """
    if os.path.lexists(to):
        return False
    try:
        with sidecar.open("rb") as source, to.open("xb") as copy:
            shutil.copyfileobj(source, copy)
        shutil.copystat(sidecar, to)
    except FileExistsError:
        return False
    except OSError as e:
        to.unlink(missing_ok=True)
        reason = (e.strerror or type(e).__name__).lower()
        raise OutputError(f"cannot be written ({reason})", where=os.fspath(to)) from e
    return True
