"""What shows a network: the rows of the tables, and when one holds.

A row holds when each of its signs is there, with the sizes named. Names are relative to a prefix,
or to the root of the file when they start with `^`. The first row that holds wins, so the special
stand before the general.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Generic, TypeVar

from sdtool.checkpoint.identify.architecture import UNetConfig
from sdtool.checkpoint.identify.schemes import TABLE as SCHEMES
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.tensors import TensorEntry

Sign = str | tuple[str, int, int]
"""A name that must be there, or (name, dimension, size)."""

LDM_SOURCE = "diffusers single_file_utils.py"
COMFY_SOURCE = "ComfyUI model_detection.py"


@dataclass(frozen=True, slots=True)
class Family:
    """One diffusion network. `network` is `unet` or `transformer`; `layout` the exact shapes, where
    known.
    """

    family: str
    version: str | None
    signs: tuple[Sign, ...]
    prediction: str
    source: str
    network: str = "unet"
    layout: UNetConfig | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """Anything but a diffusion network: the kind, and of which family and version."""

    kind: str
    family: str | None
    version: str | None
    signs: tuple[Sign, ...]
    source: str
    prefixes: tuple[str, ...] = ("",)


R = TypeVar("R", Family, Signature)


def dit(family: str, version: str | None, source: str, *signs: Sign, p: str = "flow") -> Family:
    """Return the row of a diffusion transformer; `p` is what it predicts."""
    return Family(family, version, signs, p, source, "transformer")


_CODES = tuple(
    sorted(
        {row.codes for row in SCHEMES if row.codes not in ("", ".weight")}, key=len, reverse=True
    )
)
"""What codes are called behind the name of their layer or weight, the longest first."""


def with_weights(named: dict[str, TensorEntry]) -> Mapping[str, TensorEntry]:
    """Return `named` with the codes of quantized layers under the names of their weights, too.

    `X.qweight` is `X.weight` to the tables. Its shape is that of the codes, so no sign with a size
    holds for it.
    """
    weights = {
        _weight_of(name): entry
        for name, entry in named.items()
        if name.endswith(_CODES) and not name.endswith(".weight")
    }
    return {**weights, **named} if weights else named


def _weight_of(name: str) -> str:
    base = name.removesuffix(next(suffix for suffix in _CODES if name.endswith(suffix)))
    return base if base.endswith(".weight") else f"{base}.weight"


class Rows(Generic[R]):
    """Rows below their prefixes, in the order in which they are asked, by the first of their signs.

    Of a thousand rows a dozen have their first sign in a file: the others need not be asked.
    """

    def __init__(self, asked: Iterable[tuple[R, str]]) -> None:
        """`asked` gives rows, each with a prefix; all have a sign."""
        self._by_first: dict[str, list[tuple[int, R, str]]] = {}
        for number, (row, prefix) in enumerate(asked):
            first = _full_name(row.signs[0], prefix)
            self._by_first.setdefault(first, []).append((number, row, prefix))

    def first(self, named: Mapping[str, TensorEntry]) -> tuple[R, str] | None:
        """Return the first row that holds for the tensors `named`, and its prefix."""
        rows = self._by_first
        met = (
            (n for n in named if n in rows)
            if len(named) < len(rows)
            else (n for n in rows if n in named)
        )
        asked = [one for name in met for one in rows[name]]
        for _, row, prefix in sorted(asked, key=itemgetter(0)):
            if all(holds(sign, prefix, named) for sign in row.signs):
                return row, prefix
        return None


def _full_name(sign: Sign, prefix: str) -> str:
    name = sign if isinstance(sign, str) else sign[0]
    return name[1:] if name[0] == "^" else prefix + name


def holds(sign: Sign, prefix: str, named: Mapping[str, TensorEntry]) -> bool:
    """Whether the tensor of `sign` is there below `prefix`, in the size it names."""
    entry = named.get(_full_name(sign, prefix))
    if entry is None or isinstance(sign, str):
        return entry is not None
    _, dimension, size = sign
    at = dimension if dimension >= 0 else len(entry.shape) + dimension
    return 0 <= at < len(entry.shape) and entry.shape[at] == size
