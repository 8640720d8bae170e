"""Where settings come from, what they may allow, and what is said of it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.forge import call, list_of, name, pickled

from sdtool.cli.settings import user_file

ALLOW = '[scan.allow]\n"some.package.Thing" = "ours"\n'


@pytest.fixture
def unknown(tmp_path: Path) -> Path:
    """A pickle that calls what is not on the allowlist."""
    path = tmp_path / "unknown.pkl"
    path.write_bytes(pickled(call(name("some.package", "Thing"), "x")))
    return path


@pytest.fixture
def own(home: Path) -> Path:
    """Where the user's own settings would be."""
    found = user_file()
    assert found is not None
    path = Path(found)
    assert path.is_relative_to(home)
    path.parent.mkdir(parents=True)
    return path


def test_a_file_in_the_current_folder_allows_nothing(sdtool: Run, unknown: Path) -> None:
    Path("sdtool.toml").write_text(ALLOW)
    Path("sub").mkdir()
    Path("sub/sdtool.toml").write_text(ALLOW)
    result = sdtool("scan", "unknown.pkl", "sub")
    assert result.code == 1
    assert "unknown.pkl: SUSPICIOUS" in result.out
    assert result.err == (
        "sdtool: note: sdtool.toml of the current folder is not read;"
        " use --config sdtool.toml to read it\n"
    )
    assert sdtool("scan", "-q", "unknown.pkl").code == 1
    Path("sdtool.toml").write_text("[[[[")  # it is not even opened
    assert sdtool("scan", "unknown.pkl").code == 1
    assert sdtool("convert", "unknown.pkl").code == 2  # it holds no tensors


def test_the_users_own_file_allows_and_is_named(sdtool: Run, unknown: Path, own: Path) -> None:
    own.write_text(ALLOW)
    for quiet in ((), ("--quiet",)):
        result = sdtool("scan", "unknown.pkl", *quiet)
        assert result.code == 0
        assert result.out.startswith("unknown.pkl: CLEAN (1 name allowed; pickle, ")
        assert result.err == f"sdtool: note: 1 allowed name from {own}\n"
    for verb in ("convert", "prune", "info"):
        assert f"1 allowed name from {own}\n" in sdtool(verb, "-q", "unknown.pkl").err
    result = sdtool("scan", "unknown.pkl", "--no-config")
    assert (result.code, result.err) == (1, "")
    result = sdtool("scan", "unknown.pkl", "--config", "none.toml")
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[0].startswith("sdtool: error: none.toml: ")


def test_a_file_that_is_named_is_read_instead(sdtool: Run, unknown: Path, own: Path) -> None:
    own.write_text("this is not read [")
    Path("ci.toml").write_text(f'[scan]\nexclude = ["*.bak", "old/"]\n{ALLOW}')
    Path("x.bak").write_bytes(b"x")
    result = sdtool("scan", ".", "--config", "ci.toml")
    assert result.code == 0
    assert result.err == "sdtool: note: 1 allowed name and 2 excluded patterns from ci.toml\n"
    assert result.out.splitlines()[-1] == (
        "1 file scanned: 1 clean (1 with allowed names); 1 passed over; 1 excluded"
    )
    document = json.loads(sdtool("scan", ".", "--config", "ci.toml", "--format", "json").out)
    (file,) = document["files"]
    assert (file["verdict"], file["allowed"]) == ("clean", ["some.package.Thing"])
    summary = document["summary"]
    assert (summary["with_allowed_names"], summary["excluded"]) == (1, 1)
    result = sdtool("scan", ".", "--config", "ci.toml", "--no-config")
    assert (result.code, result.out) == (2, "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[scan.alow]\n", "scan.alow is not a setting"),
        ("[scna]\n", "scna is not a setting"),
        ('[scan]\nexlude = ["a"]\n', "scan.exlude is not a setting"),
        ("[scan]\nexclude = 3\n", "must be a list of patterns"),
        ("[scan]\nexclude = [3]\n", "must be a list of patterns"),
        ("[scan]\nallow = 1\n", "must be a table"),
        ("scan = 1\n", "must be a table"),
        ('[scan.allow]\n"a.b" = ""\n', "without a reason"),
        ('[scan.allow]\n"ultralytics" = "x"\n', "'ultralytics': it has no module"),
        ('[scan.allow]\n"a.*" = "x"\n', "'a.*': it is not the name of one thing"),
        ('[scan.allow]\n"posix.system" = "x"\n', "'posix.system': it is known to be dangerous"),
        ('[scan.allow]\n"torch:serialization.os.system" = "x"\n', "known to be dangerous"),
        ('[scan.allow]\n"\u043es.system" = "x"\n', "not the name of one thing"),
        ("[scan", "is not valid TOML"),
        (f"x = {'[' * 2000}{']' * 2000}\n", "is not valid TOML"),
        (f"# {'x' * (1 << 20)}\n", "too large for a settings file"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_error(
    sdtool: Run, training: Path, own: Path, text: str, message: str
) -> None:
    own.write_text(text, encoding="utf-8")
    for verb in ("scan", "convert", "prune", "info"):
        result = sdtool(verb, "training.ckpt")
        assert (result.code, result.out) == (2, ""), verb
        first, *rest = result.err.splitlines()
        assert first.startswith(f"sdtool: error: {own}: "), first
        assert message in first
        assert all(line.startswith("sdtool: hint: ") for line in rest)
    assert sdtool("scan", "training.ckpt", "--no-config").code == 0


@pytest.mark.parametrize("allowed", ["ultralytics", "os.system", "builtins.eval", "a.b\n", ":x"])
def test_what_cannot_be_allowed_is_one_usage_error_before_any_file(
    sdtool: Run, training: Path, trapped: Path, allowed: str
) -> None:
    result = sdtool("scan", ".", "--allow", allowed)
    assert (result.code, result.out) == (2, "")
    first, *rest = result.err.splitlines()
    assert first.startswith("sdtool: error: cannot allow ")
    assert len(rest) == 1 and rest[0].startswith("sdtool: hint: ")


def test_an_allowed_name_is_seen_where_it_was_converted(sdtool: Run, own: Path) -> None:
    torch = pytest.importorskip("torch")
    own.write_text('[scan.allow]\n"tests.cli.test_settings.Marker" = "ours"\n')
    torch.save({"w": torch.ones(3), "note": Marker()}, "m.ckpt")
    result = sdtool("convert", "m.ckpt")
    assert (result.code, result.err) == (0, f"sdtool: note: 1 allowed name from {own}\n")
    assert "  clean with 1 allowed name\n" in result.out
    document = json.loads(sdtool("convert", "m.ckpt", "--force", "--json").out)
    assert document["files"][0]["allowed"] == ["tests.cli.test_settings.Marker"]


class Marker:
    """A class that is not on the allowlist."""


def test_to_allow_one_name_allows_no_other(sdtool: Run, tmp_path: Path) -> None:
    both = list_of(call(name("some.package", "Thing"), "x"), call(name("os", "system"), "id"))
    (tmp_path / "both.pkl").write_bytes(pickled(both))
    result = sdtool("scan", "both.pkl", "--allow", "some.package.Thing")
    assert result.code == 1
    assert result.out.startswith("both.pkl: UNSAFE (1 name allowed; ")


def test_sarif_keeps_an_allowed_name_as_a_note(sdtool: Run, unknown: Path) -> None:
    result = sdtool("scan", ".", "--allow", "some.package.Thing", "--format", "sarif")
    (found,) = json.loads(result.out)["runs"][0]["results"]
    assert (found["ruleId"], found["level"]) == ("allowed-global", "note")


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="the rules of XDG")
def test_a_relative_folder_of_settings_does_not_count(
    sdtool: Run, unknown: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    Path("sdtool").mkdir()
    Path("sdtool/sdtool.toml").write_text(ALLOW)
    monkeypatch.setenv("HOME", str(home))
    for relative in ("", ".", "../" + Path.cwd().name):
        monkeypatch.setenv("XDG_CONFIG_HOME", relative)
        assert user_file() == str(home / ".config" / "sdtool" / "sdtool.toml")
        assert sdtool("scan", "unknown.pkl").code == 1
    monkeypatch.setenv("HOME", ".")
    assert user_file() is None
    assert sdtool("scan", "unknown.pkl").code == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_settings_that_cannot_be_read_are_one_error(sdtool: Run, unknown: Path, own: Path) -> None:
    for make in (os.mkfifo, os.mkdir):
        make(own)
        result = sdtool("scan", "unknown.pkl")
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith(f"sdtool: error: {own}: ")
        own.unlink() if make is os.mkfifo else own.rmdir()
    own.symlink_to("nowhere")
    assert sdtool("scan", "unknown.pkl").code == 2
