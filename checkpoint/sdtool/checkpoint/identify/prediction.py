"""What a diffusion network predicts, and what of a file shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sdtool.checkpoint.identify.identity import Prediction
from sdtool.checkpoint.identify.signs import Family
from sdtool.checkpoint.tensors import TensorEntry

_PROBES = (
    "output_blocks.11.1.transformer_blocks.0.norm1.bias",
    "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias",
)
"""The bias that has grown in every SD 2 model trained to predict v, in LDM's and diffusers' names.

Source: ComfyUI comfy/supported_models.py (SD20.model_type).
"""
_V_DEVIATION = 0.09
_STEPS = {875_000: "epsilon", 220_000: "epsilon", 110_000: "v"}
"""`global_step` of the official SD 2 files.

Source: diffusers single_file_utils.py; InvokeAI's legacy probe.
"""


def prediction_of(
    family: Family,
    prefix: str,
    named: Mapping[str, TensorEntry],
    leaves: Mapping[str, object],
    metadata: Mapping[str, str],
) -> tuple[Prediction, TensorEntry | None]:
    """Return the prediction type with its reason, and the tensor that would decide when none of
    names, shapes and counters does.
    """
    declared = metadata.get("modelspec.prediction_type", "").lower()
    if family.prediction in ("epsilon", "undecided") and declared in ("epsilon", "v"):
        return Prediction(declared, f"modelspec.prediction_type says {declared}"), None
    if family.prediction != "undecided":
        markers = [sign[1:] for sign in family.signs if isinstance(sign, str) and sign[0] == "^"]
        reason = f"the file holds {markers[0]}" if markers else f"as every {family.family} model"
        if family.prediction == "epsilon":
            reason = "what this family predicts unless its maker says otherwise; no key shows it"
        return Prediction(family.prediction, reason), None
    step = leaves.get("global_step")
    if isinstance(step, int) and step in _STEPS:
        return Prediction(_STEPS[step], f"global_step is {step:,}, an official file's"), None
    probe = next((named[prefix + name] for name in _PROBES if prefix + name in named), None)
    if probe is None:
        return Prediction("undecided", "no key shows it: epsilon (512 px) or v (768 px)"), None
    reason = "no key shows it, the values of one bias do"
    return Prediction("undecided", reason), probe


def decide_prediction(values: Sequence[float]) -> Prediction:
    """Return what an SD 2 network predicts from the values of its probe."""
    if not all(map(math.isfinite, values)):
        return Prediction("undecided", "the values of one bias would show it, and are not finite")
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in values) / len(values))
    sign, kind = (">", "v") if deviation > _V_DEVIATION else ("<=", "epsilon")
    return Prediction(
        kind, f"standard deviation of one bias {deviation:.3f} {sign} {_V_DEVIATION} (ComfyUI)"
    )
