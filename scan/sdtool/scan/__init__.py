"""Judge what a checkpoint would do when loaded, without loading it.

from sdtool.scan import scan_file
print(scan_file("model.ckpt").verdict)
"""

from __future__ import annotations

from sdtool.scan.allowlist import Settings, load_allow, load_settings
from sdtool.scan.escaping import escape
from sdtool.scan.findings import Finding, Report, Severity, Verdict
from sdtool.scan.scanner import judge, scan_file

__all__ = [
    "Finding", "Report", "Settings", "Severity", "Verdict", "escape", "judge", "load_allow",
    "load_settings", "scan_file",
]  # fmt: skip
