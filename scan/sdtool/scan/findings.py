"""What a scan says: findings, the verdict that follows from them, and the report of one file."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.rule_ids import RuleId

LONGEST = 400
"""Characters that a report shows of one text from a file."""


class Severity(StrEnum):
    """How bad one finding is; `info` never changes a verdict."""

    INFO = "info"
    LOW = "low"
    HIGH = "high"
    CRITICAL = "critical"


class Verdict(StrEnum):
    """What is known of a whole file, the best first."""

    NOT_A_CHECKPOINT = "not-a-checkpoint"
    CLEAN = "clean"
    UNDECIDED = "undecided"
    SUSPICIOUS = "suspicious"
    UNSAFE = "unsafe"


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing to find; the table is in `sdtool.scan.rules`."""

    severity: Severity
    title: str
    """What was found, as the beginning of a message."""
    why: str
    """Why it matters."""
    hint: str
    """What to do next."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: every occurrence of one rule for one name, located at the first.

    `offset` counts bytes from the start of the member (or of the file, without a member).
    """

    rule: RuleId
    severity: Severity
    message: str
    member: str | None = None
    offset: int | None = None
    evidence: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The finding as the command's JSON has it."""
        return {
            "rule": str(self.rule),
            "severity": str(self.severity),
            "message": self.message,
            "member": self.member,
            "offset": self.offset,
            "evidence": self.evidence,
        }


@dataclass(frozen=True, slots=True)
class Name:
    """A name that a loader would import: `known` is allowlisted, dangerous, unknown or allowed."""

    name: str
    known: str
    called: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What one scan of one file found. `nbytes` is its size, `nbytes_read` what was read of it."""

    path: str
    format: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    globals: tuple[Name, ...]
    coverage: str
    """`full`, `deep`, or `partial` when something could not be looked into."""
    nbytes: int
    nbytes_read: int
    seconds: float
    error: str | None = None
    hint: str | None = None
    """What to do about `error`."""
    requests: int = 0
    """How often a server was asked for bytes of it."""
    unchanged_since: str | None = None
    """When it was scanned, if that was before, and a journal knows it to be unchanged."""

    @property
    def allowed(self) -> tuple[str, ...]:
        """The names that would not be clean, had a person not allowed them."""
        return tuple(name.name for name in self.globals if name.known == "allowed")

    @property
    def advice(self) -> str | None:
        """The hint, but for an unsafe file: nobody should get that again."""
        return None if self.verdict is Verdict.UNSAFE else self.hint

    def as_json(self) -> dict[str, Any]:
        """The report as the command's JSON has it."""
        return {
            "path": self.path,
            "format": self.format,
            "verdict": str(self.verdict),
            "findings": [finding.as_json() for finding in self.findings],
            "globals": [
                {"name": name.name, "known": name.known, "called": name.called}
                for name in self.globals
            ],
            "allowed": list(self.allowed),
            "coverage": self.coverage,
            "size_bytes": self.nbytes,
            "read_bytes": self.nbytes_read,
            "requests": self.requests,
            "seconds": round(self.seconds, 6),
            "error": self.error,
            "hint": self.advice,
            **({"unchanged_since": self.unchanged_since} if self.unchanged_since else {}),
        }


def verdict_of(findings: Iterable[Finding], *, read_to_the_end: bool) -> Verdict:
    """The verdict that findings amount to: the worst one decides, and a gap is never clean."""
    severities = {finding.severity for finding in findings}
    if severities & {Severity.CRITICAL, Severity.HIGH}:
        return Verdict.UNSAFE
    if Severity.LOW in severities:
        return Verdict.SUSPICIOUS
    return Verdict.CLEAN if read_to_the_end else Verdict.UNDECIDED
