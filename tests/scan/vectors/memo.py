"""Memo and frames, which a linear scan follows wrongly."""

from __future__ import annotations

from collections.abc import Iterator

from tests.forge import (
    DUP,
    MARK,
    MEMOIZE,
    NONE,
    POP,
    POP_MARK,
    REDUCE,
    call,
    frame,
    get,
    line_get,
    line_int,
    line_put,
    line_text,
    name,
    ops,
    pickled,
    put,
    short_text,
    text,
    torch_zip,
    tuple_of,
    value,
)
from tests.scan.gadgets import MARKER, MKDIR
from tests.scan.vectors.vector import BOOM, Vector, silent, v, zipped


def memo() -> Iterator[Vector]:
    """Class 6: memo and frames, which a linear scan follows wrongly."""
    os_, print_ = short_text("os"), short_text("builtins")
    mkdir, safe = short_text("mkdir"), short_text("len")
    yield v(
        "memo-put-twice",
        "a memo index is put twice: the last one counts",
        pickled(
            print_,
            put(0),
            POP,
            os_,
            put(0),
            POP,
            safe,
            put(1),
            POP,
            mkdir,
            put(1),
            POP,
            call(ops(get(0), get(1), b"\x93"), MARKER),
            protocol=4,
        ),
    )
    yield v(
        "memo-memoize-after-put",
        "MEMOIZE numbers by the length of the memo, not by its end",
        pickled(
            print_,
            put(7),
            POP,
            os_,
            MEMOIZE,
            POP,
            mkdir,
            MEMOIZE,
            POP,
            call(ops(get(1), get(2), b"\x93"), MARKER),
            protocol=4,
        ),
    )
    yield v(
        "memo-memoize-overwrites",
        "MEMOIZE overwrites an index that PUT has taken",
        pickled(
            print_,
            put(1),
            POP,
            os_,
            MEMOIZE,
            POP,
            mkdir,
            put(5),
            POP,
            call(ops(get(1), get(5), b"\x93"), MARKER),
            protocol=4,
        ),
    )
    yield v(
        "memo-dup",
        "the module comes from a DUP",
        pickled(os_, DUP, put(0), POP, POP, call(ops(get(0), mkdir, b"\x93"), MARKER), protocol=4),
    )
    yield v(
        "memo-put-after-get",
        "what GET fetched is put under another index",
        pickled(
            os_,
            put(0),
            POP,
            get(0),
            put(9),
            POP,
            mkdir,
            put(0),
            POP,
            call(ops(get(9), get(0), b"\x93"), MARKER),
            protocol=4,
        ),
    )
    yield v(
        "memo-put-after-pop",
        "PUT stores what POP uncovered, not what was pushed last",
        pickled(
            os_,
            print_,
            POP,
            put(0),
            POP,
            mkdir,
            safe,
            POP,
            put(1),
            POP,
            call(ops(get(0), get(1), b"\x93"), MARKER),
            protocol=4,
        ),
    )
    yield v(
        "memo-pop-mark",
        "strings that a linear scan would take are dropped by POP_MARK",
        pickled(
            os_, mkdir, MARK, print_, safe, POP_MARK, b"\x93", tuple_of(MARKER), REDUCE, protocol=4
        ),
    )
    yield v(
        "memo-pop-takes-mark",
        "POP on an empty segment takes the mark away",
        pickled(os_, mkdir, MARK, POP, b"\x93", tuple_of(MARKER), REDUCE, protocol=4),
    )
    yield v(
        "memo-padding-between",
        "other opcodes between the strings and STACK_GLOBAL",
        pickled(
            os_,
            mkdir,
            NONE,
            POP,
            line_int(b"1"),
            POP,
            b"\x93",
            tuple_of(MARKER),
            REDUCE,
            protocol=4,
        ),
    )
    yield v(
        "memo-of-a-function",
        "the function itself comes from the memo",
        pickled(MKDIR, put(0), POP, call(get(0), MARKER)),
    )
    yield v(
        "memo-restarts",
        "the memo starts anew in the second pickle",
        pickled(print_, MEMOIZE, POP, safe, MEMOIZE, protocol=4)
        + pickled(
            os_,
            MEMOIZE,
            POP,
            mkdir,
            MEMOIZE,
            POP,
            call(ops(get(0), get(1), b"\x93"), MARKER),
            protocol=4,
        ),
        ("every",),
    )
    yield v(
        "memo-text-put",
        "PUT and GET of protocol 0",
        pickled(
            line_text("os"),
            line_put(3),
            POP,
            line_text("mkdir"),
            line_put(4),
            POP,
            call(ops(line_get(3), line_get(4), b"\x93"), MARKER),
            protocol=None,
        ),
    )
    yield v(
        "memo-spelled-index",
        "GET 003 is GET 3",
        pickled(
            MKDIR,
            line_put(b"3"),
            POP,
            name("builtins", "len"),
            line_put(b"4"),
            POP,
            call(line_get(b"003"), MARKER),
            protocol=None,
        ),
    )
    # A text opcode that crosses its frame's end: BytesIO readers lose the part inside the frame.
    good, evil = name("builtins", "len"), MKDIR
    yield v(
        "frame-split-get",
        "GET crosses a frame's end: GET 1 over BytesIO, GET 11 elsewhere",
        pickled(
            evil,
            put(1),
            POP,
            good,
            put(11),
            POP,
            frame(b"g1"),
            b"1\n",
            tuple_of(MARKER),
            REDUCE,
            protocol=4,
        ),
        ("c-bytes",),
    )
    yield v(
        "frame-split-put",
        "PUT crosses a frame's end",
        pickled(
            good,
            put(1),
            put(11),
            POP,
            evil,
            frame(b"p1"),
            b"1\n",
            POP,
            call(get(1), MARKER),
            protocol=4,
        ),
        ("c-bytes",),
    )
    yield v(
        "frame-split-global",
        "GLOBAL crosses a frame's end: the module loses its head",
        pickled(frame(b"ctorch.nn.modules."), b"os\nmkdir\n", tuple_of(MARKER), REDUCE, protocol=4),
        ("c-bytes",),
    )
    yield v(
        "frame-split-global-name",
        "GLOBAL crosses a frame's end: the name loses its head",
        pickled(frame(b"cos\nno_such_"), b"mkdir\n", tuple_of(MARKER), REDUCE, protocol=4),
        ("c-bytes",),
    )
    yield v(
        "frame-split-inst",
        "INST crosses a frame's end",
        pickled(MARK, text(MARKER), frame(b"ibuiltins_"), b"os\nmkdir\n", protocol=4),
        ("c-bytes",),
    )
    yield v(
        "frame-split-unicode",
        "UNICODE crosses a frame's end: the string loses its head",
        pickled(
            frame(b"Vcollections."), b"os\n", mkdir, b"\x93", tuple_of(MARKER), REDUCE, protocol=4
        ),
        ("c-bytes",),
    )
    yield v(
        "frame-split-unicode-other-way",
        "the whole string names os; over BytesIO it does not",
        pickled(frame(b"Vo"), b"s\n", mkdir, b"\x93", tuple_of(MARKER), REDUCE, protocol=4),
        ("c-file",),
    )
    yield zipped(
        "frame-split-torch",
        "the same inside a torch zip, which torch reads from BytesIO",
        torch_zip(
            pickled(
                evil,
                put(1),
                POP,
                name("collections", "OrderedDict"),
                put(11),
                POP,
                frame(b"g1"),
                b"1\n",
                tuple_of(MARKER),
                REDUCE,
                protocol=4,
            )
        ),
    )
    yield silent(
        "frame-split-int",
        "an integer that two loaders read differently",
        pickled(frame(b"I1"), b"1\n", protocol=4),
    )
    yield silent(
        "frame-split-binary",
        "a binary opcode across a frame's end",
        pickled(frame(b"X\x02\0"), b"\0\0ab", protocol=4),
    )
    yield silent(
        "frame-nested",
        "a frame inside a frame",
        pickled(frame(frame(b"K\1"), b"0", value(1)), protocol=4),
    )
    yield silent(
        "frame-past-stop",
        "a frame that goes on behind STOP",
        pickled(frame(b"K\1.", b"K\2"), protocol=4),
    )
    yield v(
        "frame-past-end",
        "a frame longer than the file: an error in C, no matter in Python",
        pickled(frame(BOOM, nbytes=10_000), protocol=4),
        ("python",),
    )
