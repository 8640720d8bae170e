"""`sdtool.batch` from a program: judged by default, typed results, progress, a way to stop."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

import pytest
import torch
from safetensors.torch import load_file

import sdtool.batch
from sdtool.batch import (
    Cancelled,
    Converting,
    Engine,
    Failed,
    Here,
    InputError,
    NotACheckpoint,
    NothingToDo,
    Options,
    Outcome,
    OutputError,
    Planned,
    Processes,
    Pruning,
    Refused,
    Skipped,
    UnsafeError,
    UsageError,
    Verdict,
    Written,
    convert_file,
    identify_file,
    open_judged,
    prune_file,
    run_batch,
    scan_file,
    verify_file,
)
from sdtool.batch.items import Item
from sdtool.batch.place import Job, SetJob

VALUES = {"a.weight": torch.arange(300_000) / 300_000, "b": torch.ones(3)}


class _Trap:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return exec, ("open('ran', 'w')",)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a clean model, an unsafe one, a cut one, and one that nobody knows."""
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": VALUES}, "clean.ckpt")
    torch.save({"state_dict": VALUES, "x": _Trap()}, "unsafe.ckpt")
    torch.save({"state_dict": VALUES, "x": torch.nn.ReLU()}, "odd.ckpt")
    Path("cut.ckpt").write_bytes(Path("clean.ckpt").read_bytes()[:-300])
    Path("page.ckpt").write_text("<html></html>")
    return tmp_path


def outputs(folder: Path) -> list[str]:
    """Everything that is not one of the inputs, hidden files as well."""
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".ckpt")


def test_every_name_of_the_face_is_there() -> None:
    for name in sdtool.batch.__all__:
        assert getattr(sdtool.batch, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'scanfile'"):
        _ = sdtool.batch.scanfile


def test_a_clean_file_is_converted(folder: Path) -> None:
    (done,) = convert_file("clean.ckpt", options=Options(verify=True, hashes=True))
    assert isinstance(done, Written)
    assert (done.input.path, done.input.verdict) == ("clean.ckpt", Verdict.CLEAN)
    assert done.output.path == "clean.safetensors"
    assert (done.output.tensors, done.output.verified) == (2, True)
    assert done.output.nbytes == Path("clean.safetensors").stat().st_size
    assert done.output.hashes is not None
    there = load_file("clean.safetensors")
    assert there.keys() == VALUES.keys()
    assert all(torch.equal(there[name], VALUES[name]) for name in VALUES)
    (again,) = convert_file(Path("clean.ckpt"))
    assert isinstance(again, Skipped)
    (planned,) = convert_file("clean.ckpt", "x.safetensors", options=Options(dry_run=True))
    assert isinstance(planned, Planned)
    assert outputs(folder) == ["clean.safetensors"]


@pytest.mark.parametrize("make", [convert_file, prune_file])
@pytest.mark.parametrize(
    ("name", "error", "what"),
    [
        ("unsafe.ckpt", UnsafeError, "refused as unsafe"),
        ("cut.ckpt", InputError, "zip"),
        ("page.ckpt", NotACheckpoint, "HTML"),
        ("gone.ckpt", InputError, "no such file or folder"),
        (".", UsageError, "is a folder"),
        ("*.ckpt", UsageError, "is a pattern"),
    ],
)
def test_what_is_refused_raises_and_leaves_nothing(
    make: Callable[..., object], name: str, error: type[Exception], what: str, folder: Path
) -> None:
    with pytest.raises(error, match=what):
        make(name)
    assert outputs(folder) == []


def test_one_policy_for_the_gate_and_the_calls(folder: Path) -> None:
    with pytest.raises(UnsafeError), open_judged("unsafe.ckpt"):
        pass
    with open_judged("unsafe.ckpt", disarm=True) as (checkpoint, report):
        assert report.verdict is scan_file("unsafe.ckpt").verdict is Verdict.UNSAFE
        assert {entry.name for entry in checkpoint.tensors} == VALUES.keys()
    (done,) = convert_file("unsafe.ckpt", options=Options(disarm=True))
    assert isinstance(done, Written)
    assert done.input.verdict is Verdict.UNSAFE
    assert outputs(folder) == ["unsafe.safetensors"]


def test_a_suspicious_file_says_so(folder: Path) -> None:
    with open_judged("odd.ckpt") as (_, report):
        assert report.verdict is Verdict.SUSPICIOUS
    (done,) = convert_file("odd.ckpt")
    assert isinstance(done, Written)
    assert done.input.verdict is Verdict.SUSPICIOUS
    assert done.remarks.warnings[0].startswith("suspicious (")


def test_an_output_is_not_replaced_unless_asked(folder: Path) -> None:
    Path("clean.safetensors").write_bytes(b"mine")
    with pytest.raises(OutputError):
        convert_file("clean.ckpt")
    assert Path("clean.safetensors").read_bytes() == b"mine"
    (done,) = convert_file("clean.ckpt", options=Options(force=True))
    assert isinstance(done, Written)


def test_what_progress_raises_comes_out_and_leaves_nothing(folder: Path) -> None:
    class Enough(Exception):
        pass

    said: list[int] = []

    def stop(nbytes: int) -> None:
        said.append(nbytes)
        if nbytes and not any(said[:-1]):  # once: it has to come out all the same
            raise Enough

    with pytest.raises(Enough):
        convert_file("clean.ckpt", progress=stop)
    said.clear()
    with pytest.raises(Enough):
        verify_file("clean.ckpt", progress=stop)
    assert outputs(folder) == []


def test_progress_comes_to_the_bytes_of_the_input() -> None:
    seen: list[int] = []
    convert_file("clean.ckpt", progress=seen.append)
    assert sum(seen) == Path("clean.ckpt").stat().st_size


@pytest.mark.parametrize("engine", [Here(), Processes(2)], ids=repr)
def test_an_event_stops_a_run(engine: Engine, folder: Path) -> None:
    cancelled = Event()
    for number in range(12):
        os.link("clean.ckpt", f"{number}.ckpt")

    def stop(nbytes: int) -> None:
        if nbytes:
            cancelled.set()

    with pytest.raises(Cancelled, match=r"^cancelled$"):
        run_batch(
            [f"{number}.ckpt" for number in range(12)],
            Converting(),
            engine=engine,
            progress=stop,
            cancelled=cancelled,
        )
    assert len(outputs(folder)) < 5  # each process has one and begins with the next, no more
    assert not [name for name in outputs(folder) if name.startswith(".")]
    with pytest.raises(Cancelled):
        verify_file("clean.ckpt", cancelled=cancelled)


@pytest.mark.parametrize("engine", [Here(), Processes(2)], ids=repr)
def test_many_files_have_an_outcome_each(engine: Engine) -> None:
    told: list[Sequence[Outcome]] = []
    made = run_batch([".", "gone.ckpt"], Converting(), engine=engine, report=told.append)
    ends = {outcome.input.path: type(outcome) for outcome in made}
    assert ends == {
        "gone.ckpt": Failed,
        "./clean.ckpt": Written,
        "./cut.ckpt": Failed,
        "./odd.ckpt": Written,
        "./page.ckpt": Failed,
        "./unsafe.ckpt": Refused,
    }
    assert [outcome for outcomes in told for outcome in outcomes] == made
    made = run_batch(
        ["clean.ckpt", "odd.ckpt"], Pruning(dtype="fp16"), out_dir="out", engine=engine
    )
    written = [outcome for outcome in made if isinstance(outcome, Written)]
    assert [one.output.path for one in written] == [
        "out/clean-pruned-fp16.safetensors",
        "out/odd-pruned-fp16.safetensors",
    ]


def test_an_original_goes_after_its_output_was_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    (done,) = convert_file("clean.ckpt", options=Options(replace="delete"))
    assert isinstance(done, Written)
    assert (done.output.verified, done.original) == (True, "deleted")
    assert not Path("clean.ckpt").exists()
    monkeypatch.setitem(sys.modules, "send2trash", None)
    with pytest.raises(UsageError, match="requires the package send2trash"):
        convert_file("odd.ckpt", options=Options(replace="trash"))
    assert not Path("odd.safetensors").exists()


def test_what_a_run_is_made_of_and_what_comes_of_it_can_be_sent_elsewhere() -> None:
    made = run_batch(["."], Converting())
    jobs = [
        Job(Item("a.ckpt"), ("a.safetensors",)),
        SetJob(Item("i"), (), (Item("a"), Item("b"))),
    ]
    for one in (*jobs, Options(allow={"a.b": "mine"}), Converting("fp16"), Pruning(drop=["x*"])):
        assert pickle.loads(pickle.dumps(one)) == one
    for outcome in made:
        again = pickle.loads(pickle.dumps(outcome))
        assert (type(again), again.input) == (type(outcome), outcome.input)
        if isinstance(outcome, (Failed, Refused)):
            assert str(again.error) == str(outcome.error)
            assert again.error.hint == outcome.error.hint
        else:
            assert again == outcome


def test_pruning_and_what_needs_none() -> None:
    (done,) = prune_file("clean.ckpt", "small.safetensors", dtype="fp16")
    assert isinstance(done, Written)
    assert [row.tensors for row in done.output.table] != []
    assert load_file("small.safetensors")["b"].dtype is torch.float16
    (idle,) = prune_file("small.safetensors")
    assert isinstance(idle, NothingToDo)
    assert idle.remarks.notes


def test_identify_and_verify() -> None:
    found = identify_file("clean.ckpt")
    assert (found.format, found.verdict) == ("torch-zip", Verdict.CLEAN)
    assert found.identity.tensors == 2
    convert_file("clean.ckpt")
    same = verify_file("clean.safetensors", against="clean.ckpt")
    assert (same.ok, same.tensors) == (True, 2)
    torch.save({"state_dict": {**VALUES, "b": torch.zeros(3)}}, "other.ckpt")
    assert verify_file("clean.safetensors", against="other.ckpt").is_wrong
    with pytest.raises(UsageError):
        verify_file("clean.safetensors", baked_vae="clean.ckpt")


def test_the_face_takes_no_time_and_a_scan_does_without_the_rooms_that_write() -> None:
    code = (
        "import sys, sdtool.batch; assert len([m for m in sys.modules if 'sdtool' in m]) < 6;"
        "sdtool.batch.scan_file('clean.ckpt');"
        "print([m for m in sys.modules if m.startswith(('sdtool.convert', 'sdtool.prune'))"
        " or m in ('torch', 'numpy', 'click')])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("[]\n", "")


@pytest.mark.parametrize("look", [scan_file, identify_file])
def test_looking_at_a_file_can_be_followed_and_stopped(
    look: Callable[..., object],
) -> None:
    reads: list[int] = []
    look("clean.ckpt", progress=reads.append)
    assert 0 < sum(reads) and min(reads) >= 0
    stopped = Event()
    stopped.set()
    with pytest.raises(Cancelled):
        look("clean.ckpt", cancelled=stopped)

    def fail(nbytes: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        look("clean.ckpt", progress=fail)


def test_a_deep_scan_reports_every_byte() -> None:
    reads: list[int] = []
    scan_file("clean.ckpt", deep=True, progress=reads.append)
    assert sum(reads) >= Path("clean.ckpt").stat().st_size
