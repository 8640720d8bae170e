"""Read checkpoints without running them.

from sdtool.checkpoint import open_checkpoint
for tensor in open_checkpoint("model.ckpt").tensors: ...
"""

from __future__ import annotations

from sdtool.checkpoint.opening import open_checkpoint, readings
from sdtool.checkpoint.records import storage_chunks
from sdtool.checkpoint.weights import checkpoint_of

__all__ = ["checkpoint_of", "open_checkpoint", "readings", "storage_chunks"]
