"""fickling explains what was flagged; whatever becomes of it costs the explanation only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.forge import call, dict_of, list_of, name, ops, pickled, tensor, torch_zip

from sdtool.checkpoint import readings
from sdtool.checkpoint.source import Memory
from sdtool.scan.explaining import explain
from sdtool.scan.second_opinion import MAX_NBYTES, decompile

pytest.importorskip("fickling")


def lines(data: bytes) -> list[str]:
    """The explanation of a file in memory."""
    return list(explain(readings(Memory(data, "test"))))


def test_it_decompiles_and_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    source, why = decompile(pickled(call(name("os", "mkdir"), str(mark))))
    assert why is None and source is not None
    assert "from os import mkdir" in source
    assert f"mkdir({str(mark)!r})" in source
    assert not mark.exists()


def test_its_crash_costs_the_explanation_only() -> None:
    source, why = decompile(pickled(ops(b"\x97"), protocol=5))
    assert source is None
    assert why is not None and why.startswith("fickling cannot follow it")


def test_it_is_bounded_in_size_and_time() -> None:
    assert decompile(bytes(MAX_NBYTES + 1)) == (None, f"longer than {MAX_NBYTES:,} bytes")
    assert decompile(pickled(dict_of({})), timeout=0) == (
        None,
        "fickling took longer than 0 seconds",
    )


def test_an_explanation_lists_what_was_flagged() -> None:
    shown = lines(torch_zip(pickled(list_of(tensor(), call(name("os", "system"), "id")))))
    assert shown[0] == "archive/data.pkl, pickle at offset 0, step by step:"
    assert shown[1].strip() == "(... 1 tensor rebuilt ...)"
    assert shown[2].split(None, 1)[1] == "import os.system"
    assert shown[3].split(None, 1)[1] == "call os.system with ('id') [REDUCE]"


def test_honest_steps_are_counted_and_flagged_ones_are_not() -> None:
    many = [tensor() for _ in range(300)]
    trap = call(name("os", "system"), "id")
    huge = call(name("builtins", "bytes"), 10**12)
    shown = lines(torch_zip(pickled(list_of(*many, trap, *many[:2], huge, *many[:1]))))
    cut = shown.index("decompiled by fickling:")
    steps = [line[12:].strip() for line in shown[1:cut]]
    assert steps == [
        "(... 300 tensors rebuilt ...)",
        "import os.system",
        "call os.system with ('id') [REDUCE]",
        "(... 2 tensors rebuilt ...)",
        "call builtins.bytes with (1000000000000) [REDUCE]",
        "(... 1 tensor rebuilt ...)",
    ]
    source = [line.strip() for line in shown[cut + 1 :]]
    assert [line for line in source if "_var" not in line] == [
        "(... 300 tensors rebuilt ...)",
        "from os import system",
        "(... 2 tensors rebuilt ...)",
        "from builtins import bytes",
        "(... 1 tensor rebuilt ...)",
    ]
    calls = [line.partition(" = ")[2] for line in source if line.startswith("_var")]
    assert calls == ["system('id')", "bytes(1000000000000)"]
    assert source[-1].startswith("result = ")


def test_what_has_to_do_with_a_flagged_name_is_shown() -> None:
    taken = call(name("collections", "OrderedDict"), call(name("os", "system"), "id"))
    source, _ = decompile(pickled(taken), inert={"collections.OrderedDict"})
    assert source is not None
    assert source.splitlines() == [
        "(... 1 harmless step ...)",
        "from os import system",
        "_var0 = system('id')",
        "_var1 = OrderedDict(_var0)",
        "result = _var1",
    ]
    source, _ = decompile(
        pickled(list_of(taken, call(name("evil", "OrderedDict")))),
        inert={"collections.OrderedDict"},
    )
    assert source is not None
    assert source.splitlines()[-3:-1] == ["from evil import OrderedDict", "_var2 = OrderedDict()"]


def test_python_2_names_are_shown_both_ways() -> None:
    shown = lines(pickled(call(name("__builtin__", "eval"), "1\x1b[2J")))
    assert "import builtins.eval (written __builtin__.eval)" in shown[1]
    assert "\x1b" not in "".join(shown)
    assert shown[3] == "decompiled by fickling:"
    assert any("eval" in line for line in shown[4:])


def test_a_clean_file_needs_no_explanation() -> None:
    assert lines(pickled(dict_of({"a": 1}))) == []


def test_a_broken_pickle_is_explained_up_to_the_break() -> None:
    shown = lines(ops(pickled(call(name("os", "system"), "id"))[:-1], b"\xff"))
    assert any("then it fails: " in line for line in shown)
    assert shown[-1].startswith("not decompiled: ")


def test_scanning_imports_nothing_heavy_and_runs_nothing(tmp_path: Path) -> None:
    """An audit hook sees no import, no program and no other file from the first byte read on."""
    path = tmp_path / "m.pt"
    body = list_of(call(name("antigravity", "fly")), call(name("os", "system"), "id"), tensor())
    path.write_bytes(torch_zip(pickled(body)))
    code = """
import sys
from sdtool.scan import scan_file
heavy = {"torch", "numpy", "fickling", "tqdm", "click"} & sys.modules.keys()
assert not heavy, heavy
scan_file(sys.argv[1])
seen = []
def hook(event, args):
    if event in ("import", "exec", "compile", "os.system", "subprocess.Popen", "os.exec",
                 "socket.connect", "os.remove", "os.rename", "os.mkdir"):
        seen.append((event, str(args)[:80]))
    elif event == "open" and args[0] != sys.argv[1]:
        seen.append((event, str(args)[:80]))
sys.addaudithook(hook)
report = scan_file(sys.argv[1])
assert str(report.verdict) == "unsafe", report
assert "antigravity" not in sys.modules
assert not seen, seen
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
