"""What becomes of one tensor of a source."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sdtool.checkpoint.dtypes import DType
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.prune.roles import Role

if TYPE_CHECKING:
    from sdtool.convert.elements.scales import Scale

KEPT = "kept"
DROPPED = "dropped"
AVERAGED = "kept, under the raw names"
OUTDONE = "dropped for the EMA"
BAKED = "replaced by the baked VAE"
BAKED_IN = "kept, from the baked VAE"
REPAIRED = "kept, repaired"
DEQUANTIZED = "kept, dequantized"
MULTIPLIED = "dropped, multiplied in"
NOT_ASKED = "dropped, not of this component"


class Choice(NamedTuple):
    """One tensor, its role, and where it goes: `name` is its name in the output or None.

    `dtype` is the type it is written in, `goes_to` the same decision in words. A named tuple, as a
    plan makes several of them for each of its tensors.
    """

    entry: TensorEntry
    role: Role
    name: str | None
    goes_to: str
    dtype: DType
    nbytes_before: int
    """Bytes in the source; 0 for what comes from another file."""
    scale: Scale | None = None
    """What its codes are multiplied with."""

    @property
    def nbytes_after(self) -> int:
        """Bytes in the output."""
        return 0 if self.name is None else self.entry.numel * self.dtype.itemsize


def keep(entry: TensorEntry, role: Role, name: str | None = None, goes_to: str = KEPT) -> Choice:
    """Keep `entry`, under its own name unless another is given."""
    return Choice(
        entry, role, entry.name if name is None else name, goes_to, entry.dtype, entry.nbytes
    )


def leave(entry: TensorEntry, role: Role, goes_to: str = DROPPED) -> Choice:
    """Leave `entry` out."""
    return Choice(entry, role, None, goes_to, entry.dtype, entry.nbytes)
