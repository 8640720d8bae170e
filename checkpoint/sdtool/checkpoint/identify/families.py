"""Which diffusion network this is: all tables of them, in the order in which they are asked.

A network that fits no row is unknown: there is no fallback to SD 1.x.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from sdtool.checkpoint.identify.signs import Family, Rows
from sdtool.checkpoint.identify.transformers import TRANSFORMERS
from sdtool.checkpoint.identify.transformers_diffusers import DIFFUSERS
from sdtool.checkpoint.identify.unets import OWN_SIZES, UNETS
from sdtool.checkpoint.tensors import TensorEntry

PREFIXES = (
    "model.diffusion_model.",
    "",
    "diffusion_model.",
    "model.model.",
    "net.",
    "model.",
    "module.",
    "unet.",
    "transformer.",
)
"""Where a diffusion network may hang; "" is a file that holds nothing else."""

TABLE: tuple[Family, ...] = (*UNETS, *TRANSFORMERS, *DIFFUSERS, *OWN_SIZES)


def family_of(named: Mapping[str, TensorEntry]) -> tuple[Family, str] | None:
    """Return the first row that holds for the tensors `named`, and the network's prefix."""
    return _rows().first(named)


@cache
def _rows() -> Rows[Family]:
    return Rows((row, prefix) for prefix in PREFIXES for row in TABLE)
