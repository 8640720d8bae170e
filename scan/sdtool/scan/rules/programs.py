"""Rules for what models of other programs carry beside their weights."""

from __future__ import annotations

from sdtool.checkpoint.rule_ids import RuleId
from sdtool.scan.findings import Rule, Severity
from sdtool.scan.rules.hints import DO_NOT_LOAD

RULES: dict[RuleId, Rule] = {
    RuleId.CHAT_TEMPLATE: Rule(
        Severity.INFO,
        title="a chat template",
        why=(
            "A program in Jinja that language models bring along. llama.cpp interprets it by "
            "itself; programs in Python render it, today in a sandbox."
        ),
        hint="Nothing, if there are no other findings. `--explain` shows it as text.",
    ),
    RuleId.TEMPLATE_CODE: Rule(
        Severity.HIGH,
        title="a chat template that reaches for Python's internals",
        why=(
            "No prompt needs that. A program that renders templates without a sandbox "
            "(llama-cpp-python before 0.2.72, CVE-2024-34359) runs what the template says."
        ),
        hint=DO_NOT_LOAD,
    ),
}
