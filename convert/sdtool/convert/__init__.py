"""Put the bytes of tensors into a new file.

from sdtool.convert import convert_unjudged
convert_unjudged("model.ckpt", "model.safetensors")  # sdtool.batch.convert_file judges first
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sdtool.convert.plan.names import is_partial, output_name, split_name, token_name
from sdtool.convert.plan.plan import ConvertPlan, Placed, plan_safetensors, select_all, select_parts
from sdtool.convert.plan.selection import LeftOut, Selected, Selection
from sdtool.convert.plan.target import Layout, Target

if TYPE_CHECKING:
    from sdtool.convert.elements.census import Census
    from sdtool.convert.files import convert_unjudged
    from sdtool.convert.layouts.predicts import Predicts
    from sdtool.convert.plan.casts import DTYPES
    from sdtool.convert.plan.dequantize import treatment_of
    from sdtool.convert.plan.expansion import check_expansion, check_reading
    from sdtool.convert.plan.layouts import has_other_layout, select_single
    from sdtool.convert.plan.unpacking import prepared
    from sdtool.convert.verify.found import Difference, Verification
    from sdtool.convert.verify.verify import verify_against, verify_file
    from sdtool.convert.write.hashes import Hashes, hash_file
    from sdtool.convert.write.pipelines import (
        facts_in,
        is_pipeline,
        pipeline_files,
        plan_pipeline,
    )
    from sdtool.convert.write.pt_file import PtPlan, plan_pt, write_pt
    from sdtool.convert.write.safetensors_file import Written, write_safetensors, write_together
    from sdtool.convert.write.shards import (
        PlannedShard,
        SetPlan,
        index_name,
        is_index,
        is_training_state,
        plan_shards,
        read_index,
        set_name,
        write_shards,
    )
    from sdtool.convert.write.staging import check_output, leftovers, new_file

__all__ = [
    "DTYPES",
    "Census",
    "ConvertPlan",
    "Difference",
    "Hashes",
    "Layout",
    "LeftOut",
    "Placed",
    "PlannedShard",
    "Predicts",
    "PtPlan",
    "Selected",
    "Selection",
    "SetPlan",
    "Target",
    "Verification",
    "Written",
    "check_expansion",
    "check_output",
    "check_reading",
    "convert_unjudged",
    "facts_in",
    "has_other_layout",
    "hash_file",
    "index_name",
    "is_index",
    "is_partial",
    "is_pipeline",
    "is_training_state",
    "leftovers",
    "new_file",
    "output_name",
    "pipeline_files",
    "plan_pipeline",
    "plan_pt",
    "plan_safetensors",
    "plan_shards",
    "prepared",
    "read_index",
    "select_all",
    "select_parts",
    "select_single",
    "set_name",
    "split_name",
    "token_name",
    "treatment_of",
    "verify_against",
    "verify_file",
    "write_pt",
    "write_safetensors",
    "write_shards",
    "write_together",
]

_HOMES = {
    "elements.census": ("Census",),
    "files": ("convert_unjudged",),
    "layouts.predicts": ("Predicts",),
    "plan.casts": ("DTYPES",),
    "plan.dequantize": ("treatment_of",),
    "plan.expansion": (
        "check_expansion",
        "check_reading",
    ),
    "plan.layouts": (
        "has_other_layout",
        "select_single",
    ),
    "plan.unpacking": ("prepared",),
    "verify.found": ("Difference", "Verification"),
    "verify.verify": ("verify_against", "verify_file"),
    "write.hashes": (
        "Hashes",
        "hash_file",
    ),
    "write.pipelines": (
        "facts_in",
        "is_pipeline",
        "pipeline_files",
        "plan_pipeline",
    ),
    "write.pt_file": (
        "PtPlan",
        "plan_pt",
        "write_pt",
    ),
    "write.safetensors_file": (
        "Written",
        "write_safetensors",
        "write_together",
    ),
    "write.shards": (
        "PlannedShard",
        "SetPlan",
        "index_name",
        "is_index",
        "is_training_state",
        "plan_shards",
        "read_index",
        "set_name",
        "write_shards",
    ),
    "write.staging": (
        "check_output",
        "leftovers",
        "new_file",
    ),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import what writes when it is asked for: planning and naming do without it (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"sdtool.convert.{_MODULES[name]}"), name)
