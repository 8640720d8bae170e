"""Read checkpoints without running them.

from sdtool.checkpoint import open_checkpoint
for tensor in open_checkpoint("model.ckpt").tensors: ...

`open_checkpoint` and `checkpoint_of` do not judge: `sdtool.scan.open_judged` does. What kind of
model it is says `sdtool.checkpoint.identify`. `dataclass` is for the rooms above: see there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sdtool.checkpoint.errors import (
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
)
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.limits import DEFAULT_LIMITS, Limits
from sdtool.checkpoint.opening import open_checkpoint, readings
from sdtool.checkpoint.reading import Checkpoint, Reading, Storage, Stream, TensorEntry
from sdtool.checkpoint.records import storage_chunks
from sdtool.checkpoint.source import File, LocalFile, Source, local_file, opened
from sdtool.checkpoint.together import together

if TYPE_CHECKING:
    from sdtool.checkpoint.weights import checkpoint_of

__all__ = [
    "DEFAULT_LIMITS",
    "Checkpoint",
    "File",
    "Format",
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
    "checkpoint_of",
    "dataclass",
    "local_file",
    "open_checkpoint",
    "opened",
    "readings",
    "storage_chunks",
    "together",
]


def __getattr__(name: str) -> Any:
    """Import what makes tensors of a reading when it is asked for: a scan needs none (PEP 562)."""
    if name != "checkpoint_of":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sdtool.checkpoint.weights import checkpoint_of

    return checkpoint_of
