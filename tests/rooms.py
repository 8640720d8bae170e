"""Draw the rooms of the house from what their modules import: `python -m tests.rooms`.

docs/design.md holds the drawing; tests/test_architecture.py holds the two together.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("cli", "batch", "prune", "scan", "convert", "checkpoint")
"""From the top of the house down."""


def imports_of(room: str) -> Counter[str]:
    """How many modules of `room` import from each other room."""
    found: Counter[str] = Counter()
    for path in (ROOT / room / "sdtool" / room).rglob("*.py"):
        reached: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sdtool."):
                reached.add((node.module or "").split(".")[1])
        found.update(reached - {room})
    return found


def drawing() -> str:
    """One line a room: its modules and lines, and how many of them reach which room below."""
    lines: list[str] = []
    for room in ROOMS:
        paths = list((ROOT / room / "sdtool" / room).rglob("*.py"))
        code = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)
        reached = imports_of(room)
        arrows = ", ".join(f"{below} {reached[below]}" for below in ROOMS if reached[below])
        size = f"{len(paths)} modules, {round(code, -2):,} lines"
        lines.append(f"    {room:<11}{size:<26}{f'-> {arrows}' if arrows else ''}".rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    print(drawing())
