"""Every hostile file gets exactly the verdict and the rules that ledger.txt has for it.

And the error that errors.txt has. `SDTOOL_LEDGER=write` rewrites both from what a scan says now;
read the diff.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tests.scan.loaders import LOADERS
from tests.scan.vectors import VECTORS, Vector, ledger
from tests.scan.vectors.known_holes import KNOWN_HOLES

from sdtool.scan.findings import Severity
from sdtool.scan.rules import RULES

LEDGER = ledger.ledger()
ERRORS = ledger.errors()
NAMES = tuple(vector.name for vector in VECTORS)
each_vector = pytest.mark.parametrize("vector", VECTORS, ids=NAMES)


@each_vector
def test_vector(vector: Vector, tmp_path: Path) -> None:
    report = ledger.scanned(vector, tmp_path)
    outcome = ledger.outcome(report)
    if vector.name in KNOWN_HOLES:
        assert report.verdict in ledger.PASSED, (
            f"closed: take it off KNOWN_HOLES and write\n{ledger.line_of(vector.name, outcome)}"
        )
        return
    if ledger.WRITES:
        ledger.write({vector.name: outcome}, NAMES)
        ledger.write_errors({vector.name: ledger.said(report)}, NAMES)
        return
    expected, _ = LEDGER.get(vector.name, ("nothing", ""))
    assert outcome.split() == expected.split(), (
        f"{vector.why}\nledger.txt should say\n{ledger.line_of(vector.name, outcome)}"
    )
    assert (report.error is not None) == (report.coverage == "partial"), report.error
    assert ledger.said(report) == ERRORS.get(vector.name, "")


def test_the_ledger_has_a_line_for_each_vector() -> None:
    assert [n for n, times in Counter(NAMES).items() if times > 1] == []
    assert set(NAMES) >= KNOWN_HOLES
    assert list(ledger.ledger()) == [name for name in NAMES if name not in KNOWN_HOLES]
    partial = [name for name, (outcome, _) in LEDGER.items() if "[partial]" in outcome]
    assert list(ERRORS) == partial


def test_vectors_name_loaders_and_every_class_of_attack() -> None:
    assert {v.threat for v in VECTORS} == set(range(1, 19))
    weights_only = {"torch-weights"}  # runs none of them
    assert {loader for v in VECTORS for loader in v.loaders} == LOADERS.keys() - weights_only


def test_no_hostile_file_passes() -> None:
    """What runs is an attack: `undecided` is not enough."""
    for vector in VECTORS:
        if vector.name not in KNOWN_HOLES:
            verdict = ledger.ledger()[vector.name][0].split()[0]
            allowed = {"unsafe", "suspicious"} if vector.loaders else {"undecided"}
            assert verdict in {"unsafe", "suspicious"} | allowed, vector.name


def test_every_rule_is_the_only_one_somewhere() -> None:
    alone: set[str] = set()
    for outcome, _ in ledger.ledger().values():
        rules = [word for word in outcome.split()[1:] if word[0] not in "(["]
        alone.update(rules if len(rules) == 1 else ())
    judged = {slug for slug, rule in RULES.items() if rule.severity is not Severity.INFO}
    assert judged - alone == set()
