"""Mutants that no test can tell from the original, each with the reason."""

from __future__ import annotations

_CHECKPOINT = "checkpoint/sdtool/checkpoint"
_TRUNCATED = (
    f"{_CHECKPOINT}/machine/loop.py:run [removed] raise truncated(here, 'an opcode') -> pass"
)
_IS_CUT = "Truncated(f'{info.name} is cut', where=source.name) if cut else None"

EQUIVALENT: dict[str, str] = {
    _TRUNCATED: "the next window is empty, and the same error is raised for that",
    f"{_TRUNCATED} #2": "the end was looked at before: only a file that shrinks now gets here",
    f"{_CHECKPOINT}/rebuild.py:_unwrap [removed] raise AssertionError('unwrapped by"
    " Rebuilder.tensor') -> pass": "it is never called",
    f"{_CHECKPOINT}/containers/tar_archive.py:_entry [removed] error = {_IS_CUT} -> None": (
        "tarfile looks for the byte before the next header, and its error ends the list as well"
    ),
}
"""The name of a mutant (`Mutant.name`), and why nothing that it changes can be seen."""
