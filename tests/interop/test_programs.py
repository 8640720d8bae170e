"""Files of torch.jit, torch.package and torch.export: called what they are, and never harmful."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdtool.checkpoint.errors import Unsupported
from sdtool.convert import convert_unjudged
from sdtool.scan import scan_file

torch: Any = pytest.importorskip("torch")
nn = torch.nn
pytestmark = pytest.mark.filterwarnings("ignore")


class Same(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    """Returns what it is given."""

    def forward(self, x: Any) -> Any:
        return x


class Kinds(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    """Attributes of every kind that TorchScript has a list or dict for."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers, self.reals, self.bits, self.words = [1, 2], [1.0], [True], ["a"]
        self.by_name, self.pair = {"a": [1]}, (1, "x")
        self.tensors = [torch.ones(2)]
        self.none: Any = None
        self.place, self.kind, self.complex = torch.device("cpu"), torch.float32, 1 + 2j

    # TorchScript compiles by the annotation, and torch is Any here.
    def forward(self, x: torch.Tensor) -> torch.Tensor:  # pyright: ignore
        for part in self.tensors:
            x = x + part.sum()
        return x + self.numbers[0] + self.reals[0] + len(self.bits) + len(self.words)


Kinds.__annotations__ = {  # types, and not their text, as torch wants them
    "numbers": list[int], "reals": list[float], "bits": list[bool], "words": list[str],
    "by_name": dict[str, list[int]], "pair": tuple[int, str],
}  # fmt: skip


def _convolution() -> Any:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()


IMAGE = (1, 3, 8, 8)
MADE: dict[str, Callable[[], Any]] = {
    "identity": lambda: torch.jit.script(Same()),
    "linear": lambda: torch.jit.script(nn.Linear(2, 2)),
    "convolution": lambda: torch.jit.script(_convolution()),
    "traced": lambda: torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)),
    "traced convolution": lambda: torch.jit.trace(_convolution(), torch.ones(*IMAGE)),
    "frozen": lambda: torch.jit.freeze(torch.jit.script(_convolution())),
    "frozen trace": lambda: torch.jit.freeze(
        torch.jit.trace(nn.Linear(2, 2).eval(), torch.ones(1, 2))
    ),
    "optimized": lambda: torch.jit.optimize_for_inference(torch.jit.script(_convolution())),
    "kinds": lambda: torch.jit.script(Kinds()),
    "lstm": lambda: torch.jit.script(nn.LSTM(2, 2)),
    "gru": lambda: torch.jit.script(nn.GRU(2, 2)),
    "embedding": lambda: torch.jit.script(nn.EmbeddingBag(4, 2)),
    "modules": lambda: torch.jit.script(nn.ModuleList([nn.Linear(2, 2)])[0]),
    "half": lambda: torch.jit.script(nn.Linear(2, 2).half()),
    "transformer": lambda: torch.jit.script(nn.TransformerEncoderLayer(8, 2).eval()),
}


@pytest.mark.parametrize("kind", MADE)
def test_a_torchscript_file_is_a_program_and_no_attack(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.save(MADE[kind](), path)
    _is_only(path, "torchscript", "a TorchScript program")


def test_a_file_for_phones_is_one_too(tmp_path: Path) -> None:
    path = tmp_path / "model.ptl"
    MADE["linear"]()._save_for_lite_interpreter(str(path))
    _is_only(path, "torchscript", "a TorchScript program")


def test_lists_as_older_versions_wrote_them() -> None:
    """torch 1.x named these functions; today they are there to load its files."""
    from torch.jit import _pickle

    from sdtool.checkpoint.values import Global
    from sdtool.scan.known_names import judge_name

    names = [
        name
        for name, f in vars(_pickle).items()
        if getattr(f, "__module__", "") == _pickle.__name__
    ]
    assert len(names) >= 6
    assert {name: judge_name(Global("torch.jit._pickle", name)).kind for name in names} == (
        dict.fromkeys(names, "allowlisted")
    )


def test_a_package_is_one(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with torch.package.PackageExporter(path) as exporter:
        exporter.extern("**")
        exporter.save_source_string("own", "value = 1\n")
        exporter.save_pickle("model", "model.pkl", {"weight": torch.ones(2)})
    _is_only(path, "packaged-code", "a torch.package archive with its own sources")


def test_an_exported_program_is_one(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), path)
    _is_only(path, "exported-program", "an exported program of torch.export")


def _is_only(path: Path, rule: str, label: str) -> None:
    """A scan has this finding alone; converting says what it is, and what to do instead."""
    for deep in (False, True):
        report = scan_file(path, deep=deep)
        found = [(f.rule, str(f.severity)) for f in report.findings]
        assert (report.verdict, found) == ("suspicious", [(rule, "low")])
        assert report.error == f"{label}, not a state dict"
    with pytest.raises(Unsupported) as refused:
        convert_unjudged(path, path.with_suffix(".safetensors"))
    assert refused.value.what == f"{label}, not a state dict"
    assert refused.value.hint is not None and "--disarm" not in refused.value.hint
