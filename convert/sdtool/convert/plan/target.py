"""The formats of outputs."""

from __future__ import annotations

from enum import StrEnum


class Target(StrEnum):
    """The format of an output; its value is the suffix, and what `--to` takes."""

    SAFETENSORS = "safetensors"
    PT = "pt"

    @classmethod
    def of_kind(cls, kind: str) -> Target:
        """The format that programs load a kind of file (`Checkpoint.kind`) from.

        No program reads hypernetworks from safetensors: A1111 lists `.pt` only, and ComfyUI passes
        over keys that are no integers.
        """
        return cls.PT if kind == "hypernetwork" else cls.SAFETENSORS
