"""What a journal believes of files on servers: a size and a strong ETag, and nothing less."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.forge import dict_of, pickled, tensor, torch_zip
from tests.remote.server import Reply, Server
from tests.remote.test_buckets import Bucket
from tests.remote.test_buckets import bucket as bucket
from tests.remote.test_buckets import moto as moto

CLEAN = torch_zip(pickled(dict_of({"w": tensor()})))
UNSAFE = torch_zip(pickled(b"cos\nsystem\n(X\x02\0\0\0idtR."))


def scanned(sdtool: Run, url: str) -> tuple[str, bool]:
    """The verdict on a file, and whether it was taken from the journal."""
    made = sdtool("scan", url, "--journal", "j", "--json")
    (file,) = json.loads(made.out)["files"]
    assert file["size_bytes"] > 0
    return file["verdict"], "unchanged_since" in file


def test_an_unchanged_file_is_asked_for_once_and_not_scanned(sdtool: Run, server: Server) -> None:
    url = server.serve("/a.ckpt", CLEAN)
    assert scanned(sdtool, url) == ("clean", False)
    server.asked.clear()
    assert scanned(sdtool, url) == ("clean", True)
    assert len(server.asked) == 1
    server.serve("/a.ckpt", UNSAFE, tag='"two"')
    assert scanned(sdtool, url) == ("unsafe", False)
    assert scanned(sdtool, url) == ("unsafe", True)
    server.serve("/a.ckpt", UNSAFE, tag='"three"')  # as long as before
    assert scanned(sdtool, url) == ("unsafe", False)
    del server.files["/a.ckpt"]
    gone = sdtool("scan", url, "--journal", "j")
    assert "no such file on the server" in gone.out
    assert gone.code == 2


@pytest.mark.parametrize(
    ("options", "query"),
    [
        ({"tag": None, "date": "Mon, 01 Jan 2024 00:00:00 GMT"}, ""),
        ({"tag": 'W/"one"'}, ""),
        ({"tag": ""}, ""),
        ({"ranges": False, "tag": None}, ""),
        ({}, "?key=HIDDEN"),
    ],
    ids=["date", "weak", "empty", "whole", "query"],
)
def test_what_has_no_strong_tag_is_scanned_again(
    sdtool: Run, server: Server, options: dict[str, Any], query: str
) -> None:
    url = server.serve("/a.ckpt", CLEAN, **options) + query
    for _ in range(2):
        assert scanned(sdtool, url) == ("clean", False)
    assert b"HIDDEN" not in Path("j").read_bytes()


def test_what_changes_between_two_questions_is_not_noted(sdtool: Run, server: Server) -> None:
    url = server.serve("/a.ckpt", CLEAN)

    def then_changed(path: str, asked: Mapping[str, str], good: Callable[[], Reply]) -> Reply:
        reply = good()
        server.serve("/a.ckpt", UNSAFE, tag='"two"')
        return reply

    server.faults.append(then_changed)
    assert scanned(sdtool, url) == ("unsafe", False)
    server.serve("/a.ckpt", CLEAN)  # what the first answer was about, back again
    assert scanned(sdtool, url) == ("clean", False)
    assert scanned(sdtool, url) == ("clean", True)


def test_the_journal_names_it_by_its_url(sdtool: Run, server: Server) -> None:
    url = server.serve("/a.ckpt", CLEAN)
    scanned(sdtool, url)
    server.asked.clear()
    (row,) = map(json.loads, sdtool("journal", "export", "j").out.splitlines())
    assert (row["path"], row["files"]) == (url, {url: {"nbytes": len(CLEAN), "version": '"one"'}})
    del server.files["/a.ckpt"]
    assert sdtool("journal", "prune", "j").out == "0 of 1 entries removed\n"  # no server is asked
    assert server.asked == []


def test_conversions_from_bucket_to_bucket(sdtool: Run, bucket: Bucket) -> None:
    bucket.put("a/one.ckpt", CLEAN)
    bucket.put("a/two.ckpt", CLEAN)
    options = (
        "convert",
        "s3://models/a/",
        "--out-dir",
        "s3://models/b",
        "--journal",
        "j",
        "--json",
    )

    def told() -> list[tuple[str, str]]:
        made = json.loads(sdtool(*options).out)
        assert [file["output"] for file in made["files"]] == [
            f"s3://models/b/{name}.safetensors" for name in ("one", "two")
        ]
        return [(file["status"], *file["notes"][:1]) for file in made["files"]]

    assert [status for status, _ in told()] == ["written", "written"]
    assert all("according to the journal" in note for _, note in told())
    bucket.obstore.delete(bucket.store, "b/two.safetensors")
    again = told()
    assert [status for status, _ in again] == ["skipped", "written"]
    bucket.put("b/one.safetensors", b"another")
    (changed, _) = json.loads(sdtool(*options).out)["files"]
    assert (changed["status"], changed["error"]) == (
        "failed", "s3://models/b/one.safetensors: already exists",
    )  # fmt: skip
