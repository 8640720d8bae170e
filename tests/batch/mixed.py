"""A folder of models as people have them: many kinds, good and bad, with what lies beside them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors.torch import save_file
from tests.cli.kinds import embedding, hypernetwork, lora, upscaler
from tests.forge import call, name, pickled, tensor, torch_legacy, torch_zip

from sdtool.cli.demo.torch_zip import write_torch_zip
from sdtool.cli.demo.training import training_checkpoint, trapped_checkpoint

Tree: TypeAlias = dict[str, tuple[bytes, int] | str]

TRAP = torch_zip(pickled(call(name("os", "system"), "echo")), {})
VAE = "first_stage_model."


def untidy(folder: Path) -> Path:
    """Make a folder with a file to convert and one for the quarantine."""
    folder.mkdir()
    torch.save(lora(), folder / "l.pt")
    (folder / "x.ckpt").write_bytes(TRAP)
    return folder


def tree(folder: Path) -> Tree:
    """Every file below `folder`: its bytes and its time; of a link, what it leads to."""
    return {
        path.relative_to(folder).as_posix(): os.readlink(path)
        if path.is_symlink()
        else (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def library(folder: Path) -> None:
    """200 files in the folders of A1111: each of its own content, but for three copies."""
    places = {word: folder / "models" / word for word in ("Stable-diffusion", "Lora", "ESRGAN")}
    places["embeddings"] = folder / "embeddings"
    places["hypernetworks"] = folder / "models" / "hypernetworks"
    for place in places.values():
        place.mkdir(parents=True)
    models, loras = places["Stable-diffusion"], places["Lora"]
    training = training_checkpoint()
    write_torch_zip(models / "last.ckpt", training.content)
    write_torch_zip(models / "trapped.ckpt", trapped_checkpoint(training))
    for side in ("yaml", "preview.png", "civitai.info", "json"):
        (models / f"trapped.{side}").write_bytes(side.encode())
        (models / f"last.{side}").write_bytes(side.encode())
    for i in range(12):
        torch.save(lora(i), loras / f"lora{i:02}.pt")
        (loras / f"lora{i:02}.preview.png").write_bytes(b"\x89PNG%d" % i)
        save_file(lora(100 + i), loras / f"safe{i:02}.safetensors")
    for i in range(20):
        (models / f"evil{i:02}.ckpt").write_bytes(TRAP + bytes(i))
        if i < 10:
            (models / f"evil{i:02}.txt").write_text(f"notes {i}")
        torch.save(embedding() | {"step": i}, places["embeddings"] / f"word{i:02}.pt")
    for i in range(5):
        torch.save(hypernetwork() | {"step": i}, places["hypernetworks"] / f"hyper{i}.pt")
    torch.save(upscaler(), places["ESRGAN"] / "up.pth")
    body = pickled({"w": tensor()})
    for i in range(8):
        (loras / f"cut{i}.safetensors").write_bytes(b"\xff\0\0\0\0\0\0\0{" + bytes(i))
        (models / f"page{i}.ckpt").write_text(f"<!DOCTYPE html><html>{i}</html>")
        (models / f"odd{i}.ckpt").write_bytes(torch_zip(body, {"0": bytes(12) + bytes([i] * 4)}))
        (models / f"old{i}.pth").write_bytes(torch_legacy(pickled({"n": i})))
    (models / "line\nbreak.ckpt").write_bytes(TRAP)
    (models / "größe 大.ckpt").write_bytes(TRAP + b"\0\0")
    (loras / "empty.pt").write_bytes(b"")
    shutil.copy(loras / "lora00.pt", loras / "copy.pt")
    shutil.copy(loras / "lora00.pt", places["embeddings"] / "lora00.pt")
    (loras / "lora01.ckpt").write_bytes((loras / "lora01.pt").read_bytes())  # the same output
    save_file(lora(2), loras / "lora02.safetensors")  # it holds all of lora02.pt
    save_file(lora(55), loras / "lora03.safetensors")  # and this something else
    (loras / "link.pt").symlink_to("lora00.pt")
    for number in range(200 - len(tree(folder))):
        (models / f"notes{number}.txt").write_text(str(number))
