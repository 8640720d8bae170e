"""docs/pruning.md knows every role, state and repair."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from sdtool.checkpoint.identify import ema
from sdtool.prune import FIXES, Component, Variant
from sdtool.prune.roles import Role

TEXT = (Path(__file__).parents[2] / "docs" / "pruning.md").read_text("utf-8")


def test_every_word_of_the_plan_is_explained() -> None:
    words = [
        *(f"`{state}`" for state in get_args(ema.State)),
        *(f"`--{variant}`" for variant in get_args(Variant)),
        *(f"`--only {component}`" for component in get_args(Component)),
        *(f"- `{fix}`:" for fix in FIXES),
    ]
    assert [word for word in words if word not in TEXT] == []
    roles = {
        cell.strip() for line in TEXT.splitlines() for cell in line[1:].split("|")[0].split(",")
    }
    assert {role.value for role in Role} - roles == set()
