"""No honest file is accused, and a whole pickled model is called what it is."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.scan.corpus import HONEST, NEEDS, WHOLE_MODELS

from sdtool.scan.scanner import scan_file


def _written(name: str, write: Callable[[Path], object], folder: Path) -> Path:
    needed = NEEDS.get(name)
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f"needs {needed}")
    path = folder / "model.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # prototype dtypes and layouts say so
        write(path)
    return path


@pytest.mark.parametrize("name", HONEST)
def test_honest_file_is_clean(name: str, tmp_path: Path) -> None:
    path = _written(name, HONEST[name], tmp_path)
    for deep in (False, True):
        report = scan_file(path, deep=deep)
        accused = [(f.rule, f.message, f.evidence) for f in report.findings if f.severity != "info"]
        assert (report.verdict, accused, report.error) == ("clean", [], None)


@pytest.mark.parametrize("name", WHOLE_MODELS)
def test_whole_model_is_named(name: str, tmp_path: Path) -> None:
    report = scan_file(_written(name, WHOLE_MODELS[name], tmp_path))
    rules = {f.rule for f in report.findings if f.severity != "info"}
    assert (report.verdict, rules) == ("suspicious", {"pickled-model"})
