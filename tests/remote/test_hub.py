"""Hugging Face, played by a server on this machine and a store on another port."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from tests.cli.conftest import Run
from tests.remote.server import Reply, Server, running

from sdtool.batch import open_file
from sdtool.batch.remote import listing
from sdtool.batch.remote.ranged import RemoteFile
from sdtool.cli.exit_codes import DONE, TROUBLE

TOKEN = "hf_SECRETsecret"
FIRST, SECOND = "1" * 40, "2" * 40


class Hub:
    """Repositories: large files are in the store, behind addresses that may expire."""

    def __init__(self, server: Server, store: Server) -> None:
        self.server = server
        self.store = store
        self.commits = {"main": FIRST}
        self.files: dict[tuple[str, str], bytes] = {}
        self.large: set[str] = set()
        self.private = False
        self.valid_for = 1_000
        """Requests to the store that one address is good for."""
        self.weak = ""
        """An ETag that it gives to all files alike."""
        self.page = 1_000
        self.left: dict[str, int] = {}
        server.always = self.answer
        store.always = self.give

    def add(self, path: str, data: bytes, *, commit: str = FIRST, large: bool = True) -> None:
        self.files[commit, path] = data
        if large:
            self.large.add(path)

    @property
    def resolved(self) -> list[str]:
        return [one.path for one in self.server.asked if "/resolve/" in one.path]

    def answer(self, path: str, asked: Mapping[str, str], good: Callable[[], Reply]) -> Reply:
        if self.private and asked.get("Authorization") != f"Bearer {TOKEN}":
            return Reply(401, {"X-Error-Code": "RepoNotFound"})
        match = re.fullmatch(r"/owner/repo/resolve/([^/]+)/(.+)", path)
        if match is not None:
            return self.resolve(unquote(match[1]), unquote(match[2]), asked)
        match = re.fullmatch(r"/api/models/owner/repo/tree/([^/]+)/([^?]*)\?(.*)", path)
        if match is not None:
            return self.tree(unquote(match[1]), unquote(match[2]), match[3])
        return Reply(404)

    def resolve(self, revision: str, path: str, asked: Mapping[str, str]) -> Reply:
        commit = self.commits.get(revision, revision)
        data = self.files.get((commit, path))
        if data is None:
            return Reply(404)
        about = {"X-Repo-Commit": commit, "ETag": f'"{hash(data)}"'}
        if path not in self.large:
            return Reply(200, about, data)
        place = f"/{commit}/{quote(path)}"
        address = f"{place}?sig={len(self.left)}"
        self.left[address] = self.valid_for
        self.store.serve(place, data, tag=f'"store-{commit}-{hash(data)}"')
        tag = self.weak or f'"{hash(data)}"'
        linked = {"X-Linked-ETag": tag, "X-Linked-Size": str(len(data))}
        return Reply(302, {**about, **linked, "Location": self.store.url + address})

    def give(self, path: str, asked: Mapping[str, str], good: Callable[[], Reply]) -> Reply:
        assert "Authorization" not in asked
        if not self.left.get(path):
            return Reply(403)
        self.left[path] -= 1
        return good()

    def tree(self, revision: str, folder: str, query: str) -> Reply:
        commit = self.commits.get(revision, revision)
        found = sorted(path for c, path in self.files if c == commit and path.startswith(folder))
        start = int((re.search(r"cursor=(\d+)", query) or ["", "0"])[1])
        entries = [
            {"type": "file", "path": path, "size": len(self.files[commit, path])}
            for path in found[start : start + self.page]
        ]
        entries.append({"type": "directory", "path": "some/folder", "size": 0})
        headers = {}
        if start + self.page < len(found):
            tree = f"/api/models/owner/repo/tree/{revision}/{folder}"
            following = f"{tree}?cursor={start + self.page}"
            headers["Link"] = f'<{self.server.url}{following}>; rel="next"'
        return Reply(200, headers, json.dumps(entries).encode())


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> Generator[Hub]:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    with running() as store:
        yield Hub(server, store)


def test_it_is_resolved_once_and_read_in_parts(sdtool: Run, hub: Hub, training: Path) -> None:
    hub.add("sub/model.ckpt", training.read_bytes())
    result = sdtool("scan", "hf://owner/repo/sub/model.ckpt", "--format", "json")
    assert result.code == DONE
    (report,) = json.loads(result.out)["files"]
    assert report["path"] == "hf://owner/repo/sub/model.ckpt"
    assert hub.resolved == ["/owner/repo/resolve/main/sub/model.ckpt"]
    assert len(hub.store.asked) > 1
    assert report["requests"] == 1 + len(hub.store.asked)


def test_what_is_made_of_it_is_what_is_made_of_a_copy(
    sdtool: Run, hub: Hub, training: Path
) -> None:
    hub.add("training.ckpt", training.read_bytes())
    assert sdtool("prune", "--ema-only", "--out-dir", "here", training).code == DONE
    assert sdtool("prune", "--ema-only", "hf://owner/repo/training.ckpt").code == DONE
    name = "training-pruned-emaonly.safetensors"
    assert Path(name).read_bytes() == Path("here", name).read_bytes()


def test_an_expired_address_is_resolved_again_at_the_same_commit(
    sdtool: Run, hub: Hub, training: Path
) -> None:
    hub.add("m.ckpt", training.read_bytes())
    hub.add("m.ckpt", b"another", commit=SECOND)
    hub.valid_for = 2
    plain = hub.answer

    def moved(path: str, asked: Mapping[str, str], good: Callable[[], Reply]) -> Reply:
        reply = plain(path, asked, good)
        hub.commits["main"] = SECOND  # somebody pushes
        return reply

    hub.server.always = moved
    assert sdtool("convert", "hf://owner/repo/m.ckpt").code == DONE
    assert hub.resolved[0] == "/owner/repo/resolve/main/m.ckpt"
    assert len(hub.resolved) > 1
    assert set(hub.resolved[1:]) == {f"/owner/repo/resolve/{FIRST}/m.ckpt"}
    sdtool("convert", training)
    assert Path("m.safetensors").read_bytes() == Path("training.safetensors").read_bytes()


@pytest.mark.parametrize("weak", ["", 'W/"1"'], ids=["an ETag", "a weak one"])
def test_other_content_behind_the_new_address_is_an_error(
    sdtool: Run, hub: Hub, training: Path, weak: str
) -> None:
    """A weak ETag of the hub does not say that another store has the same."""
    data = training.read_bytes()
    hub.add("m.ckpt", data)
    hub.weak = weak
    hub.valid_for = 2
    plain = hub.answer

    def forced(path: str, asked: Mapping[str, str], good: Callable[[], Reply]) -> Reply:
        reply = plain(path, asked, good)
        hub.add("m.ckpt", data[:-1] + b"x")
        return reply

    hub.server.always = forced
    result = sdtool("convert", "hf://owner/repo/m.ckpt")
    assert (result.code, "changed while it was read" in result.err) == (TROUBLE, True)
    assert not Path("m.safetensors").exists()


def test_a_weak_etag_of_the_hub_names_no_version(hub: Hub, training: Path) -> None:
    hub.add("m.ckpt", training.read_bytes())
    hub.weak = 'W/"1"'
    with open_file("hf://owner/repo/m.ckpt") as file:
        assert isinstance(file, RemoteFile)
        assert file.version == f'"store-{FIRST}-{hash(training.read_bytes())}"'
    hub.weak = '"1"'
    with open_file("hf://owner/repo/m.ckpt") as file:
        assert isinstance(file, RemoteFile)
        assert file.version == '"1"'


@pytest.mark.parametrize("where", ["HF_TOKEN", "file"])
def test_the_token_is_for_the_hub_alone(
    sdtool: Run, hub: Hub, training: Path, where: str, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    hub.private = True
    hub.add("m.ckpt", training.read_bytes())
    refused = sdtool("info", "hf://owner/repo/m.ckpt")
    assert refused.code == TROUBLE
    assert refused.err.splitlines() == [
        "sdtool: error: hf://owner/repo/m.ckpt: the server denies access (401)",
        "sdtool: hint: check the name; a private or gated repository requires a token in HF_TOKEN",
    ]
    if where == "HF_TOKEN":
        monkeypatch.setenv("HF_TOKEN", TOKEN)
    else:
        (tmp_path / "token").write_text(TOKEN + "\n")
        monkeypatch.setenv("HF_HOME", str(tmp_path))
    result = sdtool("scan", "hf://owner/repo/m.ckpt", "-v", "--format", "json")
    assert result.code == DONE
    assert hub.store.asked  # none of which had it: see `Hub.give`
    assert TOKEN not in result.out + result.err


def test_a_token_that_is_none(sdtool: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a\nInjected: 1")
    result = sdtool("info", "hf://owner/repo/m.ckpt")
    assert (result.code, result.err) == (
        TROUBLE, "sdtool: error: HF_TOKEN is not a valid token: it contains invalid characters\n",
    )  # fmt: skip
    assert not hub.server.asked


def test_a_revision(sdtool: Run, hub: Hub, training: Path) -> None:
    hub.commits["refs/pr/1"] = SECOND
    hub.add("m.ckpt", training.read_bytes(), commit=SECOND)
    assert sdtool("scan", f"hf://owner/repo@{SECOND}/m.ckpt").code == DONE
    assert sdtool("scan", "hf://owner/repo/m.ckpt").code == TROUBLE


def test_a_repository_is_a_folder(sdtool: Run, hub: Hub, training: Path, trapped: Path) -> None:
    hub.page = 2
    hub.add("a.ckpt", training.read_bytes())
    hub.add("sub/b.ckpt", trapped.read_bytes())
    hub.add("sub/c.safetensors", b"<html>no</html>", large=False)
    hub.add("README.md", b"# read me", large=False)
    result = sdtool("scan", "hf://owner/repo")
    assert [line.split(" (")[0] for line in result.out.splitlines() if line.startswith("hf:")] == [
        "hf://owner/repo/a.ckpt: CLEAN",
        "hf://owner/repo/sub/b.ckpt: UNSAFE",
        "hf://owner/repo/sub/c.safetensors: NOT-A-CHECKPOINT",
    ]
    assert result.out.splitlines()[-1].endswith("; 1 passed over")
    assert (
        "1 file scanned: 1 unsafe"
        in sdtool("scan", "hf://owner/repo/sub/", "--exclude", "*.safetensors").out
    )
    by_pattern = sdtool("scan", "hf://owner/repo/*.ckpt", "--exclude", "sub", "--format", "json")
    assert [f["path"] for f in json.loads(by_pattern.out)["files"]] == ["hf://owner/repo/a.ckpt"]


def test_outputs_mirror_the_repository_and_nothing_above(
    sdtool: Run, hub: Hub, training: Path, tmp_path: Path
) -> None:
    data = training.read_bytes()
    for path in ("a.ckpt", "sub/b.ckpt", "C:/drive.ckpt", "x/..\\..\\y\x1b.ckpt"):
        hub.add(path, data)
    assert sdtool("convert", "hf://owner/repo", "--out-dir", "out").code == DONE
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.safetensors")}
    assert made == {
        "out/a.safetensors",
        "out/sub/b.safetensors",
        "out/C_/drive.safetensors",
        "out/x/_.._y_.safetensors",
    }


def test_a_list_without_an_end(
    sdtool: Run, hub: Hub, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MOST_FILES", 10)
    entry = [{"type": "file", "path": "a.ckpt", "size": 1}]

    def endless(path: str, asked: Mapping[str, str], good: Callable[[], Reply]) -> Reply:
        page = f"{hub.server.url}/api/models/owner/repo/tree/main/?page={len(hub.server.asked)}"
        link = f'<{page}>; rel="next"'
        return Reply(200, {"Link": link}, json.dumps(entry).encode())

    hub.server.always = endless
    result = sdtool("scan", "hf://owner/repo")
    assert (result.code, result.err.splitlines()) == (
        TROUBLE,
        [
            "sdtool: error: hf://owner/repo/: lists more than 10 files",
            "sdtool: hint: name a folder in it",
        ],
    )
    entry.clear()
    result = sdtool("scan", "hf://owner/repo")
    assert result.code == TROUBLE
    assert "the hub's list of files is invalid" in result.err


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[1]", b'[{"type": "file"}]', b'[{"type": "file", "path": 1, "size": 1}]',
     b"[" * 100_000, b"\xff", b'[{"type": "file", "path": "../up.ckpt"}]',
     b'[{"type": "file", "path": "a//b.ckpt"}]'],
)  # fmt: skip
def test_a_list_that_is_none(sdtool: Run, hub: Hub, body: bytes) -> None:
    hub.server.always = lambda path, asked, good: Reply(200, {}, body)
    result = sdtool("scan", "hf://owner/repo")
    assert (result.code, result.err) == (
        TROUBLE, "sdtool: error: hf://owner/repo/: the hub's list of files is invalid\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    "following",
    ["http://[::1", "//host:99999/", "file:///etc/passwd", "?recursive=true", "?page=2"],
)
def test_a_list_that_goes_on_nowhere_or_where_it_was(sdtool: Run, hub: Hub, following: str) -> None:
    body = b'[{"type": "file", "path": "a.ckpt", "size": 1}]'
    link = {"Link": f'<{following}>; rel="next"'}
    hub.server.always = lambda path, asked, good: Reply(200, link, body)
    result = sdtool("scan", "hf://owner/repo")
    assert (result.code, result.err) == (
        TROUBLE, "sdtool: error: hf://owner/repo/: the hub's list of files is invalid\n",
    )  # fmt: skip
    assert len(hub.server.asked) <= 2


def test_a_list_that_goes_on_elsewhere(
    sdtool: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    link = {"Link": f'<{hub.store.url}/api/next>; rel="next"'}
    hub.server.always = lambda path, asked, good: Reply(200, link, b"[]")
    result = sdtool("scan", "hf://owner/repo")
    assert (result.code, "is invalid" in result.err) == (TROUBLE, True)
    assert not hub.store.asked


def test_rate_limits_are_kept(sdtool: Run, hub: Hub, training: Path) -> None:
    hub.add("m.ckpt", training.read_bytes())
    limits = {"RateLimit": '"resolvers";r=0;t=4000'}
    hub.server.always = lambda path, asked, good: Reply(429, limits)
    result = sdtool("info", "hf://owner/repo/m.ckpt")
    assert result.code == TROUBLE
    assert "the server asks to wait 4,000 seconds" in result.err
    assert len(hub.server.asked) == 1


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("hf://owner", "the hf:// path is not hf://owner/repo[@revision][/file]: hf://..."),
        ("hf://owner/re po/x", "the hf:// path is not hf://owner/repo[@revision][/file]: hf://..."),
        ("hf://owner/none", "no such repository or folder: hf://owner/none/"),
        ("hf://owner/repo/none.ckpt", "no such file on the server: hf://owner/repo/none.ckpt"),
    ],
)
def test_what_is_not_there(sdtool: Run, hub: Hub, path: str, told: str) -> None:
    result = sdtool("info", path)
    what, _, where = told.rpartition(": ")
    assert (result.code, result.err.splitlines()[0]) == (TROUBLE, f"sdtool: error: {where}: {what}")
