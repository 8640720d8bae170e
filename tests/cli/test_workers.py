"""Scanning in several processes: order, a worker that is killed, a file that kills each time."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.cli.in_workers import Doing, asleep, deadly, deadly_scan, ends, noted, threshold
from tests.forge import dict_of, pickled, tensor, torch_zip

from sdtool.batch import Processes, scanning, starting, workers
from sdtool.cli.entry import main

kills = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(torch_zip(pickled(dict_of({"w": tensor()}))))


def verdicts(out: str) -> dict[str, str]:
    *reports, _ = (json.loads(line) for line in out.splitlines())
    return {Path(report["path"]).name: report["verdict"] for report in reports}


@kills
def test_a_worker_that_is_killed_costs_nothing_when_its_file_is_innocent(
    sdtool: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "scan_one", deadly_scan)
    names = [*(f"a{i}.ckpt" for i in range(9)), "kills-once.ckpt", "z.ckpt"]
    make(tmp_path, *names)
    done = sdtool("scan", "-j", "2", "--format", "jsonl", *names)
    assert verdicts(done.out) == dict.fromkeys(names, "clean")
    assert list(verdicts(done.out)) == names
    assert (done.code, done.err) == (0, "")
    assert (tmp_path / "kills-once.was-here").exists()


@kills
def test_a_file_that_kills_twice_is_undecided_and_the_rest_is_reported(
    sdtool: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "scan_one", deadly_scan)
    bad = ["kills-always-1.ckpt", "kills-always-2.ckpt"]
    names = ["a.ckpt", bad[0], "b.ckpt", "c.ckpt", bad[1], "kills-once.ckpt", "d.ckpt"]
    make(tmp_path, *names)
    done = sdtool("scan", "-j", "3", "--format", "jsonl", *names)
    assert verdicts(done.out) == {n: "undecided" if n in bad else "clean" for n in names}
    assert done.code == 2
    (error,) = {json.loads(line)["error"] for line in done.out.splitlines()[:-1]} - {None}
    assert error == (
        "the process that scanned it ended by SIGKILL, and again when it was scanned alone"
    )
    (tmp_path / "e.ckpt").write_bytes(pickled(b"cos\nsystem\n"))
    assert sdtool("scan", "-j", "2", bad[0], "e.ckpt", "a.ckpt").code == 1


def test_results_come_in_order_and_few_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_AHEAD", 3)
    names = ["first", "second", "third", *map(str, range(20))]
    items = [str(tmp_path / name) for name in names]
    with Processes(2).results(Doing(noted), items, []) as results:
        assert next(iter(results)) == items[0]
        assert set(os.listdir(tmp_path)) <= set(names[:3])
        assert list(results) == items[1:]


def test_a_worker_that_ends_by_itself_is_lost_too() -> None:
    with Processes(2).results(Doing(ends), ["a", "b"], []) as results:
        assert list(results) == ["a with exit code 7", "b with exit code 7"]


def test_in_a_list_only_those_that_kill_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    send = Connection.send_bytes

    def noted(self: Connection, message: Any) -> None:
        sent.append(len(pickle.loads(message)))
        send(self, message)

    monkeypatch.setattr(Connection, "send_bytes", noted)
    with Processes(1).results(Doing(deadly), range(200), []) as results:
        found = list(results)
    assert found == ["77 with exit code 7" if item == 77 else -item for item in range(200)]
    assert max(sent) > 10
    assert max(sent) <= 64


def test_a_list_that_a_pipe_may_not_take_waits_for_its_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "_PIPE_NBYTES", 60)
    with Processes(2).results(Doing(deadly), range(300, 500), []) as results:
        assert list(results) == [-item for item in range(300, 500)]


def test_workers_look_for_cycles_more_often_than_the_command() -> None:
    """What they hold until then, each of them holds."""
    before = gc.get_threshold()
    gc.set_threshold(100_000)
    try:
        with Processes(1).results(Doing(threshold), ["a"], []) as results:
            (found,) = results
    finally:
        gc.set_threshold(*before)
    assert 700 < found < 10_000


def test_leaving_early_stops_the_workers() -> None:
    with pytest.raises(KeyboardInterrupt):
        with Processes(2).results(Doing(asleep), ["a", "endless"], []) as results:
            assert next(iter(results)) == "a"
            assert multiprocessing.active_children()
            raise KeyboardInterrupt
    assert not multiprocessing.active_children()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_ends_all_processes_without_a_word_from_them(tmp_path: Path) -> None:
    make(tmp_path, *(f"{i}.ckpt" for i in range(1000)))
    run = subprocess.Popen(
        [sys.executable, "-m", "sdtool", "scan", "-j", "2", "--format", "jsonl", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert run.stdout is not None
    run.stdout.readline()
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, err = run.communicate(timeout=120)
    assert (run.returncode, err.strip()) == (130, "sdtool: interrupted")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems fork no worker")
def test_only_a_process_with_one_thread_is_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from sdtool.batch.starting import can_fork; print(can_fork())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    assert not starting.can_fork()
    over.set()
    thread.join()
    monkeypatch.setattr(os, "listdir", lambda path: ["1"])
    assert starting.can_fork()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not starting.can_fork()


def test_a_bundled_program_is_its_own_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def became_a_worker() -> None:
        raise SystemExit(7)

    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(multiprocessing, "freeze_support", became_a_worker)
    with pytest.raises(SystemExit, match="7"):
        main()
