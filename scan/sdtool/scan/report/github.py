"""Reports as workflow commands, which GitHub shows beside the files of a pull request.

Source: GitHub Docs, "Workflow commands for GitHub Actions", and how @actions/core escapes them
(packages/core/src/command.ts).
"""

from __future__ import annotations

from sdtool.checkpoint.wording import counted, escape
from sdtool.scan.findings import LONGEST, Report, Severity, Verdict

_SHOWN = 10
"""Findings in one annotation; GitHub shows ten annotations of a level, so a file has one."""


def annotation(report: Report, *, fails: bool) -> str | None:
    """Return the line for one file, an error if it `fails` the run; None if it is plainly clean."""
    from pathlib import PurePath  # no other report needs it

    if report.verdict is Verdict.CLEAN and not report.allowed:
        return None
    if report.verdict is Verdict.CLEAN:
        level, texts = "notice", [f"allowed: {name}" for name in report.allowed]
    else:
        level = "error" if fails else "warning"
        texts = [f.message for f in report.findings if f.severity is not Severity.INFO]
        texts += [report.error] if report.error else []
    if len(texts) > _SHOWN:
        texts[_SHOWN:] = [f"and {counted(len(texts) - _SHOWN, 'more finding')}"]
    file = _property(PurePath(report.path).as_posix())
    title = _property(f"{report.verdict.upper()} by sdtool scan")
    message = "%0A".join(_data(text) for text in texts)
    return f"::{level} file={file},title={title}::{message}"


def _data(text: str) -> str:
    return escape(text, LONGEST).replace("%", "%25")


def _property(text: str) -> str:
    return escape(text).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
