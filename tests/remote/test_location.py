"""From what was typed to a place, to what may be shown of it, and to a name for what is made."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from sdtool.batch.expand import expand_inputs
from sdtool.batch.items import is_remote
from sdtool.batch.outputs import OnThisMachine
from sdtool.batch.place import plan_outputs
from sdtool.batch.remote.location import file_name, parse, plain_folders, safe_name
from sdtool.checkpoint import Unreadable
from sdtool.cli.exit_codes import TROUBLE


@pytest.mark.parametrize(
    ("text", "shown", "name"),
    [
        ("https://host/a/model.ckpt", "https://host/a/model.ckpt", "model.ckpt"),
        ("HTTPS://Host:8443/m.ckpt", "https://host:8443/m.ckpt", "m.ckpt"),
        ("https://me:pass@host/m.ckpt?sig=x#part", "https://host/m.ckpt", "m.ckpt"),
        ("https://me:p@ss@host/m.ckpt", "https://host/m.ckpt", "m.ckpt"),
        ("https://[2606::1]:80/m.ckpt", "https://[2606::1]:80/m.ckpt", "m.ckpt"),
        ("https://bücher.example/m.ckpt", "https://xn--bcher-kva.example/m.ckpt", "m.ckpt"),
        ("https://host/a%20b%2F..%2Fc.ckpt", "https://host/a%20b%2F..%2Fc.ckpt", "a b_.._c.ckpt"),
        ("https://host/schön.ckpt", "https://host/sch%C3%B6n.ckpt", "schön.ckpt"),
        ("https://host/%2e%2e", "https://host/%2e%2e", "model"),
        ("https://host/C%3A%5Cx.ckpt", "https://host/C%3A%5Cx.ckpt", "C__x.ckpt"),
        ("https://host/x%00%1b%5b31m.ckpt", "https://host/x%00%1b%5b31m.ckpt", "x__[31m.ckpt"),
        ("https://host/%E2%80%AEgpj.ckpt", "https://host/%E2%80%AEgpj.ckpt", "_gpj.ckpt"),
        ("https://host/nul.ckpt", "https://host/nul.ckpt", "_nul.ckpt"),
        ("https://host/.sdtool-partial-x", "https://host/.sdtool-partial-x", "sdtool-partial-x"),
        ("https://host/a/model_index.json?x", "https://host/a/", "a"),
        ("https://host", "https://host/", "host"),
        ("s3://bucket/a/b?c.ckpt", "s3://bucket/a/b?c.ckpt", "b_c.ckpt"),
        ("hf://owner/repo/a/m.ckpt", "hf://owner/repo/a/m.ckpt", "m.ckpt"),
        ("hf://owner/repo@v1.0/m.ckpt", "hf://owner/repo@v1.0/m.ckpt", "m.ckpt"),
    ],
)
def test_what_is_shown_and_what_it_is_called(text: str, shown: str, name: str) -> None:
    location = parse(text)
    assert (location.shown, file_name(location)) == (shown, name)
    assert "pass" not in repr(location) and "sig" not in repr(location)
    assert pickle.loads(pickle.dumps(location)) == location  # worker processes are sent it


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ftp://me:SECRET@host/x.ckpt", "ftp:// is not supported: ftp://..."),
        ("file:///etc/x.ckpt", "name the file without file://: file://..."),
        ("https://", "the https:// path does not name a host: https://..."),
        ("https://me:SECRET/@host/x.ckpt", "the https:// path is not a URL: https://..."),
        ("https://ho st:SECRET/x", "the https:// path is not a URL: https://..."),
        ("https://host:99999/x", "the https:// path is not a URL: https://..."),
        ("https://[::1/x", "the https:// path is not a URL: https://..."),
        (f"https://{'a' * 70}/x", "the https:// path does not name a host: https://..."),
        (
            "https://host/x\r\nInjected: 1",
            "the https:// path contains control characters: https://...",
        ),
        ("s3:///x.ckpt", "the s3:// path does not name a bucket: s3://..."),
        ("s3://KEY:SECRET@bucket/x", "the s3:// path does not name a bucket: s3://..."),
        (
            "az://box/x?sig=SECRET",
            "the az:// path has a query; tokens are taken from the environment: az://...",
        ),
    ],
)
def test_what_is_not_understood_is_one_line_that_shows_nothing(
    sdtool: Run, text: str, told: str
) -> None:
    with pytest.raises(Unreadable) as caught:
        parse(text)
    what, _, where = told.rpartition(": ")
    assert (caught.value.what, caught.value.where) == (what, where)
    result = sdtool("info", text)
    assert (result.code, result.err.splitlines()[0]) == (TROUBLE, f"sdtool: error: {where}: {what}")
    assert "SECRET" not in result.out + result.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("scan", ".", "--journal", "URL"),
        ("scan", ".", "-o", "URL"),
        ("scan", ".", "--resume", "URL"),
        ("scan", ".", "--config", "URL"),
        ("journal", "list", "URL"),
        ("verify", "URL", "--statement", "x.json"),
        ("watch", "URL"),
        ("watch", ".", "--once", "--quarantine", "URL"),
        ("tidy", "URL"),
        ("scan", " URL"),
    ],
    ids=" ".join,
)
def test_a_url_in_the_place_of_a_file_shows_nothing(
    sdtool: Run, training: Path, arguments: tuple[str, ...]
) -> None:
    url = "https://me:SECRET@host/sub/x?sig=SECRET&more=SECRET DATA"
    result = sdtool(*(one.replace("URL", url) for one in arguments))
    assert result.code == TROUBLE
    assert "https://host/sub/x: " in result.err
    assert "SECRET" not in result.out + result.err
    assert {path.name for path in Path().iterdir()} == {"training.ckpt"}


@pytest.mark.parametrize("url", ["https://me:SECRET/x", "https://me:SECRET@h\N{ACCOUNT OF}x/m"])
def test_what_a_library_says_of_it_is_not_shown(sdtool: Run, url: str) -> None:
    result = sdtool("info", url, "-v")
    assert (result.code, "SECRET" in result.err) == (TROUBLE, False)


@pytest.mark.parametrize("proxy", ["http://me:SECRET@proxy:abc", "http://[::1", "me:SECRET@"])
def test_a_proxy_that_is_none(sdtool: Run, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    result = sdtool("info", "-v", "https://host.invalid/x.ckpt")
    assert (result.code, result.err) == (
        TROUBLE,
        "sdtool: error: HTTPS_PROXY is not a valid URL\n",
    )


def test_a_proxy_that_is_not_there(sdtool: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://{'a' * 63}.invalid:1")
    result = sdtool("info", "https://host.invalid/x.ckpt")
    assert (result.code, "there is no proxy called" in result.err) == (TROUBLE, True)


def test_a_drive_is_no_scheme_and_a_file_may_be_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_remote("C://models/x.ckpt")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "b").mkdir(parents=True)
    (tmp_path / "s3:" / "b" / "x.ckpt").write_bytes(b"x")
    (item,), problems = expand_inputs(["s3://b/x.ckpt"])
    assert (item.remote, problems) == (None, [])


def test_two_that_look_alike_are_not_taken_for_one() -> None:
    items, problems = expand_inputs(["https://host/m.ckpt?a", "https://host/m.ckpt?b"])
    assert [item.path for item in items] == ["https://host/m.ckpt"]
    (problem,) = problems
    assert "differs from another input only in what is not shown" in problem.what
    items, problems = expand_inputs(["https://host/m.ckpt?a", "https://host/m.ckpt?a"])
    assert (len(items), problems) == (1, [])


def test_a_list_may_hold_them(tmp_path: Path) -> None:
    import io

    items, problems = expand_inputs(
        ["-"], io.BytesIO(b"https://host/a.ckpt?sig=x\nhf://o/r/b.ckpt\n")
    )
    assert [item.path for item in items] == ["https://host/a.ckpt", "hf://o/r/b.ckpt"]
    assert not problems and not any(item.alone for item in items)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "model"),
        ("..", "model"),
        (". .", "model"),
        ("a/b\\c:d", "a_b_c_d"),
        ("CON", "_CON"),
        ("com1.ckpt", "_com1.ckpt"),
        ("x. ", "x"),
        ("é" * 300, "é" * 100),
        ("\udc80x", "?x".replace("?", "_")),
    ],
)
def test_a_name_is_one_name_everywhere(text: str, name: str) -> None:
    assert safe_name(text) == name


def test_folders_never_lead_up() -> None:
    assert plain_folders("../../a/./C:/b.ckpt") == ("model", "model", "a", "model", "C_")


def test_outputs_stay_below_the_folder_that_was_named() -> None:
    def names(path: str, shards: Sequence[str]) -> list[str]:
        return [path + ".out", *shards]

    items, _ = expand_inputs(["https://host/a/b/x.ckpt"])
    (job,) = plan_outputs(items, names)
    assert job.outs == (Path("x.ckpt.out"),)
    (job,) = plan_outputs(items, names, outputs=OnThisMachine(None, "there"))
    assert job.outs == (Path("there/x.ckpt.out"),)
