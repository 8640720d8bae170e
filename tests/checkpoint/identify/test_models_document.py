"""docs/models.md says what the tables say."""

from __future__ import annotations

import math
import re
from pathlib import Path

from tests.checkpoint.identify.test_parts import ANSWERS

from sdtool.checkpoint.foreign import foreign_kind
from sdtool.checkpoint.identify.architecture import SCHEDULE, UNET_V1, clip_l, unet, vae
from sdtool.checkpoint.identify.families import TABLE as FAMILIES
from sdtool.checkpoint.identify.identity import SHORT
from sdtool.checkpoint.identify.kinds import TABLE as KINDS
from sdtool.checkpoint.identify.parts import PARTS
from sdtool.prune.roles import Role

TEXT = (Path(__file__).parents[3] / "docs" / "models.md").read_text("utf-8")


def rows(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head."""
    section = TEXT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_kinds_are_the_tables_kinds() -> None:
    def code(folder: str) -> str:
        return f"`{folder}`" if folder else "-"

    assert rows("Kinds") == [
        [kind.label, f"`{kind.slug}`", kind.meaning, code(kind.webui), code(kind.comfyui)]
        for kind in KINDS
    ]


def test_the_families_are_the_tables_families() -> None:
    told = {row[0]: (set(row[1].split(", ")) - {"-"}, set(row[2].split(", "))) for row in
            rows("Families and versions")}  # fmt: skip
    held: dict[str, tuple[set[str], set[str]]] = {}
    for family in FAMILIES:
        versions, predictions = held.setdefault(family.family, (set(), set()))
        versions |= set((family.version or "-").split(", ")) - {"-"}
        predictions.add(family.prediction)
    assert told == held


def test_the_parts_have_the_counts_of_the_architecture() -> None:
    told = {row[0]: row[2] for row in rows("What is in a checkpoint")}
    for part, shapes in (
        ("UNet: the diffusion network", unet(UNET_V1)),
        ("VAE", vae()),
        ("text encoder", clip_l()),
    ):
        elements = sum(map(math.prod, shapes.values()))
        assert told[part] == f"{len(shapes)} tensors, {elements:,} parameters"
    assert told["noise schedule"].startswith(f"{len(SCHEDULE)} tensors")
    prefixes = {part.prefix for part in PARTS}
    for row in rows("What is in a checkpoint"):
        assert set(re.findall(r"`(\w+\.\w*\.?)`", row[1])) <= prefixes | {"conditioner.embedders."}


def test_the_parts_by_name_are_the_tables() -> None:
    held: dict[str, set[str]] = {}
    for part in PARTS:
        held.setdefault(part.role, set()).add(part.prefix)
    told: set[str] = set()
    for roles, names, convert, prune in rows("Parts by name"):
        for role in re.findall(r"`([\w-]+)`", roles):
            told.add(role)
            assert set(re.findall(r"`([\w.]+)`", names)) <= held[role]
            known, called = ANSWERS.get(role, ("other", Role.OTHER))
            assert (convert, prune) == (known, called.value)
    assert told == held.keys()


def test_the_precisions_are_named_as_the_card_names_them() -> None:
    names = [name for row in rows("Precision") for name in row[0].split(", ")]
    assert set(names) <= set(SHORT.values())


def test_the_suffixes_that_are_not_read_are_recognised() -> None:
    for name, head in (("x.data-00000-of-00001", b"\x80?"), ("x.meta", b"\n\x10")):
        kind = foreign_kind(head, b"", name)
        assert kind is not None
        assert kind.slug.startswith("tensorflow")
