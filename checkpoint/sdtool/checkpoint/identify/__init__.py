"""What kind of model a file holds, from names, shapes and dtypes.

from sdtool.checkpoint.identify import identify
print(identify(checkpoint.tensors).family)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdtool.checkpoint.faces import lazily

if TYPE_CHECKING:
    from sdtool.checkpoint.identify.deciding import identify, resolve
    from sdtool.checkpoint.identify.ema import ema_name, raw_and_ema
    from sdtool.checkpoint.identify.identity import (
        SHORT,
        Adapter,
        Component,
        EmaState,
        Embedding,
        Fit,
        Hypernetwork,
        Identity,
        Prediction,
    )
    from sdtool.checkpoint.identify.kinds import BY_SLUG
    from sdtool.checkpoint.identify.promises import broken_promises
    from sdtool.checkpoint.identify.quantization import quantization_of

__all__ = [
    "BY_SLUG", "SHORT", "Adapter", "Component", "EmaState", "Embedding", "Fit", "Hypernetwork",
    "Identity", "Prediction", "broken_promises", "ema_name", "identify", "quantization_of",
    "raw_and_ema", "resolve",
]  # fmt: skip

__getattr__ = lazily(
    __name__,
    {
        ".deciding": ("identify", "resolve"),
        ".ema": ("ema_name", "raw_and_ema"),
        ".identity": (
            "SHORT", "Adapter", "Component", "EmaState", "Embedding", "Fit", "Hypernetwork",
            "Identity", "Prediction",
        ),
        ".kinds": ("BY_SLUG",),
        ".promises": ("broken_promises",),
        ".quantization": ("quantization_of",),
    },
)  # fmt: skip
