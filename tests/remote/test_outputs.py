"""Outputs that go to a bucket: whole or not at all, and nothing is replaced unasked."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.cli import standing
from tests.cli.conftest import Run
from tests.remote import sending_slowly
from tests.remote.test_buckets import Bucket, use
from tests.remote.test_buckets import bucket as bucket
from tests.remote.test_buckets import moto as moto

from sdtool.batch import Converting, run_batch
from sdtool.batch.remote import buckets, sending
from sdtool.batch.remote.location import parse
from sdtool.batch.remote.sending import InBucket
from sdtool.cli.exit_codes import DONE, FOUND, INTERRUPTED, TROUBLE
from sdtool.convert import partial_name

URL = "s3://models/out/x.safetensors"


def objects(bucket: Bucket) -> dict[str, bytes]:
    """Everything in the bucket."""
    found = [meta["path"] for page in bucket.obstore.list(bucket.store) for meta in page]
    return {path: bytes(bucket.obstore.get(bucket.store, path).bytes()) for path in found}


def uploads(endpoint: str) -> bytes:
    """What the store says of uploads that were begun and not ended."""
    connection = http.client.HTTPConnection(endpoint.removeprefix("http://"))
    login = "AWS4-HMAC-SHA256 Credential=A/20240101/us-east-1/s3/aws4_request"
    connection.request("GET", "/models?uploads", headers={"Authorization": login})
    return connection.getresponse().read()


@pytest.fixture
def plain(sdtool: Run, training: Path, bucket: Bucket) -> bytes:
    """What the training checkpoint becomes on this machine."""
    assert sdtool("convert", training, "-o", "plain.safetensors").code == DONE
    return Path("plain.safetensors").read_bytes()


def test_an_output_is_what_it_would_be_here_and_nothing_else_is_there(
    sdtool: Run, training: Path, plain: bytes, bucket: Bucket
) -> None:
    made = sdtool("convert", training, "-o", URL, "--verify", "--hash", "--json")
    assert made.code == DONE
    assert objects(bucket) == {"out/x.safetensors": plain}
    (file,) = json.loads(made.out)["files"]
    assert (file["output"], file["verified"]) == (URL, True)
    again = sdtool("convert", training, "-o", URL, "--verify", "--hash", "--json")
    (there,) = json.loads(again.out)["files"]
    assert (there["status"], there["hashes"]) == ("skipped", file["hashes"])
    folder = sdtool("prune", training, "--out-dir", "s3://models/all/")
    assert folder.code == DONE
    assert "s3://models/all/training-pruned.safetensors" in folder.out
    assert sorted(os.listdir()) == [
        "plain.safetensors", "training.ckpt",
    ]  # fmt: skip


def test_what_is_there_is_replaced_only_when_asked(
    sdtool: Run, training: Path, plain: bytes, bucket: Bucket
) -> None:
    bucket.put("out/x.safetensors", b"mine")
    refused = sdtool("convert", training, "-o", URL)
    assert (refused.code, refused.err.splitlines()[0]) == (
        TROUBLE, f"sdtool: error: {URL}: already exists",
    )  # fmt: skip
    assert objects(bucket) == {"out/x.safetensors": b"mine"}
    assert sdtool("convert", training, "-o", URL, "--force", "--verify").code == DONE
    assert objects(bucket) == {"out/x.safetensors": plain}
    changed = bytearray(plain)
    changed[-1] ^= 1
    bucket.put("out/x.safetensors", bytes(changed))
    differs = sdtool("convert", training, "-o", URL, "--verify")
    assert (differs.code, "already exists, and differs from" in differs.err) == (FOUND, True)


def test_what_appears_meanwhile_is_kept(
    sdtool: Run, training: Path, plain: bytes, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = buckets.put

    def meanwhile(*arguments: Any) -> None:
        put(*arguments)
        bucket.put("out/x.safetensors", b"theirs")

    monkeypatch.setattr(buckets, "put", meanwhile)
    result = sdtool("convert", training, "-o", URL)
    assert (result.code, result.err.splitlines()[0]) == (
        TROUBLE, f"sdtool: error: {URL}: already exists",
    )  # fmt: skip
    assert objects(bucket) == {"out/x.safetensors": b"theirs"}


@pytest.mark.parametrize("options", [[], ["--force"]], ids=str)
def test_ctrl_c_abandons_what_is_sent(
    sdtool: Run,
    training: Path,
    plain: bytes,
    bucket: Bucket,
    moto: str,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
) -> None:
    def stopped(file: Any, progress: Callable[[int], object]) -> Iterator[bytes]:
        yield file.read_at(0, 1 << 20)
        raise KeyboardInterrupt

    monkeypatch.setattr(sending, "_pieces", stopped)
    result = sdtool("convert", training, "--out-dir", "s3://models/out", *options)
    assert (result.code, objects(bucket)) == (INTERRUPTED, {})
    assert b"<Upload>" not in uploads(moto)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("options", [[], ["--verify"]], ids=["on its way", "compared"])
def test_ctrl_c_abandons_what_two_processes_send(
    tmp_path: Path,
    bucket: Bucket,
    moto: str,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
) -> None:
    for folder in ("in", "tmp"):
        (tmp_path / folder).mkdir()
    for name in "abcd":
        torch.save({"w": torch.ones(1000)}, tmp_path / "in" / f"{name}.ckpt")
    monkeypatch.setenv("TMPDIR", os.fspath(tmp_path / "tmp"))
    arguments = ["convert", "in", "--out-dir", "s3://models/out", "-j", "2", *options]
    process = standing.command(tmp_path, *arguments, script=sending_slowly.__file__)
    assert process.stdout is not None
    assert process.stdout.readline() == "sending\n"  # the other one, too
    assert len(objects(bucket)) == 2 * len(options)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    out, err = process.communicate(timeout=120)  # its end is when the last worker has closed it
    assert (process.returncode, err.strip()) == (INTERRUPTED, "sdtool: interrupted")
    assert "convert" not in out
    assert objects(bucket) == {}
    assert b"<Upload>" not in uploads(moto)
    assert not list((tmp_path / "tmp").iterdir())


def test_what_a_process_that_was_killed_has_left_is_removed(bucket: Bucket, tmp_path: Path) -> None:
    mine = partial_name("x.safetensors")
    others = {
        f"out/{name}": b"theirs"
        for name in (
            mine.replace(f"-{os.getpid()}-", "-1-"),
            partial_name("y.safetensors"),
            "x.safetensors",
        )
    }
    for name in (f"out/{mine}", *others):
        bucket.put(name, b"theirs")
    made = tmp_path / "out" / "x.safetensors"
    made.parent.mkdir()
    made.with_name(mine).touch()
    made.touch()
    outputs = InBucket(os.fspath(tmp_path), parse("s3://models/"))
    outputs.clear_away([made], os.getpid())
    assert objects(bucket) == others
    assert not list(made.parent.iterdir())


def test_what_the_store_gives_back_is_compared(
    sdtool: Run, training: Path, plain: bytes, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = buckets.put

    def spoilt(location: Any, pieces: Iterator[bytes], nbytes: int) -> None:
        data = bytearray(b"".join(pieces))
        data[len(data) // 2] ^= 1
        put(location, iter([bytes(data)]), nbytes)

    monkeypatch.setattr(buckets, "put", spoilt)
    result = sdtool("convert", training, "-o", URL, "--verify")
    assert (result.code, result.err) == (
        FOUND, f"sdtool: error: {URL}: the uploaded object differs from what was sent\n",
    )  # fmt: skip
    assert objects(bucket) == {}


def test_a_store_that_replaces_all_the_same_is_refused(
    sdtool: Run, training: Path, plain: bytes, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = buckets.copy
    monkeypatch.setattr(buckets, "copy", lambda *one, force: copy(*one, force=True))
    result = sdtool("convert", training, "-o", URL)
    assert (result.code, result.err.splitlines()) == (
        TROUBLE,
        [
            "sdtool: error: s3://models/out/: the store replaces existing objects although it"
            " is told not to",
            "sdtool: hint: --force writes it anyway",
        ],
    )
    assert objects(bucket) == {}
    assert sdtool("convert", training, "-o", URL, "--force").code == DONE


def test_more_than_a_store_copies_is_sent_in_one_step_if_asked(
    sdtool: Run, training: Path, plain: bytes, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "_MOST_COPIED", {"s3": 1000})
    result = sdtool("convert", training, "-o", URL)
    assert (result.code, result.err.splitlines()[0]) == (
        TROUBLE,
        f"sdtool: error: {URL}: s3:// cannot write more than 1,000 bytes on the condition that"
        " nothing is replaced",
    )
    assert objects(bucket) == {}
    assert sdtool("convert", training, "-o", URL, "--force", "--verify").code == DONE
    assert objects(bucket) == {"out/x.safetensors": plain}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder with a set of two shards."""
    folder = tmp_path / "set"
    folder.mkdir()
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for name in names:
        save_file({name[:11]: torch.arange(100.0)}, folder / name)
    index = {"metadata": {"total_size": 800}, "weight_map": {name[:11]: name for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("is_cut", [False, True], ids=["whole", "cut"])
def test_of_a_set_the_index_comes_last_and_all_or_none(
    sdtool: Run, shards: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, is_cut: bool
) -> None:
    copy, copied = buckets.copy, list[str]()

    def noted(one: Any, to: Any, nbytes: int, *, force: bool) -> None:
        if is_cut and to.path.endswith(".json"):
            raise buckets.Taken("already exists", where=to.shown)
        copy(one, to, nbytes, force=force)
        copied.append(to.path)

    monkeypatch.setattr(buckets, "copy", noted)
    options = ("convert", shards, "--out-dir", "s3://models/out", "--dtype", "fp16")
    result = sdtool(*options, "--verify")
    named = [path for path in copied if "partial" not in path]
    expected = [f"out/model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    if is_cut:
        assert (result.code, named, objects(bucket)) == (TROUBLE, expected, {})
        return
    assert (result.code, named) == (DONE, [*expected, "out/model.safetensors.index.json"])
    assert sorted(objects(bucket)) == named
    again = sdtool(*options, "--hash")
    assert "already exists and is up to date" in again.out


def test_outputs_in_the_bucket_of_the_inputs_are_no_inputs(
    sdtool: Run, training: Path, bucket: Bucket
) -> None:
    bucket.put("a/m.ckpt", training.read_bytes())
    options = ("convert", "s3://models/a/", "--out-dir", "s3://models/a/made", "--dtype", "fp16")
    assert sdtool(*options).code == DONE
    again = sdtool(*options)
    assert (again.code, again.err.splitlines()) == (
        DONE, ["sdtool: note: 1 file in s3://models/a/made/ left out: outputs go there"],
    )  # fmt: skip
    assert sorted(objects(bucket)) == ["a/m.ckpt", "a/made/m-fp16.safetensors"]
    beside = sdtool("convert", "s3://models/a/", "--out-dir", "s3://models/a")
    assert (beside.code, sorted(objects(bucket))) == (
        DONE, ["a/m.ckpt", "a/m.safetensors", "a/made/m-fp16.safetensors"],
    )  # fmt: skip
    whole = sdtool("convert", "s3://models/a/m.safetensors", "--out-dir", "s3://models/a")
    assert "nothing to do: it already has the requested form" in whole.out


def test_many_from_python(training: Path, bucket: Bucket, plain: bytes) -> None:
    done = run_batch([training], Converting(), out_dir="s3://models/py")
    assert [type(one).__name__ for one in done] == ["Written"]
    assert objects(bucket) == {"py/training.safetensors": plain}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["-o", "https://host/x.safetensors?key=HIDDEN"],
            "https://host/x.safetensors: https://",
        ),
        (["--out-dir", "hf://owner/repo"], "hf://owner/repo/: hf:// is for inputs only"),
        (["-o", "s3://models/x/"], "s3://models/x/: -o expects a file, and this is a folder"),
        (["-o", "a", "--out-dir", "s3://models"], "-o and --out-dir cannot be used together"),
        (["-o", URL, "--replace=delete"], "--replace cannot be used where outputs go to a bucket"),
        (
            ["-o", URL, "--sidecars=copy"],
            "--sidecars copy cannot be used where outputs go to a bucket",
        ),
        (["-o", "s3://models/x.pt"], "s3://models/x.pt: -o names a .pt file, but the output is"),
        (["-o", "s3://nowhere/x.safetensors"], "s3://nowhere/: no such file in the bucket, or no"),
    ],
)
def test_what_cannot_be_is_one_line(
    sdtool: Run, training: Path, bucket: Bucket, options: list[str], told: str
) -> None:
    result = sdtool("convert", training, *options)
    assert result.code == TROUBLE
    assert result.err.splitlines()[0].startswith(f"sdtool: error: {told}")
    assert "HIDDEN" not in result.err
    assert objects(bucket) == {}


def test_a_store_that_is_not_there_takes_nothing(
    sdtool: Run, training: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "_RETRY", {"max_retries": 0})
    use(monkeypatch, "http://127.0.0.1:9")
    result = sdtool("convert", training, "-o", URL)
    assert (result.code, result.err) == (
        TROUBLE, f"sdtool: error: {URL}: the store cannot be reached\n",
    )  # fmt: skip
