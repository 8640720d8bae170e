"""Judge what a checkpoint would do when loaded, without loading it.

from sdtool.scan import open_judged, scan_file
print(scan_file("model.ckpt").verdict)
with open_judged("model.ckpt") as (checkpoint, report): ...  # or it is refused
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdtool.checkpoint import lazily
from sdtool.scan.findings import Finding, Name, Report, Severity, Verdict
from sdtool.scan.gate import admit, judged, open_judged, worst_message
from sdtool.scan.scanner import judge, scan_file
from sdtool.scan.settings import Settings, allowed_globals, load_allow, load_settings

if TYPE_CHECKING:
    from sdtool.scan.explaining import explain

__all__ = [
    "Finding", "Name", "Report", "Settings", "Severity", "Verdict", "admit", "allowed_globals",
    "explain", "judge", "judged", "load_allow", "load_settings", "open_judged", "scan_file",
    "worst_message",
]  # fmt: skip

__getattr__ = lazily(__name__, {".explaining": ("explain",)})
