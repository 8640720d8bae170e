"""Choose which weights to keep, under which name, in which precision.

from sdtool.checkpoint import open_checkpoint
from sdtool.prune import plan_prune
plan = plan_prune(open_checkpoint("last.ckpt"), variant="ema-only")
"""

from __future__ import annotations

from sdtool.prune.components import Component, NotHeld, component_file_name
from sdtool.prune.ema import ema_equals_raw
from sdtool.prune.fixes import FIXES
from sdtool.prune.plan import PrunePlan, Variant, plan_prune
from sdtool.prune.record import recorded_options
from sdtool.prune.table import Row

__all__ = [
    "FIXES",
    "Component",
    "NotHeld",
    "PrunePlan",
    "Row",
    "Variant",
    "component_file_name",
    "ema_equals_raw",
    "plan_prune",
    "recorded_options",
]
