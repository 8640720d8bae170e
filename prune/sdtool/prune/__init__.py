"""Choose which weights to keep, under which name, in which precision.

from sdtool.checkpoint import open_checkpoint
from sdtool.prune import plan_prune
plan = plan_prune(open_checkpoint("last.ckpt"), variant="ema-only")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdtool.checkpoint import lazily

if TYPE_CHECKING:
    from sdtool.prune.choosing import Variant
    from sdtool.prune.components import Component, NotHeld, component_file_name
    from sdtool.prune.deciding import Decision, decide
    from sdtool.prune.ema import ema_equals_raw
    from sdtool.prune.ema_folder import averaged_updates, ema_folder_of
    from sdtool.prune.fixes import FIXES
    from sdtool.prune.plan import PrunePlan, plan_prune
    from sdtool.prune.record import recorded_options
    from sdtool.prune.roles import TRAINING, Role, weight_role
    from sdtool.prune.table import Row

__all__ = [
    "FIXES",
    "TRAINING",
    "Component",
    "Decision",
    "NotHeld",
    "PrunePlan",
    "Role",
    "Row",
    "Variant",
    "averaged_updates",
    "component_file_name",
    "decide",
    "ema_equals_raw",
    "ema_folder_of",
    "plan_prune",
    "recorded_options",
    "weight_role",
]

__getattr__ = lazily(
    __name__,
    {
        ".choosing": ("Variant",),
        ".components": ("Component", "NotHeld", "component_file_name"),
        ".deciding": ("Decision", "decide"),
        ".ema": ("ema_equals_raw",),
        ".ema_folder": ("averaged_updates", "ema_folder_of"),
        ".fixes": ("FIXES",),
        ".plan": ("PrunePlan", "plan_prune"),
        ".record": ("recorded_options",),
        ".roles": ("TRAINING", "Role", "weight_role"),
        ".table": ("Row",),
    },
)
