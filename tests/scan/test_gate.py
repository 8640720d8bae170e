"""The gate: what is given has been judged, from the same reading, or it is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests import forge

from sdtool.checkpoint import InputError, UnsafeError
from sdtool.scan import Verdict, open_judged
from sdtool.scan.gate import admit, judged

W = forge.tensor()
HONEST = forge.torch_zip(forge.pickled(forge.dict_of({"a": W})))
TRAP = forge.call(forge.name("os", "system"), "echo")
TRAPPED = forge.torch_zip(forge.pickled(forge.dict_of({"a": W, "b": TRAP})))
CUT = HONEST[:-40]


def written(folder: Path, data: bytes) -> str:
    (folder / "model.ckpt").write_bytes(data)
    return str(folder / "model.ckpt")


def test_an_honest_file_is_given_with_its_report(tmp_path: Path) -> None:
    with open_judged(written(tmp_path, HONEST)) as (checkpoint, report):
        assert [tensor.name for tensor in checkpoint.tensors] == ["a"]
        assert report.verdict is Verdict.CLEAN


def test_the_readings_are_the_ones_that_were_judged(tmp_path: Path) -> None:
    path = written(tmp_path, TRAPPED)
    with judged(path, {}) as (taken, report):
        assert [reading.source.name for reading in taken] == [report.path] == [path]
        assert report.verdict is Verdict.UNSAFE


def test_an_unsafe_file_is_refused_or_disarmed(tmp_path: Path) -> None:
    path = written(tmp_path, TRAPPED)
    with pytest.raises(UnsafeError, match="refused as unsafe") as refused, open_judged(path):
        pass
    assert refused.value.where == path
    assert refused.value.hint is not None and "--disarm" in refused.value.hint
    with open_judged(path, disarm=True) as (checkpoint, report):
        assert [tensor.name for tensor in checkpoint.tensors] == ["a"]
        assert report.verdict is Verdict.UNSAFE


def test_an_undecided_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, CUT)
    for disarm in (False, True):
        with pytest.raises(InputError) as refused, open_judged(path, disarm=disarm):
            pass
        assert not isinstance(refused.value, UnsafeError)
        assert refused.value.where == path


def test_what_is_undecided_is_refused_though_its_tensors_are_there(tmp_path: Path) -> None:
    with judged(written(tmp_path, HONEST), {}) as (taken, report):
        assert report.verdict is Verdict.CLEAN
        undecided = replace(report, verdict=Verdict.UNDECIDED, error="too much", hint="wait")
        with pytest.raises(InputError) as refused:
            admit(taken, undecided, disarm=True)
    assert (refused.value.what, refused.value.hint) == ("too much", "wait")
    assert taken  # it is the report that refuses
