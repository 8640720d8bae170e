"""Buckets: S3 as moto plays it, and a store that has too much to list."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.remote.server import Reply, Server, answered

from sdtool.batch.remote import buckets, listing
from sdtool.cli.exit_codes import DONE, TROUBLE


@pytest.fixture(scope="module")
def moto() -> Generator[str]:
    """The address of moto's server."""
    server: Any = pytest.importorskip("moto.server")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


class Bucket:
    """One bucket, written by the package itself."""

    def __init__(self) -> None:
        store: Any = pytest.importorskip("obstore.store")
        self.obstore: Any = pytest.importorskip("obstore")
        self.store = store.S3Store("models")

    def put(self, path: str, data: bytes) -> str:
        self.obstore.put(self.store, path, data)
        return f"s3://models/{path}"


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Make a store on this machine the one that the environment names."""
    for name, value in {
        "ENDPOINT_URL": endpoint, "ALLOW_HTTP": "true", "REGION": "us-east-1",
        "ACCESS_KEY_ID": "AKIAHIDDEN", "SECRET_ACCESS_KEY": "secretHIDDEN",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"AWS_{name}", value)


@pytest.fixture
def bucket(moto: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket called `models`."""
    pytest.importorskip("obstore")
    use(monkeypatch, moto)
    call(moto, "POST", "/moto-api/reset")
    call(moto, "PUT", "/models")
    return Bucket()


def put(moto: str, name: str, data: bytes) -> None:
    """Make an object of any name, which the package would change or not take."""
    call(moto, "PUT", f"/models/{name}", data)


def call(moto: str, method: str, path: str, data: bytes = b"") -> None:
    """Ask moto's server for something."""
    import http.client

    connection = http.client.HTTPConnection(moto.removeprefix("http://"))
    signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request"}
    connection.request(method, path, data, headers=signed)
    assert connection.getresponse().status == 200
    connection.close()


def test_it_is_what_it_is_here(sdtool: Run, bucket: Bucket, training: Path) -> None:
    url = bucket.put("sub/training.ckpt", training.read_bytes())
    scan = sdtool("scan", url, "--format", "json")
    (report,) = json.loads(scan.out)["files"]
    assert (scan.code, report["verdict"], report["path"]) == (DONE, "clean", url)
    assert sdtool("info", url).out == sdtool("info", training).out
    assert sdtool("prune", "--out-dir", "here", training).code == DONE
    assert sdtool("prune", url).code == DONE
    name = "training-pruned.safetensors"
    assert Path(name).read_bytes() == Path("here", name).read_bytes()


def test_a_prefix_is_a_folder(sdtool: Run, bucket: Bucket, training: Path) -> None:
    for path in ("a.ckpt", "sub/b.ckpt", "sub/deep/c.ckpt", "subway/d.ckpt"):
        bucket.put(path, training.read_bytes())
    bucket.put("README.md", b"# read me")
    whole = sdtool("scan", "s3://models", "--format", "json")
    assert [file["path"] for file in json.loads(whole.out)["files"]] == [
        "s3://models/a.ckpt",
        "s3://models/sub/b.ckpt",
        "s3://models/sub/deep/c.ckpt",
        "s3://models/subway/d.ckpt",
    ]
    assert sdtool("convert", "s3://models/sub/", "--out-dir", "out").code == DONE
    assert {p.relative_to("out").as_posix() for p in Path("out").rglob("*.safetensors")} == {
        "b.safetensors", "deep/c.safetensors",
    }  # fmt: skip
    found = sdtool("scan", "s3://models/*/?.ckpt", "--exclude", "subway", "--format", "json")
    assert len(json.loads(found.out)["files"]) == 2


def test_an_object_that_changes_midway_is_an_error(
    sdtool: Run, bucket: Bucket, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = training.read_bytes()
    url = bucket.put("m.ckpt", data)
    fetch = buckets.BucketFile.fetch

    def replaced(self: buckets.BucketFile, offset: int, nbytes: int) -> bytes:
        bucket.put("m.ckpt", data + b"x")
        return fetch(self, offset, nbytes)

    monkeypatch.setattr(buckets.BucketFile, "fetch", replaced)
    result = sdtool("convert", url)
    assert (result.code, result.err.splitlines()[0]) == (
        TROUBLE,
        f"sdtool: error: {url}: changed while it was read; the data was discarded",
    )


def test_an_empty_object(sdtool: Run, bucket: Bucket) -> None:
    result = sdtool("info", bucket.put("empty.ckpt", b""))
    assert (result.code, "empty" in result.err) == (TROUBLE, True)


@pytest.mark.parametrize("path", ["models/none.ckpt", "nobucket/x.ckpt"])
def test_what_is_not_there(sdtool: Run, bucket: Bucket, path: str) -> None:
    result = sdtool("info", f"s3://{path}")
    assert (result.code, result.err) == (
        TROUBLE, f"sdtool: error: s3://{path}: no such file in the bucket, or no such bucket\n",
    )  # fmt: skip


@pytest.fixture
def store(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A store that answers what a test says."""
    pytest.importorskip("obstore")
    use(monkeypatch, server.url)
    monkeypatch.setattr(buckets, "_RETRY", {"max_retries": 0})
    return server


def test_a_store_that_takes_no_conditions_is_still_found_out(
    sdtool: Run, store: Server, training: Path
) -> None:
    date = "Mon, 01 Jan 2024 00:00:00 GMT"
    store.serve("/models/m.ckpt", training.read_bytes(), tag='"one"', date=date)

    def ignores(path: str, asked: Mapping[str, str], good: Callable[[], Reply]) -> Reply:
        if len(store.asked) == 1:
            store.serve("/models/m.ckpt", training.read_bytes(), tag='"two"', date=date)
        return answered(store.files[path], {"Range": asked["Range"]})

    store.always = ignores
    result = sdtool("convert", "s3://models/m.ckpt")
    assert (result.code, "changed while it was read" in result.err) == (TROUBLE, True)


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (403, "the store denies access"),
        (401, "the store denies access"),
        (500, "the store answers 500"),
        (418, "the store answers 418"),
    ],
)
def test_what_a_store_refuses_is_one_line(
    sdtool: Run, store: Server, status: int, told: str
) -> None:
    store.always = lambda path, asked, good: Reply(status, {}, b"<Error>AKIAHIDDEN</Error>")
    result = sdtool("info", "s3://models/x.ckpt")
    assert result.code == TROUBLE
    assert result.err.splitlines()[0] == f"sdtool: error: s3://models/x.ckpt: {told}"
    assert "HIDDEN" not in result.err


def test_a_store_that_is_not_there(
    sdtool: Run, store: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, "http://127.0.0.1:9")
    result = sdtool("info", "s3://models/x.ckpt")
    assert (result.code, result.err) == (
        TROUBLE, "sdtool: error: s3://models/x.ckpt: the store cannot be reached\n",
    )  # fmt: skip


def test_nobody_has_said_who_asks(
    sdtool: Run, store: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"AWS_{name}")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    result = sdtool("info", "s3://models/x.ckpt")
    assert (result.code, result.err.splitlines()) == (
        TROUBLE,
        [
            "sdtool: error: s3://models/x.ckpt: no credentials for the store",
            "sdtool: hint: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY;"
            " public buckets: AWS_SKIP_SIGNATURE=true",
        ],
    )
    azure = sdtool("info", "az://models/x.ckpt")
    assert azure.err.startswith("sdtool: error: az://models/x.ckpt: no credentials for the store\n")


def page(*keys: str, more: bool, size: int = 1) -> bytes:
    """One page of ListObjectsV2."""
    entries = "".join(
        f"<Contents><Key>{key}</Key><Size>{size}</Size><ETag>x</ETag>"
        "<LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>"
        for key in keys
    )
    following = "<NextContinuationToken>again</NextContinuationToken>" if more else ""
    return (
        f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{following}{entries}"
        "</ListBucketResult>"
    ).encode()


def test_a_bucket_that_lists_forever(
    sdtool: Run, store: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MOST_FILES", 5_000)
    body = page(*(f"{i}.ckpt" for i in range(1000)), more=True)
    store.always = lambda path, asked, good: Reply(200, {}, body)
    result = sdtool("scan", "s3://models/x/")
    assert (result.code, result.err.splitlines()) == (
        TROUBLE,
        [
            "sdtool: error: s3://models/x/: lists more than 5,000 files",
            "sdtool: hint: name a folder in it",
        ],
    )


def test_a_bucket_that_lists_folders_forever(
    sdtool: Run, store: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "_MOST_CHUNKS", 3)
    body = page(*(f"{i}/" for i in range(1000)), more=True, size=0)
    store.always = lambda path, asked, good: Reply(200, {}, body)
    result = sdtool("scan", "s3://models/x/")
    assert (result.code, result.err) == (
        TROUBLE, "sdtool: error: s3://models/x/: the list of the store does not end\n",
    )  # fmt: skip


def test_what_a_console_makes_to_show_a_folder_is_no_file(
    sdtool: Run, bucket: Bucket, moto: str, training: Path
) -> None:
    put(moto, "sub/dir/", b"")
    put(moto, "sub/empty.ckpt", b"")
    bucket.put("sub/dir/a.ckpt", training.read_bytes())
    result = sdtool("scan", "s3://models/sub/", "--json")
    assert [(one["path"], one["verdict"]) for one in json.loads(result.out)["files"]] == [
        ("s3://models/sub/dir/a.ckpt", "clean"),
        ("s3://models/sub/empty.ckpt", "not-a-checkpoint"),
    ]


@pytest.mark.parametrize("name", ["sub//a.ckpt", "sub/../a.ckpt", "sub/./a.ckpt"])
def test_a_name_that_the_package_does_not_take_is_said_so(
    sdtool: Run, bucket: Bucket, moto: str, training: Path, name: str
) -> None:
    put(moto, name, training.read_bytes())
    what = "the name of an object has an empty part, . or .., which cannot be read"
    for path in ("s3://models/sub/", f"s3://models/{name}"):
        result = sdtool("info", path)
        assert (result.code, result.err) == (TROUBLE, f"sdtool: error: {path}: {what}\n")
    result = sdtool("convert", training, "-o", f"s3://models/{name}".replace("ckpt", "safetensors"))
    assert (result.code, what in result.err) == (TROUBLE, True)


def test_a_bucket_that_lists_nothing_forever(
    sdtool: Run, store: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "LIST_SECONDS", 0.5)

    def empty(path: str, asked: Mapping[str, str], good: Callable[[], Reply]) -> Reply:
        return Reply(200, {}, page(more=len(store.asked) < 2000), delay=0.01)

    store.always = empty
    result = sdtool("scan", "s3://models/x/")
    assert (result.code, result.err) == (
        TROUBLE, "sdtool: error: s3://models/x/: the store has listed nothing for 0 seconds\n",
    )  # fmt: skip


def test_without_the_package(sdtool: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == "obstore":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "obstore", None)
    for path in ("s3://models/x.ckpt", "gs://models/", "az://models/*.ckpt"):
        result = sdtool("info", path)
        assert (result.code, result.err.splitlines()) == (
            TROUBLE,
            [
                "sdtool: error: buckets require the package obstore, which is not installed",
                f"sdtool: hint: {sys.executable} -m pip install 'obstore>=0.12,<0.13'",
            ],
        )


def test_a_profile_of_aws_says_who_asks(
    sdtool: Run, store: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("boto3")
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION"):
        monkeypatch.delenv(f"AWS_{name}")
    lines = ["[lab]", "aws_access_key_id=AKIALAB", "aws_secret_access_key=secretHIDDEN"]
    (tmp_path / "keys").write_text("\n".join([*lines, "region=eu-west-1"]))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "keys"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    sdtool("info", "s3://models/x.ckpt")
    assert "Credential=AKIALAB/" in store.asked[0].headers["Authorization"]
    assert "/eu-west-1/s3/" in store.asked[0].headers["Authorization"]
    monkeypatch.setenv("AWS_PROFILE", "none")
    wrong = sdtool("info", "s3://models/x.ckpt")
    assert (wrong.code, wrong.err.splitlines()[0]) == (
        TROUBLE, "sdtool: error: the profile in AWS_PROFILE cannot be used",
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.delitem(sys.modules, "obstore.auth.boto3", raising=False)
    without = sdtool("info", "s3://models/x.ckpt")
    assert without.err.splitlines() == [
        "sdtool: error: AWS profiles require the package boto3, which is not installed",
        f"sdtool: hint: {sys.executable} -m pip install boto3, or unset AWS_PROFILE",
    ]
