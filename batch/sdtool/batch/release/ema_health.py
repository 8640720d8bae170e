"""Whether the EMA of a checkpoint is worth publishing: untrained, the raw weights, or how far."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Literal

from sdtool.checkpoint import Checkpoint, dataclass
from sdtool.checkpoint.identify import raw_and_ema
from sdtool.convert import check_reading, distance, relative_distance

State = Literal["untrained", "equal", "differs"]


@dataclass(frozen=True, slots=True)
class EmaHealth:
    """`relative` is the root of the squared differences over that of the squared raw weights."""

    state: State
    tensors: int
    relative: float
    largest: float
    """The largest absolute difference; infinite where one of two values is."""
    updates: int | None
    """How often it was updated, where the file says so."""

    def as_json(self) -> dict[str, object]:
        """What JSON has of it, which has no infinity."""
        data: dict[str, object] = asdict(self)
        for key in ("relative", "largest"):
            data[key] = value if math.isfinite(value := getattr(self, key)) else None
        return data

    def __str__(self) -> str:
        count = "" if not self.updates else f" after {self.updates:,} updates"
        match self.state:
            case "untrained":
                return "untrained: it was never updated, and contains the initial weights"
            case "equal":
                return f"equal to the raw weights{count}: one of the two is enough"
            case "differs":
                return f"{self.relative:.3g} from the raw weights (relative distance){count}"


def ema_health(checkpoint: Checkpoint, updates: int | None) -> EmaHealth | None:
    """Compare every EMA weight with its raw one, a block at a time; None where there are none.

    Raises:
        UsageError: numpy is not installed.
        InputError: the values cannot be read.
    """
    pairs = [(raw, ema) for raw, ema in raw_and_ema(checkpoint) if raw.shape == ema.shape]
    if not pairs:
        return None
    check_reading((entry for pair in pairs for entry in pair), checkpoint.source.name)
    found = [distance(raw, ema) for raw, ema in pairs]
    equal = all(one.equal for one in found)
    state: State = "untrained" if updates == 0 else "equal" if equal else "differs"
    largest = max(one.largest for one in found)
    return EmaHealth(state, len(found), relative_distance(found), largest, updates)
