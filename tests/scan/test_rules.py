"""One table of rules: what the code can emit, what the documents say, and what hosts show."""

from __future__ import annotations

import ast
import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdtool.checkpoint.rule_ids import RuleId
from sdtool.scan.findings import Severity
from sdtool.scan.rules import RULES

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "rules.md"
HEADING = "# The rules, one by one\n"
WRITES = os.environ.get("SDTOOL_DOCS") == "write"
"""Whether docs/rules.md is made of the table again; the diff is to be read."""


def used(folder: Path) -> Iterator[str]:
    """The member of RuleId that each expression of the sources below `folder` names."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id == "RuleId" and path.parent.name != "rules":
                    yield node.attr


def section(rule: RuleId) -> str:
    """What docs/rules.md says of a rule."""
    row = RULES[rule]
    title = row.title[0].upper() + row.title[1:]
    text = textwrap.fill(f"{title}. {row.why}", 100, break_on_hyphens=False)
    hint = textwrap.fill(f"Next: {row.hint}", 100, break_on_hyphens=False)
    return f"## {rule}\n\nSeverity: {row.severity}\n\n{text}\n\n{hint}\n"


def test_every_id_has_a_row_and_is_emitted_somewhere() -> None:
    assert list(RULES) == sorted(RuleId)
    emitted = {*used(ROOT / "checkpoint"), *used(ROOT / "scan")}
    assert emitted == {rule.name for rule in RuleId}


@pytest.mark.parametrize("slug", RULES)
def test_a_rule_says_what_why_and_what_next(slug: RuleId) -> None:
    rule = RULES[slug]
    assert rule.title and not rule.title.endswith(".")
    assert rule.why.endswith(".") and rule.hint
    assert "safe" not in re.findall(r"\w+", f"{rule.title} {rule.why} {rule.hint}".lower())


def test_the_document_is_made_of_the_table() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    before, heading, _ = text.partition(HEADING)
    assert heading
    made = before + heading + "\n" + "\n".join(map(section, RULES))
    if WRITES:
        DOCUMENT.write_text(made, encoding="utf-8", newline="\n")
    assert DOCUMENT.read_text(encoding="utf-8") == made


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
        "keras-callable",
        "odd-name",
        "odd-target",
        "opcode-crosses-frame",
        "template-code",
    }
