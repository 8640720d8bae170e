"""The files beside the models of a release: model card, statement and list of hashes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence

from sdtool.batch.options import Options
from sdtool.batch.provenance import as_text
from sdtool.batch.release import card, sums
from sdtool.batch.release.ema_health import EmaHealth
from sdtool.batch.release.modelspec import PREFIX
from sdtool.batch.release.statement import SUFFIX, statement_of
from sdtool.batch.release.variants import Variant
from sdtool.batch.version import sdtool_version
from sdtool.checkpoint import dataclass
from sdtool.convert import split_name
from sdtool.scan import Report


@dataclass(frozen=True, slots=True)
class Texts:
    """All that is said of a release, but what comes of its models."""

    name: str
    """That of the input."""
    nbytes: int
    sha256: str
    report: Report
    kind: str
    """What the input is, for people."""
    ema: EmaHealth | None
    dtype: str
    given: Mapping[str, str]
    """The metadata that a publisher has given."""
    metadata: Mapping[str, str]
    """All that the outputs have in common."""
    options: Options

    def contents(self, variants: Sequence[Variant]) -> dict[str, bytes]:
        """Return the files by their names, those of `text_names`."""
        card_name, statement_name, sums_name = text_names(self.name)
        made = {
            card_name: self._card(variants, statement_name).encode(),
            statement_name: self._statement(variants).encode(),
        }
        listed = _digests(variants) | {
            name: hashlib.sha256(content).hexdigest() for name, content in made.items()
        }
        return made | {sums_name: os.fsencode(sums.sums_text(listed))}

    def _card(self, variants: Sequence[Variant], statement: str) -> str:
        return card.card_text(
            self.metadata.get(f"{PREFIX}title", _stem(self.name)),
            self.kind,
            variants,
            ema=None if self.ema is None else str(self.ema),
            metadata=self.metadata,
            statement=statement,
        )

    def _statement(self, variants: Sequence[Variant]) -> str:
        predicate: dict[str, object] = {
            "input": {
                "name": as_text(self.name),
                "digest": {"sha256": self.sha256},
                "size_bytes": self.nbytes,
                "verdict": self.report.verdict.value,
                "allowed": list(self.report.allowed),
            },
            "tool": {"name": "sdtool", "version": sdtool_version()},
            "options": {
                "dtype": self.dtype,
                "allow_overflow": self.options.allow_overflow,
                "metadata": dict(self.given),
            },
            "outputs": [one.as_json() for one in variants],
            "ema": None if self.ema is None else self.ema.as_json(),
            "verified": self.options.verify,
        }
        statement = statement_of(_digests(variants), predicate)
        return json.dumps(statement, indent=2, ensure_ascii=True) + "\n"


def text_names(name: str) -> tuple[str, str, str]:
    """Return the names of the card, the statement and the list of hashes of a release of `name`."""
    return card.NAME, f"{_stem(name)}{SUFFIX}", sums.NAME


def _stem(name: str) -> str:
    return as_text(split_name(name)[0])


def _digests(variants: Sequence[Variant]) -> dict[str, str]:
    return {one.name: one.hashes.sha256 for one in variants}
