"""Google's and Azure's stores, as servers on this machine play them, through the real package."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.remote.stores import PLACE, Azure, Google, Store, store_running

from sdtool.batch.remote import buckets
from sdtool.cli.exit_codes import DONE, TROUBLE

SCHEMES = ("gs", "az")


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    """A scheme, to be asked for by whoever needs a store."""
    return str(request.param)


@pytest.fixture
def store(scheme: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[Store]:
    """An empty store, which the environment names."""
    pytest.importorskip("obstore")
    store = Google() if scheme == "gs" else Azure()
    with store_running(store) as url:
        if scheme == "gs":
            account = {"gcs_base_url": url, "disable_oauth": True, "client_email": ""}
            account |= {"private_key": "", "private_key_id": ""}
            (tmp_path / "account.json").write_text(json.dumps(account))
            monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "account.json"))
            monkeypatch.setenv("GOOGLE_ALLOW_HTTP", "true")
        else:
            monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
            monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", url)
        yield store


@pytest.fixture
def place(scheme: str) -> str:
    """The URL of the store's one container."""
    return f"{scheme}://{PLACE}"


def files(result: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(result.out)["files"]
    return found


def test_what_is_read_is_what_it_is_here(
    sdtool: Run, store: Store, place: str, training: Path
) -> None:
    for name in ("training.ckpt", "sub/ä b.ckpt", "subway/c.ckpt"):
        store.put(name, training.read_bytes())
    assert sdtool("info", f"{place}/training.ckpt").out == sdtool("info", training).out
    found = files(sdtool("scan", f"{place}/", "--json"))
    assert [one["path"] for one in found] == [f"{place}/{name}" for name in sorted(store.objects)]
    assert {one["verdict"] for one in found} == {"clean"}
    (one,) = files(sdtool("scan", f"{place}/sub/", "--json"))
    assert one["path"] == f"{place}/sub/ä b.ckpt"
    (one,) = files(sdtool("scan", f"{place}/*way/*.ckpt", "--json"))
    assert one["path"] == f"{place}/subway/c.ckpt"


def test_what_is_not_there_is_one_line(sdtool: Run, store: Store, place: str) -> None:
    store.put("empty.ckpt", b"")
    for url, what in (
        (f"{place}/none.ckpt", "no such file in the bucket, or no such bucket"),
        (place.replace(PLACE, "others") + "/", "no such file in the bucket, or no such bucket"),
        (f"{place}/empty.ckpt", "this is an empty file"),
    ):
        result = sdtool("info", url)
        assert result.code == TROUBLE
        assert result.err.splitlines()[0] == f"sdtool: error: {url}: {what}"


def test_what_changes_midway_gives_no_output(
    sdtool: Run, store: Store, place: str, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = training.read_bytes()
    store.put("m.ckpt", data)
    get = buckets.BucketFile.fetch

    def fetch(self: buckets.BucketFile, offset: int, nbytes: int) -> bytes:
        store.put("m.ckpt", data)
        return get(self, offset, nbytes)

    monkeypatch.setattr(buckets.BucketFile, "fetch", fetch)
    result = sdtool("convert", f"{place}/m.ckpt")
    assert result.code == TROUBLE
    assert f"{place}/m.ckpt: changed while it was read" in result.err
    assert not Path("m.safetensors").exists()


def test_an_output_is_whole_or_not_there_and_replaces_nothing(
    sdtool: Run, store: Store, place: str, training: Path
) -> None:
    assert sdtool("convert", training, "-o", "here.safetensors").code == DONE
    made = Path("here.safetensors").read_bytes()
    url = f"{place}/sub/x.safetensors"
    result = sdtool("convert", training, "-o", url, "--verify")
    assert (result.code, result.err) == (DONE, "")
    assert store.objects == {"sub/x.safetensors": made}
    assert "up to date" in sdtool("convert", training, "-o", url).out
    refused = sdtool("convert", training, "-o", url, "--dtype", "fp16")
    assert refused.err.splitlines()[0] == f"sdtool: error: {url}: already exists"
    assert store.objects == {"sub/x.safetensors": made}
    assert sdtool("convert", training, "-o", url, "--dtype", "fp16", "--force").code == DONE
    assert store.objects.keys() == {"sub/x.safetensors"}
    assert store.objects["sub/x.safetensors"] != made
    assert store.parts == {}


def test_several_parts_become_one(
    sdtool: Run, store: Store, place: str, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "_PART_NBYTES", 1 << 20)
    assert sdtool("convert", training, "-o", "here.safetensors").code == DONE
    assert sdtool("convert", training, "-o", f"{place}/x.safetensors").code == DONE
    assert store.objects == {"x.safetensors": Path("here.safetensors").read_bytes()}
    sent = [one for one in store.asked if one.query.keys() & {"partNumber", "blockid"}]
    assert [len(one.body) for one in sent].count(1 << 20) >= 1
    assert store.parts == {}


def test_what_somebody_puts_there_meanwhile_is_kept(
    sdtool: Run, store: Store, place: str, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = buckets.put

    def overtaken(location: Any, *rest: Any) -> None:
        put(location, *rest)
        store.objects["x.safetensors"] = b"mine"

    monkeypatch.setattr(buckets, "put", overtaken)
    result = sdtool("convert", training, "-o", f"{place}/x.safetensors")
    assert result.code == TROUBLE
    assert "already exists" in result.err
    assert store.objects == {"x.safetensors": b"mine"}


def test_a_store_that_replaces_what_is_there_is_refused(
    sdtool: Run, store: Store, place: str, training: Path
) -> None:
    store.keeps_promises = False
    result = sdtool("convert", training, "-o", f"{place}/x.safetensors")
    assert result.code == TROUBLE
    assert "the store replaces existing objects although it is told not to" in result.err
    assert store.objects == {}


@pytest.mark.parametrize("scheme", ["az"], indirect=True)
@pytest.mark.parametrize("is_done", [True, False])
def test_a_copy_that_was_only_accepted_is_waited_for(
    sdtool: Run, store: Store, place: str, training: Path, monkeypatch: pytest.MonkeyPatch,
    *, is_done: bool,
) -> None:  # fmt: skip
    """Azure needs the source until then: it may not be deleted before."""
    deleted_at: list[int] = []
    delete = buckets.delete

    def noted(location: Any) -> None:
        deleted_at.append(store.late)
        delete(location)

    monkeypatch.setattr(buckets, "delete", noted)
    monkeypatch.setattr(buckets, "_ASK_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(buckets, "_COPYING_SECONDS", 600.0 if is_done else -1.0)
    store.put("x.safetensors", b"old")
    copy = buckets.copy

    def slow(*location: Any, force: bool) -> None:
        store.late = 3
        copy(*location, force=force)

    monkeypatch.setattr(buckets, "copy", slow)
    result = sdtool("convert", training, "-o", f"{place}/x.safetensors", "--force")
    if is_done:
        assert (result.code, deleted_at) == (DONE, [0])
    else:
        assert result.code == TROUBLE
        assert result.err.splitlines()[0] == (
            f"sdtool: error: {place}/x.safetensors: the store has not copied it"
        )


@pytest.mark.parametrize("scheme", ["s3", *SCHEMES])
def test_a_request_may_take_as_long_as_something_comes(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """The package gives a request 30 seconds in all: not enough for a block on a slow line."""
    from sdtool.batch.remote.location import parse

    wanted: dict[str, Any] = {}

    class Package:
        @staticmethod
        def from_url(url: str, **options: Any) -> None:
            wanted.update(options["client_options"])

    monkeypatch.setattr(buckets, "_package", lambda name="": Package)
    buckets.store_of(parse(f"{scheme}://models/x"))
    times = {key: value.total_seconds() for key, value in wanted.items() if key != "allow_http"}
    assert times == {"timeout": 600, "read_timeout": 30}
    wanted.clear()
    buckets.store_of(parse(f"{scheme}://models/x"), to_write=True)
    assert wanted.keys() == {"timeout", "allow_http"}
