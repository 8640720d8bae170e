"""The files that programs find by a model's name: its config, VAE, preview image and notes."""

from __future__ import annotations

import os
from pathlib import Path

from sdtool.batch.draft import Draft
from sdtool.batch.file_keys import same_file
from sdtool.batch.items import MODEL_SUFFIXES, is_remote
from sdtool.batch.moving import copy_file
from sdtool.checkpoint import OutputError
from sdtool.convert import split_name

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


def own_sidecars(model: Path) -> list[Path]:
    """Return the sidecars of `model` that no other model beside it has as well."""
    stem = "".join(split_name(model.name))
    for other in model.parent.iterdir():
        is_model = other.suffix.lower() in MODEL_SUFFIXES and other.name != model.name
        if is_model and "".join(split_name(other.name)) == stem:
            return []
    return sidecars(model, stem)


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
        copy_file(sidecar, to)
    except OutputError as e:
        if os.path.lexists(to) and e.where == os.fspath(to):
            return False  # it has appeared meanwhile
        raise
    return True


def mind_sidecars(draft: Draft, source: Path, out: Path, *, copy: bool) -> None:
    """Name the files that programs would look for under the output's name, or copy them.

    What is beside a file elsewhere is not looked for.
    """
    if is_remote(draft.path):
        return
    stem, out_stem = "".join(split_name(source.name)), "".join(split_name(out.name))
    for sidecar in sidecars(source, stem):
        to = renamed(sidecar, stem, out, out_stem)
        if same_file(sidecar, to):
            continue
        copied = copy and copy_sidecar(sidecar, to)
        draft.sidecars[os.fspath(sidecar)] = os.fspath(to) if copied else None
        if copy and not copied:
            draft.notes.append(f"{to} already exists and was kept")
