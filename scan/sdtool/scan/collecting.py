"""Findings of one file as its pickles are judged: one for each rule and name, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.trace import Anomaly
from sdtool.checkpoint.values import Global
from sdtool.checkpoint.wording import escape
from sdtool.scan.findings import LONGEST, Finding
from sdtool.scan.known_names import Known
from sdtool.scan.rules import RULES


class Collector:
    """Findings of one file as they come up, one for each rule and name."""

    def __init__(self, allow: Mapping[Global, str]) -> None:
        self.allow = allow
        self.known: dict[Global, Known] = {}
        self.models: dict[str, tuple[int, str | None]] = {}
        """Packages whose classes make up a pickled model, and where each is first named."""
        self.unjudged: str | None = None
        """Why some calls were not judged, if some were not: then nothing is clean."""
        self._found: dict[tuple[RuleId, str], tuple[Anomaly, str | None]] = {}
        """The first occurrence of each rule and name, with what shows it."""
        self._counts: Counter[tuple[RuleId, str]] = Counter()

    @property
    def is_empty(self) -> bool:
        """Whether nothing came up yet, and all was judged."""
        return not (self._found or self.models or self.unjudged)

    def add(
        self,
        anomaly: Anomaly,
        *,
        about: str = "",
        offset: int | None = None,
        member: str | None = None,
        evidence: str | None = None,
        count: int = 1,
    ) -> None:
        """Note one occurrence of a rule; a further one for the same name only counts."""
        key = (anomaly.rule, about)
        if key not in self._found:
            self._found[key] = anomaly._replace(offset=offset, member=member), evidence
        self._counts[key] += count

    def findings(self) -> Iterator[Finding]:
        """What came up, in order."""
        for key, (anomaly, evidence) in self._found.items():
            rule, about = RULES[anomaly.rule], key[1]
            parts = [escape(about, 160)] if about else []
            if anomaly.detail:
                parts.append(escape(anomaly.detail, LONGEST))
            message = f"{rule.title}: {' - '.join(parts)}" if parts else rule.title
            if self._counts[key] > 1:
                message += f" ({self._counts[key]:,} times)"
            shown = None if evidence is None else escape(evidence, 160)
            yield Finding(
                anomaly.rule, rule.severity, message, anomaly.member, anomaly.offset, shown
            )
        if self.models:
            rule = RULES[RuleId.PICKLED_MODEL]
            offset, member = next(iter(self.models.values()))
            packages = sorted(self.models)
            owners = [p for p in packages if p != "torch.nn"] or packages
            message = f"a whole pickled model of {', '.join(owners)}, not weights"
            names = sorted(str(g) for g, known in self.known.items() if known.kind == "model")
            yield Finding(
                RuleId.PICKLED_MODEL,
                rule.severity,
                escape(message, LONGEST),
                member,
                offset,
                escape(", ".join(names), 1000),
            )
