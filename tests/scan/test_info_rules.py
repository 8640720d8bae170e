"""What a report mentions without holding it against a file, exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.forge import (
    Member,
    call,
    dict_of,
    legacy_storage,
    name,
    pickled,
    short_bytes,
    tensor,
    torch_legacy,
    torch_zip,
    zip_file,
)
from tests.gguf_files import gguf
from tests.protobuf import message, number

from sdtool.checkpoint.rule_ids import RuleId
from sdtool.scan.findings import Finding, Severity, Verdict
from sdtool.scan.rules import RULES
from sdtool.scan.scanner import scan_file

NESTED = call(name("torch.storage", "_load_from_bytes"), short_bytes(pickled({"a": 1})))
TWO = pickled([NESTED, NESTED])
MODULE = pickled(call(name("module", "thing"), 1))
LEGACY = torch_legacy(pickled(dict_of({"w": tensor(legacy_storage())})), {"0": bytes(16)})

Fields = tuple[str, str | None, int | None, str | None]
CASES: dict[str, tuple[bytes, dict[str, str], Fields]] = {
    "nested-pickle": (
        torch_zip(pickled(NESTED)),
        {},
        ("", "archive/data.pkl", 0, None),
    ),
    "nested-pickle twice": (TWO, {}, (" (2 times)", None, 0, None)),
    "allowed-global": (
        MODULE,
        {"module.thing": "our own"},
        (": module.thing - our own", None, 2, "GLOBAL module thing"),
    ),
    "chat-template": (
        gguf({"tokenizer.chat_template": "{{ x }}"}, []),
        {},
        (": 7 characters", "tokenizer.chat_template", None, None),
    ),
    "custom-operator": (
        number(1, 8) + message(7, message(1, message(7, b"my.ops"))),
        {},
        (": my.ops", None, None, None),
    ),
    "keras-custom-object": (
        zip_file(
            [
                Member("metadata.json", b"{}"),
                Member("config.json", b'{"class_name": "L", "registered_name": "Mine>L"}'),
                Member("model.weights.h5", b""),
            ]
        ),
        {},
        (": Mine>L", "config.json", None, None),
    ),
    "unused-bytes": (
        LEGACY + bytes(9),
        {},
        (": 9 bytes after the storages", None, len(LEGACY), None),
    ),
}
"""A file, the names that are allowed, and its one finding: detail, member, offset, evidence."""

PROGRAMS = {RuleId.CUSTOM_OPERATOR, RuleId.KERAS_CUSTOM_OBJECT}
"""Of formats that are not read themselves."""


@pytest.mark.parametrize("case", CASES)
def test_an_info_finding(case: str, tmp_path: Path) -> None:
    data, allow, (detail, member, offset, evidence) = CASES[case]
    (tmp_path / "model.pt").write_bytes(data)
    report = scan_file(tmp_path / "model.pt", allow=allow)
    slug = RuleId(case.split()[0])
    assert report.verdict is (Verdict.UNDECIDED if report.error else Verdict.CLEAN)
    assert bool(report.error) is (slug in PROGRAMS)
    assert report.findings == (
        Finding(slug, Severity.INFO, RULES[slug].title + detail, member, offset, evidence),
    )


def test_every_info_rule_has_a_case() -> None:
    info = {slug for slug, rule in RULES.items() if rule.severity is Severity.INFO}
    of_servers = {RuleId.RECORDS_NOT_FETCHED}  # tests/remote/test_full_size.py
    assert {case.split()[0] for case in CASES} == info - of_servers
