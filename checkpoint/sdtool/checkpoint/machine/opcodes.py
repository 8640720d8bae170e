"""The binary opcodes that state dicts rarely hold, and the table of all that the loop leaves.

Each `load_*` is that of Lib/pickle.py, over a Machine in place of an Unpickler.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from sdtool.checkpoint.errors import LimitExceeded, Malformed
from sdtool.checkpoint.machine.mutations import append, check_hashes, set_items
from sdtool.checkpoint.machine.names import load_global, load_inst, load_stack_global
from sdtool.checkpoint.machine.state import (
    HIGHEST_PROTOCOL,
    NO_FRAME,
    Machine,
    Stop,
    extent,
    truncated,
)
from sdtool.checkpoint.machine.text import (
    load_float,
    load_get,
    load_int,
    load_long,
    load_persid,
    load_put,
    load_string,
    load_unicode,
    python2_string,
)
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.values import (
    BYTEARRAY,
    DICT,
    FROZENSET,
    LIST,
    LITERAL_OPCODES,
    SET,
    Ext,
    Extent,
    Instance,
    Pairs,
    Persistent,
    Value,
)

_u1 = Struct("<B").unpack_from
_u2 = Struct("<H").unpack_from
_i4 = Struct("<i").unpack_from
_u4 = Struct("<I").unpack_from
_u8 = Struct("<Q").unpack_from
_f8 = Struct(">d").unpack_from


def load_proto(m: Machine) -> None:
    """PROTO: the protocol; the last one decides how names are taken."""
    m.protocol = m.byte()
    if m.protocol > HIGHEST_PROTOCOL:
        raise Malformed(f"pickle protocol {m.protocol} at offset {m.at:,}")
    m.trace.protocol = max(m.trace.protocol, m.protocol)


def load_frame(m: Machine) -> None:
    """FRAME: the next bytes belong together."""
    nbytes = m.number(_u8, 8)
    here = m.base + m.pos
    if m.frame_end != NO_FRAME:
        m.disagree(
            RuleId.NESTED_FRAME,
            "a frame begins inside a frame",
            f"a frame inside a frame at offset {m.at:,}",
        )
        if here + nbytes > m.frame_end:
            m.may_cross(m.at)
    m.frame_at = m.at
    m.frame_end = here + nbytes
    if m.frame_end > m.end:
        detail = f"a frame of {nbytes:,} bytes where {m.end - here:,} are left"
        m.disagree(RuleId.FRAME_PAST_END, detail, truncated(m.at, "a frame"))
        m.frame_end = NO_FRAME


def load_stop(m: Machine) -> None:
    """STOP: the value is on top of the stack."""
    here = m.base + m.pos
    value = m.stack.pop()
    # One byte, and the loop leaves a frame before the opcode behind it: never beyond its end.
    if m.frame_end not in (here, NO_FRAME):
        behind = m.frame_end - here
        m.note(RuleId.FRAME_PAST_STOP, f"the frame continues for {behind:,} bytes after STOP")
    raise Stop(value)


def load_none(m: Machine) -> None:
    """NONE."""
    m.stack.append(None)


def load_true(m: Machine) -> None:
    """NEWTRUE."""
    m.stack.append(True)


def load_binfloat(m: Machine) -> None:
    """BINFLOAT: eight bytes, big-endian."""
    (number,) = _f8(m.buf, m.pos)
    m.pos += 8
    m.stack.append(number)


def load_long1(m: Machine) -> None:
    """LONG1: an integer of up to 255 bytes."""
    _load_long(m, m.byte())


def load_long4(m: Machine) -> None:
    """LONG4: an integer of any length."""
    nbytes = m.number(_i4, 4)
    if nbytes < 0:
        raise Malformed(f"LONG4 with a negative length at offset {m.at:,}")
    _load_long(m, nbytes)


def _load_long(m: Machine, nbytes: int) -> None:
    if nbytes > m.limits.int_nbytes:
        m.stack.append(extent(m.base + m.pos, nbytes, m.end, is_text=False))
        m.pos += nbytes
        m.fail(LimitExceeded(f"an integer of {nbytes:,} bytes at offset {m.at:,}"))
        return
    raw = m.taken(nbytes, "an integer")
    m.stack.append(raw if isinstance(raw, Extent) else int.from_bytes(raw, "little", signed=True))


def load_short_binbytes(m: Machine) -> None:
    """SHORT_BINBYTES: up to 255 bytes."""
    m.stack.append(m.taken(m.byte(), "a string"))


def load_binbytes(m: Machine) -> None:
    """BINBYTES: bytes with a length of four bytes."""
    m.stack.append(m.taken(m.number(_u4, 4), "a string"))


def load_binbytes8(m: Machine) -> None:
    """BINBYTES8: bytes with a length of eight bytes."""
    m.stack.append(m.taken(m.number(_u8, 8), "a string"))


def load_bytearray8(m: Machine) -> None:
    """BYTEARRAY8: a new bytearray."""
    m.objects += 2
    taken = m.taken(m.number(_u8, 8), "a string")
    m.stack.append(Instance(BYTEARRAY, (taken,), "BYTEARRAY8", m.at))


def load_binunicode8(m: Machine) -> None:
    """BINUNICODE8: text with a length of eight bytes."""
    taken = m.taken(m.number(_u8, 8), "a string", is_text=True)
    m.stack.append(taken if isinstance(taken, Extent) else str(taken, "utf-8", "surrogatepass"))


def load_short_binstring(m: Machine) -> None:
    """SHORT_BINSTRING: a string of python 2, up to 255 bytes."""
    _load_binstring(m, m.byte())


def load_binstring(m: Machine) -> None:
    """BINSTRING: a string of python 2."""
    nbytes = m.number(_i4, 4)
    if nbytes < 0:
        raise Malformed(f"BINSTRING with a negative length at offset {m.at:,}")
    _load_binstring(m, nbytes)


def _load_binstring(m: Machine, nbytes: int) -> None:
    taken = m.taken(nbytes, "a string")
    m.stack.append(taken if isinstance(taken, Extent) else python2_string(taken))


def load_empty_list(m: Machine) -> None:
    """EMPTY_LIST."""
    m.objects += 2
    m.stack.append(Instance(LIST, (), "EMPTY_LIST", m.at))


def load_empty_set(m: Machine) -> None:
    """EMPTY_SET."""
    m.objects += 2
    m.stack.append(Instance(SET, (), "EMPTY_SET", m.at))


def load_list(m: Machine) -> None:
    """LIST: a list of what is above the mark."""
    m.objects += 2
    made = Instance(LIST, (), "LIST", m.at)
    made.content().items = m.pop_mark()
    m.stack.append(made)


def load_dict(m: Machine) -> None:
    """DICT: a dict of the keys and values above the mark."""
    m.objects += 2
    items = m.pop_mark()
    if len(items) % 2:
        raise Malformed(f"DICT with a key and no value at offset {m.at:,}")
    made = Instance(DICT, (), "DICT", m.at)
    made.content().pairs = Pairs(items)
    check_hashes(m, items[::2], m.at)
    m.stack.append(made)


def load_frozenset(m: Machine) -> None:
    """FROZENSET: of what is above the mark."""
    m.objects += 2
    made = Instance(FROZENSET, (), "FROZENSET", m.at)
    items = made.content().items = m.pop_mark()
    check_hashes(m, items, m.at)
    m.stack.append(made)


def load_append(m: Machine) -> None:
    """APPEND: one item."""
    item = m.stack.pop()
    append(m, m.stack[-1], [item], "APPEND", m.at)


def load_appends(m: Machine) -> None:
    """APPENDS: what is above the mark."""
    items = m.pop_mark()
    append(m, m.stack[-1], items, "APPENDS", m.at)


def load_additems(m: Machine) -> None:
    """ADDITEMS: what is above the mark, to a set."""
    items = m.pop_mark()
    check_hashes(m, items, m.at)
    append(m, m.stack[-1], items, "ADDITEMS", m.at)


def load_setitems(m: Machine) -> None:
    """SETITEMS: the keys and values above the mark."""
    items = m.pop_mark()
    is_odd = len(items) % 2
    set_items(m, m.stack[-1], items, "SETITEMS", m.at)
    if is_odd:
        raise Malformed(f"SETITEMS with a key and no value at offset {m.at:,}")


def load_newobj(m: Machine) -> None:
    """NEWOBJ: an instance, `cls.__new__(cls, *args)`."""
    args = m.stack.pop()
    _add_object(m, Instance(m.stack.pop(), args, "NEWOBJ", m.at))
    check_arguments(m, "NEWOBJ", args)


def load_newobj_ex(m: Machine) -> None:
    """NEWOBJ_EX: an instance, with keyword arguments."""
    kwargs = m.stack.pop()
    args = m.stack.pop()
    _add_object(m, Instance(m.stack.pop(), args, "NEWOBJ_EX", m.at, kwargs))
    check_arguments(m, "NEWOBJ_EX", args)


def load_obj(m: Machine) -> None:
    """OBJ: an instance; the class is the first item above the mark."""
    items = m.pop_mark()
    _add_object(m, Instance(items[0], tuple(items[1:]), "OBJ", m.at))


def _add_object(m: Machine, made: Instance) -> None:
    m.objects += 2
    m.stack.append(made)
    m.trace.events.append(made)


def check_arguments(m: Machine, opcode: str, args: Value) -> None:
    """Note arguments that are no tuple: the C unpickler refuses a literal, the Python one runs it.

    A call may well give a tuple when it runs; whoever judges the call sees that.
    """
    if type(args) is tuple or (type(args) is Instance and args.opcode not in LITERAL_OPCODES):
        return
    detail = f"{opcode} whose arguments are not a tuple"
    m.disagree(RuleId.LOADER_DISAGREEMENT, detail, f"{detail} at offset {m.at:,}")


def load_pop(m: Machine) -> None:
    """POP: the top of the stack goes, or a mark."""
    if m.stack:
        m.stack.pop()
    else:
        m.pop_mark()


def load_pop_mark(m: Machine) -> None:
    """POP_MARK: all above the mark goes."""
    m.pop_mark()


def load_dup(m: Machine) -> None:
    """DUP: the top of the stack once more."""
    m.stack.append(m.stack[-1])


def load_ext1(m: Machine) -> None:
    """EXT1: a name by copyreg's registry, one byte."""
    _load_extension(m, m.number(_u1, 1))


def load_ext2(m: Machine) -> None:
    """EXT2: a name by copyreg's registry, two bytes."""
    _load_extension(m, m.number(_u2, 2))


def load_ext4(m: Machine) -> None:
    """EXT4: a name by copyreg's registry, four bytes."""
    _load_extension(m, m.number(_i4, 4))


def _load_extension(m: Machine, code: int) -> None:
    m.stack.append(Ext(code))
    m.note(RuleId.EXTENSION_CODE, f"copyreg extension code {code}")


def load_next_buffer(m: Machine) -> None:
    """NEXT_BUFFER: bytes that the loader is given apart."""
    _outside(m)
    m.stack.append(Persistent("buffer", m.at))


def load_readonly_buffer(m: Machine) -> None:
    """READONLY_BUFFER: such bytes, not to be changed."""
    _outside(m)
    m.stack.append(m.stack.pop())  # an empty stack is an error


def _outside(m: Machine) -> None:
    m.disagree(
        RuleId.BUFFER_OPCODE,
        "bytes are expected from outside",
        f"an out-of-band buffer at offset {m.at:,}",
    )


_BY_CODE: dict[bytes, Callable[[Machine], None]] = {
    b"\x80": load_proto,
    b"\x95": load_frame,
    b".": load_stop,
    b"c": load_global,
    b"i": load_inst,
    b"\x93": load_stack_global,
    b"\x81": load_newobj,
    b"\x92": load_newobj_ex,
    b"o": load_obj,
    b"u": load_setitems,
    b"a": load_append,
    b"e": load_appends,
    b"\x90": load_additems,
    b"]": load_empty_list,
    b"\x8f": load_empty_set,
    b"l": load_list,
    b"d": load_dict,
    b"\x91": load_frozenset,
    b"N": load_none,
    b"\x88": load_true,
    b"G": load_binfloat,
    b"\x8a": load_long1,
    b"\x8b": load_long4,
    b"C": load_short_binbytes,
    b"B": load_binbytes,
    b"\x8e": load_binbytes8,
    b"\x96": load_bytearray8,
    b"\x8d": load_binunicode8,
    b"U": load_short_binstring,
    b"T": load_binstring,
    b"0": load_pop,
    b"1": load_pop_mark,
    b"2": load_dup,
    b"\x82": load_ext1,
    b"\x83": load_ext2,
    b"\x84": load_ext4,
    b"\x97": load_next_buffer,
    b"\x98": load_readonly_buffer,
    b"g": load_get,
    b"p": load_put,
    b"V": load_unicode,
    b"S": load_string,
    b"P": load_persid,
    b"F": load_float,
    b"I": load_int,
    b"L": load_long,
}
LOAD = {code[0]: load for code, load in _BY_CODE.items()}
"""What to do for each opcode that is not in `loop.py`."""
