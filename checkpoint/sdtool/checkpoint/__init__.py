"""Read checkpoints without running them.

from sdtool.checkpoint import open_checkpoint
for tensor in open_checkpoint("model.ckpt").tensors: ...

`open_checkpoint` and `checkpoint_of` do not judge: `sdtool.scan.open_judged` does. What kind of
model it is says `sdtool.checkpoint.identify`. `dataclass` is for the rooms above: see there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdtool.checkpoint.faces import lazily

if TYPE_CHECKING:
    from sdtool.checkpoint.crc32 import crc32_of
    from sdtool.checkpoint.errors import (
        ERRORS,
        InputError,
        LimitExceeded,
        Malformed,
        NotACheckpoint,
        OutputError,
        SdtoolError,
        Truncated,
        Unreadable,
        UnsafeError,
        Unsupported,
        UsageError,
        VerificationError,
    )
    from sdtool.checkpoint.foreign import foreign_folder
    from sdtool.checkpoint.formats import Format
    from sdtool.checkpoint.gguf_parts import is_first_part
    from sdtool.checkpoint.joined import together
    from sdtool.checkpoint.light_dataclass import dataclass
    from sdtool.checkpoint.limits import DEFAULT_LIMITS, Limits
    from sdtool.checkpoint.opening import open_checkpoint, readings
    from sdtool.checkpoint.prefixes import plain_name
    from sdtool.checkpoint.reading import Checkpoint, Reading, Stream
    from sdtool.checkpoint.records import storage_chunks
    from sdtool.checkpoint.sets import every_tensor, two_sets
    from sdtool.checkpoint.source import File, LocalFile, Source, local_file, opened
    from sdtool.checkpoint.tensors import Storage, TensorEntry
    from sdtool.checkpoint.values import Global
    from sdtool.checkpoint.weights import checkpoint_of
    from sdtool.checkpoint.wording import counted, escape, os_reason, size

__all__ = [
    "DEFAULT_LIMITS",
    "ERRORS",
    "Checkpoint",
    "File",
    "Format",
    "Global",
    "InputError",
    "LimitExceeded",
    "Limits",
    "LocalFile",
    "Malformed",
    "NotACheckpoint",
    "OutputError",
    "Reading",
    "SdtoolError",
    "Source",
    "Storage",
    "Stream",
    "TensorEntry",
    "Truncated",
    "Unreadable",
    "UnsafeError",
    "Unsupported",
    "UsageError",
    "VerificationError",
    "checkpoint_of",
    "counted",
    "crc32_of",
    "dataclass",
    "escape",
    "every_tensor",
    "foreign_folder",
    "is_first_part",
    "lazily",
    "local_file",
    "open_checkpoint",
    "opened",
    "os_reason",
    "plain_name",
    "readings",
    "size",
    "storage_chunks",
    "together",
    "two_sets",
]  # fmt: skip

__getattr__ = lazily(
    __name__,
    {
        ".crc32": ("crc32_of",),
        ".errors": (
            "ERRORS", "InputError", "LimitExceeded", "Malformed", "NotACheckpoint", "OutputError",
            "SdtoolError", "Truncated", "Unreadable", "UnsafeError", "Unsupported", "UsageError",
            "VerificationError",
        ),
        ".foreign": ("foreign_folder",),
        ".formats": ("Format",),
        ".gguf_parts": ("is_first_part",),
        ".joined": ("together",),
        ".light_dataclass": ("dataclass",),
        ".limits": ("DEFAULT_LIMITS", "Limits"),
        ".opening": ("open_checkpoint", "readings"),
        ".prefixes": ("plain_name",),
        ".reading": ("Checkpoint", "Reading", "Stream"),
        ".records": ("storage_chunks",),
        ".sets": ("every_tensor", "two_sets"),
        ".source": ("File", "LocalFile", "Source", "local_file", "opened"),
        ".tensors": ("Storage", "TensorEntry"),
        ".values": ("Global",),
        ".weights": ("checkpoint_of",),
        ".wording": ("counted", "escape", "os_reason", "size"),
    },
)  # fmt: skip
