"""One table of rules: what the code can emit, what the documents say, and what hosts show."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdtool.scan.findings import Severity
from sdtool.scan.rules import RULES

ROOT = Path(__file__).parents[2]
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+\Z|torchscript\Z|polyglot\Z")
EMITTERS = {"Anomaly", "note", "disagree", "Problem", "_Problem"}


def emitted(folder: Path) -> Iterator[str]:
    """Every slug that the sources below `folder` hand to an Anomaly or a Problem."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                if ast.unparse(node.func).rpartition(".")[2] in EMITTERS:
                    for argument in node.args[:2]:
                        for part in ast.walk(argument):
                            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                                if SLUG.match(part.value):
                                    yield part.value


def test_every_slug_of_the_code_is_a_rule() -> None:
    slugs = set(emitted(ROOT / "checkpoint")) | set(emitted(ROOT / "scan"))
    assert {"opcode-crosses-frame", "polyglot", "unknown-call"} <= slugs
    assert slugs - {"utf-8"} <= RULES.keys()


def test_a_rule_is_one_module() -> None:
    folder = ROOT / "scan" / "sdtool" / "scan" / "rules"
    files = {path.stem.replace("_", "-") for path in folder.glob("[a-z]*.py")}
    assert files == RULES.keys()


@pytest.mark.parametrize("slug", sorted(RULES))
def test_a_rule_says_what_why_and_what_next(slug: str) -> None:
    rule = RULES[slug]
    assert rule.title and not rule.title.endswith(".")
    assert rule.why.endswith(".") and rule.hint
    assert "safe" not in re.findall(r"\w+", f"{rule.title} {rule.why} {rule.hint}".lower())


def test_the_document_has_every_rule_with_its_severity() -> None:
    text = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    part = text.partition("# The rules, one by one")[2]
    found = re.findall(r"^## (\S+)\n\nSeverity: (\w+)$", part, re.MULTILINE)
    assert dict(found) == {slug: str(rule.severity) for slug, rule in RULES.items()}
    assert len(found) == len(RULES)


def test_the_threat_model_names_every_rule() -> None:
    text = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
    quoted = set(re.findall(r"`([a-z0-9-]+)`", text))
    assert RULES.keys() <= quoted | {"unknown-global"}
    classes = [int(n) for n in re.findall(r"^(\d+)\. \*\*", text, re.MULTILINE)]
    assert classes == list(range(1, 19))


def test_only_what_runs_or_hides_is_above_low() -> None:
    worse = {s for s, rule in RULES.items() if rule.severity in (Severity.HIGH, Severity.CRITICAL)}
    assert worse == {
        "computed-name",
        "dangerous-call",
        "dangerous-global",
        "odd-name",
        "odd-target",
        "opcode-crosses-frame",
    }
