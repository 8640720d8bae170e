"""`sdtool release`, and `sdtool verify` of what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run


@pytest.fixture
def released(sdtool: Run, training: Path) -> Path:
    """The folder of a release."""
    done = sdtool("release", "training.ckpt", "-o", "out", "--title", "X", "--verify")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "training.ckpt -> out"
    assert [line.split()[0] for line in lines[1:5]] == [
        "training-pruned.safetensors", "training-pruned-emaonly.safetensors",
        "training-pruned-fp16.safetensors", "training-pruned-emaonly-fp16.safetensors",
    ]  # fmt: skip
    assert lines[5:] == [
        "  README.md, training.statement.json, SHA256SUMS",
        "  EMA: 1.41 from the raw weights (relative distance) after 470,000 updates",
        "  4 files verified",
    ]
    return Path("out")


def test_a_release_is_checked(sdtool: Run, released: Path) -> None:
    for arguments in (
        ("out",),
        ("out/SHA256SUMS",),
        ("out", "--statement", "out/training.statement.json"),
    ):
        done = sdtool("verify", *arguments)
        assert done.code == 0
        assert done.out.splitlines()[-1] == "6 of 6 files as listed"
    assert "the statement is not signed" in done.err
    data = json.loads(sdtool("verify", "out", "--json").out)
    assert [(one["ok"], one["whole"]) for one in data["files"]] == [(True, True)] * 6


def test_another_file_is_not_a_damaged_one(sdtool: Run, released: Path) -> None:
    half = (released / "training-pruned-fp16.safetensors").read_bytes()
    (released / "training-pruned.safetensors").write_bytes(half)
    (released / "training-pruned-emaonly.safetensors").write_bytes(half[:-9])
    (released / "training-pruned-emaonly-fp16.safetensors").unlink()
    (released / "README.md").write_text("mine")
    done = sdtool("verify", "out")
    assert done.code == 1
    assert (
        "out/training-pruned.safetensors: whole, but NOT the expected file (38 tensors" in done.out
    )
    assert "out/training-pruned-emaonly.safetensors: NOT whole (" in done.out
    assert "out/README.md: NOT the expected file" in done.out
    assert "out/training-pruned-emaonly-fp16.safetensors: " in done.err
    assert done.out.splitlines()[-1] == "2 of 6 files as listed"
    files = json.loads(sdtool("verify", "out", "--json").out)["files"]
    told = {Path(one["path"]).name: (one.get("whole"), one["exit_code"]) for one in files}
    assert told["training-pruned.safetensors"] == (True, 1)
    assert told["training-pruned-emaonly.safetensors"] == (False, 1)
    assert told["training-pruned-emaonly-fp16.safetensors"] == (None, 2)


def test_one_file_by_its_content(sdtool: Run, released: Path, training: Path) -> None:
    statement = ("--statement", "out/training.statement.json")
    renamed = (released / "training-pruned.safetensors").rename("download (1).safetensors")
    assert sdtool("verify", renamed, *statement).code == 0
    assert sdtool("verify", training, *statement).code == 0  # the input itself
    training.write_bytes(training.read_bytes() + b"x")
    assert sdtool("verify", training, *statement).code == 1
    Path("other.safetensors").write_bytes(b"x")
    assert "is not listed in the statement" in sdtool("verify", "other.safetensors", *statement).err


def test_json(sdtool: Run, training: Path, trapped: Path) -> None:
    data = json.loads(sdtool("release", "training.ckpt", "-o", "out", "--json").out)
    (file,) = data["files"]
    assert [one["weights"] for one in file["outputs"]] == ["raw", "EMA", "raw", "EMA"]
    bad = sdtool("release", "trapped.ckpt", "-o", "bad", "--json")
    assert (bad.code, json.loads(bad.out)["files"][0]["exit_code"]) == (1, 1)
    cut = training.read_bytes()[:-300]
    training.write_bytes(cut)
    assert sdtool("release", "training.ckpt", "-o", "bad", "--format", "jsonl").code == 2
    assert not Path("bad").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--metadata", "x"), "x: --metadata expects KEY=VALUE"),
        (("--metadata", "x=1", "--metadata", "x=2"), "x: is given twice"),
        (("--metadata", "modelspec.autor=me"), "did you mean modelspec.author?"),
        (("--license", ""), "modelspec.license: should be some text"),
    ],
)
def test_usage_errors(
    sdtool: Run, training: Path, arguments: tuple[str, ...], message: str
) -> None:
    made = sdtool("release", "training.ckpt", "-o", "out", *arguments)
    assert made.code == 2 and message in made.err
    assert not Path("out").exists()


def test_a_statement_goes_with_nothing_else(sdtool: Run, released: Path) -> None:
    statement = ("--statement", "out/training.statement.json")
    made = sdtool("verify", "training.ckpt", *statement, "--autov2", "0123456789")
    assert made.code == 2 and "cannot be used with" in made.err
    assert sdtool("verify", "https://example.org/x.ckpt", *statement).code == 2
    assert sdtool("verify", "training.ckpt", "--statement", "out/README.md").code == 2
