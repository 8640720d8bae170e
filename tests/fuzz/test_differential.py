"""The differential fuzzer finds a hole that is there, none that is not, and repeats itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.forge import dict_of, npz, pickled, torch_legacy, torch_tar, torch_zip
from tests.fuzz.differential import scanned
from tests.fuzz.headers import PACKERS
from tests.fuzz.mutants import Nursery, mutant
from tests.fuzz.seeds import Seed
from tests.scan.vectors.vector import BOOM, HONEST, HOSTILE

from sdtool.scan.findings import Report, Verdict

ROOT = Path(__file__).parents[2]
PLAIN = pickled(dict_of({"a": [1, (2, "x")], "b": {"c": None}}))
SEEDS = (
    Seed("zip", torch_zip(HONEST), ".pt", True),
    Seed("pickle", PLAIN, ".pkl", True),
    Seed("legacy", torch_legacy(PLAIN), ".pth", True),
    Seed("tar", torch_tar(PLAIN), ".pt", True),
    Seed("npz", npz({"a": b"\x93NUMPY"}), ".npz", True),
    Seed("gzip", PACKERS["gzip"](PLAIN), ".gz", True),
    Seed("hostile-zip", torch_zip(HOSTILE), ".pt", False),
    Seed("hostile-pickle", pickled(BOOM), ".pkl", False),
)


def test_a_number_makes_the_same_mutant_twice() -> None:
    made = [mutant(number, 7, Nursery(SEEDS)) for number in range(300)]
    assert made == [mutant(number, 7, Nursery(SEEDS)) for number in range(300)]
    assert len({m.data for m in made}) > 200
    assert made != [mutant(number, 8, Nursery(SEEDS)) for number in range(300)]


RUN = """
import json, sys
from pathlib import Path
from tests.fuzz.children import Children
from tests.fuzz.differential import Run, scanned
from tests.fuzz.findings import Findings
from tests.fuzz.mutants import Nursery
from tests.fuzz.test_differential import SEEDS, blind

found = []
for scan in (scanned, blind):
    folder = Path(sys.argv[1]) / scan.__name__
    run = Run(3, Nursery(SEEDS), Children(sys.argv[1]), Findings(folder), scan)
    run.loaders = lambda data: ("c-file",)
    for case in range(100):
        run.step(case)
    run.load()
    found.append([[f.kind, f.loader, f.about, f.detail] for f in run.findings.kept])
print(json.dumps(found))
"""


@pytest.mark.live
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the children are forks")
def test_a_planted_hole_is_found(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", RUN, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    honest, planted = json.loads(child.stdout)
    assert [f for f in honest if f[0] in ("live", "unlisted", "values", "scan-raised")] == []
    live = [f for f in planted if f[0] == "live"]
    assert live
    for _, loader, about, detail in live:
        assert loader == "c-file" and about.startswith("clean pickle dangerous-global")
        assert detail.startswith("os.mkdir ('sdtool-marker'")
    assert len(list((tmp_path / "blind").glob("live-3-*"))) == len(live)


def blind(data: bytes, name: str) -> Report:
    """A scan that lets calls of os.mkdir pass, and whole pickles only."""
    report = scanned(data, name)
    if {name.name for name in report.globals} != {"os.mkdir"} or report.error is not None:
        return report
    return replace(report, verdict=Verdict.CLEAN)
