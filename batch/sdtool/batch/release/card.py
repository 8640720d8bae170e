"""The model card of a release, in Markdown as model sites show it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from sdtool.batch.release.modelspec import PREFIX
from sdtool.checkpoint import escape, size

if TYPE_CHECKING:
    from sdtool.batch.release.variants import Variant

NAME = "README.md"
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#!|~&$])")


def card_text(
    title: str,
    kind: str,
    variants: Sequence[Variant],
    *,
    ema: str | None,
    metadata: Mapping[str, str],
    statement: str,
) -> str:
    """Return the card: what the model is, a table of its files, and how they are checked."""
    return "\n".join(_lines(title, kind, variants, ema, metadata, statement)) + "\n"


def _lines(
    title: str,
    kind: str,
    variants: Sequence[Variant],
    ema: str | None,
    metadata: Mapping[str, str],
    statement: str,
) -> Iterator[str]:
    described = {key.removeprefix(PREFIX): value for key, value in metadata.items()}
    yield "---"
    if "license" in described:
        yield f"license: {json.dumps(described['license'])}"
    yield "tags:"
    yield "- text-to-image"
    yield "- safetensors"
    yield "---"
    yield ""
    yield f"# {_plain(title)}"
    yield ""
    if "description" in described:
        yield from (_plain(described["description"]), "")
    yield f"- Model: {_plain(kind)}"
    for key, label in (
        ("author", "Author"), ("license", "License"), ("trigger_phrase", "Trigger words"),
        ("usage_hint", "Usage"), ("date", "Date"), ("resolution", "Resolution"),
    ):  # fmt: skip
        if key in described:
            yield f"- {label}: {_plain(described[key])}"
    if ema is not None:
        yield f"- EMA: {_plain(ema)}"
    yield ""
    yield "| file | weights | precision | size | AutoV2 | AutoV3 |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for one in variants:
        yield (
            f"| {_plain(one.name)} | {one.weights} | {one.precision} | {size(one.nbytes)}"
            f" | `{one.hashes.autov2}` | `{one.hashes.autov3}` |"
        )
    yield ""
    yield "No file contains a pickle. To check your download:"
    yield ""
    yield "    sha256sum -c SHA256SUMS"
    yield f"    sdtool verify . --statement {escape(statement)}"


def _plain(text: str) -> str:
    """Return text in one line that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", escape(" ".join(text.split())))
