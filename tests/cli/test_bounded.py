"""The command on files that were made to cost much: one line, exit code 2, nothing written."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.bombs import BOMBS
from tests.cli.conftest import Run
from tests.forge import Member, dict_of, name, persistent, pickled, tensor, zip_file

from sdtool.batch.outputs import OnThisMachine
from sdtool.batch.up_to_date import is_made_of
from sdtool.checkpoint import open_checkpoint
from sdtool.convert import plan_safetensors, select_all, write_safetensors


def made(folder: Path, bomb: str) -> str:
    path = folder / f"{bomb}.ckpt"
    path.write_bytes(BOMBS[bomb].make())
    return path.name


@pytest.mark.parametrize("verb", ["convert", "convert --to pt", "convert --dry-run"])
def test_an_output_far_larger_than_its_input_is_refused(
    sdtool: Run, tmp_path: Path, verb: str
) -> None:
    name = made(tmp_path, "views-few")
    done = sdtool(*verb.split(), name, "--out-dir", "out")
    first, hint = done.err.splitlines()
    assert first.startswith("sdtool: error: views-few.ckpt: it would become a file of 1,048,")
    assert first.endswith(" bytes, of tensors that repeat or share 1,048,576 bytes")
    assert hint == "sdtool: hint: use --any-size to write it anyway"
    assert (done.code, (tmp_path / "out").exists()) == (2, False)


def test_prune_refuses_it_too_behind_the_warning(sdtool: Run, tmp_path: Path) -> None:
    done = sdtool("prune", "--dtype", "bf16", made(tmp_path, "stride-0-many"))
    warning, error, _ = done.err.splitlines()
    assert ": suspicious (a tensor claims far more elements" in warning
    assert ": it would become a file of 2,147,483," in error
    assert (done.code, len(list(tmp_path.iterdir()))) == (2, 1)


def test_any_size_goes_on(sdtool: Run, tmp_path: Path) -> None:
    done = sdtool("convert", "--dry-run", "--any-size", made(tmp_path, "views-few"))
    assert (done.code, done.err) == (0, "")
    (note,) = (line for line in done.out.splitlines() if "note:" in line)
    assert note == (
        "  note: v0 = v1 = v2 = v3 and 996 more names: one tensor in the input, written 1,000 times"
    )


@pytest.mark.parametrize("arguments", [(), ("--against", "views-few.ckpt")])
def test_verify_does_not_read_it_a_thousand_times(
    sdtool: Run, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = sdtool("verify", made(tmp_path, "views-few"), *arguments)
    assert done.err.splitlines()[0] == (
        "sdtool: error: views-few.ckpt: to read its tensors one by one takes 1,048,576,000 bytes:"
        " they repeat or share 1,048,576 bytes"
    )
    assert (done.code, done.out) == (2, "")


def test_verify_says_of_a_bomb_what_it_is(sdtool: Run, tmp_path: Path) -> None:
    done = sdtool("verify", made(tmp_path, "stride-0-many"))
    assert "tensors of 4,294,967,296,000 bytes together out of 16" in done.out
    assert (done.code, done.err) == (1, "")


@pytest.mark.parametrize(
    ("bomb", "what"),
    [
        ("long-keys", "names of more than 8,872,024 bytes"),
        ("laughs", "more than 200,106 leaves"),
    ],
)
@pytest.mark.parametrize("verb", ["convert", "info", "prune"])
def test_what_unfolds_without_end_is_one_line(
    sdtool: Run, tmp_path: Path, bomb: str, what: str, verb: str
) -> None:
    name = made(tmp_path, bomb)
    done = sdtool(verb, name)
    assert (done.code, done.err) == (2, f"sdtool: error: {name}: {what}\n")
    assert len(list(tmp_path.iterdir())) == 1


def test_info_does_not_read_it_a_thousand_times(sdtool: Run, tmp_path: Path) -> None:
    path = made(tmp_path, "views-few")
    (tmp_path / "other.ckpt").write_bytes((tmp_path / path).read_bytes())
    done = sdtool("info", "--compare", path, "other.ckpt")
    assert done.err.splitlines()[0] == (
        "sdtool: error: views-few.ckpt: to read its tensors one by one takes 1,048,576,000 bytes:"
        " they repeat or share 1,048,576 bytes"
    )
    assert done.code == 2


@pytest.mark.parametrize(("count", "is_known"), [(50, True), (200, False)])
def test_what_is_there_is_not_probed_a_thousand_times(
    tmp_path: Path, count: int, is_known: bool
) -> None:
    """Tensors that lie far inside of one deflated storage: each is inflated from its beginning."""
    numel = 1 << 20
    held = persistent(("storage", name("torch", "FloatStorage"), "0", "cpu", numel))
    weights = {
        f"w{i}": tensor(held, size=(1,), stride=(1,), offset=numel - 1 - i) for i in range(count)
    }
    content = [
        Member("archive/data.pkl", pickled(dict_of(weights))),
        Member("archive/data/0", bytes(4 * numel), zipfile.ZIP_DEFLATED),
    ]
    path, out = tmp_path / "a.ckpt", tmp_path / "a.safetensors"
    path.write_bytes(zip_file(content))
    with open_checkpoint(path) as checkpoint:
        plan = plan_safetensors(select_all(checkpoint))
        write_safetensors(plan, out)
        assert is_made_of(plan, out, OnThisMachine()) is is_known


_STORAGE_NBYTES = 300 << 20


@pytest.fixture(scope="module")
def deflated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A torch zip with one deflated storage of 300 MiB of zeros and a one: a file of 300 KB."""
    content = bytearray(_STORAGE_NBYTES)
    content[-4:] = struct.pack("<f", 1.0)
    numel = _STORAGE_NBYTES // 4
    held = persistent(("storage", name("torch", "FloatStorage"), "0", "cpu", numel))
    weights = tensor(held, size=(numel,), stride=(1,))
    path = tmp_path_factory.mktemp("deflated") / "large.ckpt"
    path.write_bytes(
        zip_file(
            [
                Member("archive/data.pkl", pickled(dict_of({"w": weights}))),
                Member("archive/data/0", bytes(content), zipfile.ZIP_DEFLATED),
            ]
        )
    )
    assert path.stat().st_size < 400_000
    return path


def test_a_deflated_storage_of_300_mib_is_read_by_every_verb(
    deflated: Path, tmp_path: Path
) -> None:
    """In an address space that the storage, held as a whole twice, would not fit into."""
    out = tmp_path / "large.safetensors"

    def run(*arguments: str | Path) -> dict[str, Any]:
        code = (
            "import resource, runpy, sys; sys.argv[0] = 'sdtool';"
            "resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29));"
            "runpy.run_module('sdtool', run_name='__main__')"
        )
        if sys.platform != "linux":
            code = code.replace("resource, ", "").replace(
                "resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29));", ""
            )
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        return dict(json.loads(done.stdout))

    report = run("scan", "--deep", "--format", "json", deflated)
    assert "clean" in json.dumps(report)
    run("convert", "--verify", "--json", deflated, "-o", out)
    head = out.read_bytes()[:8]
    assert out.stat().st_size == 8 + int.from_bytes(head, "little") + _STORAGE_NBYTES
    with out.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        assert struct.unpack("<2f", file.read()) == (0.0, 1.0)
    run("verify", "--json", deflated)
    run("verify", "--json", out, "--against", deflated)
