"""Mutants that no test can tell from the original, each with the reason."""

from __future__ import annotations

_CHECKPOINT = "checkpoint/sdtool/checkpoint"
EQUIVALENT: dict[str, str] = {
    f"{_CHECKPOINT}/machine/loop.py:run [removed] raise truncated(here, 'an opcode') -> pass": (
        "the next window is empty, and the same error is raised for that"
    ),
    f"{_CHECKPOINT}/rebuild.py:_unwrap [removed] raise AssertionError('unwrapped by"
    " Rebuilder.tensor') -> pass": "it is never called",
}
"""The name of a mutant (`Mutant.name`), and why nothing that it changes can be seen."""
