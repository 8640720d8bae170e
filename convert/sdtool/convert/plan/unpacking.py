"""What has to be done with some formats first: checksums compared, blocks turned into weights."""

from __future__ import annotations

from dataclasses import replace

from sdtool.checkpoint.errors import Malformed, Unsupported
from sdtool.checkpoint.ggml_types import Q8_0
from sdtool.checkpoint.identify.quantization import quantization_of
from sdtool.checkpoint.identify.schemes import BLOCKS
from sdtool.checkpoint.reading import Checkpoint
from sdtool.convert.elements.ggml import weights_of


def prepared(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint as `unpacked` does, once the checksums of its values were compared.

    Those of a zip are compared while its records are copied; TensorFlow's are of another kind, and
    those of V1 of blocks, not of tensors.

    Raises:
        Malformed: one is wrong.
        Unsupported: as for `unpacked`.
        InputError: the values cannot be read.
    """
    for checksum in checkpoint.reading.checksums:
        if not checksum.holds():
            raise Malformed(
                f"the bytes of {checksum.what[:80]!a} do not match their CRC-32C",
                where=checksum.source.name,
                hint="the file is damaged: download or copy it again",
            )
    return unpacked(checkpoint)


def unpacked(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint with weights in the place of ggml's blocks; any other as it is.

    Raises:
        Unsupported: blocks of a type that is not turned back into weights here.
    """
    packed = [entry for entry in checkpoint.tensors if entry.dtype.name in BLOCKS]
    if not packed:
        return checkpoint
    label = quantization_of(packed).label
    if any(entry.dtype is not Q8_0 for entry in packed):
        raise Unsupported(
            f"its weights are quantized ({label}), and of these types only Q8_0 is converted",
            where=checkpoint.source.name,
            hint="keep the file as it is: it holds no pickle, and ComfyUI-GGUF and"
            " stable-diffusion.cpp load it; or get the file that it was made from",
        )
    note = f"dequantized: {label}; float32 holds the values exactly, --dtype fp16 halves the file"
    return replace(
        checkpoint,
        tensors=tuple(
            weights_of(entry) if entry.dtype is Q8_0 else entry for entry in checkpoint.tensors
        ),
        notes=(*checkpoint.notes, note),
    )
