"""A Dask cluster of two worker processes: one is killed, one file kills every time."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.cli.in_workers import poisoned_scan, scan_killed_once
from tests.forge import dict_of, pickled, tensor, torch_zip
from tests.remote.server import saying

from sdtool.batch import cluster as cluster_engine
from sdtool.batch import engines, scanning, spool
from sdtool.batch.journal.task import answering
from sdtool.batch.spool import Task, results_of, work_through
from sdtool.checkpoint import OutputError, SdtoolError

distributed = pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL"),
    pytest.mark.filterwarnings("ignore"),  # Dask's own
]


def make(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(torch_zip(pickled(dict_of({name: tensor()}))))


def files(out: str) -> list[dict[str, Any]]:
    return [one for line in out.splitlines() if "path" in (one := json.loads(line))]


def verdicts(out: str) -> dict[str, str]:
    reports = files(out)
    assert max(Counter(report["path"] for report in reports).values()) == 1
    return {Path(report["path"]).name: report["verdict"] for report in reports}


class Keeper:
    """Two worker processes, each started again when it has died: as systemd or Kubernetes do."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.workers = [self._start() for _ in range(2)]
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._keep)
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()
        for worker in self.workers:
            worker.kill()
            worker.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_worker", self.address, "--no-nanny",
             "--nthreads", "1", "--no-dashboard"],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def _keep(self) -> None:
        while not self._is_over.wait(0.1):
            for number, worker in enumerate(self.workers):
                if worker.poll() is not None:
                    self.workers[number] = self._start()


@pytest.fixture(scope="module")
def cluster() -> Generator[Keeper]:
    """A scheduler with two workers of one thread, as an administrator would start them."""
    with distributed.LocalCluster(
        n_workers=0, dashboard_address="127.0.0.1:0", silence_logs=50
    ) as scheduler:
        keeper = Keeper(scheduler.scheduler_address)
        try:
            yield keeper
        finally:
            keeper.stop()


def test_a_file_that_kills_is_undecided_and_the_rest_is_reported(
    sdtool: Run, tmp_path: Path, cluster: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "scan_one", poisoned_scan)
    names = [f"{number}.ckpt" for number in range(100)]
    names[40] = "poison.ckpt"
    make(tmp_path / "many", *names)
    done = sdtool("scan", "many", "--cluster", cluster.address, "--format", "jsonl")
    assert verdicts(done.out) == {
        name: "undecided" if "poison" in name else "clean" for name in names
    }
    assert [one["path"] for one in files(done.out)] == sorted(
        str(tmp_path / "many" / name) for name in names
    )
    assert done.code == 2
    (error,) = {one["error"] for one in files(done.out)} - {None}
    assert error == (
        "the process that scanned it ended with its worker, and again when it was scanned alone"
    )
    assert not list(tmp_path.glob("sdtool-run-*"))


def test_a_worker_that_is_killed_costs_nothing(
    sdtool: Run, tmp_path: Path, cluster: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "scan_one", scan_killed_once)
    names = [f"{number}.ckpt" for number in range(400)]
    make(tmp_path / "many", *names)
    done = sdtool(
        "scan", "many", "--cluster", cluster.address, "--format", "jsonl", "--journal", "j"
    )
    assert (tmp_path / "many" / "was-here").exists()
    assert done.code == 0
    assert verdicts(done.out) == dict.fromkeys(names, "clean")
    monkeypatch.setattr(scanning, "scan_one", poisoned_scan)
    again = sdtool("scan", "many", "--journal", "j", "--format", "jsonl")
    assert again.out.count("unchanged_since") == 400


def test_a_conversion_on_a_cluster(sdtool: Run, models: Path, cluster: Keeper) -> None:
    done = sdtool(
        "convert", "models", "--out-dir", "out", "--cluster", cluster.address, "--format", "json",
        "--verify",
    )  # fmt: skip
    made = {Path(one["path"]).name: one for one in json.loads(done.out)["files"]}
    assert {name: one["status"] for name, one in made.items()} == {
        "a.ckpt": "written", "b.ckpt": "written", "c.ckpt": "written",
        "cut.ckpt": "failed", "unsafe.ckpt": "refused",
    }  # fmt: skip
    assert done.code == 1
    assert sorted(os.listdir("out")) == ["a.safetensors", "b.safetensors", "c.safetensors"]
    here = sdtool("convert", "models", "--out-dir", "here", "--format", "json", "--verify")
    for one in json.loads(here.out)["files"]:
        there = made[Path(one["path"]).name]
        for name in ("tensors", "output_bytes", "verified", "hint", "verdict", "warnings"):
            assert there[name] == one[name], name
    for name in os.listdir("here"):
        assert Path("here", name).read_bytes() == Path("out", name).read_bytes()


def test_ctrl_c_ends_a_local_cluster_in_one_line(tmp_path: Path) -> None:
    make(tmp_path / "many", *(f"{number}.ckpt" for number in range(3000)))
    run = subprocess.Popen(
        [sys.executable, "-m", "sdtool", "scan", "many", "--cluster", "local", "-j", "2",
         "--spool", ".", "--format", "jsonl"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert run.stdout is not None
    run.stdout.readline()
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to all of them
    out, err = run.communicate(timeout=120)
    assert (run.returncode, err) == (130, "sdtool: interrupted\n")
    assert len(out.splitlines()) < 3000
    assert not list(tmp_path.glob("sdtool-run-*"))
    deadline = time.monotonic() + 120
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(run.pid, 0)  # Python's own resource tracker ends a little later
            time.sleep(0.1)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--cluster", "nowhere"], "the cluster does not answer"),
        (["--spool", "."], "--spool requires --cluster"),
        (["--cluster", "local", "--spool", "none"], "the folder for results cannot be used"),
    ],
)
def test_what_is_wrong_is_one_line(
    sdtool: Run, models: Path, options: list[str], what: str
) -> None:
    done = sdtool("scan", "models", *options)
    assert (done.code, done.out) == (2, "")
    assert what in done.err.splitlines()[0]


def test_what_is_no_scheduler_is_one_line(sdtool: Run, models: Path) -> None:
    """The beginning of its answer is read as the number of parts that follow."""
    with saying(lambda: iter([b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10])) as url:
        done = sdtool("scan", "models", "--cluster", f"tcp{url.removeprefix('http')[:-7]}")
    assert done.code == 2
    assert "the cluster does not answer (" in done.err.splitlines()[0]
    # one that is thrown away while the next one starts waits for ever, and that with it
    left = [one for one in gc.get_objects() if type(one) is distributed.Client]
    assert {client.status for client in left} <= {"closed"}


@contextmanager
def silent() -> Generator[tuple[str, threading.Event]]:
    """The address of somebody who takes connections and says nothing; the event follows one."""
    heard, over = threading.Event(), threading.Event()

    def say() -> Iterator[bytes]:
        heard.set()
        over.wait(60)  # a run that waits for ever fails
        yield b""

    with saying(say) as url:
        try:
            yield f"tcp{url.removeprefix('http')[:-7]}", heard
        finally:
            over.set()


def test_a_scheduler_that_says_nothing_is_one_line(
    sdtool: Run, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask itself waits for ever."""
    monkeypatch.setattr(cluster_engine, "_ANSWER_SECONDS", 0.5)
    with silent() as (address, _):
        done = sdtool("scan", "models", "--cluster", address)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[0] == (
        f"sdtool: error: {address}: the cluster does not answer (nothing was heard for 0.5 s)"
    )
    assert not list(models.parent.glob("sdtool-run-*"))


def test_ctrl_c_ends_the_wait_for_a_scheduler(models: Path) -> None:
    with silent() as (address, heard):
        run = subprocess.Popen(
            [sys.executable, "-m", "sdtool", "scan", models, "--cluster", address, "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert heard.wait(60)
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=120)
    assert (run.returncode, err) == (130, "sdtool: interrupted\n")


_MORTAL = """
import os, time
from distributed import LocalCluster

with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", silence_logs=50) as cluster:
    print(cluster.scheduler_address, flush=True)
    while not cluster.scheduler.tasks:
        time.sleep(0.01)
    os._exit(0)
"""


def test_a_lost_scheduler_is_one_line(models: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _MORTAL], stdout=subprocess.PIPE, text=True
    ) as scheduler:
        assert scheduler.stdout is not None
        address = scheduler.stdout.readline().strip()
        run = subprocess.run(
            [sys.executable, "-m", "sdtool", "scan", models, "--cluster", address, "--json"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert (run.returncode, run.stderr) == (
        2,
        "sdtool: error: the connection to the cluster was lost\n"
        "sdtool: hint: finished work is reported; to continue later, use a journal or --resume\n",
    )
    assert not list(models.parent.glob("sdtool-run-*"))


def test_a_scheduler_that_falls_silent_is_one_line(
    sdtool: Run, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_STILL_SECONDS", "_LEAVING_SECONDS"):
        monkeypatch.setattr(cluster_engine, name, 0.1)
    threads = vars(cluster_engine)["_threads"]
    patience = [60, 0.1]  # once it is there, then when it is not

    def asked(client: Any) -> int:
        monkeypatch.setattr(cluster_engine, "_ANSWER_SECONDS", patience.pop(0))
        count: int = threads(client)
        return count

    monkeypatch.setattr(cluster_engine, "_threads", asked)
    stops = _MORTAL.replace("os._exit(0)", "os.kill(os.getpid(), signal.SIGSTOP)")
    with subprocess.Popen(
        [sys.executable, "-c", f"import signal{stops}"], stdout=subprocess.PIPE, text=True
    ) as scheduler:
        assert scheduler.stdout is not None
        end = threading.Timer(60, scheduler.kill)  # a run that waits for ever fails
        end.start()
        done = sdtool("scan", "models", "--cluster", scheduler.stdout.readline().strip())
        end.cancel()
        scheduler.kill()
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[0] == "sdtool: error: the cluster does not answer any more"


@pytest.mark.parametrize("option", ["--force", "--replace=delete"])
def test_what_does_not_go_with_a_cluster(sdtool: Run, models: Path, option: str) -> None:
    done = sdtool("convert", "models", "--cluster", "local", option)
    assert done.code == 2
    assert f"{option.partition('=')[0]} and --cluster cannot be used together" in done.err


class Doubling:
    """Work that doubles numbers, and notes each time that it is asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    host = None

    def __call__(self, item: int, run: engines.Run) -> int:
        self.asked.append(item)
        if item == 13:
            raise KeyboardInterrupt  # as a kill would, in this process
        return item * 2

    def lost(self, item: int, ending: str) -> int:
        return -1

    def clear_away(self, item: int, pid: int) -> None:
        raise NotImplementedError

    def to_json(self, result: int) -> Any:
        return result

    def from_json(self, data: Any) -> int:
        if type(data) is not int:
            raise ValueError
        return data


def test_an_attempt_goes_on_where_the_last_one_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "_CALM_SECONDS", 0)
    work = Doubling()
    task: Task[int, int] = Task(str(tmp_path), work, [5, 13, 6], answering())
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            work_through(task)
    assert results_of(str(tmp_path), work) == {0: 10}
    work_through(task)
    assert results_of(str(tmp_path), work) == {0: 10, 1: -1, 2: 12}
    assert work.asked == [5, 13, 13, 6]


def test_half_a_line_is_no_result_and_a_strange_one_an_error(tmp_path: Path) -> None:
    (tmp_path / "attempt").write_text("[0]\n[0,4]\n[1]\n[1,")
    assert results_of(str(tmp_path), Doubling()) == {0: 4}
    for line in ('[0,"x"]\n', "{}\n", "[]\n", "nonsense\n"):
        (tmp_path / "attempt").write_text(line)
        with pytest.raises(OutputError, match="make no sense"):
            results_of(str(tmp_path), Doubling())


def test_a_worker_of_another_version_or_without_the_folder_says_so(tmp_path: Path) -> None:
    other: Task[int, int] = Task(
        str(tmp_path), Doubling(), [1], {"rules": "x", "version": "9", "python": "3"}
    )
    with pytest.raises(SdtoolError, match="has another sdtool"):
        work_through(other)
    gone: Task[int, int] = Task(str(tmp_path / "gone" / "1"), Doubling(), [1], answering())
    with pytest.raises(SdtoolError, match="does not see the folder"):
        work_through(gone)


def test_a_run_that_is_over_stops_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "_LOOK_SECONDS", -1.0)
    check = spool.stop_of(str(tmp_path))
    check()
    tmp_path.rmdir()
    with pytest.raises(spool.Ended):
        check()
