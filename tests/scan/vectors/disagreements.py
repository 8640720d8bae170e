"""What one loader runs and another refuses."""

from __future__ import annotations

from collections.abc import Iterator

from tests.forge import (
    EMPTY_DICT,
    POP,
    REDUCE,
    append,
    call,
    call_with,
    dict_of,
    get,
    line_int,
    list_of,
    name,
    ops,
    pickled,
    put,
    py2_string,
    storage,
    text,
    torch_zip,
    tuple_of,
)
from tests.scan.gadgets import MARKER, MKDIR
from tests.scan.vectors.vector import BOOM, Vector, silent, v


def disagreements() -> Iterator[Vector]:
    """Class 18: one loader runs what another refuses."""
    yield v(
        "reduce-list",
        "REDUCE with a list: an error in C, a call in Python",
        pickled(call_with(MKDIR, list_of(MARKER))),
        ("python",),
    )
    yield silent(
        "newobj-list",
        "NEWOBJ with a list of arguments",
        pickled(name("_io", "FileIO"), list_of(MARKER, "w"), b"\x81"),
    )
    yield v(
        "reduce-dict",
        "REDUCE with a dict: its keys are the arguments in Python",
        pickled(call_with(MKDIR, dict_of({MARKER: 0}))),
        ("python",),
    )
    yield v(
        "reduce-string",
        "REDUCE with a string: its letters are the arguments in Python",
        pickled(call_with(MKDIR, text("m"))),
        ("python",),
    )
    yield silent("int-octal", "INT 010: 8 or an error", pickled(line_int(b"010")))
    yield silent("int-underscore", "INT 1_0: 10 or an error", pickled(line_int(b"1_0")))
    yield silent("int-space", "INT with blanks", pickled(line_int(b" 10 ")))
    yield silent(
        "global-at-end",
        "the file ends in a name: Python cuts its last letter",
        b"\x80\x02cos\nsystemX",
    )
    yield v(
        "python-only-tail",
        "C gives up before the payload, Python does not",
        pickled(call_with(name("builtins", "len"), list_of("ab")), POP, BOOM),
        ("python",),
    )
    yield v(
        "c-only-octal-memo",
        "a number that picks another memo entry",
        pickled(line_int(b"010"), POP, BOOM),
        ("c-file", "c-bytes"),
    )
    yield silent(
        "escaped-mutation",
        "an argument that changes behind the call that took it",
        pickled(
            list_of(1),
            put(0),
            POP,
            name("collections", "deque"),
            tuple_of(get(0)),
            REDUCE,
            put(1),
            POP,
            append(get(0), 2),
            POP,
            get(1),
        ),
    )
    yield silent(
        "escaped-mutation-rebuild",
        "a rebuild function's list of arguments changes",
        lambda: torch_zip(
            pickled(
                list_of(storage(), 0, (4,), (1,), False, call(name("collections", "OrderedDict"))),
                put(0),
                POP,
                name("torch._tensor", "_rebuild_from_type_v2"),
                tuple_of(
                    name("torch._utils", "_rebuild_tensor_v2"),
                    name("torch", "Tensor"),
                    get(0),
                    EMPTY_DICT,
                ),
                REDUCE,
                put(1),
                POP,
                append(get(0), 1),
                POP,
                get(1),
            )
        ),
        suffix=".pt",
    )
    yield v(
        "py2-string-name",
        "names as strings of python 2",
        pickled(call(ops(py2_string(b"os"), py2_string(b"mkdir"), b"\x93"), MARKER)),
    )
