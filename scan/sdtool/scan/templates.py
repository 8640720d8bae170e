"""Chat templates, judged as text: nothing here renders one.

llama-cpp-python up to 0.2.71 rendered them without a sandbox, so that a template which reaches for
Python's internals ran code (CVE-2024-34359).

Source: GHSA-56xg-wfcc-g829; jinja2 sandbox.py (`UNSAFE_*_ATTRIBUTES`, `is_internal_attribute`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from sdtool.checkpoint.chat_templates import templates_in
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.trace import Anomaly

_INTERNALS = re.compile(
    r"__(?:class|bases?|mro|subclasses|globals|builtins|import|init|new|dict|self|code|closure"
    r"|func|getattribute|getattr|getitem|reduce(?:_ex)?|loader|spec|module|call)__"
)
_ESCAPES = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4}))")
_COMPUTED = re.compile(r"\|\s*attr\s*\(")
_UNDERSCORE = re.compile(r"""['"]_{1,2}(?:['"]|[a-z])""")


def template_anomalies(values: Mapping[str, object]) -> Iterator[Anomaly]:
    """Note each chat template, and those that do what no template needs."""
    for key, text in templates_in(values):
        plain = _ESCAPES.sub(lambda found: chr(int(found[1] or found[2], 16)), text)
        internal = _INTERNALS.search(plain)
        if internal is not None:
            yield Anomaly(RuleId.TEMPLATE_CODE, f"it names {internal[0]}", None, key)
        elif _COMPUTED.search(plain) and _UNDERSCORE.search(plain):
            yield Anomaly(RuleId.TEMPLATE_CODE, "it puts names of attributes together", None, key)
        yield Anomaly(RuleId.CHAT_TEMPLATE, f"{len(text):,} characters", None, key)
