"""`--format json` and `jsonl` of every verb, in every way that a file can end.

The fixture `sdtool` holds each document and each line against docs/schemas; here is shown that the
ways are all there, that both forms say the same, and that the schemas let nothing else through.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.cli.conftest import Run
from tests.cli.schemas import errors, schemas
from tests.cli.test_replace import spoil

VERBS = (
    "scan", "convert", "prune", "info", "verify", "compare", "release", "tidy", "tidy-undo",
    "tidy-forget", "watch",
)  # fmt: skip
OF_IN_TOTO = ("_type", "predicateType")
ABOUT = ["path", "size_bytes", "seconds", "exit_code", "error", "hint"]
ENVELOPE = ["tool", "version", "schema", "schema_version", "exit_code", "interrupted"]


def document(sdtool: Run, *arguments: str) -> dict[str, Any]:
    """The document of a run; its lines are the same, and a file said alone has its exit code."""
    once = sdtool(*arguments, "--format", "json")
    made: dict[str, Any] = json.loads(once.out)
    assert list(made)[: len(ENVELOPE)] == ENVELOPE
    assert (made["exit_code"], made["interrupted"]) == (once.code, False)
    again = sdtool(*arguments, "--format", "jsonl")
    *files, last = map(json.loads, again.out.splitlines())
    assert [sorted(file) for file in files] == [sorted(file) for file in made["files"]]
    assert sorted(last) == sorted(made.keys() - {"files"})
    for file in files:
        assert set(ABOUT) <= file.keys()
    return made


def folder_of_all(training: Path, trapped: Path) -> None:
    """A folder with a clean, an unsafe, a suspicious, a cut and a foreign file."""
    Path("models").mkdir()
    shutil.copy(training, "models/clean.ckpt")
    shutil.copy(trapped, "models/unsafe.ckpt")
    Path("models/suspicious.pkl").write_bytes(b"\x80\x02csome.package\nThing\n.")
    Path("models/cut.safetensors").write_bytes(b"\xff\0\0\0\0\0\0\0{")
    Path("models/page.ckpt").write_text("<!DOCTYPE html><html></html>")
    Path("models/notes.txt").write_text("not a model")


def test_scan_in_every_verdict(sdtool: Run, training: Path, trapped: Path) -> None:
    folder_of_all(training, trapped)
    made = document(sdtool, "scan", "models", "gone.ckpt")
    assert {file["path"]: (file["verdict"], file["exit_code"]) for file in made["files"]} == {
        "gone.ckpt": ("undecided", 2),
        "models/clean.ckpt": ("clean", 0),
        "models/cut.safetensors": ("undecided", 2),
        "models/page.ckpt": ("not-a-checkpoint", 2),
        "models/suspicious.pkl": ("suspicious", 1),
        "models/unsafe.ckpt": ("unsafe", 1),
    }
    assert made["summary"] == {
        "files": 6, "not_a_checkpoint": 1, "clean": 1, "undecided": 2, "suspicious": 1, "unsafe": 1,
        "with_allowed_names": 0, "passed_over": 1, "excluded": 0,
    }  # fmt: skip
    (file,) = document(sdtool, "scan", "models/suspicious.pkl", "--fail-on", "unsafe")["files"]
    assert (file["verdict"], file["exit_code"]) == ("suspicious", 0)


@pytest.mark.parametrize("verb", ["convert", "prune"])
def test_writing_in_every_status(sdtool: Run, training: Path, trapped: Path, verb: str) -> None:
    folder_of_all(training, trapped)
    torch.save({"w": torch.full((600,), 1e6)}, "models/large.pt")
    options = (verb, "models", "gone.ckpt", "--dtype", "fp16")
    planned = document(sdtool, *options, "--dry-run")
    (plan,) = (file for file in planned["files"] if file["path"] == "models/clean.ckpt")
    assert (plan["status"], plan["exit_code"]) == ("planned", 0)
    assert not list(Path("models").glob("*fp16*"))
    assert sdtool(verb, "models/clean.ckpt", "--dtype", "fp16", "--hash").code == 0
    made = document(sdtool, *options)
    status = {file["path"]: (file["status"], file["exit_code"]) for file in made["files"]}
    assert status == {
        "gone.ckpt": ("failed", 2),
        "models/clean.ckpt": ("skipped", 0),
        "models/cut.safetensors": ("failed", 2),
        "models/large.pt": ("failed", 2),  # its values would become inf
        "models/page.ckpt": ("failed", 2),
        "models/suspicious.pkl": ("failed", 2),
        "models/unsafe.ckpt": ("refused", 1),
        **(
            {"models/clean-pruned-fp16.safetensors": ("nothing-to-do", 0)}
            if verb == "prune"
            else {}
        ),
        **({"models/clean-fp16.safetensors": ("nothing-to-do", 0)} if verb == "convert" else {}),
    }
    counts = made["summary"]
    assert (counts["files"], counts["failed"], counts["refused"]) == (len(status), 5, 1)


def test_a_mismatch(sdtool: Run, training: Path) -> None:
    assert sdtool("convert", "training.ckpt").code == 0
    spoil(Path("training.safetensors"))
    made = document(sdtool, "convert", "training.ckpt", "--verify")
    assert [(file["status"], file["exit_code"]) for file in made["files"]] == [("mismatch", 1)]


def test_info_of_what_it_is_and_of_what_it_is_not(
    sdtool: Run, training: Path, trapped: Path
) -> None:
    folder_of_all(training, trapped)
    shutil.copy(training, "models/again.ckpt")
    options = ("--hash", "--metadata", "--tensors", "--duplicates")
    made = document(sdtool, "info", "models", "gone.ckpt", *options)
    said = {file["path"]: file.get("kind") for file in made["files"]}
    assert said == {
        "gone.ckpt": None,
        "models/again.ckpt": "checkpoint",
        "models/clean.ckpt": "checkpoint",
        "models/cut.safetensors": None,
        "models/page.ckpt": None,
        "models/suspicious.pkl": "unknown",
        "models/unsafe.ckpt": "checkpoint",
    }
    assert (made["summary"]["files"], made["summary"]["failed"]) == (4, 3)
    assert len(made["duplicates"]) > 0


def test_verify_whole_wrong_against_and_unreadable(sdtool: Run, training: Path) -> None:
    sdtool("prune", "--ema-only", "training.ckpt", "--dtype", "fp16")
    name = "training-pruned-emaonly-fp16.safetensors"
    codes = {
        (name,): 0,
        (name, "--sha256", "0" * 64): 1,
        (name, "--against", "training.ckpt"): 0,
        (name, "--against", "gone.ckpt"): 2,
        ("gone.safetensors",): 2,
    }
    for arguments, code in codes.items():
        (file,) = document(sdtool, "verify", *arguments)["files"]
        assert (file["path"], file["exit_code"]) == (arguments[0], code)
        assert file.get("ok") == {0: True, 1: False, 2: None}[code]
        assert (file["error"] is None) == (code < 2)


def test_a_comparison_and_one_that_cannot_be_made(sdtool: Run, training: Path) -> None:
    save_file({"a": torch.ones(4), "b": torch.ones(2), "c": torch.ones(2)}, "x.safetensors")
    save_file({"a": torch.zeros(4), "b": torch.ones(3), "d": torch.ones(2)}, "y.safetensors")
    made = document(sdtool, "info", "--compare", "x.safetensors", "y.safetensors")
    found = made["comparison"]
    assert [one["name"] for one in found["different"]] == ["a"]
    assert (found["only_in_first"], found["only_in_second"]) == (["c"], ["d"])
    assert (found["shape_differs"], found["not_compared"]) == (["b"], [])
    made = document(sdtool, "info", "--compare", "x.safetensors", "gone.safetensors")
    assert (made["exit_code"], made["comparison"]) == (2, None)


def test_json_is_the_short_form(sdtool: Run, training: Path) -> None:
    for verb in ("scan", "info"):
        short = json.loads(sdtool(verb, "training.ckpt", "--json").out)
        long = json.loads(sdtool(verb, "training.ckpt", "--format", "json").out)
        assert short.keys() == long.keys()
        result = sdtool(verb, "training.ckpt", "--json", "--format", "jsonl")
        assert (result.code, result.out) == (2, "")
        assert "--json and --format jsonl cannot be used together" in result.err


def _objects(schema: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if "properties" in schema:
            yield name, schema
        for key, value in schema.items():
            yield from _objects(value, f"{name}/{key}")
    elif isinstance(schema, list):
        for value in schema:
            yield from _objects(value, name)


def test_the_schemas_are_closed_and_speak_one_language() -> None:
    assert sorted(schemas()) == sorted(
        [
            "common.json",
            "statement.json",
            *(f"{verb}{more}.json" for verb in VERBS for more in ("", "-line")),
        ]
    )
    for name, schema in schemas().items():
        for where, one in _objects(schema, name):
            is_base = where in ("common.json/$defs/envelope", "common.json/$defs/about")
            closed = one.get("additionalProperties", one.get("unevaluatedProperties"))
            assert closed is (None if is_base else False), where
            for key in one["properties"].keys() - OF_IN_TOTO:
                assert re.fullmatch(r"[a-z][a-z0-9_]*", key) and "nbytes" not in key, (where, key)


def test_a_new_key_and_a_lost_one_are_noticed(sdtool: Run, training: Path) -> None:
    made = json.loads(sdtool("scan", "training.ckpt", "--json").out)
    assert errors("scan", made) == []
    for path in ((), ("summary",), ("files", 0)):
        wrong = copy.deepcopy(made)
        place = wrong
        for key in path:
            place = place[key]
        place["news"] = 1
        assert errors("scan", wrong)
    for key in ENVELOPE:
        assert errors("scan", {k: v for k, v in made.items() if k != key})
