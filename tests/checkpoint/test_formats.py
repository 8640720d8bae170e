"""The tables of formats and containers: what is asked of a row, and in which order."""

from __future__ import annotations

import ast
import gzip
import io
import json
import pickle
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from tests import tensorflow_samples
from tests.gguf_files import gguf
from tests.protobuf import message, number
from tests.test_architecture import ROOT, SOURCES

from sdtool.checkpoint.containers.compressed import COMPRESSED
from sdtool.checkpoint.containers.container import Container
from sdtool.checkpoint.containers.gguf import GGUF
from sdtool.checkpoint.containers.hdf5 import HDF5
from sdtool.checkpoint.containers.numpy_file import NPY
from sdtool.checkpoint.containers.onnx import ONNX
from sdtool.checkpoint.containers.opening import Budget, Opening
from sdtool.checkpoint.containers.pickles import PICKLES
from sdtool.checkpoint.containers.safetensors import SAFETENSORS
from sdtool.checkpoint.containers.tars import TAR
from sdtool.checkpoint.containers.tensorflow import TENSORFLOW
from sdtool.checkpoint.containers.zips import ZIP, ZIP_BEHIND
from sdtool.checkpoint.foreign import MAGIC
from sdtool.checkpoint.formats import Format, Loading
from sdtool.checkpoint.limits import DEFAULT_LIMITS
from sdtool.checkpoint.opening import CONTAINERS
from sdtool.checkpoint.source import Memory


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [
        (".safetensors", Format.SAFETENSORS),
        (".SFT", Format.SAFETENSORS),
        (".ckpt", Format.TORCH_ZIP),
        (".pkl", Format.PICKLE),
        (".pt2", Format.TORCH_EXPORT),
        (".npy", Format.NPY),
        (".gguf", Format.GGUF),
        (".txt", None),
        ("", None),
    ],
)
def test_a_suffix_promises_a_format(suffix: str, expected: Format | None) -> None:
    assert Format.of_suffix(suffix) is expected


def test_a_suffix_promises_one_format() -> None:
    suffixes = [suffix for row in Format for suffix in row.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in suffixes)


def test_what_runs_a_pickle_is_known() -> None:
    assert {row for row in Format if row.unpickles} == {
        Format.TORCH_ZIP, Format.TORCH_LEGACY, Format.TORCH_TAR, Format.PICKLE,
    }  # fmt: skip
    assert {row for row in Format if row.loading is Loading.DATA} == {
        Format.SAFETENSORS, Format.NPY, Format.GGUF, Format.TENSORFLOW_V1, Format.TENSORFLOW_V2,
    }  # fmt: skip


def test_a_format_is_its_name_in_json() -> None:
    assert json.dumps(list(Format)[:3]) == '["safetensors", "npy", "gguf"]'
    assert f"{Format.Z_FILE}" == "z-file"


def test_the_document_lists_every_format() -> None:
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    table = text[text.index("| format |") : text.index("Everything else")]
    named = re.findall(r"`([a-z0-9-]+)`", "".join(re.findall(r"(?m)^\|([^|]*)\|", table)))
    assert sorted(named) == sorted(row for row in Format if row is not Format.UNKNOWN)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_format_is_compared_by_its_name(path: Path) -> None:
    """A row is asked for what it is: a name that is spelled wrong would compare to nothing."""
    slugs = {str(row) for row in Format if row is not Format.UNKNOWN}
    slugs |= {foreign.slug for _, _, foreign in MAGIC}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            sides += [item for s in sides if isinstance(s, ast.Tuple) for item in s.elts]
            texts = {side.value for side in sides if isinstance(side, ast.Constant)}
            assert not texts & slugs, f"line {node.lineno} compares {texts & slugs}"


def opened(data: bytes) -> Opening:
    budget = Budget.for_file(len(data), DEFAULT_LIMITS)
    return Opening(Memory(data, "x"), DEFAULT_LIMITS, budget, False, 0, False, lambda _: ())


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"), io.BytesIO())
    return out.getvalue()


def arrayed() -> bytes:
    out = io.BytesIO()
    np.save(out, np.zeros(3))
    return out.getvalue()


def zipped() -> bytes:
    out = io.BytesIO()
    torch.save({"x": torch.zeros(2)}, out)
    return out.getvalue()


SIGNS: dict[str, tuple[bytes, list[Container]]] = {
    "a zip": (zipped(), [ZIP]),
    "an empty zip": (b"PK\x05\x06" + bytes(18), [ZIP, PICKLES, ZIP_BEHIND]),
    "safetensors": (save({"x": torch.zeros(2)}), [SAFETENSORS, PICKLES]),
    "an array": (arrayed(), [NPY, PICKLES]),
    "GGUF": (gguf({}, []), [GGUF, PICKLES]),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(20), [HDF5, PICKLES]),
    "ONNX": (number(1, 8) + message(7, message(1)), [ONNX, PICKLES]),
    "TensorFlow V1": (tensorflow_samples.V1, [PICKLES, TENSORFLOW]),
    "the index of TensorFlow V2": (tensorflow_samples.INDEX, [PICKLES, TENSORFLOW]),
    "gzip": (gzip.compress(b"x"), [COMPRESSED, PICKLES]),
    "a tar": (tarred(), [TAR, PICKLES]),
    "a pickle": (pickle.dumps([1]), [PICKLES]),
    "a zip behind a pickle": (pickle.dumps([1]) + zipped(), [PICKLES, ZIP_BEHIND]),
    "nothing": (b"", []),
}


@pytest.mark.parametrize("what", SIGNS)
def test_containers_are_asked_in_order(what: str) -> None:
    """All but what begins as a zip is asked for a pickle: the machine says whether it is one."""
    data, expected = SIGNS[what]
    opening = opened(data)
    assert [container for container in CONTAINERS if container.begins(opening)] == expected


def test_every_format_that_is_read_has_a_container() -> None:
    given = {row for container in CONTAINERS for row in container.formats}
    assert given == {row for row in Format if row is not Format.UNKNOWN}


@pytest.mark.parametrize("what", [what for what in SIGNS if what != "nothing"])
def test_a_reading_has_a_format_of_its_container(what: str) -> None:
    data, _ = SIGNS[what]
    opening = opened(data)
    for container in CONTAINERS:
        if container.begins(opening):
            found = [reading for reading in container.read(opening) if reading.foreign is None]
            assert {reading.format for reading in found} <= set(container.formats)
            opening.found.extend(found)


def test_a_scan_imports_no_reader_of_a_format_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(save({"x": torch.zeros(2)}))
    program = (
        "import sys; from sdtool.scan import scan_file; scan_file(sys.argv[1]);"
        "print(*sorted(n.rpartition('.')[2] for n in sys.modules if n.startswith('sdtool.')))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "x.safetensors")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert {"gguf", "onnx", "tensorflow", "hdf5", "scanner"} <= loaded
    assert not loaded & {
        "gguf_cursor", "gguf_header", "onnx_graph", "tensorflow_table", "leveldb_table", "crc32c",
        "protobuf", "keras_config", "chat_templates", "templates", "ggml_types",
    }  # fmt: skip
