"""ModelSpec: the metadata by which programs and sites show a model.

Source: Stability-AI/ModelSpec README.md 1.0.0; kohya-ss/sd-scripts library/sai_model_spec.py 1.0.1
(further keys, `/lora` behind the architecture of an adapter).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from difflib import get_close_matches

from sdtool.checkpoint import UsageError, local_file
from sdtool.checkpoint.identify import Identity

PREFIX = "modelspec."
VERSION = "1.0.1"

_IMPLEMENTATION = "https://github.com/Stability-AI/generative-models"
_ARCHITECTURES: Mapping[tuple[str | None, str | None], tuple[str, str]] = {
    ("SD 1.x", None): ("stable-diffusion-v1", "512x512"),
    ("SD 2.x", "base"): ("stable-diffusion-v2-512", "512x512"),
    ("SD 2.x", "768-v"): ("stable-diffusion-v2-768-v", "768x768"),
    ("SDXL", "base"): ("stable-diffusion-xl-v1-base", "1024x1024"),
    ("SDXL", "base, v-prediction"): ("stable-diffusion-xl-v1-base", "1024x1024"),
    ("SDXL", "refiner"): ("stable-diffusion-xl-v1-refiner", "1024x1024"),
}
"""By family and version: the name in ModelSpec, and the size of the images it was trained on."""

_LORA_FAMILIES: Mapping[str | None, str] = {
    "SD 1.x": "stable-diffusion-v1/lora",
    "SDXL": "stable-diffusion-xl-v1-base/lora",
}
_PREDICTIONS = ("epsilon", "v")
_LONGEST = 1 << 16
_THUMBNAIL_NBYTES = 256 << 10
_IMAGES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"RIFF": "webp"}
_DATA_URL = re.compile(r"data:image/(?:png|jpeg|webp);base64,[A-Za-z0-9+/]+={0,2}")


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _fits(pattern: str) -> Callable[[str], bool]:
    return lambda text: re.fullmatch(pattern, text) is not None


_ANY = _fits(r"(?s).*\S.*")
_RULES: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "architecture": (_fits(r"[\w./-]+"), "a name such as stable-diffusion-v1"),
    "date": (_is_date, "an ISO 8601 date, such as 2026-01-31"),
    "resolution": (_fits(r"\d+x\d+"), "WIDTHxHEIGHT, such as 512x512"),
    "prediction_type": (_fits("epsilon|v"), "epsilon or v"),
    "timestep_range": (_fits(r"\d+,\d+"), "MIN,MAX, such as 0,499"),
    "encoder_layer": (_fits(r"\d+"), "a number"),
    "is_negative_embedding": (_fits("true|false"), "true or false"),
    "thumbnail": (lambda text: _DATA_URL.fullmatch(text) is not None, "a data:image/ URL"),
    **dict.fromkeys(
        (
            "title", "description", "author", "implementation", "implementation_version",
            "license", "usage_hint", "category", "tags", "merged_from", "trigger_phrase",
            "preprocessor", "unet_dtype", "vae_dtype",
        ),
        (_ANY, "some text"),
    ),
}  # fmt: skip
"""What a person may give, without the prefix: how it is checked, and what it should be."""

_MADE = ("sai_model_spec", "hash_sha256")
"""What is never given: the version of these rules, and the hash of what is written."""


def checked(given: Mapping[str, str]) -> dict[str, str]:
    """Check metadata that a person gave, and return it.

    Raises:
        UsageError: a key is none of ModelSpec's, or its value is not what it should be.
    """
    for key, value in given.items():
        if not key or not key.isprintable() or key == "format" or key.startswith("sdtool."):
            raise UsageError(f"{key!r} cannot be a metadata key")
        if len(value.encode(errors="replace")) > _LONGEST and key != f"{PREFIX}thumbnail":
            raise UsageError("is longer than 64 KiB", where=key)
        if key.startswith(PREFIX):
            _check(key.removeprefix(PREFIX), value)
    return dict(given)


def thumbnail_url(path: str) -> str:
    """Return an image as the value of `modelspec.thumbnail`.

    Raises:
        UsageError: it is no PNG, JPEG or WebP, or larger than 256 KiB.
        Unreadable: the operating system refused.
    """
    with local_file(path) as file:
        if file.nbytes > _THUMBNAIL_NBYTES:
            raise UsageError(
                "is larger than 256 KiB",
                where=path,
                hint="the thumbnail is stored in every file: 256x256 is enough",
            )
        content = file.read_at(0, file.nbytes)
    kind = next((kind for magic, kind in _IMAGES.items() if content.startswith(magic)), None)
    if kind is None or (kind == "webp" and content[8:12] != b"WEBP"):
        raise UsageError("is not a PNG, JPEG or WebP image", where=path)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def modelspec_of(identity: Identity, title: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return the ModelSpec metadata of a model; `given` goes before what its tensors show.

    A model that ModelSpec has no name for gets none, unless somebody gives that.

    Raises:
        UsageError: keys of ModelSpec are given, and the architecture is not known.
    """
    found = _shown(identity)
    named = {key: value for key, value in given.items() if key.startswith(PREFIX)}
    if "architecture" not in found and f"{PREFIX}architecture" not in named:
        if named:
            raise UsageError(
                f"ModelSpec has no name for its architecture ({identity.title})",
                hint="give one: --metadata modelspec.architecture=NAME",
            )
        return {}
    known = {
        "sai_model_spec": VERSION,
        "implementation": _IMPLEMENTATION,
        "title": title,
        "hash_sha256": "0x" + "0" * 64,
        **found,
    }
    return {f"{PREFIX}{key}": value for key, value in known.items()} | named


def _shown(identity: Identity) -> dict[str, str]:
    """What the tensors say of the model."""
    if identity.adapter is not None:
        name = _LORA_FAMILIES.get(identity.family)
        return {} if name is None else {"architecture": name}
    row = _ARCHITECTURES.get((identity.family, identity.version))
    if row is None or identity.kind not in ("checkpoint", "unet"):
        return {}
    prediction = identity.prediction.type if identity.prediction is not None else ""
    named = {"prediction_type": prediction} if prediction in _PREDICTIONS else {}
    return {"architecture": row[0], "resolution": row[1], **named}


def _check(name: str, value: str) -> None:
    if name in _MADE:
        raise UsageError("is filled in by sdtool", where=f"{PREFIX}{name}")
    rule = _RULES.get(name)
    if rule is None:
        near = get_close_matches(name, _RULES, 1)
        hint = (
            f"did you mean {PREFIX}{near[0]}?"
            if near
            else "custom keys do not begin with modelspec."
        )
        raise UsageError("is not a ModelSpec key", where=f"{PREFIX}{name}", hint=hint)
    is_right, wanted = rule
    if not is_right(value):
        raise UsageError(f"should be {wanted}", where=f"{PREFIX}{name}")
