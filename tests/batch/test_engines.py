"""Work that writes files, in processes: what it asks, how it is stopped, what a kill costs."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.batch.in_processes import KillsWhileItWrites, Ledger, Writing
from tests.cli import standing

from sdtool.batch import (
    Converting,
    Failed,
    Options,
    Processes,
    Pruning,
    Written,
    as_error,
    run_batch,
    with_baked_vae,
)
from sdtool.checkpoint import Unreadable
from sdtool.convert import is_left_of, leftovers, partial_name

posix = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


def test_the_host_is_asked_in_the_process_of_the_run(tmp_path: Path) -> None:
    """What it raises is raised where it was asked; what was done is summed up."""
    host, late = Ledger(), list[str]()
    items = ["a", "b", "a", *"cdefghijklmnopqrstuvwxyz"]
    with Processes(2).results(Writing(host, tmp_path), items, late) as results:
        first, *found = results
    assert {first, found.pop(1)} == {"a", "here: a is taken"}  # whoever came second
    assert found == [*"bcdefghijklmnopqrstuvwxyz"]
    assert sorted(host.taken) == [*"abcdefghijklmnopqrstuvwxyz"]
    assert host.amount == 10 * len(items)
    assert not late


def written(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"begun"}


@posix
def test_stopped_work_tidies_up_and_what_had_ended_is_given_once(tmp_path: Path) -> None:
    late = list[str]()
    given: list[str] = []
    items = ["quick 1", "slow", "quick 2", "quick 3"]
    with pytest.raises(KeyboardInterrupt):
        with Processes(2).results(Writing(Ledger(), tmp_path), items, late) as results:
            for result in results:
                given.append(result)
                signal.raise_signal(signal.SIGINT)
    assert given == ["quick 1"]
    assert {*given, *late} == written(tmp_path) <= {*items} - {"slow"}
    assert len(late) == len({*late})


@posix
def test_what_its_host_raises_stops_it_too(tmp_path: Path) -> None:
    late = list[str]()
    given: list[str] = []
    with pytest.raises(RuntimeError, match="enough"):
        work = Writing(Ledger(most=25), tmp_path)
        with Processes(2).results(work, ["a", "b", "slow"], late) as results:
            given.extend(results)
    assert {*given, *late} == written(tmp_path) <= {"a", "b"}


@posix
def test_a_kill_costs_its_item_and_no_other_of_its_list(tmp_path: Path) -> None:
    work = Writing(Ledger(), tmp_path)
    items = [*map(str, range(60)), "kills once", "x", "kills", *map(str, range(100, 160))]
    with Processes(1).results(work, items, []) as results:
        found = list(results)
    assert found == [f"{one} by SIGKILL" if one == "kills" else one for one in items]
    assert [item for item, _ in work.cleared] == ["kills once", "kills", "kills"]
    assert len({pid for _, pid in work.cleared} - {os.getpid()}) == 3
    begun = (tmp_path / "begun").read_text().splitlines()
    assert sorted(begun) == sorted([*items, "kills once", "kills"])  # nothing is done twice


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three models, in which this process works."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.ckpt", "kills.ckpt", "z.ckpt"):
        torch.save({"w": torch.ones(1000)}, name)
    return tmp_path


@posix
def test_of_a_file_that_kills_while_it_is_written_nothing_is_left(models: Path) -> None:
    left = models / ".other.safetensors.sdtool-partial-0123abcd"
    left.touch()
    made = run_batch(["."], KillsWhileItWrites(), engine=Processes(2))
    ends = {Path(one.input.path).name: type(one) for one in made}
    assert ends == {"a.ckpt": Written, "kills.ckpt": Failed, "z.ckpt": Written}
    (lost,) = (one for one in made if isinstance(one, Failed))
    assert lost.error.what == (
        "the process that worked on it ended by SIGKILL, and again when it was alone"
    )
    assert leftovers(models) == (left,)


def test_warnings_come_before_an_original_goes(models: Path) -> None:
    warned: list[tuple[str, bool]] = []
    os.link("a.ckpt", "kept")
    os.symlink("a.ckpt", "link.ckpt")
    made = run_batch(
        ["link.ckpt", "a.ckpt"],
        Converting(),
        out_dir="out",
        options=Options(replace="delete", replace_anyway=True),
        engine=Processes(2),
        warn=lambda what, where: warned.append((what, Path("a.ckpt").exists())),
    )
    assert warned == [("--replace-anyway: link.ckpt, another input, is a link to it", True)]
    ends = {one.input.path: one.original for one in made if isinstance(one, Written)}
    assert ends["a.ckpt"] == "deleted"  # the link led to it, and was read before it or not


@pytest.mark.parametrize(
    ("recipe", "shares"),
    [(Converting(), 0), (Converting("fp16"), 1), (Pruning(), 1), (Pruning(dtype="bf16"), 1)],
)
def test_what_many_workers_need_is_imported_before_they_are_forked(
    recipe: Converting | Pruning, shares: int, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared: list[bool] = []
    monkeypatch.setattr("sdtool.batch.run.share_numpy", lambda: shared.append(True))
    run_batch(["a.ckpt"], recipe, out_dir="out")
    assert not shared, "one process imports what it comes to need"
    run_batch(["a.ckpt"], recipe, out_dir="out", engine=Processes(1), options=Options(force=True))
    assert len(shared) == shares


_SHARED = """
import sys
from sdtool.batch.starting import can_fork
from sdtool.convert import share_numpy
share_numpy()
print("numpy" in sys.modules, can_fork())
"""


@pytest.mark.parametrize("threads", ["1", "2", None])
def test_numpy_is_shared_where_it_starts_no_threads(threads: str | None) -> None:
    env = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    env |= {} if threads is None else {"OPENBLAS_NUM_THREADS": threads}
    words = [sys.executable, "-c", _SHARED]
    ran = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [str(threads == "1"), str(sys.platform == "linux")]


def test_a_baked_vae_is_opened_again_in_another_process(models: Path) -> None:
    with with_baked_vae(Pruning(), "z.ckpt", Options()) as recipe:
        there = pickle.loads(pickle.dumps(recipe))
        with there.baked.opened:
            assert [entry.name for entry in there.baked.checkpoint.tensors] == ["w"]
    Path("z.ckpt").unlink()
    with pytest.raises(Unreadable, match="no such file"):
        _ = pickle.loads(pickle.dumps(recipe)).baked.checkpoint


def test_an_error_from_another_process_has_the_traceback_of_its_cause() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1 // 0
    error = as_error(caught.value, "here")
    there = pickle.loads(pickle.dumps(error))
    assert (str(there), there.hint) == (str(error), error.hint)
    assert "_ = 1 // 0\n" in str(there.__cause__)
    assert str(pickle.loads(pickle.dumps(there)).__cause__).count("1 // 0") == 1


@posix
def test_workers_end_with_a_run_that_is_killed_and_leave_nothing(models: Path) -> None:
    process = standing.command(models, "convert", ".", "--out-dir", "out", "-j", "2")
    assert list(models.glob("out/.*partial*"))
    process.kill()
    process.communicate(timeout=120)  # its end is when the last worker has closed it
    assert not list(models.glob("out/.*"))


def test_a_partial_name_says_whose_it_is() -> None:
    mine = partial_name("model.safetensors")
    assert is_left_of(mine, "model.safetensors", os.getpid())
    assert is_left_of(partial_name("model.yaml"), "model.safetensors", os.getpid())
    assert not is_left_of(mine, "model.safetensors", os.getpid() + 1)
    assert not is_left_of(mine, "other.safetensors", os.getpid())
    assert not is_left_of(".model.safetensors.sdtool-partial-0123abcd", "model.ckpt", os.getpid())
    assert len(os.fsencode(partial_name("ä" * 127))) <= 255
    assert is_left_of(partial_name("ä" * 127), "ä" * 127, os.getpid())
