"""Documents and lines held against docs/schemas, as any user of them would do it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"


@cache
def schemas() -> dict[str, Any]:
    """Every schema by the name of its file."""
    return {path.name: json.loads(path.read_text("utf-8")) for path in FOLDER.glob("*.json")}


@cache
def _validator(name: str) -> Draft202012Validator:
    resources = ((key, Resource.from_contents(schema)) for key, schema in schemas().items())
    registry: Registry[Any] = Registry().with_resources(resources)
    return Draft202012Validator({"$ref": name}, registry=registry)


def errors(name: str, document: Any) -> list[str]:
    """What is wrong with a document by the schema of that name."""
    return [
        f"{error.json_path}: {error.message}"
        for error in _validator(f"{name}.json").iter_errors(document)
    ]


def check_output(out: str, arguments: Sequence[str]) -> None:
    """Check what a run wrote, where it wrote JSON."""
    for schema, document in _written(out, arguments):
        assert errors(schema, document) == [], document


def _written(out: str, arguments: Sequence[str]) -> Iterator[tuple[str, Any]]:
    words = [word for argument in arguments for word in argument.split("=", 1)]
    verb = "compare" if "--compare" in words else next(iter(words), "")
    if verb == "tidy":
        verb += next((word[1:] for word in ("--undo", "--forget") if word in words), "")
    form = words[words.index("--format") + 1] if "--format" in words else ""
    if not out or "--tee" in words or f"{verb}-line.json" not in schemas():
        return
    if "--json" in words or form == "json":
        yield verb, json.loads(out)
    elif form == "jsonl":
        yield from ((f"{verb}-line", json.loads(line)) for line in out.splitlines())
