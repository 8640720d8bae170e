"""The shapes of the JSON documents, as the command-line contract has them."""

from __future__ import annotations

from typing import Any


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


TEXT: dict[str, Any] = {"type": "string"}
MAYBE: dict[str, Any] = {"type": ["string", "null"]}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
TEXTS: dict[str, Any] = {"type": "array", "items": TEXT}
VERDICTS = ["clean", "suspicious", "unsafe", "undecided", "not-a-checkpoint"]

FINDING = _object(
    rule=TEXT,
    severity={"enum": ["info", "low", "high", "critical"]},
    message=TEXT,
    member=MAYBE,
    offset={"type": ["integer", "null"]},
    evidence=MAYBE,
)
SCANNED = _object(
    path=TEXT,
    format=TEXT,
    verdict={"enum": VERDICTS},
    findings={"type": "array", "items": FINDING},
    globals={
        "type": "array",
        "items": _object(
            name=TEXT,
            known={"enum": ["inert", "dangerous", "unknown", "allowed"]},
            called={"type": "boolean"},
        ),
    },
    allowed=TEXTS,
    coverage={"enum": ["full", "deep", "partial"]},
    nbytes=COUNT,
    nbytes_read=COUNT,
    seconds={"type": "number", "minimum": 0},
    error=MAYBE,
)
SCAN = _object(
    tool={"const": "sdtool"},
    version=TEXT,
    files={"type": "array", "items": SCANNED},
    summary={"type": "object"},
)

CENSUS = _object(
    elements=COUNT,
    overflowed=COUNT,
    underflowed=COUNT,
    nan=COUNT,
    inf=COUNT,
    largest_error={"type": "number", "minimum": 0},
)
STATUSES = ["written", "planned", "skipped", "nothing-to-do", "refused", "mismatch", "failed"]
WRITTEN = _object(
    path=TEXT,
    status={"enum": STATUSES},
    verdict={"enum": [*VERDICTS, None]},
    allowed=TEXTS,
    nbytes=COUNT,
    output=MAYBE,
    output_nbytes=COUNT,
    tensors=COUNT,
    left_out={"type": "array", "items": _object(reason=TEXT, tensors=COUNT, nbytes=COUNT)},
    verified={"type": "boolean"},
    hashes={"type": ["object", "null"], "additionalProperties": TEXT},
    census={"type": "object", "additionalProperties": CENSUS},
    nonfinite={"type": "object", "additionalProperties": _object(nan=COUNT, inf=COUNT)},
    sidecars={"type": "array", "items": _object(path=TEXT, copied_to=MAYBE)},
    original={"enum": ["trashed", "deleted", None]},
    notes=TEXTS,
    warnings=TEXTS,
    seconds={"type": "number", "minimum": 0},
    error=MAYBE,
    hint=MAYBE,
)
WRITING = _object(
    tool={"const": "sdtool"},
    version=TEXT,
    files={"type": "array", "items": WRITTEN},
    summary={"type": "object", "additionalProperties": COUNT},
)
