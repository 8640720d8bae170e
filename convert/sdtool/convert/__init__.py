"""Put the bytes of tensors into a new file.

from sdtool.convert import convert_unjudged
convert_unjudged("model.ckpt", "model.safetensors")  # sdtool.batch.convert_file judges first
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sdtool.convert.plan.names import output_name
from sdtool.convert.plan.plan import ConvertPlan, plan_safetensors, select_all, select_parts
from sdtool.convert.plan.selection import LeftOut, Selected, Selection

if TYPE_CHECKING:
    from sdtool.convert.files import convert_unjudged
    from sdtool.convert.write.safetensors_file import Written, write_safetensors

__all__ = [
    "ConvertPlan",
    "LeftOut",
    "Selected",
    "Selection",
    "Written",
    "convert_unjudged",
    "output_name",
    "plan_safetensors",
    "select_all",
    "select_parts",
    "write_safetensors",
]


def __getattr__(name: str) -> Any:
    """Import what writes when it is asked for: planning and naming do without it (PEP 562)."""
    if name == "convert_unjudged":
        from sdtool.convert.files import convert_unjudged

        return convert_unjudged
    if name in ("Written", "write_safetensors"):
        from sdtool.convert.write import safetensors_file as writer

        return getattr(writer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
