"""Every rule: how bad it is, what it says, why it matters, and what to do next.

docs/rules.md is made of them: `SDTOOL_DOCS=write python -m pytest tests/scan/test_rules.py`.
"""

from __future__ import annotations

from sdtool.checkpoint.rule_ids import RuleId
from sdtool.scan.findings import Rule
from sdtool.scan.rules import archives, pickles, programs, tensors

RULES: dict[RuleId, Rule] = dict(
    sorted((archives.RULES | pickles.RULES | programs.RULES | tensors.RULES).items())
)
"""In the order of their ids."""
