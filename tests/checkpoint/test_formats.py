"""The table of formats: what is asked of a row, and that nobody asks for its name instead."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from tests.test_architecture import ROOT, SOURCES

from sdtool.checkpoint.foreign import MAGIC
from sdtool.checkpoint.formats import Format, Loading


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [
        (".safetensors", Format.SAFETENSORS),
        (".SFT", Format.SAFETENSORS),
        (".ckpt", Format.TORCH_ZIP),
        (".pkl", Format.PICKLE),
        (".pt2", Format.TORCH_EXPORT),
        (".npy", Format.NPY),
        (".txt", None),
        ("", None),
    ],
)
def test_a_suffix_promises_a_format(suffix: str, expected: Format | None) -> None:
    assert Format.of_suffix(suffix) is expected


def test_a_suffix_promises_one_format() -> None:
    suffixes = [suffix for row in Format for suffix in row.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in suffixes)


def test_what_runs_a_pickle_is_known() -> None:
    assert {row for row in Format if row.unpickles} == {
        Format.TORCH_ZIP, Format.TORCH_LEGACY, Format.TORCH_TAR, Format.PICKLE,
    }  # fmt: skip
    assert {row for row in Format if row.loading is Loading.DATA} == {
        Format.SAFETENSORS, Format.NPY,
    }  # fmt: skip


def test_a_format_is_its_name_in_json() -> None:
    assert json.dumps(list(Format)[:3]) == '["safetensors", "npy", "torch-zip"]'
    assert f"{Format.Z_FILE}" == "z-file"


def test_the_document_lists_every_format() -> None:
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    table = text[text.index("| format |") : text.index("Everything else")]
    named = re.findall(r"`([a-z0-9-]+)`", "".join(re.findall(r"(?m)^\|([^|]*)\|", table)))
    assert sorted(named) == sorted(row for row in Format if row is not Format.UNKNOWN)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_format_is_compared_by_its_name(path: Path) -> None:
    """A row is asked for what it is: a name that is spelled wrong would compare to nothing."""
    slugs = {str(row) for row in Format if row is not Format.UNKNOWN}
    slugs |= {foreign.slug for _, _, foreign in MAGIC}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            sides += [item for s in sides if isinstance(s, ast.Tuple) for item in s.elts]
            texts = {side.value for side in sides if isinstance(side, ast.Constant)}
            assert not texts & slugs, f"line {node.lineno} compares {texts & slugs}"
