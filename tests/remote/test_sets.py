"""Sets and pipelines that are elsewhere, as one model: the same as their copies here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.cli.conftest import Run
from tests.remote.server import Reply, Server
from tests.remote.test_buckets import Bucket
from tests.remote.test_buckets import bucket as bucket
from tests.remote.test_buckets import moto as moto
from tests.remote.test_hub import FIRST, SECOND, TOKEN, Hub
from tests.remote.test_hub import hub as hub
from tests.remote.test_web import tree
from tests.sd_models import small_sd1

from sdtool.batch import convert_file, identify_file, scan_file
from sdtool.batch.remote import connections, patience
from sdtool.cli.exit_codes import DONE, TROUBLE

INDEX = "model.safetensors.index.json"
NAMES = tuple(f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3))
PAGE = 1 << 16
NOT_COMPARED = {"seconds", "read_bytes"}


def write_set(folder: Path, numel: int = 1000, value: float = 0.0) -> dict[str, bytes]:
    """Write a set of three shards with a tensor each; returns its files."""
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        save_file({f"{number}.weight": torch.arange(numel) / numel + value}, folder / name)
    weight_map = {f"{number}.weight": name for number, name in enumerate(NAMES)}
    text = json.dumps({"metadata": {"total_size": 12 * numel}, "weight_map": weight_map})
    (folder / INDEX).write_text(text)
    return tree(folder)


def serve_set(server: Server, files: Mapping[str, bytes], folder: str = "/deep/") -> str:
    for name, data in files.items():
        server.serve(folder + name, data)
    return server.url + folder + INDEX


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """A set of small shards, which is also in the folder `set`."""
    return write_set(tmp_path / "set")


def asked(server: Server) -> list[str]:
    return [one.path.rpartition("/")[2] for one in server.asked]


@pytest.mark.parametrize("verb", ["scan", "info", "verify"])
def test_what_is_said_of_it_and_each_file_is_asked_for_once(
    sdtool: Run, server: Server, files: dict[str, bytes], verb: str
) -> None:
    url = serve_set(server, files)
    result = sdtool(verb, url, "--json")
    here = sdtool(verb, "set/" + INDEX, "--json")
    assert (result.code, result.err) == (here.code, here.err) == (DONE, "")
    (said,), (copy,) = (json.loads(one.out)["files"] for one in (result, here))
    assert asked(server) == [INDEX, *NAMES]
    assert said["size_bytes"] == sum(len(files[name]) for name in NAMES)
    if verb != "verify":
        assert (said["requests"], said["read_bytes"]) == (4, sum(map(len, files.values())))
        assert server.nbytes == said["read_bytes"]
    expected = {key: value for key, value in copy.items() if key not in NOT_COMPARED}
    found = {key: said[key] for key in expected}
    assert found == {**expected, "path": url, **shown(url, expected, verb)}


def shown(url: str, expected: Mapping[str, object], verb: str) -> dict[str, object]:
    """What differs: the names of files, and how often a server was asked."""
    if verb != "info":
        return {"requests": 4} if verb == "scan" else {}
    shards = [url.replace(INDEX, name) for name in NAMES]
    return {"requests": 4, "shards": shards}


def test_what_is_made_of_it_is_what_is_made_of_a_copy(
    sdtool: Run, server: Server, tmp_path: Path
) -> None:
    """Of each shard: five looks at what it is, its tensor, and that once more for --verify."""
    files = write_set(tmp_path / "set", numel=300_000)
    url = serve_set(server, files)
    assert sdtool("convert", "set", "--dtype", "fp16", "--out-dir", "here").code == DONE
    result = sdtool("convert", url, "--dtype", "fp16", "--out-dir", "there", "--json")
    assert (result.code, result.err) == (DONE, "")
    made = tree(tmp_path / "there")
    assert made == tree(tmp_path / "here")
    assert sorted(made) == sorted([*NAMES, INDEX])
    assert sorted(asked(server)) == sorted([INDEX, *(5 * NAMES)])
    (said,) = json.loads(result.out)["files"]
    assert server.nbytes < sum(map(len, files.values())) + 3 * 5 * PAGE
    assert any(note.endswith("were fetched, in 16 requests") for note in said["notes"])
    server.asked.clear()
    options = ("--dtype", "fp16", "--out-dir", "again", "--verify")
    assert sdtool("convert", url, *options).code == DONE
    assert sorted(asked(server)) == sorted([INDEX, *(6 * NAMES)])
    assert tree(tmp_path / "again") == made
    assert sdtool("verify", "again", "--against", url).code == DONE


def test_deep_and_a_whole_check_fetch_each_byte_once(
    sdtool: Run, server: Server, tmp_path: Path
) -> None:
    files = write_set(tmp_path / "set", numel=300_000)
    url = serve_set(server, files)
    for verb in (("scan", "--deep"), ("verify",)):
        server.asked.clear()
        assert sdtool(*verb, url).code == DONE
        assert sorted(asked(server)) == sorted([INDEX, *NAMES, *NAMES])
        assert server.nbytes <= sum(map(len, files.values())) + 3 * PAGE


def test_from_python(server: Server, files: dict[str, bytes], tmp_path: Path) -> None:
    url = serve_set(server, files)
    report = scan_file(url)
    assert (report.path, report.requests, report.nbytes) == (url, 4, 3 * len(files[NAMES[0]]))
    assert identify_file(url).nbytes == report.nbytes
    (made,) = convert_file(url, out_dir=tmp_path / "out")
    assert sorted(tree(tmp_path / "out")) == sorted([*NAMES, INDEX])
    assert len(server.asked) == 12
    del made


@pytest.mark.parametrize("verb", ["scan", "info", "verify", "convert"])
def test_a_shard_that_is_missing_is_one_line(
    sdtool: Run, server: Server, files: dict[str, bytes], verb: str, tmp_path: Path
) -> None:
    del files[NAMES[1]]
    url = serve_set(server, files)
    result = sdtool(verb, url, *(["--out-dir", "out"] if verb == "convert" else []))
    assert result.code == TROUBLE
    said = (result.out if verb == "scan" else result.err).splitlines()
    (line,) = [one for one in said if "no such file on the server" in one]
    assert NAMES[1] in line
    assert not tree(tmp_path / "out")


def test_a_shard_that_changes_midway_gives_no_output(
    sdtool: Run, server: Server, tmp_path: Path
) -> None:
    files = write_set(tmp_path / "set", numel=300_000)
    url = serve_set(server, files)

    def change(path: str, _: Mapping[str, str], good: Callable[[], Reply]) -> Reply:
        if path.endswith(NAMES[2]) and path in map(_path, server.asked):
            server.serve(path, files[NAMES[2]][:-1] + b"\1", tag='"two"')
        return good()

    server.always = change
    result = sdtool("convert", url, "--out-dir", "out")
    assert result.code == TROUBLE
    assert f"{NAMES[2]}: changed while it was read" in result.err
    assert not tree(tmp_path / "out")


def _path(one: object) -> str:
    return getattr(one, "path", "")


@pytest.mark.parametrize(
    "shard",
    ["../secret.safetensors", "/secret.safetensors", "http://127.0.0.1:1/x.safetensors",
     "sub/x.safetensors", "..", "", "a\\b.safetensors", "x:y"],
)  # fmt: skip
def test_an_index_leads_out_of_its_folder_nowhere(sdtool: Run, server: Server, shard: str) -> None:
    server.serve("/deep/" + INDEX, json.dumps({"weight_map": {"a": shard}}).encode())
    server.serve("/secret.safetensors", b"secret")
    url = f"{server.url}/deep/{INDEX}"
    for verb in ("info", "verify", "convert"):
        result = sdtool(verb, url)
        assert result.code == TROUBLE
        assert "names a file outside its folder" in result.err
    assert set(asked(server)) == {INDEX}


def test_a_name_is_no_part_of_a_url(sdtool: Run, server: Server, tmp_path: Path) -> None:
    """What an index names is plain text: an escape, a query or a fragment in it is none."""
    names = ("..%2Fx.safetensors", "x?y#z.safetensors", "ä b.safetensors")
    escaped = ("..%252Fx.safetensors", "x%3Fy%23z.safetensors", "%C3%A4%20b.safetensors")
    for number, name in zip("012", escaped, strict=True):
        save_file({number: torch.arange(9.0)}, tmp_path / "x")
        server.serve("/deep/" + name, (tmp_path / "x").read_bytes())
    index = {"weight_map": dict(zip("012", names, strict=True))}
    url = server.serve("/deep/" + INDEX, json.dumps(index).encode())
    assert sdtool("verify", url).code == DONE
    assert sorted(asked(server)) == sorted([INDEX, *escaped])


def test_the_shards_are_asked_for_as_the_index_is(
    sdtool: Run, server: Server, files: dict[str, bytes]
) -> None:
    url = serve_set(server, files).replace("http://", "http://user:SECRET@") + "?sig=SECRET"
    result = sdtool("info", url)
    assert (result.code, result.err) == (DONE, "")
    assert "SECRET" not in result.out
    assert [one.path for one in server.asked] == [
        f"/deep/{name}?sig=SECRET" for name in (INDEX, *NAMES)
    ]
    assert {one.headers["Authorization"] for one in server.asked} == {"Basic dXNlcjpTRUNSRVQ="}


def test_a_repository_is_one_model_of_one_commit(
    sdtool: Run, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.private = True
    files = write_set(tmp_path / "set")
    for name, data in files.items():
        hub.add(name, data, large=name != INDEX)
    for commit in (FIRST, SECOND):
        hub.add("README.md", b"# read me", commit=commit, large=False)
    for name, data in write_set(tmp_path / "other", value=1.0).items():
        hub.add(name, data, commit=SECOND, large=name != INDEX)
    answer = hub.answer

    def moving_on(path: str, asked: Mapping[str, str], good: Callable[[], Reply]) -> Reply:
        reply = answer(path, asked, good)
        if path.endswith(INDEX):
            hub.commits["main"] = SECOND
        return reply

    hub.server.always = moving_on
    result = sdtool("scan", "hf://owner/repo", "--json")
    (said,) = json.loads(result.out)["files"]
    assert (said["path"], said["verdict"]) == (f"hf://owner/repo/{INDEX}", "clean")
    assert (said["requests"], said["size_bytes"]) == (7, 3 * len(files[NAMES[0]]))
    resolved = [path.removeprefix("/owner/repo/resolve/") for path in hub.resolved]
    read_me = "main/README.md"
    assert [one for one in resolved if one != read_me] == [
        f"main/{INDEX}",
        *(f"{FIRST}/{name}" for name in NAMES),
    ]
    hub.commits["main"] = FIRST
    assert sdtool("convert", "hf://owner/repo/", "--out-dir", "there").code == DONE
    assert sdtool("convert", "set", "--out-dir", "here").code == DONE
    assert tree(tmp_path / "there") == tree(tmp_path / "here")


def test_a_prefix_of_a_bucket_is_one_model(
    sdtool: Run, bucket: Bucket, files: dict[str, bytes], tmp_path: Path
) -> None:
    for name, data in files.items():
        bucket.put("run/" + name, data)
    whole = sdtool("info", "s3://models/run/", "--json")
    (said,) = json.loads(whole.out)["files"]
    assert (said["path"], said["requests"]) == (f"s3://models/run/{INDEX}", 4)
    assert said["shards"] == [f"s3://models/run/{name}" for name in NAMES]
    assert sdtool("verify", "s3://models/run/").code == DONE
    to_bucket = ("--out-dir", "s3://models/out", "--verify")
    assert sdtool("convert", "s3://models/run/", "--dtype", "fp16", *to_bucket).code == DONE
    assert sdtool("verify", "s3://models/out/", "--against", "s3://models/run/").code == DONE
    bucket.obstore.delete(bucket.store, f"run/{NAMES[1]}")
    result = sdtool("verify", "s3://models/run/")
    assert result.code == TROUBLE
    assert "no such file in the bucket" in result.err
    assert NAMES[1] in result.err


def test_a_journal_knows_the_index_and_each_shard(
    sdtool: Run, server: Server, files: dict[str, bytes]
) -> None:
    url = serve_set(server, files)

    def scanned() -> bool:
        (file,) = json.loads(sdtool("scan", url, "--journal", "j", "--json").out)["files"]
        return "unchanged_since" in file

    assert [scanned(), scanned()] == [False, True]
    server.serve(f"/deep/{NAMES[1]}", files[NAMES[1]], tag='"two"')
    assert [scanned(), scanned()] == [False, True]
    server.serve(f"/deep/{INDEX}", files[INDEX], tag='"two"')
    assert [scanned(), scanned()] == [False, True]
    index_again = {"/deep/" + INDEX: '"three"'}

    def change(path: str, _: Mapping[str, str], good: Callable[[], Reply]) -> Reply:
        reply = good()
        if path in index_again:  # from the second request on it is another
            server.serve(path, files[INDEX], tag=index_again.pop(path))
        return reply

    server.always = change
    assert [scanned(), scanned(), scanned()] == [False, False, True]


def test_a_folder_of_diffusers_becomes_one_file(sdtool: Run, hub: Hub, tmp_path: Path) -> None:
    small_sd1(tmp_path / "m.safetensors")
    assert sdtool("convert", "m.safetensors", "--to", "diffusers", "-o", "pipe").code == DONE
    for path, data in tree(tmp_path / "pipe").items():
        hub.add(f"sub/pipe/{path}", data, large=path.endswith(".safetensors"))
    assert sdtool("convert", "pipe", "--to", "single", "-o", "here.safetensors").code == DONE
    made = Path("here.safetensors").read_bytes()
    result = sdtool("convert", "hf://owner/repo", "--to", "single", "--out-dir", "there")
    assert (result.code, result.err) == (DONE, "")
    assert "were fetched" in result.out
    assert Path("there/sub/pipe.safetensors").read_bytes() == made
    fetched = sum(
        len(data) for (_, path), data in hub.files.items() if path.endswith(".safetensors")
    )
    assert hub.store.nbytes < 1.02 * fetched
    planned = sdtool("convert", "hf://owner/repo/sub/pipe/", "--to", "single", "--dry-run")
    assert "would become pipe.safetensors" in planned.out
    parts = [f"{part}=hf://owner/repo/sub/pipe/{path}" for part, path in PARTS.items()]
    result = sdtool("convert", "--assemble", *parts, "-o", "assembled.safetensors")
    assert (result.code, result.err) == (DONE, "")
    assert sdtool("verify", "assembled.safetensors", "--against", "here.safetensors").code == DONE


PARTS = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
    "text": "text_encoder/model.safetensors",
}


@pytest.fixture
def pipeline(sdtool: Run, server: Server, tmp_path: Path) -> str:
    """The URL of a folder of diffusers on a web server, which is also in the folder `pipe`."""
    small_sd1(tmp_path / "m.safetensors")
    assert sdtool("convert", "m.safetensors", "--to", "diffusers", "-o", "pipe").code == DONE
    for path, data in tree(tmp_path / "pipe").items():
        server.serve(f"/sub/pipe/{path}", data)
    return f"{server.url}/sub/pipe/"


def test_a_folder_of_diffusers_on_a_web_server_is_found_by_its_index(
    sdtool: Run, server: Server, pipeline: str
) -> None:
    """Eight names for each of three components, the scheduler, and the index itself: once."""
    assert sdtool("convert", "pipe", "--to", "single", "-o", "here.safetensors").code == DONE
    to_single = ("--to", "single", "--out-dir", "there")
    result = sdtool("convert", f"{pipeline}model_index.json?sig=SECRET", *to_single)
    assert (result.code, result.err) == (DONE, "")
    assert Path("there/pipe.safetensors").read_bytes() == Path("here.safetensors").read_bytes()
    assert sum(one.nbytes < 2 for one in server.asked) == 3 * 8 + 1
    assert asked(server).count("model_index.json?sig=SECRET") == 1
    assert {one.path.partition("?")[2] for one in server.asked} == {"sig=SECRET"}
    server.asked.clear()
    result = sdtool("verify", pipeline, "--against", "there/pipe.safetensors", "--json")
    (said,) = json.loads(result.out)["files"]
    weights = Path("pipe").rglob("*.safetensors")
    assert said["size_bytes"] == sum(path.stat().st_size for path in weights)
    assert sum(one.nbytes < 2 for one in server.asked) == 3 * 8 + 1


def test_each_file_that_a_loader_may_take_is_looked_at(
    sdtool: Run, server: Server, pipeline: str, tmp_path: Path
) -> None:
    """A pickle beside safe weights, a variant, and a set in the place of one file."""
    unet = tree(tmp_path / "pipe")["unet/diffusion_pytorch_model.safetensors"]
    torch.save({"w": torch.zeros(1)}, "x.bin")
    server.serve("/sub/pipe/vae/diffusion_pytorch_model.bin", Path("x.bin").read_bytes())
    server.serve("/sub/pipe/vae/diffusion_pytorch_model.fp16.safetensors", unet)
    server.files.pop("/sub/pipe/text_encoder/model.safetensors")
    serve_set(server, write_set(tmp_path / "set"), "/sub/pipe/text_encoder/")
    for verb in ("scan", "info"):
        result = sdtool(verb, pipeline, "--json")
        assert result.code == DONE
        assert [one["path"].removeprefix(pipeline) for one in json.loads(result.out)["files"]] == [
            "text_encoder/model.safetensors.index.json",
            "unet/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.fp16.safetensors",
            "vae/diffusion_pytorch_model.bin",
        ]


@pytest.mark.parametrize("is_denied", [False, True])
def test_a_component_without_weights_is_an_error(
    sdtool: Run, server: Server, pipeline: str, is_denied: bool
) -> None:
    server.files.pop("/sub/pipe/vae/diffusion_pytorch_model.safetensors")

    def denied(path: str, _: Mapping[str, str], good: Callable[[], Reply]) -> Reply:
        return Reply(403) if path.startswith("/sub/pipe/vae/") else good()

    server.always = denied if is_denied else None
    for verb in (("scan",), ("convert", "--to", "single", "--out-dir", "out")):
        result = sdtool(*verb, pipeline)
        assert result.code == TROUBLE
        assert result.err.splitlines()[0] == (
            f"sdtool: error: {pipeline}: the server has no weights of vae under any of the usual"
            " names"
        )


def test_a_server_that_falls_silent_in_its_list_is_one_line(
    sdtool: Run, server: Server, pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the body of an answer of which only the head is of use."""
    monkeypatch.setattr(connections, "SILENCE_SECONDS", 0.05)
    monkeypatch.setattr(patience, "ATTEMPTS", 2)

    def silent(path: str, _: Mapping[str, str], good: Callable[[], Reply]) -> Reply:
        return good() if path.endswith("index.json") else Reply(404, {"Content-Length": "9"})

    server.always = silent
    result = sdtool("scan", pipeline)
    assert (result.code, len(result.err.splitlines())) == (TROUBLE, 2)
    assert "the server does not answer, 2 times" in result.err


@pytest.mark.parametrize(
    ("index", "what"),
    [
        (b"[]", "is not the index of a pipeline"),
        (b"{", "is not the index of a pipeline"),
        (b'{"unet": [[], "x"], "vae": null, "../x": ["diffusers", "X"]}', ""),
        (json.dumps({f"c{i}": ["diffusers", "X"] for i in range(17)}).encode(), "names 17 comp"),
        (None, "a web server has no list of files, and there is no model_index.json"),
    ],
)
def test_an_index_that_is_none_leads_nowhere(
    sdtool: Run, server: Server, index: bytes | None, what: str
) -> None:
    if index is not None:
        server.serve("/a/model_index.json", index)
    result = sdtool("scan", f"{server.url}/a/")
    assert what in result.err
    assert result.code == (TROUBLE if what else DONE)
    assert set(asked(server)) <= {"model_index.json", "scheduler_config.json"}
