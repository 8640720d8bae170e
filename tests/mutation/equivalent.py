"""Mutants that no test can tell from the original, each with the reason."""

from __future__ import annotations

_CHECKPOINT = "checkpoint/sdtool/checkpoint"
EQUIVALENT: dict[str, str] = {
    f"{_CHECKPOINT}/machine/loop.py:run [removed] raise truncated(here, 'an opcode') -> pass": (
        "the next window is empty, and the same error is raised for that"
    ),
    f"{_CHECKPOINT}/rebuild.py:_unwrap [removed] raise AssertionError('unwrapped by"
    " Rebuilder.tensor') -> pass": "it is never called",
    f"{_CHECKPOINT}/weights.py:_named [removed] raise AssertionError('two of the names are"
    " equal') -> pass": "two are equal, so the loop before it has met the second and raised",
}
"""The name of a mutant (`Mutant.name`), and why nothing that it changes can be seen."""
