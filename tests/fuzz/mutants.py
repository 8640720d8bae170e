"""One mutant of one seed, the same whenever the same random numbers are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.forge import (
    LEGACY_MAGIC,
    STOP,
    pickled,
    tar_file,
    torch_legacy,
    torch_tar,
    torch_zip,
    zip_file,
)
from tests.forge import Member as ZipMember
from tests.fuzz.headers import PACKERS, mutate_npy, mutate_packed, mutate_safetensors, unpacked
from tests.fuzz.opcodes import CHANGES, Pieces, pieces_of, splice
from tests.fuzz.seeds import Seed
from tests.fuzz.spellings import RESPELLINGS
from tests.fuzz.tars import begins_tar, mutate_tar
from tests.fuzz.zips import members_of, mutate_zip, rezip

_NBYTES = 200_000


@dataclass(frozen=True)
class Mutant:
    """A mutated file. `kept` says that an honest seed still is one: only spellings were changed."""

    number: int
    seed: Seed
    data: bytes
    kinds: tuple[str, ...]
    kept: bool


class Nursery:
    """The seeds, sorted once."""

    def __init__(self, seeds: Sequence[Seed]) -> None:
        self.honest = [s for s in seeds if s.honest] or list(seeds)
        self.hostile = [s for s in seeds if not s.honest] or list(seeds)
        self.donors = [s.data for s in seeds]


def mutant(number: int, run: int, nursery: Nursery) -> Mutant:
    """The mutant of that number in the run of that number."""
    rng = Random(f"{run}:{number}")
    honest = rng.random() < 0.55
    seed = rng.choice(nursery.honest if honest else nursery.hostile)
    changer = _Changer(nursery.donors)
    kept = honest and rng.random() < 0.3
    data, kinds = seed.data, list[str]()
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        data, kind = changer.kept(data, rng) if kept else changer.changed(data, rng)
        kinds.append(kind)
        if len(data) > _NBYTES:
            data = data[:_NBYTES]
            kept = False
            break
    return Mutant(number, seed, data, tuple(kinds), kept)


@dataclass(frozen=True)
class _Changer:
    """Changes a file by what it is; `donors` lend it opcodes."""

    donors: Sequence[bytes]

    def changed(self, data: bytes, rng: Random) -> tuple[bytes, str]:
        """Another file, which may load differently or not at all."""
        if rng.random() < 0.04:
            return _packed(data, rng)
        if data[:4] in (b"PK\3\4", b"PK\5\6"):
            return mutate_zip(data, rng, self.changed)
        if data[:6] == b"\x93NUMPY":
            return mutate_npy(data, rng, self.changed)
        if data[8:9] == b"{" and data[5:8] == b"\0\0\0":
            return mutate_safetensors(data, rng)
        content = unpacked(data)
        if content is not None:
            return mutate_packed(data, content, rng, self.changed)
        if begins_tar(data):
            return mutate_tar(data, rng, self.changed)
        return self._pickles(data, rng)

    def _pickles(self, data: bytes, rng: Random) -> tuple[bytes, str]:
        """One of the pickles in a row, or their order."""
        parts = list(rows_of(data))
        at = rng.randrange(len(parts)) if len(parts) > 1 and rng.random() < 0.3 else _largest(parts)
        if len(parts) > 2 and rng.random() < 0.05:
            kind = rng.choice(("row-drop", "row-double", "row-order"))
            if kind == "row-drop":
                del parts[at]
            elif kind == "row-double":
                parts.insert(at, parts[at])
            else:
                rng.shuffle(parts)
            return b"".join(parts), kind
        pieces: Pieces = list(pieces_of(parts[at]))
        if rng.random() < 0.12:
            donor = pieces_of(rows_of(rng.choice(self.donors))[0])
            kind = splice(pieces, donor, rng)
        else:
            kind = rng.choice(CHANGES)(pieces, rng)
        parts[at] = b"".join(pieces)
        return b"".join(parts), kind

    def kept(self, data: bytes, rng: Random) -> tuple[bytes, str]:
        """The same content in another spelling, as far as one is known for this format."""
        if data[:4] == b"PK\3\4":
            if rng.random() < 0.3:
                return rezip(data, rng)
            return _respelled_member(data, rng)
        other = data[:6] == b"\x93NUMPY" or data[8:9] == b"{" or begins_tar(data)
        if not other and (data[:1] == b"\x80" or unpacked(data) is None):
            parts = list(rows_of(data))
            at = _largest(parts)
            pieces: Pieces = list(pieces_of(parts[at]))
            if pieces and pieces[-1] == STOP:
                kind = rng.choice(RESPELLINGS)(pieces, rng)
                parts[at] = b"".join(pieces)
                return b"".join(parts), kind
        return data, "same"


def _respelled_member(data: bytes, rng: Random) -> tuple[bytes, str]:
    members = members_of(data)
    for i, member in enumerate(members):
        if str(member.name).endswith("data.pkl"):
            pieces: Pieces = list(pieces_of(member.data))
            kind = rng.choice(RESPELLINGS)(pieces, rng)
            members[i] = ZipMember(member.name, b"".join(pieces), member.method)
            return zip_file(members), kind
    return data, "same"


def rows_of(data: bytes) -> tuple[bytes, ...]:
    """The pickles of a row, and what stands behind them, as far as they can be told apart."""
    parts: list[bytes] = []
    rest = data
    while rest and len(parts) < 8:
        pieces = pieces_of(rest)
        whole = STOP in pieces
        end = sum(map(len, pieces[: pieces.index(STOP) + 1])) if whole else len(rest)
        parts.append(rest[:end])
        rest = rest[end:]
        if not whole or rest[:1] != b"\x80":
            break
    return (*parts, rest) if rest else tuple(parts) or (b"",)


def _largest(parts: Sequence[bytes]) -> int:
    """The pickle that holds the most; a legacy torch file has its object in the fourth."""
    if len(parts) > 4 and parts[0] == pickled(LEGACY_MAGIC):
        return 3
    pickles = [i for i, part in enumerate(parts) if part[-1:] == STOP] or [0]
    return max(pickles, key=lambda i: len(parts[i]))


def _packed(data: bytes, rng: Random) -> tuple[bytes, str]:
    """The file inside another one."""
    kind = rng.randrange(6)
    if kind == 0:
        return zip_file([ZipMember("archive/x", data, rng.choice((0, 8)))]), "in-zip"
    if kind == 1:
        return tar_file({"x": data}), "in-tar"
    if kind == 2 and data[:1] == b"\x80":
        return torch_zip(data), "in-torch-zip"
    if kind == 3 and data[:1] == b"\x80":
        return torch_legacy(data, {"0": bytes(16)}), "in-legacy"
    if kind == 4 and data[:1] == b"\x80":
        return torch_tar(data), "in-torch-tar"
    packer = rng.choice(tuple(PACKERS))
    return PACKERS[packer](data), f"in-{packer}"
