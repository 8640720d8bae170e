"""The bounds that keep a hostile file from costing more than a well-formed one."""

from __future__ import annotations

from dataclasses import replace

from sdtool.checkpoint.light_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one reading. Sizes are bytes, the rest are counts.

    The defaults hold every well-formed file measured with an order of magnitude to spare: a 14.6 GB
    training checkpoint has 3,897 members and some 200,000 opcodes.
    """

    opcodes: int = 100_000_000
    """Opcodes of one file; a small file has fewer (see `containers.opening.Budget`)."""
    objects: int = 12_000_000
    """Tuples of all pickles of one file, some 80 bytes each; what has content of its own (a dict, a
    call) counts twice. A small file has fewer."""
    memo_index: int = 50_000_000
    """The largest memo index; the C unpickler allocates an array of this length."""
    depth: int = 200
    """Containers inside containers, where values are walked."""
    line_nbytes: int = 1 << 28
    """One line of a text opcode."""
    inline_nbytes: int = 1 << 16
    """A longer string or bytes argument stays in the file and becomes an `Extent`."""
    int_nbytes: int = 1 << 16
    """The longest integer that is read; a longer one becomes an `Extent`."""
    pickles: int = 1_000
    """Pickles in a row in one stream."""
    members: int = 1_000_000
    """Entries of one archive."""
    directory_nbytes: int = 256 << 20
    """The central directory of a zip archive."""
    header_nbytes: int = 100_000_000
    """The JSON header of a safetensors file (the format's own bound)."""
    inflated_nbytes: int = 256 << 20
    """A compressed member, inflated; all that a small file holds may inflate to less."""
    nesting: int = 4
    """Archives inside archives, pickles inside pickles."""
    leaves: int = 2_000_000
    """Leaves after flattening; a 636-byte pickle of nested aliases has 2**30. A tensor counts as
    four, any other object as two; a small file has fewer (see `for_file`)."""
    names_nbytes: int = 1 << 30
    """The flat names of a file together: long keys that are shared make endless names of few
    bytes. A small file has less."""
    rank: int = 64
    """Dimensions of one tensor."""

    def for_file(self, nbytes: int) -> Limits:
        """The limits of a walk through what a file of `nbytes` bytes holds.

        A tensor takes some 60 bytes of a pickle at the least, its name stands in it once.
        """
        return replace(
            self,
            leaves=min(self.leaves, _LEAVES + nbytes // _BYTES_PER_LEAF),
            names_nbytes=min(self.names_nbytes, _NAMES_NBYTES + nbytes * _NAMES_PER_BYTE),
        )


_LEAVES, _BYTES_PER_LEAF = 200_000, 12
_NAMES_NBYTES, _NAMES_PER_BYTE = 8 << 20, 4


DEFAULT_LIMITS = Limits()
