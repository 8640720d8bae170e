"""Mutates pickles opcode by opcode.

A pickle is a list of its opcodes, each with its argument, as bytes; what cannot be told apart stays
one piece. A mutation changes the list and says what it did.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from random import Random

from tests.forge import POP, STOP, Ops, call, frame, name, pickled, proto, text, value
from tests.fuzz.fragments import (
    ATTRIBUTES,
    INTS,
    MODULES,
    TEXTS,
    allowlisted,
    fragment,
    gadget_of,
    names,
)

Pieces = list[bytes]
Mutation = Callable[[Pieces, Random], str]


@lru_cache(maxsize=4096)
def pieces_of(data: bytes) -> tuple[bytes, ...]:
    """The opcodes of a pickle with their arguments; what is behind STOP in one piece."""
    stream = io.BytesIO(data)
    starts: list[int] = []
    try:
        starts.extend(pos for _, _, pos in pickletools.genops(stream) if pos is not None)
        end = stream.tell()
    except Exception:
        end = len(data)  # the last opcode and the junk behind it stay one piece
    bounds = [*starts, end]
    found = [data[a:b] for a, b in pairwise(bounds)]
    if not starts:
        return (data,) if data else ()
    if end < len(data):
        found.append(data[end:])
    return tuple(found)


def _place(pieces: Pieces, rng: Random) -> int:
    return rng.randrange(len(pieces)) if pieces else 0


def _span(pieces: Pieces, rng: Random) -> slice:
    start = _place(pieces, rng)
    return slice(start, start + rng.choice((1, 1, 1, 2, 3, 5, 8, 20)))


def _delete(pieces: Pieces, rng: Random) -> str:
    del pieces[_span(pieces, rng)]
    return "delete"


def _duplicate(pieces: Pieces, rng: Random) -> str:
    chosen = pieces[_span(pieces, rng)]
    at = rng.choice((_place(pieces, rng), 1))
    pieces[at:at] = chosen
    return "duplicate"


def _swap(pieces: Pieces, rng: Random) -> str:
    a = _place(pieces, rng)
    b = a + 1 if rng.random() < 0.5 else _place(pieces, rng)
    if b < len(pieces):
        pieces[a], pieces[b] = pieces[b], pieces[a]
    return "swap"


def _insert(pieces: Pieces, rng: Random) -> str:
    at = _place(pieces, rng)
    pieces[at:at] = list(pieces_of(bytes(fragment(rng))))
    return "insert"


def _insert_gadget(pieces: Pieces, rng: Random) -> str:
    """A call that does harm, and its result taken away again: the rest may load as before."""
    at = max(1, _place(pieces, rng))
    pieces[at:at] = [*pieces_of(bytes(gadget_of(rng))), POP]
    return "gadget"


def _replace(pieces: Pieces, rng: Random) -> str:
    if pieces:
        pieces[_place(pieces, rng)] = bytes(fragment(rng))
    return "replace"


def _name(pieces: Pieces, rng: Random) -> str:
    """Another name for one of those that are looked up."""
    found = [i for i, piece in enumerate(pieces) if piece[:1] == b"c"]
    if found:
        pieces[rng.choice(found)] = bytes(names(rng))
    return "name"


def _text(pieces: Pieces, rng: Random) -> str:
    found = [i for i, piece in enumerate(pieces) if piece[:1] in (b"X", b"\x8c", b"U", b"V")]
    if found:
        pool = TEXTS + ATTRIBUTES + MODULES if rng.random() < 0.3 else TEXTS
        pieces[rng.choice(found)] = bytes(text(rng.choice(pool)))
    return "text"


def _number(pieces: Pieces, rng: Random) -> str:
    found = [i for i, piece in enumerate(pieces) if piece[:1] in (b"K", b"M", b"J", b"I", b"\x8a")]
    if found:
        pieces[rng.choice(found)] = bytes(value(rng.choice(INTS)))
    return "number"


def _memo(pieces: Pieces, rng: Random) -> str:
    """Another index for a PUT or a GET, or one of them taken away."""
    found = [i for i, piece in enumerate(pieces) if piece[:1] in (b"q", b"r", b"h", b"j", b"\x94")]
    if not found:
        return "memo"
    at = rng.choice(found)
    known = [pieces[i] for i in found]
    kind = rng.randrange(4)
    if kind == 0:
        del pieces[at]
    elif kind == 1:
        pieces[at] = rng.choice(known)
    elif kind == 2:
        pieces.insert(_place(pieces, rng), rng.choice(known))
    else:
        pieces[at] = pieces[at][:1] + bytes([rng.randrange(24)]) + pieces[at][2:]
    return "memo"


def _protocol(pieces: Pieces, rng: Random) -> str:
    opcode = bytes(proto(rng.choice((0, 1, 2, 3, 4, 5))))
    if pieces and pieces[0][:1] == b"\x80" and rng.random() < 0.6:
        pieces[0] = opcode if rng.random() < 0.6 else b""
    else:
        pieces.insert(_place(pieces, rng), opcode)
    return "proto"


def _frame(pieces: Pieces, rng: Random) -> str:
    """A FRAME around some opcodes, with a length that may lie or cut one in two."""
    at = _span(pieces, rng)
    body = b"".join(pieces[at])
    nbytes = len(body) + rng.choice((0, 0, 0, -1, 1, 5, 1 << 20))
    pieces[at] = [bytes(frame(body, nbytes=max(0, nbytes)))]
    return "frame"


def _stop(pieces: Pieces, rng: Random) -> str:
    """No STOP, one too early, or another pickle behind or before."""
    kind = rng.randrange(4)
    if kind == 0:
        pieces[:] = [p for p in pieces if p != STOP]
    elif kind == 1:
        pieces.insert(_place(pieces, rng), STOP)
    elif kind == 2:
        pieces.append(pickled(gadget_of(rng), protocol=rng.choice((None, 2, 4))))
    else:
        pieces.insert(0, pickled(fragment(rng), protocol=rng.choice((None, 2))))
    return "stop"


def _wrap(pieces: Pieces, rng: Random) -> str:
    """The whole value inside a call of something inert."""
    if len(pieces) > 2 and pieces[-1] == STOP:
        head = pieces[:1] if pieces[0][:1] == b"\x80" else []
        body = Ops(b"".join(pieces[len(head) : -1]))
        pieces[:] = [*head, bytes(allowlisted(rng, body)), STOP]
    return "wrap"


def _nest(pieces: Pieces, rng: Random) -> str:
    """The whole pickle inside bytes that an allowlisted name loads."""
    whole = b"".join(pieces)
    if rng.random() < 0.3:
        whole = whole[2:] if whole[:1] == b"\x80" else b"\x80\x04" + whole
    pieces[:] = [pickled(call(name("torch.storage", "_load_from_bytes"), whole))]
    return "nest"


def _byte(pieces: Pieces, rng: Random) -> str:
    if pieces:
        at = _place(pieces, rng)
        piece = bytearray(pieces[at] or b"\0")
        piece[rng.randrange(len(piece))] = rng.choice((rng.randrange(256), 0, 255, 10))
        pieces[at] = bytes(piece)
    return "byte"


def _cut(pieces: Pieces, rng: Random) -> str:
    data = b"".join(pieces)
    pieces[:] = [data[: rng.randrange(len(data) + 1)]]
    return "cut"


CHANGES: tuple[Mutation, ...] = (
    _delete, _duplicate, _swap, _insert, _insert, _insert_gadget, _replace, _name, _text, _number,
    _memo, _protocol, _frame, _stop, _wrap, _nest, _byte, _cut,
)  # fmt: skip


def splice(pieces: Pieces, donor: Sequence[bytes], rng: Random) -> str:
    """Put a run of another pickle's opcodes in, or in place of some."""
    start = rng.randrange(len(donor)) if donor else 0
    run = list(donor[start : start + rng.choice((1, 2, 4, 8, 16, 40))])
    at = _place(pieces, rng)
    pieces[at : at + rng.choice((0, 0, 1, 4))] = run
    return "splice"
