"""frame-past-stop: a frame goes on behind the end of its pickle."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="a frame goes on behind the end of its pickle",
    why="Bytes that no loader interprets ride along in a place where no pickler leaves any.",
    hint="Get the file again from its publisher; ask how it was written.",
)
