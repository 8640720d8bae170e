"""The formats of outputs, and the layouts of whole models."""

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


class Layout(StrEnum):
    """How the components of a model lie in files; its value is what `--to` takes."""

    DIFFUSERS = "diffusers"
    """A folder with one for each component."""
    SINGLE = "single"
    """One file with all of them."""
