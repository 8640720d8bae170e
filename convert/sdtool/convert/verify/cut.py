"""How far a file came that was cut: what its last bytes belong to."""

from __future__ import annotations

from collections.abc import Iterator

from sdtool.checkpoint.containers.zip_members import last_local_header
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.reading import Reading
from sdtool.checkpoint.source import Source


def how_far(file: Source, reading: Reading) -> Iterator[tuple[str, str]]:
    """Say of a cut file in what it ends: the name of a tensor or member, and the rest."""
    if reading.format is Format.TORCH_ZIP:
        found = last_local_header(file)
        if found is not None:
            name, offset = found
            yield (
                name,
                f"the last member begun, at byte {offset:,}; the file ends at {file.nbytes:,}",
            )
    elif reading.format is Format.SAFETENSORS and reading.tensors:
        ends = [entry.storage.offset + entry.storage.nbytes for entry in reading.tensors]
        whole = sum(end <= file.nbytes for end in ends)
        yield (
            reading.tensors[whole].name,
            f"the file ends in this tensor: {whole:,} of {len(ends):,} are whole,"
            f" {file.nbytes:,} of {ends[-1]:,} bytes are there",
        )
