"""What a run keeps in memory of each file: its path, and next to nothing of what came of it."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import os
import sys
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.forge import dict_of, pickled, tensor, torch_zip

from sdtool.checkpoint import OutputError
from sdtool.cli import spooled
from sdtool.cli.console import as_json
from sdtool.cli.main import main
from sdtool.cli.results import Results
from sdtool.cli.spooled import Spool, laid_out

NAMES = ("model.diffusion_model.out.0.weight", "model_ema.diffusion_modelout0weight")
MODEL = torch_zip(pickled(dict_of({name: tensor() for name in NAMES})))
SMALL = torch_zip(pickled(dict_of({"layer.weight": tensor()})))
MOST = 1_000
"""Bytes a file. An outcome takes some 7,000, a report 800 and its JSON 5,000."""
LARGE = 1 << 16
"""A block of so many bytes is a table that has grown, such as the interpreter's own of names."""
FEW, MANY = 4, 16


def fill(folder: Path, count: int, model: bytes) -> None:
    folder.mkdir()
    digest = hashlib.sha256(model).hexdigest()
    for number in range(count):
        (folder / f"{number}.ckpt").write_bytes(model)
    lines = (f"{digest}  {number}.ckpt\n" for number in range(count))
    (folder / "SHA256SUMS").write_text("".join(lines))


def kept(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, int]:
    """Return the bytes that a run holds at its end, before it writes what comes last, and how many
    objects in circles were left: those stay in memory until somebody looks for them.
    """
    held: list[tuple[int, int]] = []
    finish = Results.finish

    def finishing(self: Results, *rest: Any, **options: Any) -> None:
        circles = gc.collect()  # that empties Python's own lists of tuples to use again, too
        traces = tracemalloc.take_snapshot().traces
        held.append((sum(trace.size for trace in traces if trace.size < LARGE), circles))
        finish(self, *rest, **options)

    with monkeypatch.context() as here, open(os.devnull, "w", encoding="utf-8") as nowhere:
        here.setattr(Results, "finish", finishing)
        here.setattr(sys, "stdout", nowhere)
        gc.collect()
        gc.disable()
        gc.freeze()  # nobody looks at what the other tests have left
        tracemalloc.start()
        try:
            assert main(list(arguments)) == 0
        finally:
            tracemalloc.stop()
            gc.unfreeze()
            gc.enable()
    (found,) = held
    return found


@pytest.mark.parametrize(
    "command",
    [
        "scan",
        "scan --format jsonl",
        "scan --format json",
        "scan --format sarif",
        "scan --format github",
        "scan --format json -o OUT",
        "scan -j 2",
        "convert --out-dir OUT",
        "convert --out-dir OUT --format jsonl",
        "convert --out-dir OUT --format json",
        "convert --out-dir OUT -j 2",
        "convert --out-dir OUT --journal OUT.journal",
        "prune --dry-run",
        "prune --dry-run --format jsonl",
        "info",
        "info --format jsonl",
        "info --format json",
        "verify",
        "verify --format jsonl",
        "watch --once --settle 0 --format jsonl",
    ],
)
def test_a_run_keeps_no_result_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(spooled, "_SHORT_NBYTES", 1)
    held: list[tuple[int, int]] = []
    words: list[str] = []
    for number, count in enumerate((MANY, FEW, MANY)):  # what Python keeps, it has from the first
        model = MODEL if command.startswith("prune") else SMALL
        folder, out = tmp_path / f"{number}", tmp_path / f"out-{number}"
        fill(folder, count, model)
        words = command.replace("OUT", str(out)).split()
        held.append(kept(monkeypatch, words[0], str(folder), *words[1:]))
    _, (few, few_circles), (many, many_circles) = held
    assert (many - few) / (MANY - FEW) < MOST
    if not {"json", "sarif"} & set(words):  # Python's json leaves some where it lays out lines
        assert many_circles - few_circles < MANY - FEW


def test_long_and_short_documents_are_the_same(
    sdtool: Run, training: Path, trapped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("x.ckpt").write_bytes(b"")
    for form in ("json", "sarif"):
        documents = []
        for nbytes in (1 << 20, 1):
            monkeypatch.setattr(spooled, "_SHORT_NBYTES", nbytes)
            documents.append(json.loads(sdtool("scan", ".", "--format", form).out))
        first, second = documents
        for file in (*first.get("files", ()), *second.get("files", ())):
            file["seconds"] = 0
        assert first == second


@pytest.mark.parametrize("nbytes", [1 << 20, 1, 300])
@pytest.mark.parametrize("count", [0, 1, 2, 5000])
def test_a_document_is_laid_out_as_if_it_were_dumped_at_once(
    count: int, nbytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooled, "_SHORT_NBYTES", nbytes)
    elements: list[Any] = [
        {"path": f'"files": [] \n\u2028 \udcff é {number}', "of": [1, {"a": []}], "no": {}}
        for number in range(count)
    ]
    first, second = Spool(), Spool()
    for element in elements:
        first.element(element)
    second.element("x")
    document = {"files": [], "deep": [{"last": []}], "files ": ["files"]}
    whole = {"files": elements, "deep": [{"last": ["x"]}], "files ": ["files"]}
    lines = laid_out(document, {"files": first, "last": second})
    assert "\n".join(lines) == as_json(whole)


def test_what_is_kept_in_a_file_has_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooled, "_SHORT_NBYTES", 8)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made: list[Any] = []
    temporary = tempfile.TemporaryFile

    def noted() -> Any:
        made.append(temporary())
        return made[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", noted)
    spool = Spool("0123")
    assert not made
    spool.line("\udcff\n56789")
    spool.add("")
    (file,) = made
    assert b"".join(spool.pieces()) == b"0123\\udcff\n56789\n"
    assert spool.nbytes == 17
    assert os.name == "nt" or not list(tmp_path.iterdir())
    del spool
    assert file.closed


def test_a_full_disk_is_told_in_one_line(sdtool: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(spooled, "_SHORT_NBYTES", 8)
    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    with pytest.raises(OutputError, match="cannot be kept in a temporary file"):
        Spool("0123456789")
    Path("x.ckpt").write_bytes(MODEL)
    result = sdtool("scan", "x.ckpt", "--format", "json", "-o", "report")
    assert result.code == 2
    assert result.err.splitlines() == [
        "sdtool: error: the report: cannot be kept in a temporary file (no space left on device)",
        "sdtool: hint: TMPDIR names a folder with more space; --format jsonl needs none",
    ]
    assert not Path("report").exists()
