"""An in-toto statement: these outputs were made of this input, by this tool, in this way.

It is not signed: `cosign attest-blob --statement` and its kin sign it as it is.

Source: in-toto/attestation spec/v1/statement.md, spec/v1/resource_descriptor.md.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from sdtool.checkpoint import Malformed, dataclass, local_file

TYPE = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:sdtool:release:v1"
SUFFIX = ".statement.json"
_LIMIT_NBYTES = 16 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Statement:
    """What a statement says: the SHA-256 of each output by its name, and of the input."""

    outputs: Mapping[str, str]
    input_name: str
    input_sha256: str


def statement_of(outputs: Mapping[str, str], predicate: Mapping[str, object]) -> dict[str, object]:
    """Return the statement of `outputs`, names and their SHA-256."""
    return {
        "_type": TYPE,
        "subject": [
            {"name": name, "digest": {"sha256": digest}} for name, digest in outputs.items()
        ],
        "predicateType": PREDICATE,
        "predicate": dict(predicate),
    }


def read_statement(path: str | os.PathLike[str]) -> Statement:
    """Read a statement of a release.

    Raises:
        Malformed: it is none, or contradicts itself.
        Unreadable: the operating system refused.
    """
    where = os.fspath(path)
    with local_file(where) as file:
        if file.nbytes > _LIMIT_NBYTES:
            raise Malformed("is too large for a statement", where=where)
        content = file.read_at(0, file.nbytes)
    try:
        data: Any = json.loads(content)
        if (data["_type"], data["predicateType"]) != (TYPE, PREDICATE):
            raise Malformed("is a statement of another type", where=where)
        outputs = {str(one["name"]): _digest(one["digest"]) for one in data["subject"]}
        stated = {
            str(one["name"]): str(one["hashes"]["sha256"]) for one in data["predicate"]["outputs"]
        }
        source = data["predicate"]["input"]
        name, digest = str(source["name"]), _digest(source["digest"])
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise Malformed(
            "is not a statement of a release",
            where=where,
            hint="give the X.statement.json that sdtool release has written",
        ) from e
    if any(os.path.basename(one) != one or one in ("", os.curdir, os.pardir) for one in outputs):
        raise Malformed("names a file outside its folder", where=where)
    if stated != outputs or not outputs:
        raise Malformed("contradicts itself: subject and outputs differ", where=where)
    return Statement(outputs, name, digest)


def _digest(data: Any) -> str:
    digest = str(data["sha256"])
    if _SHA256.fullmatch(digest) is None:
        raise ValueError(digest)
    return digest
