"""Choose which weights to keep, under which name, in which precision.

from sdtool.checkpoint import open_checkpoint
from sdtool.prune import plan_prune
plan = plan_prune(open_checkpoint("last.ckpt"), variant="ema-only")
"""

from __future__ import annotations

from sdtool.prune.ema import ema_equals_raw
from sdtool.prune.plan import PrunePlan, Row, Variant, plan_prune

__all__ = ["PrunePlan", "Row", "Variant", "ema_equals_raw", "plan_prune"]
