"""Mutates pickles opcode by opcode.

A pickle is a list of its opcodes, each with its argument, as bytes; what cannot be told apart stays
one piece. A mutation changes the list and says what it did; those of `RESPELLINGS` write the same
value in another way, so that an honest pickle stays one.
"""

from __future__ import annotations

import io
import pickletools
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from tests.forge import (
    BUILD,
    DUP,
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_SET,
    EMPTY_TUPLE,
    MARK,
    MEMOIZE,
    NONE,
    POP,
    POP_MARK,
    REDUCE,
    STOP,
    Ops,
    append,
    build,
    call,
    call_with,
    dict_of,
    frame,
    get,
    inst,
    line_int,
    line_text,
    list_of,
    name,
    newobj,
    newobj_ex,
    obj,
    ops,
    persistent,
    pickled,
    proto,
    put,
    quoted_string,
    setitem,
    stack_name,
    storage,
    tensor,
    text,
    text8,
    tuple_of,
    value,
)
from tests.scan.gadgets import CHAINS, DIRECT, MARKER, MKDIR

Pieces = list[bytes]
Mutation = Callable[[Pieces, Random], str]

_INTS = (0, 1, -1, 2, 3, 4, 5, 8, 16, 127, 128, 255, 256, 65535, 1 << 31, -(1 << 31), 1 << 63)
_BIT32 = 1 << 32


@lru_cache(maxsize=4096)
def pieces_of(data: bytes) -> tuple[bytes, ...]:
    """The opcodes of a pickle with their arguments; what follows STOP or is broken, in one piece."""
    stream = io.BytesIO(data)
    starts: list[int] = []
    try:
        starts.extend(pos for _, _, pos in pickletools.genops(stream) if pos is not None)
        end = stream.tell()
    except Exception:
        end = len(data)  # the last opcode and the junk behind it stay one piece
    bounds = [*starts, end]
    found = [data[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
    if not starts:
        return (data,) if data else ()
    if end < len(data):
        found.append(data[end:])
    return tuple(found)


# --- what is put in -------------------------------------------------------------------------------

BOOM = call(MKDIR, MARKER)
_MODULES = (
    "os", "posix", "builtins", "__builtin__", "torch", "torch._utils", "torch._tensor", "collections",
    "torch.storage", "numpy", "numpy.core.multiarray", "numpy._core.multiarray", "copyreg",
    "copy_reg", "_codecs", "torch.serialization", "argparse", "subprocess", "cPickle", "os.path",
    "torch.nn.parameter", "torch.nn.modules.linear", "torch.jit._pickle", "functools", "operator",
)  # fmt: skip
_ATTRIBUTES = (
    "mkdir", "system", "eval", "getattr", "OrderedDict", "dict", "list", "set", "tuple", "bytes",
    "bytearray", "defaultdict", "Counter", "deque", "_rebuild_tensor_v2", "_rebuild_tensor",
    "_rebuild_parameter", "_load_from_bytes", "_rebuild_from_type_v2", "Tensor", "FloatStorage",
    "UntypedStorage", "Size", "device", "dtype", "ndarray", "_reconstruct", "scalar", "encode",
    "_reconstructor", "os.mkdir", "Namespace", "object", "float32", "Parameter", "loads",
)  # fmt: skip
_TEXTS = (
    "", "weight", "bias", "state_dict", "model", "params", "params_ema", "__setstate__", "__dict__",
    "_parameters", "_modules", "__class__", "__reduce__", "data", "0", "1", "cpu", "cuda", "meta",
    "storage", "module", "little", "O", "|O", "O8", "f4", "<f4", ">f4", "latin1", "utf-8", "rot13",
    "a.b", "../x", "\0", "\n", "é", MARKER, "append", "extend", "__setitem__", "_metadata",
)  # fmt: skip


def _names(rng: Random) -> Ops:
    """A name, as one of the opcodes for it: mostly one that is real."""
    if rng.random() < 0.7:
        gadget = rng.choice(DIRECT)
        module, attribute = rng.choice(_REAL) if rng.random() < 0.6 else (gadget.module, gadget.name)
    else:
        module, attribute = rng.choice(_MODULES), rng.choice(_ATTRIBUTES)
    return name(module, attribute) if rng.random() < 0.6 else stack_name(module, attribute)


_REAL = (
    ("os", "mkdir"), ("builtins", "getattr"), ("builtins", "dict"), ("builtins", "list"),
    ("builtins", "tuple"), ("builtins", "set"), ("builtins", "bytearray"), ("builtins", "object"),
    ("builtins", "complex"), ("__builtin__", "object"), ("builtins", "slice"), ("builtins", "range"),
    ("collections", "OrderedDict"), ("collections", "defaultdict"), ("collections", "Counter"),
    ("collections", "deque"), ("copyreg", "_reconstructor"), ("_codecs", "encode"),
    ("argparse", "Namespace"), ("torch", "Size"), ("torch", "device"), ("torch", "Tensor"),
    ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_tensor"), ("torch._utils", "_rebuild_parameter_with_state"),
    ("torch._utils", "_rebuild_sparse_tensor"), ("torch._utils", "_rebuild_meta_tensor_no_storage"),
    ("torch._utils", "_rebuild_wrapper_subclass"), ("torch._utils", "_rebuild_qtensor"),
    ("torch._tensor", "_rebuild_from_type_v2"), ("torch.storage", "_load_from_bytes"),
    ("torch", "FloatStorage"), ("torch", "HalfStorage"), ("torch.storage", "UntypedStorage"),
    ("torch.nn.parameter", "Parameter"), ("numpy", "ndarray"), ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "scalar"),
    ("datetime", "datetime"), ("decimal", "Decimal"), ("fractions", "Fraction"), ("uuid", "UUID"),
    ("array", "array"), ("array", "_array_reconstructor"), ("pathlib", "PosixPath"),
    ("torch.nn.modules.container", "ParameterDict"), ("torch.nn.modules.linear", "Linear"),
    ("torch.serialization", "_get_layout"), ("types", "SimpleNamespace"),
    ("omegaconf.dictconfig", "DictConfig"), ("omegaconf.nodes", "AnyNode"),
    ("pytorch_lightning.utilities.parsing", "AttributeDict"), ("numpy.random", "__RandomState_ctor"),
)  # fmt: skip


def _gadget(rng: Random) -> Ops:
    """Something that runs when it is loaded."""
    kind = rng.randrange(9)
    if kind == 0:
        chosen = rng.choice(DIRECT)
        return call(name(chosen.module, chosen.name), *chosen.args)
    if kind == 1:
        return rng.choice(CHAINS).body
    if kind == 2:
        return inst("os", "mkdir", MARKER)
    if kind == 3:
        return obj(MKDIR, MARKER)
    if kind == 4:
        return call(stack_name("os", "mkdir"), MARKER)
    if kind == 5:
        return call_with(MKDIR, list_of(MARKER))
    if kind == 6:
        space = call(name("argparse", "Namespace"))
        return build(build(space, {"__setstate__": MKDIR}), MARKER)
    if kind == 7:
        return call(name("torch.storage", "_load_from_bytes"), pickled(BOOM))
    return BOOM


def _vouched(rng: Random, inner: Ops) -> Ops:
    """A call of something inert with a piece inside."""
    tensor_ = name("torch", "Tensor")
    return rng.choice(
        (
            lambda: call(name("collections", "OrderedDict"), list_of(tuple_of("w", inner))),
            lambda: call(name("collections", "OrderedDict"), list_of(list_of("w", inner))),
            lambda: call(name("builtins", "dict"), list_of(tuple_of("w", inner))),
            lambda: call(name("builtins", "list"), tuple_of(inner)),
            lambda: call(name("builtins", "tuple"), list_of(inner)),
            lambda: call(name("collections", "deque"), list_of(inner), 1),
            lambda: call(name("collections", "defaultdict"), NONE, dict_of({"w": inner})),
            lambda: call(name("collections", "Counter"), dict_of({"w": inner})),
            lambda: call(
                name("copyreg", "_reconstructor"),
                name("collections", "OrderedDict"),
                name("builtins", "dict"),
                dict_of({"w": inner}),
            ),
            lambda: call(
                name("torch._utils", "_rebuild_parameter"),
                tensor(),
                False,
                setitem(call(name("collections", "OrderedDict")), 0, inner),
            ),
            lambda: call(
                name("torch._tensor", "_rebuild_from_type_v2"),
                name("torch._utils", "_rebuild_tensor_v2"),
                tensor_,
                tuple_of(storage(), 0, (4,), (1,), False, EMPTY_DICT),
                dict_of({"x": inner}),
            ),
            lambda: build(call(name("argparse", "Namespace")), dict_of({"x": inner})),
            lambda: build(newobj(name("torch.nn.modules.linear", "Linear")), dict_of({"x": inner})),
            lambda: setitem(call(name("collections", "OrderedDict")), inner, inner),
            lambda: build(tensor(), dict_of({"data": inner})),
            lambda: build(tensor(), tuple_of(NONE, dict_of({"data": inner}))),
            lambda: build(inner, inner),
            lambda: append(inner, inner),
            lambda: setitem(inner, "x", inner),
            lambda: call(inner, inner),
            lambda: newobj(inner, inner),
            lambda: newobj_ex(inner, (inner,), {}),
            lambda: persistent(inner),
            lambda: persistent(tuple_of("storage", inner, "0", "cpu", 4)),
            lambda: persistent(tuple_of("storage", name("torch", "FloatStorage"), inner, inner, 4)),
            lambda: call(name("torch.storage", "_load_from_bytes"), pickled(inner)),
            lambda: call(name("torch.storage", "_load_from_bytes"), inner),
        )
    )()


def _fragment(rng: Random) -> Ops:
    """Opcodes to put in."""
    kind = rng.randrange(14)
    if kind < 3:
        return rng.choice(
            (NONE, POP, DUP, MARK, POP_MARK, EMPTY_DICT, EMPTY_LIST, EMPTY_TUPLE, EMPTY_SET, MEMOIZE,
             REDUCE, BUILD, STOP, Ops(b"a"), Ops(b"s"), Ops(b"u"), Ops(b"e"), Ops(b"t"), Ops(b"\x81"),
             Ops(b"\x90"), Ops(b"\x91"), Ops(b"\x92"), Ops(b"\x93"), Ops(b"Q"), Ops(b"o"), Ops(b"l"),
             Ops(b"d"), Ops(b"\x85"), Ops(b"\x86"), Ops(b"\x87"), Ops(b"\x97"), Ops(b"\x98"))
        )  # fmt: skip
    if kind == 3:
        return _gadget(rng)
    if kind == 4:
        return _names(rng)
    if kind == 5:
        return value(rng.choice(_TEXTS))
    if kind == 6:
        return value(rng.choice(_INTS))
    if kind == 7:
        return put(rng.choice((0, 1, 2, 5, 9, 20, 255, 300)))
    if kind == 8:
        return get(rng.randrange(32))
    if kind == 9:
        return _vouched(rng, rng.choice((_gadget, _names, _plain))(rng))
    if kind == 10:
        return proto(rng.choice((0, 1, 2, 3, 4, 5, 6, 255)))
    if kind == 11:
        return ops(_fragment(rng), POP)
    if kind == 12:
        return _odd_line(rng)
    return _plain(rng)


def _plain(rng: Random) -> Ops:
    return rng.choice(
        (
            lambda: tensor(),
            lambda: tensor(size=(2,), stride=(2,), offset=1),
            lambda: tensor(size=(2, 2), stride=(1, 2)),
            lambda: tensor(storage(kind=rng.choice(("HalfStorage", "LongStorage", "ByteStorage")))),
            lambda: storage(),
            lambda: text("w"),
            lambda: value(b"ab"),
            lambda: dict_of({"w": tensor()}),
            lambda: call(name("collections", "OrderedDict")),
        )
    )()


def _odd_line(rng: Random) -> Ops:
    """A text opcode in a spelling that not everybody reads alike."""
    return rng.choice(
        (
            line_int(b"010"), line_int(b"1_0"), line_int(b" 1 "), line_int(b"+1"), line_int(b"0x1"),
            line_int(b"01"), line_int(b"00"), line_int(b"-0"), line_int(b"1L"), line_int(b"\xd9\xa1"),
            Ops(b"L1\n"), Ops(b"L1L\n"), Ops(b"L010L\n"), Ops(b"L1_0L\n"), Ops(b"L 1\n"),
            Ops(b"F1_0\n"), Ops(b"Fnan\n"), Ops(b"F 1\n"), Ops(b"F1\0\n"),
            quoted_string(b"'a'"), quoted_string(b'"a"'), quoted_string(b"'a' "),
            quoted_string(b"'a\\x62'"), quoted_string(b"'a\\"), quoted_string(b"a"),
            quoted_string(b"''"), quoted_string(b"'"), line_text("a\\u0062"), line_text("\\"),
            Ops(b"V\\ud800\n"), Ops(b"Va\r\n"), text8("x" * 3, 3), text8("abc", 1 << 40),
            Ops(b"g01\n"), Ops(b"g 1\n"), Ops(b"g1_0\n"), Ops(b"p01\n"), Ops(b"p-1\n"), Ops(b"p\n"),
            Ops(b"c os\nmkdir\n"), Ops(b"cos \nmkdir\n"), Ops(b"cos\nmkdir\r\n"),
            Ops(b"cos\0x\nmkdir\n"), Ops(b"c__builtin__\neval\n"), Ops(b"cos\n"), Ops(b"ctorch\n"),
            Ops(b"\x8a\x00"), Ops(b"\x8b\xff\xff\xff\xff"), Ops(b"\x8a\x02\x01\x00"),
        )
    )  # fmt: skip


# --- mutations that change what is loaded ---------------------------------------------------------


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
    pieces[at:at] = list(pieces_of(bytes(_fragment(rng))))
    return "insert"


def _insert_gadget(pieces: Pieces, rng: Random) -> str:
    """A call that does harm, and its result taken away again: the rest may load as before."""
    at = max(1, _place(pieces, rng))
    pieces[at:at] = [*pieces_of(bytes(_gadget(rng))), POP]
    return "gadget"


def _replace(pieces: Pieces, rng: Random) -> str:
    if pieces:
        pieces[_place(pieces, rng)] = bytes(_fragment(rng))
    return "replace"


def _name(pieces: Pieces, rng: Random) -> str:
    """Another name for one of those that are looked up."""
    found = [i for i, piece in enumerate(pieces) if piece[:1] == b"c"]
    if found:
        pieces[rng.choice(found)] = bytes(_names(rng))
    return "name"


def _text(pieces: Pieces, rng: Random) -> str:
    found = [i for i, piece in enumerate(pieces) if piece[:1] in (b"X", b"\x8c", b"U", b"V")]
    if found:
        pool = _TEXTS + _ATTRIBUTES + _MODULES if rng.random() < 0.3 else _TEXTS
        pieces[rng.choice(found)] = bytes(text(rng.choice(pool)))
    return "text"


def _number(pieces: Pieces, rng: Random) -> str:
    found = [i for i, piece in enumerate(pieces) if piece[:1] in (b"K", b"M", b"J", b"I", b"\x8a")]
    if found:
        pieces[rng.choice(found)] = bytes(value(rng.choice(_INTS)))
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
        pieces.append(pickled(_gadget(rng), protocol=rng.choice((None, 2, 4))))
    else:
        pieces.insert(0, pickled(_fragment(rng), protocol=rng.choice((None, 2))))
    return "stop"


def _wrap(pieces: Pieces, rng: Random) -> str:
    """The whole value inside a call of something inert."""
    if len(pieces) > 2 and pieces[-1] == STOP:
        head = pieces[:1] if pieces[0][:1] == b"\x80" else []
        body = Ops(b"".join(pieces[len(head) : -1]))
        pieces[:] = [*head, bytes(_vouched(rng, body)), STOP]
    return "wrap"


def _nest(pieces: Pieces, rng: Random) -> str:
    """The whole pickle inside bytes that a vouched name loads."""
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


# --- the same value in another spelling -----------------------------------------------------------


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
