"""Files of other formats are named for what they are; checkpoints never are."""

from __future__ import annotations

import bz2
import gzip
import io
import pickle
import sqlite3
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from sdtool.checkpoint import readings
from sdtool.checkpoint.errors import NotACheckpoint, Unsupported
from sdtool.checkpoint.foreign import MAGIC, foreign_folder, foreign_kind
from sdtool.checkpoint.source import Memory


def kind_of(data: bytes, name: str = "model.ckpt") -> str | None:
    found = foreign_kind(data[:4096], data[-64:], name)
    return found.slug if found else None


def empty_zip() -> bytes:
    out = io.BytesIO()
    zipfile.ZipFile(out, "w").close()
    return out.getvalue()


def sqlite(tmp_path: Path) -> bytes:
    database = sqlite3.connect(tmp_path / "x.db")
    database.execute("create table t (a)")
    database.commit()
    database.close()
    return (tmp_path / "x.db").read_bytes()


FOREIGN: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "empty"),
    "zeros": (bytes(5000), "zeros"),
    "HTML": (b"\n  <!DOCTYPE HTML><html><head><title>Log in", "html"),
    "HTML with a mark": (b"\xef\xbb\xbf<html>", "html"),
    "HTML in UTF-16": ("<html><body>".encode("utf-16"), "html"),
    "an API's error": (b'{"error":"Unauthorized"}', "json"),
    "a list": (b'[\n  "a"]', "json"),
    "a denial": (b"Access to model stabilityai/sd3 is restricted.", "text"),
    "a missing entry": (b"Entry not found", "text"),
    "a pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4265380512\n",
        "git-lfs-pointer",
    ),
    "TensorFlow's list": (b'model_checkpoint_path: "model.ckpt-7"\n', "tensorflow-state"),
    "GGML": (b"tjgg\x01\x00\x00\x00" + bytes(20), "ggml"),
    "TFLite": (b"\x1c\x00\x00\x00TFL3" + bytes(20), "tflite"),
    "7z": (b"7z\xbc\xaf\x27\x1c\x00\x04", "7z"),
    "RAR": (b"Rar!\x1a\x07\x01\x00", "rar"),
    "gzip": (gzip.compress(b"x"), "gzip"),
    "bzip2": (bz2.compress(b"x"), "bzip2"),
    "an empty zip": (empty_zip(), "empty-zip"),
    "PNG": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "png"),
    "JPEG": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "jpeg"),
    "WebP": (b"RIFF\x24\x00\x00\x00WEBPVP8 ", "webp"),
    "PDF": (b"%PDF-1.7\n", "pdf"),
    "a script": (b"#!/bin/sh\nexit 1\n", "script"),
    "a Windows program": (
        b"MZ" + bytes(58) + struct.pack("<I", 128) + bytes(64) + b"PE\0\0", "exe"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", FOREIGN)
def test_a_file_of_another_format_is_named(what: str) -> None:
    data, slug = FOREIGN[what]
    assert kind_of(data) == slug


def test_a_database_and_a_program_of_this_machine_are_named(tmp_path: Path) -> None:
    assert kind_of(sqlite(tmp_path)) == "sqlite"
    program = Path(sys.executable).resolve().read_bytes()[:4096]
    assert kind_of(program) in ("elf", "exe", "mach-o")


@pytest.mark.parametrize(
    ("name", "data", "slug"),
    [
        ("model.ckpt-7.data-00000-of-00002", b"\x3f\x80\x00", "tensorflow-data"),
        ("model.ckpt-7.meta", b"\n\xf0\x01", "tensorflow-meta"),
        ("saved_model.pb", b"\x08\x01\x12\xf0\x7f", "tensorflow-saved-model"),
        ("config.yaml", b"model:\n  target: x\n", "yaml"),
        ("README.md", b"# Model\n", "text"),
        ("m.safetensors.crdownload", b"\x01\x02\x03", "partial-download"),
    ],
)
def test_a_name_decides_where_no_magic_does(name: str, data: bytes, slug: str) -> None:
    assert kind_of(data, name) == slug


def legacy() -> bytes:
    out = io.BytesIO()
    torch.save({"x": torch.zeros(2)}, out, _use_new_zipfile_serialization=False)
    return out.getvalue()


def zipped() -> bytes:
    out = io.BytesIO()
    torch.save({"x": torch.zeros(2)}, out)
    return out.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        legacy,
        zipped,
        lambda: save({"x": torch.zeros(2)}),
        *(lambda p=p: pickle.dumps({"a": [1, "two words", None]}, p) for p in range(6)),
        lambda: b"cos\nsystem\n(S'echo several words here'\ntR.",
    ],
)
def test_what_a_loader_would_take_has_no_foreign_name(make: Callable[[], bytes]) -> None:
    assert kind_of(make()) is None


@pytest.mark.parametrize("what", ["HTML", "a pointer", "nothing", "PNG"])
def test_no_model_at_all_is_refused_with_advice(what: str) -> None:
    (reading,) = readings(Memory(FOREIGN[what][0], "model.ckpt"))
    assert isinstance(reading.error, NotACheckpoint)
    assert reading.error.hint


@pytest.mark.parametrize("what", ["GGML", "TFLite", "7z"])
def test_a_model_of_another_program_is_refused_as_unsupported(what: str) -> None:
    (reading,) = readings(Memory(FOREIGN[what][0], "model.ckpt"))
    assert isinstance(reading.error, Unsupported)
    assert reading.error.hint


@pytest.mark.parametrize(
    ("names", "slug"),
    [
        (["model_index.json", "unet", "vae"], "diffusers-folder"),
        (["saved_model.pb", "variables"], "tensorflow-saved-model"),
        (["checkpoint", "m.index", "m.data-00000-of-00001"], "tensorflow-state"),
        (["config.json", "model.safetensors"], "component-folder"),
        (["a.ckpt", "b.safetensors"], None),
        (["config.json"], None),
    ],
)
def test_folders_that_are_one_model_are_named(names: list[str], slug: str | None) -> None:
    found = foreign_folder(names)
    assert (found.slug if found else None) == slug


def test_every_row_has_advice() -> None:
    assert all(foreign.label and foreign.advice for _, _, foreign in MAGIC)
