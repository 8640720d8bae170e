"""Writes the values of a pickle in other opcodes, so that an honest one stays honest."""

from __future__ import annotations

import pickletools
import struct
from dataclasses import dataclass
from random import Random

from tests.forge import frame, stack_name, text
from tests.fuzz.opcodes import Mutation, Pieces

_BIT32 = 1 << 32


@dataclass(frozen=True)
class _Argument:
    """A piece's opcode and its argument as pickletools reads it."""

    code: str
    arg: object


def _parsed(piece: bytes) -> _Argument | None:
    try:
        opcode, arg, _ = next(iter(pickletools.genops(piece)))
    except Exception:
        return None
    return _Argument(opcode.name, arg)


def _spell_text(s: str, rng: Random) -> bytes | None:
    raw = s.encode("utf-8", "surrogatepass")
    kind = rng.randrange(4)
    if kind == 0 and len(raw) < 256:
        return b"\x8c" + bytes([len(raw)]) + raw
    if kind == 1:
        return b"\x8d" + struct.pack("<Q", len(raw)) + raw
    if kind == 2:
        escaped = s.replace("\\", "\\u005c").replace("\0", "\\u0000").replace("\n", "\\u000a")
        escaped = escaped.replace("\r", "\\u000d").replace("\x1a", "\\u001a")
        return b"V" + escaped.encode("raw-unicode-escape") + b"\n"
    return b"X" + struct.pack("<I", len(raw)) + raw


def _spell_int(n: int, rng: Random) -> bytes | None:
    kind = rng.randrange(7)
    raw = n.to_bytes(n.bit_length() // 8 + 1, "little", signed=True)
    if kind == 0 and 0 <= n < 256:
        return b"K" + bytes([n])
    if kind == 1 and 0 <= n < 65536:
        return b"M" + struct.pack("<H", n)
    if kind == 2 and -(1 << 31) <= n < 1 << 31:
        return b"J" + struct.pack("<i", n)
    if kind == 3:
        return b"I%d\n" % n
    if kind == 4:
        return b"L%dL\n" % n
    if kind == 5:
        return b"\x8b" + struct.pack("<i", len(raw)) + raw
    return b"\x8a" + bytes([len(raw)]) + raw if len(raw) < 256 else None


def _spell_name(argument: object, rng: Random) -> bytes | None:
    module, _, attribute = str(argument).partition(" ")
    if " " in attribute or "." in attribute:
        return None
    found = bytes(stack_name(text(module), text(attribute)))
    return found if rng.random() < 0.5 else bytes(stack_name(module, attribute))


def _other_spelling(piece: bytes, rng: Random) -> bytes | None:
    found = _parsed(piece)
    if found is None:
        return None
    code, arg = found.code, found.arg
    if code in ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8") and isinstance(arg, str):
        return _spell_text(arg, rng)
    if code in ("BININT1", "BININT2", "BININT", "LONG1") and isinstance(arg, int):
        return _spell_int(arg, rng)
    if code == "GLOBAL":
        return _spell_name(arg, rng)
    if code in ("BINPUT", "LONG_BINPUT") and isinstance(arg, int):
        return rng.choice((b"p%d\n" % arg, b"r" + struct.pack("<I", arg % _BIT32)))
    if code in ("BINGET", "LONG_BINGET") and isinstance(arg, int):
        return rng.choice((b"g%d\n" % arg, b"j" + struct.pack("<I", arg % _BIT32)))
    if code == "BINFLOAT" and isinstance(arg, float):
        return b"F" + repr(arg).encode() + b"\n"
    same: dict[str, tuple[bytes, ...]] = {
        "NEWTRUE": (b"I01\n",),
        "NEWFALSE": (b"I00\n",),
        "EMPTY_TUPLE": (b"(t",),
        "EMPTY_DICT": (b"(d", b"}(u"),
        "EMPTY_LIST": (b"(l", b"](e"),
        "REDUCE": (b"R20", b"R)0"),
        "NONE": (b"NN0", b"(1N", b"N20"),
    }
    return rng.choice(same[code]) if code in same else None


def _respell(pieces: Pieces, rng: Random) -> str:
    """Other opcodes for the same values, here and there or everywhere."""
    _without_frames(pieces)
    share = rng.choice((0.05, 0.3, 1.0))
    for i, piece in enumerate(pieces):
        if rng.random() < share:
            pieces[i] = _other_spelling(piece, rng) or piece
    return "respell"


def _idle(pieces: Pieces, rng: Random) -> str:
    """Opcodes that leave nothing behind."""
    _without_frames(pieces)
    at = rng.randrange(1, len(pieces)) if len(pieces) > 1 else 0
    pieces.insert(at, rng.choice((b"N0", b"(1", b"(NN1", b"]0", b"}0", b"K\x050", b"X\0\0\0\x000")))
    return "idle"


def _framed(pieces: Pieces, rng: Random) -> str:
    """Honest frames: all that comes behind PROTO, or some opcodes."""
    _without_frames(pieces)
    start = 1 if pieces and pieces[0][:1] == b"\x80" else 0
    end = rng.choice((len(pieces), rng.randrange(start, len(pieces) + 1)))
    pieces[start:end] = [bytes(frame(*pieces[start:end]))]
    return "framed"


def _without_frames(pieces: Pieces) -> None:
    """A frame's length does not hold for other spellings."""
    pieces[:] = [piece for piece in pieces if piece[:1] != b"\x95"]


RESPELLINGS: tuple[Mutation, ...] = (_respell, _respell, _idle, _framed)
