"""The command on files that were made to cost much: one line, exit code 2, nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.bombs import BOMBS
from tests.cli.conftest import Run


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
    assert first.startswith("sdtool: error: it would become a file of 1,048,")
    assert first.endswith(" bytes, of tensors that repeat or share 1,048,576 bytes: views-few.ckpt")
    assert hint == "sdtool: hint: --any-size writes it all the same"
    assert (done.code, (tmp_path / "out").exists()) == (2, False)


def test_prune_refuses_it_too_behind_the_warning(sdtool: Run, tmp_path: Path) -> None:
    done = sdtool("prune", "--dtype", "bf16", made(tmp_path, "stride-0-many"))
    warning, error, _ = done.err.splitlines()
    assert warning.startswith("sdtool: warning: suspicious (a tensor claims far more elements")
    assert error.startswith("sdtool: error: it would become a file of 2,147,483,")
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
        "sdtool: error: to read its tensors one by one takes 1,048,576,000 bytes: they repeat or"
        " share 1,048,576 bytes: views-few.ckpt"
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
        ("laughs", "more than 200,159 leaves"),
    ],
)
@pytest.mark.parametrize("verb", ["convert", "info", "prune"])
def test_what_unfolds_without_end_is_one_line(
    sdtool: Run, tmp_path: Path, bomb: str, what: str, verb: str
) -> None:
    name = made(tmp_path, bomb)
    done = sdtool(verb, name)
    assert (done.code, done.err) == (2, f"sdtool: error: {what}: {name}\n")
    assert len(list(tmp_path.iterdir())) == 1
