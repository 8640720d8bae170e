"""Every hostile file is flagged, for the reason it was made for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tests.scan.live import LOADERS
from tests.scan.vectors import FLAGGED, VECTORS, Vector

from sdtool.scan.scanner import scan_file


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_vector_is_flagged(vector: Vector, tmp_path: Path) -> None:
    path = tmp_path / f"model{vector.suffix}"
    path.write_bytes(vector.build())
    report = scan_file(path, deep=vector.deep)
    rules = {finding.rule for finding in report.findings}
    assert report.verdict in vector.verdicts, (vector.why, rules, report.error)
    if vector.rules and report.findings:
        assert rules & set(vector.rules), vector.why
    if report.verdict == "undecided":
        assert report.error


def test_the_table_keeps_its_own_rules() -> None:
    assert [name for name, n in Counter(v.name for v in VECTORS).items() if n > 1] == []
    assert {v.threat for v in VECTORS} == set(range(1, 19))
    for vector in VECTORS:
        assert set(vector.loaders) <= LOADERS.keys()
        # What runs is an attack: `undecided` is not enough.
        assert not vector.loaders or vector.verdicts <= FLAGGED, vector.name
