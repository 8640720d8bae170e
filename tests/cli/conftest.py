"""A training checkpoint, its trapped copy, and the command run in this process or in its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from tests.cli.schemas import check_output

from sdtool.cli.demo.torch_zip import write_torch_zip
from sdtool.cli.demo.training import training_checkpoint, trapped_checkpoint
from sdtool.cli.main import main

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script
    signal.signal(signal.SIGINT, signal.default_int_handler)  # so that children hear Ctrl-C


@dataclass(frozen=True)
class Result:
    """What a run left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch.load resolve the callback's class where Lightning itself is not installed."""
    if find_spec("pytorch_lightning") is None:
        for name in ("", ".callbacks", ".callbacks.model_checkpoint"):
            module = ModuleType(f"pytorch_lightning{name}")
            module.__dict__["ModelCheckpoint"] = type("ModelCheckpoint", (), {})
            monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder without settings, in the place of that of whoever runs the tests."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    monkeypatch.setenv("APPDATA", str(home))
    monkeypatch.setenv("LOCALAPPDATA", str(home))
    if sys.platform == "darwin":
        monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def sdtool(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Run:
    """Run the command in this process, in `tmp_path`; all JSON is held against its schema."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Result:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        check_output(captured.out, [str(a) for a in arguments])
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def child(tmp_path: Path) -> Run:
    """Run `python -m sdtool` as a process of its own, in `tmp_path`."""

    def run(*arguments: str | Path, stdin: bytes = b"") -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "sdtool", *map(str, arguments)],
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            timeout=120,
            check=False,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    folder = tmp_path_factory.mktemp("made")
    training = training_checkpoint()
    write_torch_zip(folder / "training.ckpt", training.content)
    write_torch_zip(folder / "trapped.ckpt", trapped_checkpoint(training))
    return (folder / "training.ckpt").read_bytes(), (folder / "trapped.ckpt").read_bytes()


@pytest.fixture
def training(tmp_path: Path, _made: tuple[bytes, bytes]) -> Path:
    """A small training checkpoint: raw, EMA, optimizer state."""
    path = tmp_path / "training.ckpt"
    path.write_bytes(_made[0])
    return path


@pytest.fixture
def trapped(tmp_path: Path, _made: tuple[bytes, bytes]) -> Path:
    """The same, with a call of os.system."""
    path = tmp_path / "trapped.ckpt"
    path.write_bytes(_made[1])
    return path
