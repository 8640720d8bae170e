"""The messages of an ONNX model, walked for what leads out of it: files and operators of others.

A tensor may have its values in a file, named relative to the model's folder; runtimes have followed
names that lead out of it (CVE-2022-25882, CVE-2024-27318). An operator of a domain of its own runs
in a library that the program has to load. The graph itself is not judged.

Source: onnx/onnx.proto; onnx docs/ExternalData.md.
"""

from __future__ import annotations

from sdtool.checkpoint.containers.member_names import leads_out
from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed, Unsupported
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.protobuf import BYTES, content, fields
from sdtool.checkpoint.reading import Reading
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Source
from sdtool.checkpoint.trace import Anomaly

_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
"""Messages in messages, by the number of the field."""
_DOMAIN = {"node": 7, "function": 10}
"""The field with the domain: of an operator that is asked for, of a function that is there."""
_KNOWN = frozenset(
    {
        "", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview",
        "ai.onnx.preview.training", "com.microsoft", "com.microsoft.nchwc",
        "com.ms.internal.nhwc",
    }
)  # fmt: skip
"""Domains whose operators ONNX itself and its runtime have."""
_TOP = frozenset({*range(1, 9), 14, 20, 25, 26})
"""The fields of a model."""
_PRODUCER, _GRAPH = 2, 7
_PRODUCER_NBYTES = 32
_HINT = "it holds no pickle and runs in ONNX programs as it is; its maker's site has the weights"


class _Walk:
    """What was found so far; `left` are the fields that may still be looked at."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self.source = source
        self.paths: list[str] = []
        self.asked: set[str] = set()
        self.there: set[str] = set()
        self._left = limits.for_file(source.nbytes).leaves
        self._where = source.name

    def run(self) -> None:
        """Go through all messages.

        Raises:
            Malformed: one is none.
            LimitExceeded: there are more fields than a file of this size has.
        """
        pending = [("model", 0, self.source.nbytes)]
        while pending:
            kind, begin, end = pending.pop()
            if kind == "entry":
                self._entry(begin, end)
                continue
            inside, domain = _INSIDE[kind], _DOMAIN.get(kind)
            for field in fields(self.source, begin, end):
                self._left -= 1
                if self._left < 0:
                    raise LimitExceeded(
                        "more nodes than a file of its size can have", where=self._where
                    )
                if field.kind != BYTES:
                    continue
                if field.number == domain:
                    name = self._text(field.begin, field.nbytes)
                    (self.asked if kind == "node" else self.there).add(name)
                elif field.number in inside:
                    pending.append((inside[field.number], field.begin, field.end))

    def _entry(self, begin: int, end: int) -> None:
        """Look at one entry of `external_data`: a key and a value."""
        held = {f.number: content(self.source, f)[:4096] for f in fields(self.source, begin, end)}
        if held.get(1) == b"location":
            path = held.get(2, b"").decode("utf-8", "backslashreplace")
            if leads_out(path):
                self.paths.append(path)

    def _text(self, begin: int, nbytes: int) -> str:
        return self.source.read_at(begin, min(nbytes, 256)).decode("utf-8", "backslashreplace")


def read_onnx(source: Source, limits: Limits) -> Reading | None:
    """Walk a model; None where the bytes are none. Its graph and weights are not read."""
    if not _is_model(source):
        return None
    walk = _Walk(source, limits)
    error: InputError = Unsupported(
        "this is an ONNX model, which sdtool does not read", where=source.name, hint=_HINT
    )
    try:
        walk.run()
    except InputError as e:
        error = e
    anomalies: list[Anomaly] = []
    if walk.paths:
        many = f" and {len(walk.paths) - 1:,} more" if len(walk.paths) > 1 else ""
        anomalies.append(Anomaly(RuleId.EXTERNAL_PATH, f"{walk.paths[0][:120]}{many}"))
    others = sorted(walk.asked - walk.there - _KNOWN)
    if others:
        anomalies.append(Anomaly(RuleId.CUSTOM_OPERATOR, ", ".join(others)[:200]))
    return Reading(Format.ONNX, source, anomalies=tuple(anomalies), error=error)


def _is_model(source: Source) -> bool:
    """Whether all fields at the top are those of a model, with a graph among them.

    One that is cut in its graph is known by its producer, such as `pytorch`.
    """
    has_graph = has_producer = False
    try:
        for field in fields(source, 0, source.nbytes):
            if field.number not in _TOP:
                return False
            if field.number == _PRODUCER and field.nbytes <= _PRODUCER_NBYTES:
                has_producer = content(source, field).translate(None, b"-._ ").isalnum()
            has_graph = has_graph or (field.number == _GRAPH and field.kind == BYTES)
    except Malformed:
        return has_graph or has_producer
    return has_graph
