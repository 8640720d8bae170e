"""frame-past-end: a frame is longer than the file."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="a frame is longer than the file",
    why=(
        "The C unpickler refuses it, the Python one (joblib, dill) runs what is there: cut "
        "off, or made so that only some loaders run it."
    ),
    hint="Compare the file's size with the one published and download it again.",
)
