"""What the UNet of a model with both layouts predicts."""

from __future__ import annotations

from enum import StrEnum


class Predicts(StrEnum):
    """The value is what `--prediction` and `modelspec.prediction_type` take."""

    EPSILON = "epsilon"
    V = "v"

    @property
    def in_diffusers(self) -> str:
        """The `prediction_type` of a scheduler."""
        return "v_prediction" if self is Predicts.V else "epsilon"

    @classmethod
    def of_diffusers(cls, kind: object) -> Predicts | None:
        """What a scheduler's `prediction_type` says; None for what is neither."""
        return next((one for one in cls if one.in_diffusers == kind), None)
