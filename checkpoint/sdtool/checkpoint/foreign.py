"""Files that sdtool does not read, by name, and what to do with each.

A row here is a name for content that no loader of torch files would take; it is never a reason not
to look for a pickle: some of these beginnings (`GGUF`, a PNG's 0x89) are opcodes too.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

from sdtool.checkpoint.light_dataclass import dataclass

Sort = Literal["model", "archive", "other"]
"""`model`: weights in another program's format; `archive`: something packed, maybe a model."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """What a file is, in a phrase ("an HTML page"), and what a person can do about it."""

    slug: str
    label: str
    advice: str
    sort: Sort = "other"


_PAGE = (
    "the download got a web page or an error message instead of the file: open the link in a"
    " browser (it may want a login or a licence), then download again"
)
_UNPACK = "unpack it first, then give the file inside to sdtool"
_GRAPH = (
    "a graph can read and write files and call Python when it is run, and sdtool does not judge"
    " it; the weights of a checkpoint are in its .index and .data files, those of a SavedModel in"
    " its folder `variables`"
)
_PICTURE = "rename it to its own suffix; a model is a separate download"
_RUNS = "sdtool cannot judge programs; do not run it because it came as a model"

EMPTY = Foreign("empty", "an empty file", "download it again")
ZEROS = Foreign(
    "zeros", "nothing but zero bytes", "the download reserved its space and never filled it: again"
)
HTML = Foreign("html", "an HTML page", _PAGE)
JSON = Foreign("json", "a JSON document", _PAGE)
LFS = Foreign(
    "git-lfs-pointer",
    "a git-lfs pointer, not the file it points to",
    "run `git lfs install` and `git lfs pull` in the clone, or download the file itself",
)
TEXT = Foreign("text", "plain text", "if it was downloaded as a model, read it: it says why not")
YAML = Foreign("yaml", "a YAML document", "a configuration goes beside its model: X.yaml by X")
ZIP_EMPTY = Foreign("empty-zip", "an empty zip archive", "download it again")
TF_DATA = Foreign(
    "tensorflow-data",
    "the values of a TensorFlow checkpoint",
    "give sdtool the .index beside them",
)
TF_META = Foreign("tensorflow-meta", "the graph of a TensorFlow checkpoint", _GRAPH, "model")
TF_STATE = Foreign(
    "tensorflow-state",
    "the list that TensorFlow keeps of its checkpoints",
    "the checkpoints are the .index files beside it",
)
SAVED_MODEL = Foreign("tensorflow-saved-model", "a TensorFlow SavedModel", _GRAPH, "model")
RIFF = {
    b"WEBP": Foreign("webp", "a WebP image", _PICTURE),
    b"WAVE": Foreign("wave", "a WAVE recording", _PICTURE),
    b"AVI ": Foreign("avi", "an AVI video", _PICTURE),
}
PARTIAL = Foreign(
    "partial-download", "an unfinished download", "let the download end, or start it again"
)

EXE = Foreign("exe", "a Windows program or library", _RUNS)

MAGIC: tuple[tuple[int, bytes, Foreign], ...] = (
    # models of other programs
    *(
        (
            0,
            magic,
            Foreign(
                "ggml",
                "a GGML model, the format before GGUF",
                "convert it with the program that made it",
                "model",
            ),
        )
        for magic in (b"lmgg", b"fmgg", b"tjgg")
    ),
    (
        4,
        b"TFL3",
        Foreign("tflite", "a TensorFlow Lite model", "use it with its own runtime", "model"),
    ),
    (
        4,
        b"PTMF",
        Foreign("torch-mobile", "a PyTorch mobile program", "use it with its own runtime", "model"),
    ),
    (
        4,
        b"ET12",
        Foreign("executorch", "an ExecuTorch program", "use it with its own runtime", "model"),
    ),
    # packed files
    (0, b"7z\xbc\xaf\x27\x1c", Foreign("7z", "a 7-Zip archive", _UNPACK, "archive")),
    (0, b"Rar!\x1a\x07", Foreign("rar", "a RAR archive", _UNPACK, "archive")),
    (0, b"\x1f\x8b", Foreign("gzip", "a gzip file", _UNPACK, "archive")),
    (0, b"BZh", Foreign("bzip2", "a bzip2 file", _UNPACK, "archive")),
    (0, b"\x28\xb5\x2f\xfd", Foreign("zstd", "a Zstandard file", _UNPACK, "archive")),
    (0, b"\x04\x22\x4d\x18", Foreign("lz4", "an LZ4 file", _UNPACK, "archive")),
    (0, b"PK\x05\x06", ZIP_EMPTY),
    # pictures, documents, data
    (0, b"\x89PNG\r\n\x1a\n", Foreign("png", "a PNG image", _PICTURE)),
    (0, b"\xff\xd8\xff", Foreign("jpeg", "a JPEG image", _PICTURE)),
    (0, b"GIF87a", Foreign("gif", "a GIF image", _PICTURE)),
    (0, b"GIF89a", Foreign("gif", "a GIF image", _PICTURE)),
    (4, b"ftyp", Foreign("mp4", "a video or image (MP4, HEIF, AVIF)", _PICTURE)),
    (0, b"%PDF-", Foreign("pdf", "a PDF document", _PICTURE)),
    (0, b"SQLite format 3\x00", Foreign("sqlite", "an SQLite database", "open it with sqlite3")),
    # programs
    (0, b"\x7fELF", Foreign("elf", "a Linux program or library", _RUNS)),
    (0, b"MZ", EXE),
    (0, b"\xcf\xfa\xed\xfe", Foreign("mach-o", "a macOS program or library", _RUNS)),
    (0, b"\xca\xfe\xba\xbe", Foreign("mach-o", "a macOS program or Java class", _RUNS)),
    (0, b"#!", Foreign("script", "a script", _RUNS)),
)
"""Offset, the bytes that stand there, and what they mean.

Source: each format's own specification.
"""

_SHARD = r"\.data-\d{5}-of-\d{5}$"
_UNFINISHED = (".crdownload", ".part", ".partial", ".aria2", ".download", ".incomplete")
_TEXT_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\r\f\x1b")


def foreign_kind(head: bytes, tail: bytes, name: str) -> Foreign | None:
    """Name the content of a file that starts with `head` and ends with `tail`, or return None.

    `head` should be the first 4 KiB and `tail` the last 64 bytes, each the whole file when that is
    shorter. `name` decides only between formats without a magic number of their own.
    """
    name = name.lower()
    if not head:
        return EMPTY
    if head.startswith(b"RIFF"):
        return RIFF.get(head[8:12])
    for offset, magic, foreign in MAGIC:
        if head.startswith(magic, offset) and (foreign is not EXE or _is_program(head)):
            return foreign
    if re.search(_SHARD, name):
        return TF_DATA
    if name.endswith(".meta") and head.startswith(b"\n"):
        return TF_META
    if head.startswith(b"\x08\x01\x12") and name.endswith(".pb"):
        return SAVED_MODEL
    if not any(head) and not any(tail):
        return ZEROS
    return _text_kind(head, name) or (PARTIAL if name.endswith(_UNFINISHED) else None)


def foreign_folder(names: Collection[str]) -> Foreign | None:
    """Name a folder that holds files called `names` and is one model, or return None."""
    if "model_index.json" in names:
        return Foreign(
            "diffusers-folder",
            "a diffusers pipeline, one folder per component",
            "every component's weights are a file of their own in its folder",
            "model",
        )
    if "saved_model.pb" in names:
        return SAVED_MODEL
    if "checkpoint" in names and any(name.endswith(".index") for name in names):
        return TF_STATE
    if "config.json" in names and any(name.endswith((".safetensors", ".bin")) for name in names):
        return Foreign(
            "component-folder",
            "one component as diffusers and transformers save it",
            "its weights are the .safetensors or .bin file in it",
            "model",
        )
    return None


def _is_program(head: bytes) -> bool:
    """Whether `MZ` is followed by the header it promises: at 0x3C stands where `PE` begins."""
    at = int.from_bytes(head[0x3C:0x40], "little")
    return head[at : at + 2] in (b"PE", b"NE", b"LE") and at > 0


def _text_kind(head: bytes, name: str) -> Foreign | None:
    """Name a text: by its first characters, else as text when it reads like lines of words."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = head.decode("utf-16", "replace").strip()
    else:
        if not _TEXT_CONTROLS.isdisjoint(head):
            return None
        try:  # the last character may be cut in two
            text = head.decode("utf-8-sig").strip()
        except UnicodeDecodeError as e:
            if e.start < len(head) - 3:
                return None
            text = head[: e.start].decode("utf-8-sig").strip()
    start = text[:200].lower()
    if start.startswith(("version https://git-lfs", "version https://hawser")):
        return LFS
    if start.startswith(("<!doctype", "<html", "<head", "<?xml", "<!--", "<script", "<svg")):
        return HTML
    if start.startswith("model_checkpoint_path:"):
        return TF_STATE
    if start.startswith("{") or re.match(r'\[\s*["\[{\d\]]', start):
        return JSON
    if name.endswith((".yaml", ".yml")):
        return YAML
    words = name.endswith((".txt", ".md", ".csv", ".py", ".log", ".toml", ".ini", ".cfg", ".sh"))
    first = text.partition("\n")[0].split()
    return TEXT if words or (len(first) > 1 and all(map(_is_word, first))) else None


def _is_word(word: str) -> bool:
    return sum(map(str.isalpha, word)) * 2 >= len(word)
