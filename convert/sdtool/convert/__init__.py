"""Put the bytes of tensors into a new file.

from sdtool.convert import convert_file
convert_file("model.ckpt", "model.safetensors")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_MODULES = {
    "convert_file": "files",
    "output_name": "names",
    "Written": "writer",
    "write_safetensors": "writer",
}


def __getattr__(name: str) -> Any:
    """Import the writer when it is asked for: planning and naming do without it (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_MODULES.get(name, 'plan')}")
    return getattr(module, name)
