"""A report for a person: one line a file, then each finding with what, where, why and what next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.wording import counted, escape, size
from sdtool.scan.findings import LONGEST, Finding, Report, Severity, Verdict
from sdtool.scan.report.tally import Tally
from sdtool.scan.rules import RULES

_COLOURS = {
    Verdict.CLEAN: "32",
    Verdict.SUSPICIOUS: "33",
    Verdict.UNSAFE: "1;31",
    Verdict.UNDECIDED: "33",
    Verdict.NOT_A_CHECKPOINT: "2",
}


def lines(report: Report, *, colour: bool = False) -> Iterator[str]:
    """The lines for one file. Nothing in them can act on a terminal but the colours asked for."""
    verdict = _word(report.verdict, colour=colour)
    what = f"{escape(report.format, LONGEST)}, {size(report.nbytes)}"
    if report.allowed:  # it is clean by a person's word, and says so where the verdict is read
        what = f"{counted(len(report.allowed), 'name')} allowed; {what}"
    if any(finding.rule is RuleId.RECORDS_NOT_FETCHED for finding in report.findings):
        what += ", records not fetched"
    elif report.coverage == "partial":
        what += ", not read to the end"
    if report.unchanged_since:
        what += f"; unchanged since {report.unchanged_since}"
    yield f"{escape(report.path)}: {verdict} ({what})"
    if report.error:
        yield f"  {'could not be decided' if _is_open(report) else 'note'}: {report.error}"
        if report.advice:
            yield f"    next: {report.advice}"
    for finding in report.findings:
        yield from _finding(finding)


def why(report: Report) -> str:
    """Return the file and the first thing that is wrong with it, for `recap`."""
    what = report.findings[0].message if report.findings else report.error
    return f"{escape(report.path)}{f': {what}' if what else ''}"


def recap(flagged: Iterable[tuple[Verdict, str]], *, colour: bool = False) -> Iterator[str]:
    """Yield a line for each file that is not clean, the worst last: what many lines have hidden.

    Each is given by its verdict and by `why`.
    """
    order = list(Verdict)
    for verdict, what in sorted(flagged, key=lambda one: order.index(one[0])):
        yield f"{_word(verdict, colour=colour)} {what}"


def summary(tally: Tally, passed_over: int = 0, excluded: int = 0) -> str:
    """One line on many files: how many of each verdict, were no models, or were excluded."""
    counts, trusted = tally.verdicts, tally.trusted
    parts = [
        f"{counts[verdict]:,} {verdict}"
        + (f" ({trusted[verdict]:,} with allowed names)" if trusted[verdict] else "")
        for verdict in Verdict
        if counts[verdict]
    ]
    text = f"{counted(tally.files, 'file')} scanned"
    if parts:
        text += ": " + ", ".join(parts)
    text += f"; {tally.unchanged:,} unchanged" if tally.unchanged else ""
    text += f"; {passed_over:,} passed over" if passed_over else ""
    return text + (f"; {excluded:,} excluded" if excluded else "")


def _word(verdict: Verdict, *, colour: bool) -> str:
    word = verdict.upper()
    return f"\x1b[{_COLOURS[verdict]}m{word}\x1b[0m" if colour else word


def _is_open(report: Report) -> bool:
    return report.verdict is Verdict.UNDECIDED


def _finding(finding: Finding) -> Iterator[str]:
    rule = RULES[finding.rule]
    yield f"  {finding.severity}: {finding.message} [{finding.rule}]"
    where = [finding.member] if finding.member else []
    if finding.offset is not None:
        where.append(f"offset {finding.offset:,}")
    if where:
        yield f"    where: {', '.join(where)}"
    if finding.evidence:
        yield f"    found: {finding.evidence}"
    if finding.severity is not Severity.INFO:
        yield f"    why: {rule.why}"
        yield f"    next: {rule.hint}"
