"""How much an upscaler enlarges: from the shapes of the layers that make more pixels.

A pixel shuffle by `n` takes `n * n` channels for each that it gives. Where it ends in a picture,
the channels are those of colours; where it stands between layers, as many as went in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from sdtool.checkpoint.tensors import TensorEntry

_Named = Mapping[str, TensorEntry]
_COLOURS = (3, 1, 4)
_STEPS = 8
"""More doublings than any network has."""


def _picture(channels: int) -> int | None:
    """The scale of a shuffle of `channels` into a picture."""
    for colours in _COLOURS:
        root = math.isqrt(channels // colours)
        if root and root * root * colours == channels:
            return root
    return None


def _shuffles(prefix: str) -> Callable[[_Named, str], int | None]:
    """A `Upsample` of basicsr: convolutions with shuffles between, or one into the picture."""

    def scale(named: _Named, root: str) -> int | None:
        total = 1
        for i in range(0, 2 * _STEPS, 2):
            shape = _shape(named, f"{root}{prefix}.{i}.weight")
            if len(shape) != 4:
                break
            factor = math.isqrt(shape[0] // max(1, shape[1]))
            if factor * factor * shape[1] != shape[0] or factor < 2:
                return _picture(shape[0]) if i == 0 else total
            total *= factor
        return total

    return scale


def _last(prefix: str) -> Callable[[_Named, str], int | None]:
    """A shuffle behind the last convolution of a list."""

    def scale(named: _Named, root: str) -> int | None:
        start = root + prefix
        numbers = [
            int(middle)
            for name in named
            if name.startswith(start)
            and (middle := name[len(start) :].removesuffix(".weight")).isdecimal()
            and len(middle) < 4
            and len(named[name].shape) == 4
        ]
        shape = _shape(named, f"{start}{max(numbers)}.weight") if numbers else ()
        return _picture(shape[0]) if shape else None

    return scale


def _doublings(*names: str) -> Callable[[_Named, str], int | None]:
    """One doubling for each convolution that is there; none of them is 1."""

    def scale(named: _Named, root: str) -> int | None:
        return 1 << sum(f"{root}{name}.weight" in named for name in names)

    return scale


def _unshuffled(named: _Named, root: str) -> int | None:
    """Real-ESRGAN enlarges by 4 what an unshuffle at the beginning has made smaller."""
    shape = _shape(named, f"{root}conv_first.weight")
    return {3: 4, 12: 2, 48: 1}.get(shape[1]) if len(shape) == 4 else None


def _old_esrgan(named: _Named, root: str) -> int | None:
    """Three modules for each doubling, between the body and the two last convolutions."""
    numbers = [i for i in range(3 * _STEPS + 5) if f"{root}model.{i}.weight" in named and i > 1]
    return 1 << max(0, (max(numbers) - 4) // 3) if numbers else None


def _cugan(named: _Named, root: str) -> int | None:
    if f"{root}conv_final.weight" in named:
        ends, first = (
            _shape(named, f"{root}{name}.weight") for name in ("conv_final", "unet1.conv1.conv.0")
        )
        return 2 if ends[:1] == first[1:2] else 4
    bottom = _shape(named, f"{root}unet1.conv_bottom.weight")
    return {5: 3, 4: 2}.get(bottom[2]) if len(bottom) == 4 else None


def _dysample(named: _Named, root: str, at: str) -> int | None:
    shape = _shape(named, f"{root}{at}.offset.weight")
    return math.isqrt(shape[0] // 8) if shape else None


def _swift(named: _Named, root: str) -> int | None:
    """One block with a shuffle of 2 for each doubling."""
    steps = (f"{root}upsampler.{i}.conv.weight" in named for i in range(_STEPS))
    return 1 << sum(steps)


def _first_of(*rules: Callable[[_Named, str], int | None]) -> Callable[[_Named, str], int | None]:
    """The first rule whose scale is not 1."""

    def scale(named: _Named, root: str) -> int | None:
        found = [rule(named, root) for rule in rules]
        return next((value for value in found if value not in (1, None)), found[0])

    return scale


_UPSAMPLE = _first_of(
    _shuffles("upsample"), _doublings("conv_up1", "conv_up2"), _shuffles("upsample.up")
)
_RULES: Mapping[str, Callable[[_Named, str], int | None]] = {
    **dict.fromkeys(("ATD", "DAT", "DRCT", "HAT", "RGT", "SwinIR", "Swin2SR", "SRFormer",
                     "CRAFT", "GRL", "DITN"), _UPSAMPLE),
    **dict.fromkeys(("SPAN", "SeemoRe", "DCTLSA"), _shuffles("upsampler")),
    "MoSR": _first_of(
        _shuffles("upsampler"), lambda named, root: _dysample(named, root, "upsampler")
    ),
    "PLKSR": _first_of(_last("feats."), lambda named, root: _dysample(named, root, "to_img")),
    "OmniSR": _shuffles("up"),
    "SAFMN": _shuffles("to_img"),
    "RCAN": _shuffles("tail.0"),
    "MMRealSR": _unshuffled,
    "Real-ESRGAN": _first_of(_unshuffled, _last("body.")),
    "ESRGAN": _first_of(_old_esrgan, _doublings("upconv1", "upconv2", "upconv3")),
    "RealCUGAN": _cugan,
    "SwiftSRGAN": _swift,
    "AuraSR": lambda named, root: 4,
}  # fmt: skip


def scale_of(family: str | None, named: _Named, root: str) -> int | None:
    """Return how much the upscaler below `root` enlarges; None where no shape tells."""
    rule = _RULES.get(family or "")
    return None if rule is None else rule(named, root)


def _shape(named: _Named, name: str) -> tuple[int, ...]:
    entry = named.get(name)
    return () if entry is None else entry.shape
