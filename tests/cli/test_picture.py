"""The page of `info --html` and `scan --format html`: whole, shut off, and true to the JSON."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.cli.test_info import write_lora

from sdtool.cli.picture import page
from sdtool.cli.picture.blocks import Block, divided

HOSTILE = (
    "</script><script>alert(1)</script>.ckpt",
    "</style><img src=http://evil.example/x onerror=alert(1)>.ckpt",
    "<!--.ckpt",
    '"onmouseover="alert(1)" x=\'y.ckpt',
    "\u202egnp.ckpt",
    "a\nb\x1b[31m\x00.ckpt",
    "\udc80.ckpt",
    "$style ${rows} &lt;&#60;.ckpt",
)


class Page(HTMLParser):
    """A page, parsed by the standard library."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {}
        self.rows: dict[str, list[list[str]]] = {"list": [], "": []}
        self._open: list[str] = []
        self._table = ""
        self.comments: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input", "link", "img"):
            self._open.append(tag)
        if tag == "table":
            self._table = dict(attrs).get("id") or ""
        if tag == "tr":
            self.rows[self._table].append([])
        if tag in ("td", "th"):
            self.rows[self._table][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.inside.setdefault(self._open[-1] if self._open else "", []).append(data)
        if "table" in self._open and {"td", "th"} & set(self._open):
            self.rows[self._table][-1][-1] += data

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every tag of a name."""
        return [attributes for name, attributes in self.tags if name == tag]


def file(path: str, **more: Any) -> dict[str, Any]:
    """A file as JSON has it, in what a page shows."""
    return {
        "path": path, "size_bytes": 100, "title": "SD 1.x LoRA", "dtype": "fp16",
        "ema": {"state": "none"}, "verdict": "clean", "findings": [], "globals": [],
        "pruned_bytes": None, "same_file_as": None, "error": None, "components": [], **more,
    }  # fmt: skip


def made(files: Sequence[Mapping[str, Any]], **parts: Any) -> str:
    return page("info", files, {"summary": {}, **parts})


@pytest.fixture
def library(sdtool: Run, training: Path, trapped: Path) -> Path:
    """A checkpoint, its copy, one with a trap, a LoRA, an empty file and one that is no model."""
    folder = Path("models")
    folder.mkdir()
    shutil.copy(training, folder / "copy.ckpt")
    for path in (training, trapped):
        path.rename(folder / path.name)
    write_lora(folder / "lora.safetensors")
    (folder / "cut.ckpt").write_bytes(b"")
    (folder / "README.md").write_text("words")
    return folder


def test_a_page_says_what_the_document_says(sdtool: Run, library: Path) -> None:
    result = sdtool("info", "models", "--duplicates", "--json", "--html", "page.html")
    document = json.loads(result.out)
    shown = Page(Path("page.html").read_text("utf-8"))
    heading, *rows = shown.rows["list"]
    assert heading == ["Name", "Verdict", "Size", "Removable", "Kind", "Precision", "EMA"]
    sizes = [n["data-n"] for n in shown.all("td") if "data-n" in n][-2 * len(rows) :: 2]
    assert sizes == [str(one["size_bytes"]) for one in document["files"]]
    assert [row[0] for row in rows] == [one["path"] for one in document["files"]]
    known = {row[0]: row for row in rows}
    for one in document["files"]:
        row = known[one["path"]]
        assert row[1] == one.get("verdict", "undecided")
        assert row[4:6] == [one.get("title", "not read"), one.get("dtype", "")]
    assert known["models/training.ckpt"][6] == "full"
    kinds = {row[0]: int(row[1]) for row in shown.rows[""][1:]}
    read = {title: held["files"] for title, held in document["summary"]["kinds"].items()}
    assert kinds == read | {"not read": 1}
    freed = document["summary"]["freed_by_pruning_bytes"]
    assert freed == sum(
        max(0, one["size_bytes"] - one["pruned_bytes"])
        for one in document["files"]
        if one.get("pruned_bytes") is not None
    )
    text = "".join(part for parts in shown.inside.values() for part in parts)
    assert "os.system" in "".join(shown.inside["bdi"])
    assert "references a dangerous function: os.system" in text
    groups = [f", {one['size_bytes'] / 1000:.0f} KB: " for one in document["duplicates"]]
    assert len(groups) == 3 and all(group in text for group in groups)


def test_what_could_go_is_what_pruning_frees_and_what_is_there_before() -> None:
    parts = [{"label": "EMA weights", "role": "ema"}, {"label": "VAE", "role": "vae"}]
    files = [file(name, pruned_bytes=70, components=parts) for name in ("a", "b")]
    groups = [
        {"label": label, "size_bytes": size, "wasted_bytes": size, "paths": ["a", "b"]}
        for label, size in (("EMA weights", 30), ("VAE", 20))
    ]
    rows = Page(made(files, duplicates=groups)).rows["list"]
    assert [row[3] for row in rows[1:]] == ["30 bytes", "50 bytes"]


def test_a_further_link_takes_nothing() -> None:
    text = made([file("a"), file("b", same_file_as="a", pruned_bytes=7)])
    assert "<h1>2 files, 100 bytes</h1>" in text
    assert Page(text).rows["list"][2][::3] == ["b = a", "-", ""]
    assert text.count("data-path") == 1 + text.count('"[data-path]"')


def test_nothing_is_asked_for_and_nothing_else_is_run(sdtool: Run, library: Path) -> None:
    sdtool("info", "models", "--html", "page.html")
    text = Path("page.html").read_text("utf-8")
    shown = Page(text)
    (policy,) = (
        meta["content"] for meta in shown.all("meta") if meta.get("http-equiv") is not None
    )
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    hashes = {
        tag: base64.b64encode(hashlib.sha256(shown.inside[tag][0].encode()).digest()).decode()
        for tag in ("style", "script")
    }
    assert rules == {
        "default-src": "'none'",
        "style-src": f"'sha256-{hashes['style']}'",
        "script-src": f"'sha256-{hashes['script']}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert (len(shown.all("style")), len(shown.all("script"))) == (1, 1)
    attributes = {name for _, found in shown.tags for name in found}
    assert not {name for name in attributes if name.startswith("on")}
    assert not attributes & {"style", "src", "srcset", "action", "formaction", "xlink:href"}
    assert {link["href"] for link in shown.all("a")} == {"#sizes", "#found", "#files"}
    assert "http:" not in text and "https:" not in text and "//" not in shown.inside["style"][0]
    assert not re.search(r"\b(?:fetch|XMLHttpRequest|WebSocket|eval|innerHTML)\b", text)


def test_hostile_names_stay_text() -> None:
    finding = {
        "rule": "unknown-global", "severity": "low", "message": HOSTILE[0], "member": HOSTILE[1],
        "offset": 3, "evidence": HOSTILE[2],
    }  # fmt: skip
    files = [
        file(
            name, title=HOSTILE[(n + 1) % len(HOSTILE)], dtype=name, verdict="suspicious",
            findings=[finding], error=name,
            globals=[{"name": name, "known": "unknown", "called": True}],
        )
        for n, name in enumerate(HOSTILE)
    ]  # fmt: skip
    groups = [{"label": HOSTILE[0], "size_bytes": 9, "wasted_bytes": 9, "paths": HOSTILE}]
    text = made(files, duplicates=groups)
    harmless = Page(made([file(f"{n}", title=f"k{n}") for n in range(len(HOSTILE))]))
    shown = Page(text)
    assert shown.comments == []
    assert {tag for tag, _ in shown.tags} <= {tag for tag, _ in harmless.tags} | {
        "article", "h3", "ul", "li", "code",
    }  # fmt: skip
    assert len(shown.all("script")) == len(shown.all("style")) == 1
    names = [row[0] for row in shown.rows["list"][1:]]
    assert names[:4] == list(HOSTILE[:4])
    assert names[4:7] == [r"\u202egnp.ckpt", r"a\nb\x1b[31m\x00.ckpt", r"\udc80.ckpt"]
    assert names[7] == HOSTILE[7]
    assert all(char.isprintable() or char == "\n" for char in text)
    paths = {svg["data-path"] for svg in shown.all("svg") if "data-path" in svg}
    assert paths == set(names)


def test_what_it_needs_for_keys_and_screen_readers(sdtool: Run, library: Path) -> None:
    sdtool("info", "models", "--html", "page.html")
    shown = Page(Path("page.html").read_text("utf-8"))
    assert shown.all("html") == [{"lang": "en"}]
    (picture,) = (svg for svg in shown.all("svg") if svg.get("role") == "img")
    assert picture["aria-labelledby"] in {tag.get("id") for tag in shown.all("title")}
    columns = [th for th in shown.all("th") if th.get("scope") == "col"]
    sorted_by = [th["aria-sort"] for th in columns if "aria-sort" in th]
    assert sorted_by == ["none"] * 7
    assert len(shown.all("button")) >= len(sorted_by)
    assert all(button["type"] in ("button", "reset") for button in shown.all("button"))
    assert [out["aria-live"] for out in shown.all("output")] == ["polite"]
    assert len(shown.all("label")) == len(shown.all("input")) + len(shown.all("select"))
    ids = [attributes["id"] for _, attributes in shown.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_scan_has_a_page_too(sdtool: Run, library: Path) -> None:
    result = sdtool("scan", "models", "--format", "html", "-o", "page.html")
    assert (result.code, result.out) == (1, "")
    text = Path("page.html").read_text("utf-8")
    shown = Page(text)
    heading, *rows = shown.rows["list"]
    assert heading == ["Name", "Verdict", "Size", "Format"]
    files = json.loads(sdtool("scan", "models", "--json").out)["files"]
    assert [(row[0], row[1], row[3]) for row in rows] == [
        (one["path"], one["verdict"], one["format"]) for one in files
    ]
    assert "Duplicates" not in text and "could go" not in text
    assert sdtool("scan", "models", "--format", "html").out == text


def test_all_is_clean() -> None:
    text = made([file("a")])
    assert "<p>Every file is clean.</p>" in text
    assert "Not searched for" in text
    assert "No duplicate components" in made([], duplicates=[])


def test_many_files_are_drawn_as_one_and_told_by_number() -> None:
    error = "cannot be read"
    files = [file("large", size_bytes=10**9)]
    files += [file(f"{n}", error=error, verdict="undecided") for n in range(1_005)]
    shown = Page(made(files))
    assert "And 5 more: see the list of files." in shown.inside["p"]
    blocks = [svg for svg in shown.all("svg") if (svg.get("x") or "").endswith("%")]
    assert len(blocks) == 2
    later = [row for row in shown.all("tr") if row.get("class") == "later"]
    assert (len(shown.rows["list"]) - 1, len(later)) == (1_006, 806)


@pytest.mark.parametrize(
    "sizes",
    [[1], [6, 6, 4, 3, 2, 2, 1], [10**12, 5, 1], [7] * 40, [1 << n for n in range(20, 0, -1)]],
)
def test_areas_are_as_sizes_and_no_block_lies_on_another(sizes: list[int]) -> None:
    whole = Block(10, 20, 600, 400)
    blocks = divided(whole, sizes)
    for size, block in zip(sizes, blocks, strict=True):
        assert block.width * block.height == pytest.approx(600 * 400 * size / sum(sizes), rel=1e-5)
        assert 10 - 1e-6 <= block.x and block.x + block.width <= 610 + 1e-6
        assert 20 - 1e-6 <= block.y and block.y + block.height <= 420 + 1e-6
    for n, a in enumerate(blocks):
        for b in blocks[n + 1 :]:
            across = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
            down = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
            assert min(across, down) <= 1e-6


def test_blocks_are_near_to_squares() -> None:
    """The example of the paper: 6, 6, 4, 3, 2, 2, 1 in 6 by 4 (figure 3)."""
    blocks = divided(Block(0, 0, 6, 4), [6, 6, 4, 3, 2, 2, 1])
    assert [(round(b.width, 3), round(b.height, 3)) for b in blocks[:4]] == [
        (3, 2), (3, 2), (1.714, 2.333), (1.286, 2.333),
    ]  # fmt: skip


@pytest.mark.parametrize("option", [("--compare",), ()])
def test_a_page_replaces_nothing(sdtool: Run, option: tuple[str, ...]) -> None:
    write_lora("a.safetensors")
    Path("page.html").write_text("mine")
    result = sdtool("info", "a.safetensors", "--html", "page.html", *option)
    assert (result.code, result.out) == (2, "")
    assert Path("page.html").read_text() == "mine"
    if not option:
        assert sdtool("info", "a.safetensors", "--html", "page.html", "--force").code == 0
        assert Path("page.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    result = sdtool("info", "a.safetensors", "--html", "a.safetensors")
    assert result.err.startswith("sdtool: error: a.safetensors: --html names the report, but ")
    result = sdtool("info", "a.safetensors", "--html", "b.html", "--compare")
    assert "--compare and --html cannot be used together" in result.err
