"""What a verification has found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field

from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.convert.write.hashes import Hashes

SHOWN = 8
"""Differences that are described; more are only counted."""
Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Difference:
    """A tensor, or a file, that is not what it should be."""

    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check found. `differences` are the first; `failures` counts all."""

    tensors: int
    """Tensors that were compared or read."""
    nbytes: int
    differences: tuple[Difference, ...] = ()
    failures: int = 0
    missing: tuple[str, ...] = ()
    """Weights of the input that the output lacks, but for EMA and training losses."""
    unproven: tuple[str, ...] = ()
    """Tensors that were not compared: they are of another file than the input."""
    ema: int = 0
    """Tensors that hold the EMA values of the input."""
    cast: int = 0
    """Tensors in another type, proven by casting once more."""
    dequantized: int = 0
    """Tensors that are quantized in the input, proven by multiplying with their scales again."""
    nan: Mapping[str, int] = field(default_factory=dict[str, int])
    inf: Mapping[str, int] = field(default_factory=dict[str, int])
    """NaN and infinite elements, by tensor."""
    hashes: Hashes | None = None
    wrong_hashes: int = 0
    """How many of the failures are hashes that it should have: it may be another whole file."""
    file_nbytes: int = 0
    """Size of the file that was checked, or of all files of a set or a folder."""
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether all is proven. NaN and Inf are facts, not failures."""
        return not (self.is_wrong or self.unproven)

    @property
    def whole(self) -> bool:
        """Whether nothing but its hash is wrong with it: it is complete and not damaged."""
        return self.failures == self.wrong_hashes

    @property
    def is_wrong(self) -> bool:
        """Whether something is not what it should be."""
        return self.failures > 0 or bool(self.missing)
