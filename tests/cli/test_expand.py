"""From what was typed to files."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from sdtool.batch.expand import expand_inputs, listed
from sdtool.batch.items import Item
from sdtool.checkpoint.errors import UsageError


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.ckpt", "a.pt", "sub/c.safetensors", "sub/deep/README.md"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def paths(*arguments: str, stdin: bytes | None = None) -> list[str]:
    items, problems = expand_inputs(arguments, None if stdin is None else io.BytesIO(stdin))
    assert not problems
    return [item.path.replace(os.sep, "/") for item in items]


def test_a_file_is_itself(models: Path) -> None:
    items, _ = expand_inputs(["a.pt"])
    assert items == [Item("a.pt", alone=True)]


def test_a_folder_is_walked_in_order(models: Path) -> None:
    assert paths(".") == ["./a.pt", "./b.ckpt", "./sub/c.safetensors", "./sub/deep/README.md"]


def test_partial_outputs_of_other_runs_are_passed_over_unless_they_are_wanted(
    models: Path,
) -> None:
    left = models / "sub" / ".c.safetensors.sdtool-partial-0123abcd"
    left.write_bytes(b"x")
    (models / "sub" / ".sdtool-partial-notes").write_bytes(b"x")
    told: list[str] = []
    items, _ = expand_inputs(["sub"], passed=told.append)
    assert told == [os.path.join("sub", left.name)]
    assert left.name not in [os.path.basename(item.path) for item in items]
    assert ".sdtool-partial-notes" in [os.path.basename(item.path) for item in items]
    assert [item.path for item in expand_inputs([str(left)])[0]] == [str(left)]
    told.clear()
    items, _ = expand_inputs(["sub"], passed=told.append, with_partial=True)
    assert told == [os.path.join("sub", left.name)]
    assert left.name in [os.path.basename(item.path) for item in items]


@pytest.mark.parametrize("verb", ["scan", "info", "convert", "prune"])
def test_partial_outputs_are_named_once_and_never_called_safe(
    sdtool: Run, training: Path, verb: str
) -> None:
    Path("models").mkdir()
    training.rename("models/a.ckpt")
    left = Path("models", ".b.safetensors.sdtool-partial-0123abcd")
    left.write_bytes(bytes(100))
    result = sdtool(verb, "models")
    assert result.code == 0 and left.name not in result.out
    (line,) = result.err.splitlines()
    assert ": named like a partial output" in line
    assert str(left) in line and "safe to" not in line
    assert sdtool(verb, ".", "--exclude", "*.safetensors").err.count(left.name) == 1


def test_what_is_only_named_like_a_partial_output_is_scanned(
    sdtool: Run, training: Path, trapped: Path
) -> None:
    Path("models").mkdir()
    training.rename("models/a.ckpt")
    left = trapped.rename(Path("models", ".x.sdtool-partial-deadbeef"))
    result = sdtool("scan", "models")
    assert result.code == 1
    assert f"{left}: UNSAFE" in result.out
    assert sdtool("convert", "models").code == 0  # which does not read it
    assert not list(Path("models").glob("*x.safetensors"))


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
def test_links_to_folders_are_followed_and_each_folder_is_searched_once(
    models: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    disk = tmp_path_factory.mktemp("disk")
    for name in ("y.ckpt", "more/z.pt"):
        (disk / name).parent.mkdir(exist_ok=True)
        (disk / name).write_bytes(b"x")
    (models / "sub" / "disk").symlink_to(disk)
    (models / "sub" / "again").symlink_to(disk / "more")
    (models / "sub" / "loop").symlink_to(models)
    (disk / "more" / "back").symlink_to(disk)
    assert paths(".") == [
        "./a.pt",
        "./b.ckpt",
        "./sub/c.safetensors",
        "./sub/again/z.pt",
        "./sub/deep/README.md",
        "./sub/disk/y.ckpt",
    ]
    assert len(paths("sub", ".", str(disk))) == 6
    assert len(paths("**", "**/*.pt", "sub/disk/y.ckpt")) == 6
    assert paths("sub/disk/y.ckpt", str(disk / "y.ckpt")) == ["sub/disk/y.ckpt"]


A, B, C, R = "./a.pt", "./b.ckpt", "./sub/c.safetensors", "./sub/deep/README.md"


@pytest.mark.parametrize(
    ("patterns", "left", "count"),
    [
        (["*.ckpt"], [A, C, R], 1),
        (["sub"], [A, B], 1),  # a folder counts as one
        (["./sub/"], [A, B], 1),
        (["sub/*"], [A, B], 2),
        (["**/deep", "b.ckpt"], [A, C], 2),
        (["**/a.pt", "deep/README.md"], [B, C, R], 1),
        (["sub/deep/README.md", "c.safe"], [A, B, C], 1),
        ([".*", "", "?"], [A, B, C, R], 0),
    ],
)
def test_what_is_excluded_by_its_path_its_name_or_its_folder(
    models: Path, patterns: list[str], left: list[str], count: int
) -> None:
    counts: list[int] = []
    items, problems = expand_inputs(["."], exclude=patterns, excluded=counts.append)
    found = [item.path.replace(os.sep, "/") for item in items]
    assert (found, problems, counts) == (left, [], [count])


def test_what_is_named_or_listed_is_excluded_too(models: Path) -> None:
    counts: list[int] = []
    listed = io.BytesIO(b"sub/deep/README.md\n../b.ckpt\n")
    for arguments, patterns in ((["b.ckpt", "a.pt"], ["b*"]), (["-", "a.pt"], ["deep", "*.ckpt"])):
        items, _ = expand_inputs(arguments, listed, exclude=patterns, excluded=counts.append)
        assert [item.path for item in items] == ["a.pt"]
    assert counts == [1, 1]
    absolute = str(models / "a.pt")
    assert [i.path for i in expand_inputs([absolute], exclude=[models.name])[0]] == [absolute]
    assert expand_inputs([absolute], exclude=["a.*"])[0] == []


def test_a_pattern_matches_at_any_depth(models: Path) -> None:
    assert paths("**/*.safetensors") == ["sub/c.safetensors"]
    assert paths("*.[pc]*") == ["a.pt", "b.ckpt"]


def test_a_file_whose_name_is_a_pattern_is_that_file(models: Path) -> None:
    (models / "[a].pt").write_bytes(b"x")
    assert paths("[a].pt") == ["[a].pt"]


def test_a_file_named_twice_comes_once(models: Path) -> None:
    assert paths("a.pt", "./a.pt", ".")[0] == "a.pt"
    assert len(paths("a.pt", "./a.pt", ".")) == 4


def test_what_is_not_there_is_a_problem_and_the_rest_goes_on(models: Path) -> None:
    items, problems = expand_inputs(["a.pt", "none.pt", "*.xyz"])
    assert [item.path for item in items] == ["a.pt"]
    assert [str(p) for p in problems] == [
        "none.pt: no such file or folder",
        "*.xyz: no file matches",
    ]


def test_only_a_file_named_by_itself_is_alone(models: Path) -> None:
    assert not any(item.alone for item in expand_inputs(["a.pt", "b.ckpt"])[0])
    assert not any(item.alone for item in expand_inputs(["."])[0])
    assert not any(item.alone for item in expand_inputs(["-"], io.BytesIO(b"a.pt\n"))[0])


def test_whether_a_model_is_expected_depends_on_suffix_and_naming(models: Path) -> None:
    assert Item("x.CKPT").looks_like_model
    assert not Item("README.md").looks_like_model
    assert Item("README.md", alone=True).looks_like_model


@pytest.mark.parametrize(
    "data",
    [
        b"a.pt\nb.ckpt\n",
        b"a.pt\r\nb.ckpt",
        b"\xef\xbb\xbfa.pt\n\nb.ckpt\n",
        b"a.pt\0b.ckpt\0",
        "\ufeffa.pt\r\nb.ckpt\r\n".encode("utf-16-le"),
        "\ufeffa.pt\nb.ckpt\n".encode("utf-16-be"),
        "a.pt\r\nb.ckpt\r\n".encode("utf-16-le"),
    ],
)
def test_a_list_on_standard_input_in_every_encoding(models: Path, data: bytes) -> None:
    assert paths("-", stdin=data) == ["a.pt", "b.ckpt"]


def test_names_of_a_list_are_not_patterns_and_keep_their_spaces(models: Path) -> None:
    (models / " *.pt ").write_bytes(b"x")
    assert paths("-", stdin=b" *.pt \n") == [" *.pt "]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_names_that_are_not_utf8_are_found(models: Path) -> None:
    Path(os.fsdecode(b"\xff.pt")).write_bytes(b"x")
    assert listed(b"\xff.pt\n") == [os.fsdecode(b"\xff.pt")]
    assert paths("-", stdin=b"\xff.pt\n") == [os.fsdecode(b"\xff.pt")]


def test_a_model_is_no_list(models: Path) -> None:
    with pytest.raises(UsageError, match="not a list of names"):
        expand_inputs(["-"], io.BytesIO(b"PK\x03\x04\0\0\x08\x08\0\0name"))


def test_a_dash_without_standard_input_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        expand_inputs(["-"], None)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_is_not_waited_for(models: Path) -> None:
    os.mkfifo("pipe.ckpt")
    _, problems = expand_inputs(["pipe.ckpt"])
    assert [str(p) for p in problems] == ["pipe.ckpt: not a regular file"]
    assert "./pipe.ckpt" not in paths(".")


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
def test_a_dangling_link_named_like_a_model_is_a_problem(models: Path) -> None:
    os.symlink("gone", "dead.ckpt")
    os.symlink("gone", "dead.txt")
    _, problems = expand_inputs(["."])
    assert [str(p) for p in problems] == ["./dead.ckpt: no such file or folder"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
def test_a_pattern_over_links_in_circles_ends(models: Path) -> None:
    for name in ("l1", "l2", "l3"):  # `glob` would follow them 3 ** 40 times
        (models / "sub" / name).symlink_to(models / "sub")
    (models / ".hidden").mkdir()
    (models / ".hidden" / "h.pt").write_bytes(b"x")
    assert paths("**/*.pt") == ["a.pt"]
    assert paths("**/sub") == ["sub/c.safetensors", "sub/deep/README.md"]
    assert paths("su*/**/*.md", "./**/c.*") == ["sub/deep/README.md", "./sub/c.safetensors"]
    assert paths(".hidden/**", "**/deep/**") == [".hidden/h.pt", "sub/deep/README.md"]
    _, problems = expand_inputs(["**/*.xyz"])
    assert [str(p) for p in problems] == ["**/*.xyz: no file matches"]
