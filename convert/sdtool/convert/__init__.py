"""Put the bytes of tensors into a new file.

from sdtool.convert import convert_unjudged
convert_unjudged("model.ckpt", "model.safetensors")  # sdtool.batch.convert_file judges first
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdtool.checkpoint import lazily

if TYPE_CHECKING:
    from sdtool.convert.elements.census import Census
    from sdtool.convert.elements.rescale import DEQUANTIZED_DTYPES, casting
    from sdtool.convert.elements.row_major import row_major_chunks
    from sdtool.convert.elements.vectors import share_numpy
    from sdtool.convert.files import convert_unjudged
    from sdtool.convert.layouts.configs import PIPELINE_INDEX, SCHEDULER
    from sdtool.convert.layouts.predicts import Predicts
    from sdtool.convert.plan.casts import CASTABLE, DTYPES
    from sdtool.convert.plan.dequantize import (
        DEQUANTIZATION,
        DEQUANTIZED_DTYPE,
        Origins,
        origins_of,
        treatment_of,
        weight_dtype,
    )
    from sdtool.convert.plan.expansion import check_expansion, check_reading
    from sdtool.convert.plan.layouts import has_other_layout, select_single
    from sdtool.convert.plan.metadata import HASH_KEYS, stored_metadata
    from sdtool.convert.plan.names import (
        REPLACED_SUFFIXES,
        base_name,
        is_left_of,
        is_partial,
        output_name,
        partial_name,
        split_name,
        token_name,
    )
    from sdtool.convert.plan.plan import ConvertPlan, Placed, plan_safetensors
    from sdtool.convert.plan.selecting import select_all, select_parts
    from sdtool.convert.plan.selection import LeftOut, Selected, Selection
    from sdtool.convert.plan.target import Layout, Target
    from sdtool.convert.plan.unpacking import prepared
    from sdtool.convert.verify.compare import Distance, distance, relative_distance
    from sdtool.convert.verify.found import Difference, Verification
    from sdtool.convert.verify.layouts import verify_components, verify_folder, verify_single
    from sdtool.convert.verify.verify import verify_against, verify_file
    from sdtool.convert.write.hashes import Hashes, hash_file
    from sdtool.convert.write.pipelines import (
        component_files,
        components_in,
        facts_in,
        names_of_weights,
        plan_pipeline,
    )
    from sdtool.convert.write.pt_file import PtPlan, plan_pt, write_pt
    from sdtool.convert.write.safetensors_file import (
        Written,
        mode_like,
        write_safetensors,
        write_together,
    )
    from sdtool.convert.write.shards import (
        PlannedShard,
        SetPlan,
        ShardIndex,
        index_name,
        index_of_parts,
        is_index,
        is_training_state,
        plan_shards,
        read_index,
        set_name,
        write_shards,
    )
    from sdtool.convert.write.signals import signals_held
    from sdtool.convert.write.staging import (
        check_output,
        clear_away,
        leftovers,
        new_file,
        rename_free,
        sync_folder,
    )

__all__ = [
    "CASTABLE",
    "DEQUANTIZATION",
    "DEQUANTIZED_DTYPE",
    "DEQUANTIZED_DTYPES",
    "DTYPES",
    "HASH_KEYS",
    "PIPELINE_INDEX",
    "REPLACED_SUFFIXES",
    "SCHEDULER",
    "Census",
    "ConvertPlan",
    "Difference",
    "Distance",
    "Hashes",
    "Layout",
    "LeftOut",
    "Origins",
    "Placed",
    "PlannedShard",
    "Predicts",
    "PtPlan",
    "Selected",
    "Selection",
    "SetPlan",
    "ShardIndex",
    "Target",
    "Verification",
    "Written",
    "base_name",
    "casting",
    "check_expansion",
    "check_output",
    "check_reading",
    "clear_away",
    "component_files",
    "components_in",
    "convert_unjudged",
    "distance",
    "facts_in",
    "has_other_layout",
    "hash_file",
    "index_name",
    "index_of_parts",
    "is_index",
    "is_left_of",
    "is_partial",
    "is_training_state",
    "leftovers",
    "mode_like",
    "names_of_weights",
    "new_file",
    "origins_of",
    "output_name",
    "partial_name",
    "plan_pipeline",
    "plan_pt",
    "plan_safetensors",
    "plan_shards",
    "prepared",
    "read_index",
    "relative_distance",
    "rename_free",
    "row_major_chunks",
    "select_all",
    "select_parts",
    "select_single",
    "set_name",
    "share_numpy",
    "signals_held",
    "split_name",
    "stored_metadata",
    "sync_folder",
    "token_name",
    "treatment_of",
    "verify_against",
    "verify_components",
    "verify_file",
    "verify_folder",
    "verify_single",
    "weight_dtype",
    "write_pt",
    "write_safetensors",
    "write_shards",
    "write_together",
]  # fmt: skip

# Planning and naming do without what writes; `info` plans a prune and needs no more than that.
__getattr__ = lazily(
    __name__,
    {
        ".elements.census": ("Census",),
        ".elements.rescale": ("DEQUANTIZED_DTYPES", "casting"),
        ".elements.row_major": ("row_major_chunks",),
        ".elements.vectors": ("share_numpy",),
        ".files": ("convert_unjudged",),
        ".layouts.configs": ("PIPELINE_INDEX", "SCHEDULER"),
        ".layouts.predicts": ("Predicts",),
        ".plan.casts": ("CASTABLE", "DTYPES"),
        ".plan.dequantize": (
            "DEQUANTIZATION", "DEQUANTIZED_DTYPE", "Origins", "origins_of", "treatment_of",
            "weight_dtype",
        ),
        ".plan.expansion": ("check_expansion", "check_reading"),
        ".plan.layouts": ("has_other_layout", "select_single"),
        ".plan.metadata": ("HASH_KEYS", "stored_metadata"),
        ".plan.names": (
            "REPLACED_SUFFIXES", "is_left_of", "is_partial", "output_name", "partial_name",
            "base_name", "split_name", "token_name",
        ),
        ".plan.plan": ("ConvertPlan", "Placed", "plan_safetensors"),
        ".plan.selecting": ("select_all", "select_parts"),
        ".plan.selection": ("LeftOut", "Selected", "Selection"),
        ".plan.target": ("Layout", "Target"),
        ".plan.unpacking": ("prepared",),
        ".verify.compare": ("Distance", "distance", "relative_distance"),
        ".verify.found": ("Difference", "Verification"),
        ".verify.layouts": ("verify_components", "verify_folder", "verify_single"),
        ".verify.verify": ("verify_against", "verify_file"),
        ".write.hashes": ("Hashes", "hash_file"),
        ".write.pipelines": (
            "component_files", "components_in", "facts_in", "names_of_weights", "plan_pipeline",
        ),
        ".write.pt_file": ("PtPlan", "plan_pt", "write_pt"),
        ".write.safetensors_file": ("Written", "mode_like", "write_safetensors", "write_together"),
        ".write.shards": (
            "PlannedShard", "SetPlan", "ShardIndex", "index_name", "index_of_parts", "is_index",
            "is_training_state", "plan_shards", "read_index", "set_name", "write_shards",
        ),
        ".write.signals": ("signals_held",),
        ".write.staging": (
            "check_output", "clear_away", "leftovers", "new_file", "rename_free", "sync_folder",
        ),
    },
)  # fmt: skip
