"""Put the bytes of tensors into a new file.

from sdtool.convert import convert_file
convert_file("model.ckpt", "model.safetensors")
"""

from __future__ import annotations

from sdtool.convert.files import convert_file
from sdtool.convert.names import output_name
from sdtool.convert.plan import (
    ConvertPlan,
    LeftOut,
    Selected,
    Selection,
    plan_safetensors,
    select_all,
    select_parts,
)
from sdtool.convert.writer import Written, write_safetensors

__all__ = [
    "ConvertPlan",
    "LeftOut",
    "Selected",
    "Selection",
    "Written",
    "convert_file",
    "output_name",
    "plan_safetensors",
    "select_all",
    "select_parts",
    "write_safetensors",
]
