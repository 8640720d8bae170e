"""The hostile files: each fails for one reason, which is its name.

`threat` is the class of attack, numbered as in docs/threat-model.md. `loaders` are those (see
live.py) that are proven to run the payload; a vector without any is a structure no loader runs but
no honest writer makes, or costs memory instead of running code. `rules` are the findings of which
the scanner must report at least one; `verdicts` what it may call the file.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from tests.forge import (
    DUP,
    EMPTY_DICT,
    LEGACY_MAGIC,
    MARK,
    MEMOIZE,
    NONE,
    POP,
    POP_MARK,
    REDUCE,
    STOP,
    SYS_INFO,
    Member,
    Ops,
    additems,
    append,
    appends,
    build,
    bytearray8,
    bytes8,
    call,
    call_with,
    dict_of,
    extension,
    frame,
    get,
    inst,
    legacy_storage,
    line_get,
    line_int,
    line_put,
    line_text,
    list_of,
    name,
    newobj,
    newobj_ex,
    npy,
    npz,
    obj,
    ops,
    persistent,
    pickled,
    proto,
    put,
    py2_string,
    quoted_string,
    safetensors,
    setitem,
    setitems,
    short_text,
    stack_name,
    storage,
    tar_file,
    tensor,
    text,
    text8,
    torch_legacy,
    torch_members,
    torch_tar,
    torch_zip,
    tuple_of,
    value,
    zip_file,
)
from tests.scan.gadgets import CHAINS, DIRECT, MARKER, MKDIR, NESTED, OS, PYTHON, SHELL, attribute

PICKLE = ("c-file", "c-bytes", "python")
TORCH = ("torch", "torch-mmap")
FLAGGED = frozenset({"unsafe", "suspicious"})
UNSAFE = frozenset({"unsafe"})
HARMFUL = ("dangerous-call", "dangerous-global")
UNKNOWN = ("unknown-call", "unknown-global", "dotted-name")
RULES_OF_THREAT = {
    3: (*HARMFUL, "dotted-name"),
    5: (*HARMFUL, "odd-name"),
    8: (*HARMFUL, "odd-target", "unknown-state", "unknown-global"),
    9: (*HARMFUL, "computed-name"),
    13: (*HARMFUL, "polyglot", "prefix-data", "gap-data"),
    16: (*HARMFUL, *UNKNOWN, "pickled-model"),
}
"""What a vector must be flagged for when it does not say."""
SUSPICIOUS = frozenset({"suspicious"})
NOT_CLEAN = frozenset({"unsafe", "suspicious", "undecided"})


@dataclass(frozen=True)
class Vector:
    """One hostile file; `until` is the last minor version of CPython 3 on which it runs."""

    name: str
    threat: int
    why: str
    build: Callable[[], bytes]
    loaders: tuple[str, ...] = ()
    verdicts: frozenset[str] = FLAGGED
    rules: tuple[str, ...] = ()
    suffix: str = ".pkl"
    until: int = 99
    needs_torch: bool = False
    deep: bool = False
    """Whether it takes a deep scan: no loader reads the place."""


BOOM = call(MKDIR, MARKER)
"""The payload: os.mkdir(MARKER)."""
HONEST = pickled(dict_of({"weight": tensor()}))
"""The data.pkl of a state dict with one tensor, in storage 0."""
HOSTILE = pickled(dict_of({"weight": BOOM}))
NAMESPACE = name("argparse", "Namespace")
EXEC = name("builtins", "exec")


def gadgets() -> Iterator[Vector]:
    """Class 1 and 2: what a call does, over the whole standard library, numpy and torch."""
    seen = Counter[str]()
    for gadget in DIRECT:
        seen[gadget.id] += 1
        number = f"-{seen[gadget.id]}" if seen[gadget.id] > 1 else ""
        body = pickled(
            call(name(gadget.module, gadget.name), *gadget.args),
            protocol=4 if "." in gadget.name else 2,
        )
        yield Vector(
            f"call-{gadget.id}{number}",
            1,
            f"calls {gadget.id}",
            partial(bytes, body),
            ("c-file",),
            UNSAFE if gadget.known else FLAGGED,
            HARMFUL if gadget.known else (*HARMFUL, *UNKNOWN),
            until=gadget.until,
            needs_torch=gadget.torch,
        )
    for chain in CHAINS:
        yield Vector(
            f"chain-{chain.id}",
            2,
            f"reaches a harmful call through {chain.id}",
            partial(bytes, pickled(chain.body, protocol=chain.protocol)),
            ("c-file",),
            UNSAFE if chain.known else FLAGGED,
            HARMFUL if chain.known else (*HARMFUL, *UNKNOWN),
            until=chain.until,
            needs_torch=chain.torch,
        )


def v(
    name: str,
    threat: int,
    why: str,
    data: bytes | Callable[[], bytes],
    loaders: tuple[str, ...] = PICKLE,
    verdicts: frozenset[str] = FLAGGED,
    rules: str = "",
    suffix: str = ".pkl",
    until: int = 99,
) -> Vector:
    make = data if callable(data) else lambda: data
    slugs = tuple(rules.split()) or RULES_OF_THREAT.get(threat, HARMFUL if loaders else ())
    return Vector(name, threat, why, make, loaders, verdicts, slugs, suffix, until)


def dotted_names() -> Iterator[Vector]:
    """Class 3: an attribute walked to through a module that anybody would let pass."""
    roads = (
        ("argparse", "_os.mkdir"),
        ("collections", "_sys.modules.get"),
        ("fractions", "re.enum.sys.modules.get"),
        ("pathlib", "os.mkdir"),
        ("uuid", "os.mkdir"),
        ("decimal", "Decimal.__class__"),
        ("datetime", "sys.modules.get"),
        ("copyreg", "__builtins__.get"),
        ("torch.serialization", "os.mkdir"),
        ("torch._utils", "sys.modules.get"),
        ("torch.storage", "io.open"),
        ("torch.hub", "os.mkdir"),
        ("numpy", "_core.os.mkdir"),
    )
    for module, dotted in roads:
        last = dotted.rpartition(".")[2]
        if last in ("mkdir", "open"):
            args = (MARKER,) if last == "mkdir" else (MARKER, "w")
            bodies = [call(name(module, dotted), *args), call(stack_name(module, dotted), *args)]
        elif last == "get":
            found = call(name(module, dotted), "os" if "modules" in dotted else "exec")
            bodies = [
                call(attribute(found, "mkdir"), MARKER)
                if "modules" in dotted
                else call(found, PYTHON)
            ]
        else:
            bodies = [call(name(module, dotted), "X", tuple_of(), dict_of({}))]
        for how, body in zip(("global", "stack-global"), bodies, strict=False):
            runs = () if last == "__class__" or module == "numpy" else ("c-file",)
            yield replace(
                v(
                    f"dotted-{module}-{dotted}-{how}",
                    3,
                    f"walks from {module} to {dotted}",
                    pickled(body, protocol=4),
                    runs,
                ),
                needs_torch=module.startswith(("torch", "numpy")),
            )
    yield v(
        "dotted-late-proto",
        3,
        "PROTO 4 in the middle of a protocol 2 pickle switches dots on",
        pickled(1, POP, proto(4), call(name("argparse", "_os.mkdir"), MARKER)),
    )
    yield v(
        "dotted-inst",
        3,
        "INST with a dotted name at protocol 4",
        pickled(inst("argparse", "_os.mkdir", MARKER), protocol=4),
    )
    yield v(
        "dotted-from-torch",
        3,
        "from the module torch itself",
        torch_zip(pickled(call(name("torch", "serialization.os.mkdir"), MARKER), protocol=4)),
        TORCH,
        suffix=".pt",
    )
    yield v(
        "dotted-vouched-head",
        3,
        "a vouched class, and one of its attributes",
        pickled(call(name("collections", "OrderedDict.fromkeys"), ["a"]), protocol=4),
        (),
    )
    yield v(
        "dotted-vouched-tail",
        3,
        "another module's way to a vouched name",
        pickled(
            call(
                name("argparse", "_os.PathLike"),
            ),
            protocol=4,
        ),
        (),
    )


def python2_names() -> Iterator[Vector]:
    """Class 4: names of python 2, which loaders map below protocol 3."""
    mapped = (
        ("cPickle", "loads", (NESTED,)),
        ("cPickle", "load", (call(name("io", "BytesIO"), NESTED),)),
        ("urllib", "urlretrieve", ("data:,x", MARKER)),
        ("dumbdbm", "open", (MARKER, "c")),
        ("commands", "getoutput", (SHELL,)),
        ("commands", "getstatusoutput", (SHELL,)),
        ("__builtin__", "eval", (PYTHON,)),
        ("__builtin__", "open", (MARKER, "w")),
        ("__builtin__", "reduce", (MKDIR, [MARKER, 0o777])),
        ("__builtin__", "getattr", (OS, "mkdir")),
        ("__builtin__", "set", (call(name("itertools", "imap"), MKDIR, [MARKER]),)),
        ("__builtin__", "bytearray", (call(name("itertools", "imap"), MKDIR, [MARKER]),)),
        ("__builtin__", "list", (call(name("itertools", "ifilter"), MKDIR, [MARKER]),)),
        ("__builtin__", "list", (call(name("itertools", "ifilterfalse"), MKDIR, [MARKER]),)),
        ("SocketServer", "UnixStreamServer", (MARKER, None)),
    )
    for module, attr, args in mapped:
        function = name(module, attr)
        inner = args[0] if isinstance(args[0], Ops) else b""
        label = next((w for w in ("imap", "ifilterfalse", "ifilter") if w.encode() in inner), "")
        body = call(function, *args)
        if attr == "getattr":
            body = call(body, MARKER)
        yield v(
            f"python2-{module}-{attr}{'-' + label if label else ''}",
            4,
            f"{module}.{attr}, mapped to what python 3 calls it",
            pickled(body),
            verdicts=UNSAFE,
        )
    yield v(
        "python2-protocol-0",
        4,
        "the same without PROTO: protocol 0 maps names too",
        pickled(call(name("cPickle", "loads"), NESTED), protocol=None),
    )
    yield v(
        "python2-stack-global",
        4,
        "STACK_GLOBAL below protocol 4 maps names as well",
        pickled(call(stack_name("cPickle", "loads"), NESTED)),
    )
    yield v(
        "python2-protocol-drops",
        4,
        "PROTO 4, then PROTO 2: the mapping is on again",
        pickled(proto(2), call(stack_name("__builtin__", "eval"), PYTHON), protocol=4),
    )
    yield v(
        "python2-inst",
        4,
        "INST of a python 2 name",
        pickled(inst("__builtin__", "eval", PYTHON)),
    )
    yield v(
        "python2-unmapped",
        4,
        "a python 2 name at protocol 4, where only python 2 has it",
        pickled(call(name("__builtin__", "eval"), PYTHON), protocol=4),
        (),
    )


def odd_names() -> Iterator[Vector]:
    """Class 5: names that are read as something else, or look like something else."""
    yield v(
        "nul-global",
        5,
        "CPython 3.11 to 3.13 import `os` for `os\\0anything`",
        pickled(call(name("os\0x", "mkdir"), MARKER)),
        ("c-file", "c-bytes"),
        rules="dangerous-global dangerous-call",
        until=13,
    )
    yield v(
        "nul-stack-global",
        5,
        "the same through STACK_GLOBAL",
        pickled(call(stack_name("os\0x", "mkdir"), MARKER), protocol=4),
        ("c-file", "c-bytes"),
        until=13,
    )
    yield v(
        "nul-inst",
        5,
        "the same through INST",
        pickled(inst("os\0x", "mkdir", MARKER)),
        ("c-file", "c-bytes"),
        until=13,
    )
    yield v(
        "nul-vouched",
        5,
        "a vouched module with a NUL behind it",
        pickled(call(name("collections\0.x", "OrderedDict"))),
        (),
    )
    yield v(
        "nul-hides-os",
        5,
        "what stands behind the NUL looks vouched",
        pickled(call(name("os\0collections", "mkdir"), MARKER)),
        ("c-file", "c-bytes"),
        until=13,
    )
    for label, module, attr in (
        ("space", "collections ", "OrderedDict"),
        ("tab", "\tcollections", "OrderedDict"),
        ("return", "collections\r", "OrderedDict"),
        ("look-alike", "collecti\u043ens", "OrderedDict"),
        ("zero-width", "collections\u200b", "OrderedDict"),
        ("fullwidth", "\uff43ollections", "OrderedDict"),
        ("name-space", "collections", "OrderedDict "),
        ("name-look-alike", "collections", "\u041erderedDict"),
        ("empty-module", "", "OrderedDict"),
        ("empty-name", "collections", ""),
        ("escape", "collections\x1b[2K", "OrderedDict"),
    ):
        yield v(
            f"odd-name-{label}",
            5,
            "a name that is not quite a vouched one",
            pickled(call(name(module, attr))),
            (),
        )
    yield v(
        "surrogate-name",
        5,
        "a lone surrogate in a name",
        pickled(call(stack_name(text("collections\udc80"), "OrderedDict")), protocol=4),
        (),
    )


def memo() -> Iterator[Vector]:
    """Class 6: memo and frames, which a linear scan follows wrongly."""
    os_, print_ = short_text("os"), short_text("builtins")
    mkdir, safe = short_text("mkdir"), short_text("len")
    yield v(
        "memo-put-twice",
        6,
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
        6,
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
        6,
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
        6,
        "the module comes from a DUP",
        pickled(os_, DUP, put(0), POP, POP, call(ops(get(0), mkdir, b"\x93"), MARKER), protocol=4),
    )
    yield v(
        "memo-put-after-get",
        6,
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
        6,
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
        6,
        "strings that a linear scan would take are dropped by POP_MARK",
        pickled(
            os_, mkdir, MARK, print_, safe, POP_MARK, b"\x93", tuple_of(MARKER), REDUCE, protocol=4
        ),
    )
    yield v(
        "memo-pop-takes-mark",
        6,
        "POP on an empty segment takes the mark away",
        pickled(os_, mkdir, MARK, POP, b"\x93", tuple_of(MARKER), REDUCE, protocol=4),
    )
    yield v(
        "memo-padding-between",
        6,
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
        6,
        "the function itself comes from the memo",
        pickled(MKDIR, put(0), POP, call(get(0), MARKER)),
    )
    yield v(
        "memo-restarts",
        6,
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
        6,
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
        6,
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
        6,
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
        rules="opcode-crosses-frame",
    )
    yield v(
        "frame-split-put",
        6,
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
        rules="opcode-crosses-frame",
    )
    yield v(
        "frame-split-global",
        6,
        "GLOBAL crosses a frame's end: the module loses its head",
        pickled(frame(b"ctorch.nn.modules."), b"os\nmkdir\n", tuple_of(MARKER), REDUCE, protocol=4),
        ("c-bytes",),
        rules="opcode-crosses-frame",
    )
    yield v(
        "frame-split-global-name",
        6,
        "GLOBAL crosses a frame's end: the name loses its head",
        pickled(frame(b"cos\nno_such_"), b"mkdir\n", tuple_of(MARKER), REDUCE, protocol=4),
        ("c-bytes",),
        rules="opcode-crosses-frame",
    )
    yield v(
        "frame-split-inst",
        6,
        "INST crosses a frame's end",
        pickled(MARK, text(MARKER), frame(b"ibuiltins_"), b"os\nmkdir\n", protocol=4),
        ("c-bytes",),
        rules="opcode-crosses-frame",
    )
    yield v(
        "frame-split-unicode",
        6,
        "UNICODE crosses a frame's end: the string loses its head",
        pickled(
            frame(b"Vcollections."), b"os\n", mkdir, b"\x93", tuple_of(MARKER), REDUCE, protocol=4
        ),
        ("c-bytes",),
        rules="opcode-crosses-frame",
    )
    yield v(
        "frame-split-unicode-other-way",
        6,
        "the whole string names os; over BytesIO it does not",
        pickled(frame(b"Vo"), b"s\n", mkdir, b"\x93", tuple_of(MARKER), REDUCE, protocol=4),
        ("c-file",),
        rules="opcode-crosses-frame",
    )
    yield v(
        "frame-split-torch",
        6,
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
        TORCH,
        rules="opcode-crosses-frame",
        suffix=".pt",
    )
    yield v(
        "frame-split-int",
        6,
        "an integer that two loaders read differently",
        pickled(frame(b"I1"), b"1\n", protocol=4),
        (),
        rules="opcode-crosses-frame",
    )
    yield v(
        "frame-split-binary",
        6,
        "a binary opcode across a frame's end",
        pickled(frame(b"X\x02\0"), b"\0\0ab", protocol=4),
        (),
        rules="opcode-crosses-frame",
    )
    yield v(
        "frame-nested",
        6,
        "a frame inside a frame",
        pickled(frame(frame(b"K\1"), b"0", value(1)), protocol=4),
        (),
        SUSPICIOUS,
        "nested-frame",
    )
    yield v(
        "frame-past-stop",
        6,
        "a frame that goes on behind STOP",
        pickled(frame(b"K\1.", b"K\2"), protocol=4),
        (),
        SUSPICIOUS,
        "frame-past-stop",
    )
    yield v(
        "frame-past-end",
        6,
        "a frame longer than the file: an error in C, no matter in Python",
        pickled(frame(BOOM, nbytes=10_000), protocol=4),
        ("python",),
        rules="frame-past-end",
    )


def extension_codes() -> Iterator[Vector]:
    """Class 7: EXT codes, whose names are not in the file or stand elsewhere in it."""
    for code in (7, 0x1234, 0x12345):
        yield v(
            f"ext-{len(extension(code)) - 1}-after-add-extension",
            7,
            "copyreg.add_extension, then the code",
            pickled(
                call(name("copyreg", "add_extension"), "os", "mkdir", code),
                POP,
                call(extension(code), MARKER),
            ),
            ("c-file",),
            rules="extension-code",
        )
    yield v(
        "ext-alone",
        7,
        "a code that only the loading program knows",
        pickled(extension(5)),
        (),
        rules="extension-code",
    )
    yield v(
        "ext-called",
        7,
        "a call of a code that only the loading program knows",
        pickled(call(extension(5), MARKER)),
        (),
        rules="extension-code",
    )


def without_reduce() -> Iterator[Vector]:
    """Class 8: execution by every other opcode."""
    yield v("inst", 8, "INST", pickled(inst("os", "mkdir", MARKER)))
    yield v(
        "inst-no-proto",
        8,
        "INST at protocol 0",
        pickled(
            ops(MARK, quoted_string(b"'%s'" % MARKER.encode()), b"ios\nmkdir\n"), protocol=None
        ),
    )
    yield v("obj", 8, "OBJ", pickled(obj(MKDIR, MARKER)))
    yield v(
        "obj-pop",
        8,
        "OBJ, and POP takes the result away",
        pickled(obj(MKDIR, MARKER), POP, dict_of({"a": 1})),
    )
    yield v(
        "reduce-pop",
        8,
        "REDUCE, and POP takes the result away",
        pickled(BOOM, POP, dict_of({"a": 1})),
    )
    yield v(
        "reduce-pop-mark",
        8,
        "REDUCE behind a mark, and POP_MARK takes all away",
        pickled(MARK, BOOM, POP_MARK, dict_of({"a": 1})),
    )
    lazy = call(name("builtins", "map"), MKDIR, [MARKER])
    for cls in ("bytes", "tuple", "frozenset"):
        yield v(
            f"newobj-{cls}-map",
            8,
            f"NEWOBJ: {cls}.__new__ runs an iterator",
            pickled(newobj(name("builtins", cls), lazy)),
            verdicts=UNSAFE,
        )
    yield v(
        "newobj-map-then-build",
        8,
        "the iterator is made by NEWOBJ as well",
        pickled(
            newobj(name("builtins", "tuple"), newobj(name("builtins", "map"), MKDIR, [MARKER]))
        ),
    )
    yield v(
        "newobj-zip",
        8,
        "iterators in iterators",
        pickled(newobj(name("builtins", "bytes"), newobj(name("builtins", "zip"), lazy))),
    )
    yield v(
        "newobj-ex-partial",
        8,
        "NEWOBJ_EX, then a call of what it made",
        pickled(call(newobj_ex(name("functools", "partial"), (MKDIR,), {"path": MARKER}))),
    )
    yield v(
        "newobj-ex-tuple",
        8,
        "NEWOBJ_EX with no keyword",
        pickled(newobj_ex(name("builtins", "tuple"), (lazy,), {}), protocol=4),
    )
    setstate = dict_of({"__setstate__": MKDIR})
    hosts = (
        ("namespace", newobj(NAMESPACE), False),
        ("namespace-called", call(NAMESPACE), False),
        ("ordered-dict", call(name("collections", "OrderedDict")), False),
        ("ordered-dict-newobj", newobj(name("collections", "OrderedDict")), False),
        ("counter", call(name("collections", "Counter")), False),
        ("simple-namespace", call(name("types", "SimpleNamespace")), False),
        ("parameter-dict", newobj(name("torch.nn.modules.container", "ParameterDict")), True),
        ("module", newobj(name("torch.nn.modules.linear", "Linear")), True),
    )
    for label, host, torch in hosts:
        if torch:
            continue
        yield v(
            f"build-setstate-{label}",
            8,
            "BUILD plants __setstate__, the next BUILD calls it",
            pickled(build(build(host, setstate), MARKER)),
        )
    yield v(
        "build-append-attribute",
        8,
        "BUILD plants `append`, APPEND calls it",
        pickled(append(build(newobj(NAMESPACE), {"append": MKDIR}), MARKER)),
    )
    yield v(
        "build-appends-attribute",
        8,
        "BUILD plants `append`, APPENDS calls it",
        pickled(appends(build(newobj(NAMESPACE), {"append": MKDIR}), MARKER)),
    )
    yield v(
        "build-extend-attribute",
        8,
        "BUILD plants `extend`, APPENDS calls it",
        pickled(
            appends(
                build(
                    newobj(NAMESPACE),
                    {"extend": attribute(newobj(name("itertools", "chain")), "from_iterable")},
                ),
                lazy,
            )
        ),
        (),
    )
    yield v(
        "build-add-attribute",
        8,
        "BUILD plants `add`, ADDITEMS calls it",
        pickled(additems(build(newobj(NAMESPACE), {"add": MKDIR}), MARKER), protocol=4),
    )
    yield v(
        "build-append-ordered-dict",
        8,
        "an OrderedDict with a planted `append`",
        pickled(append(build(call(name("collections", "OrderedDict")), {"append": MKDIR}), MARKER)),
    )
    yield v(
        "build-append-class",
        8,
        "a class gets an `append` by the slot state of BUILD",
        pickled(build(NAMESPACE, (None, {"append": EXEC})), POP, append(newobj(NAMESPACE), PYTHON)),
    )
    yield v(
        "build-setitem-class",
        8,
        "a class gets a `__setitem__`, SETITEM calls it",
        pickled(
            build(NAMESPACE, (None, {"__setitem__": MKDIR})),
            POP,
            setitem(newobj(NAMESPACE), MARKER, 0o777),
        ),
    )
    yield v(
        "build-setitems-class",
        8,
        "the same by SETITEMS",
        pickled(
            build(NAMESPACE, (None, {"__setitem__": MKDIR})),
            POP,
            setitems(newobj(NAMESPACE), MARKER, 0o777),
        ),
    )
    yield v(
        "build-new-class",
        8,
        "a class gets a `__new__`, NEWOBJ calls it",
        pickled(
            build(
                NAMESPACE,
                (
                    None,
                    {
                        "__new__": attribute(
                            call(name("functools", "partial"), MKDIR, MARKER), "__call__"
                        )
                    },
                ),
            ),
            POP,
            newobj(NAMESPACE),
        ),
        (),
    )
    yield v(
        "build-module",
        8,
        "BUILD overwrites a vouched function of a module",
        pickled(
            build(name("re", "copyreg"), {"_reconstructor": MKDIR}),
            POP,
            call(name("copyreg", "_reconstructor"), MARKER),
        ),
    )
    yield v(
        "build-module-class",
        8,
        "BUILD overwrites a vouched class of a module",
        pickled(
            build(name("argparse", "_sys"), {"exit": MKDIR}), POP, call(name("sys", "exit"), MARKER)
        ),
    )
    yield v(
        "build-module-dotted",
        8,
        "the module is reached by a dotted name",
        pickled(
            build(name("uuid", "os.sys"), {"exit": MKDIR}),
            POP,
            call(name("sys", "exit"), MARKER),
            protocol=4,
        ),
    )
    yield v(
        "setitem-module-dict",
        8,
        "SETITEM on a module's namespace",
        pickled(
            setitem(name("copyreg", "__dict__"), "_reconstructor", MKDIR),
            POP,
            call(name("copyreg", "_reconstructor"), MARKER),
        ),
    )
    yield v(
        "setitem-sys-modules",
        8,
        "SETITEM on sys.modules",
        pickled(
            setitem(name("sys", "modules"), "decimal", OS),
            POP,
            call(name("decimal", "mkdir"), MARKER),
        ),
    )
    yield v(
        "setitem-on-a-name",
        8,
        "SETITEM on a vouched name",
        pickled(setitem(name("collections", "OrderedDict"), "a", 1)),
        (),
    )
    yield v(
        "append-on-a-name",
        8,
        "APPEND on a vouched name",
        pickled(append(name("collections", "deque"), 1)),
        (),
    )
    yield v(
        "build-on-a-name",
        8,
        "BUILD on a vouched name",
        pickled(build(name("collections", "OrderedDict"), {"a": 1})),
        (),
    )
    yield v(
        "build-on-a-function",
        8,
        "BUILD on a vouched function",
        pickled(build(name("torch._utils", "_rebuild_tensor_v2"), {"a": 1})),
        (),
    )
    yield v(
        "append-to-a-call",
        8,
        "APPENDS on what an unknown call made",
        pickled(appends(call(name("collections", "UserList")), 1)),
        (),
    )


def computed_names() -> Iterator[Vector]:
    """Class 9: STACK_GLOBAL whose strings are made while loading."""
    joined = call(name("builtins", "str.join"), "", ["mk", "dir"])
    yield v(
        "computed-join",
        9,
        "the name is the result of str.join",
        pickled(call(stack_name("os", joined), MARKER), protocol=4),
    )
    yield v(
        "computed-str",
        9,
        "the module is made by `str`, which many vouch for",
        pickled(
            call(stack_name(call(name("builtins", "str"), b"os", "ascii"), "mkdir"), MARKER),
            protocol=4,
        ),
    )
    yield v(
        "computed-str-newobj",
        9,
        "the same by NEWOBJ",
        pickled(
            call(stack_name("os", newobj(name("builtins", "str"), b"mkdir", "ascii")), MARKER),
            protocol=4,
        ),
    )
    yield v(
        "computed-replace",
        9,
        "the name is the result of str.replace",
        pickled(
            call(
                stack_name("os", call(name("builtins", "str.replace"), "mkXir", "X", "d")), MARKER
            ),
            protocol=4,
        ),
    )
    yield v(
        "computed-getattr",
        9,
        "the module is another object's attribute",
        pickled(call(stack_name(attribute(OS, "__name__"), "mkdir"), MARKER), protocol=4),
    )
    yield v(
        "computed-decode",
        9,
        "the module is decoded",
        pickled(
            call(stack_name(call(name("_codecs", "decode"), b"bf", "rot13"), "mkdir"), MARKER),
            protocol=4,
        ),
        (),
    )
    yield v(
        "computed-of-a-vouched-name",
        9,
        "both halves come out as vouched ones",
        pickled(
            call(stack_name("collections", call(name("builtins", "str"), "Counter"))), protocol=4
        ),
        (),
    )
    yield v(
        "computed-bytes",
        9,
        "STACK_GLOBAL of bytes: an error, and no honest file",
        pickled(ops(value(b"os"), value("mkdir"), b"\x93"), protocol=4),
        (),
        NOT_CLEAN,
    )


def broken() -> Iterator[Vector]:
    """Class 10: the payload has run when the loader gives up."""
    tails = (
        ("cut", b""),
        ("no-opcode", b"\xff"),
        ("empty-stack", b"00000000"),
        ("missing-memo", b"h\xfa."),
        ("bad-utf8", b"X\x01\0\0\0\xff."),
        ("string-too-long", b"X\xff\xff\xff\x0fabc"),
        ("no-mark", b"t."),
        ("bad-number", b"Iseven\n."),
        ("protocol-99", b"\x80\x63."),
        ("negative-length", b"T\xff\xff\xff\xff."),
        ("persistent-id", b"Pabc\n."),
        ("out-of-band", b"\x97."),
        ("unhashable-key", b"}]K\1s."),
        ("no-such-name", b"cno_such_module\nx\n."),
        ("unquoted-string", b"Sabc\n."),
    )
    for label, tail in tails:
        yield v(
            f"broken-{label}",
            10,
            "the stream is broken behind the payload",
            bytes(ops(proto(2), BOOM, tail)),
        )
    yield v(
        "broken-torch-zip",
        10,
        "the same inside a torch zip",
        torch_zip(bytes(ops(proto(2), BOOM, b"\xff"))),
        TORCH,
        suffix=".pt",
    )
    yield v(
        "broken-zip-cut",
        10,
        "a torch zip that lost its directory",
        torch_zip(HOSTILE)[:-60],
        (),
        suffix=".pt",
    )


def streams() -> Iterator[Vector]:
    """Class 11: not the first pickle."""
    plain = pickled(dict_of({"a": 1}))
    boom = pickled(BOOM)
    yield v("second-pickle", 11, "the payload is in the second pickle", plain + boom, ("every",))
    yield v("fifth-pickle", 11, "the payload is in the fifth", plain * 4 + boom, ("every",))
    yield v(
        "second-after-number", 11, "the first pickle is a number", pickled(1) + boom, ("every",)
    )
    yield v(
        "second-without-proto",
        11,
        "the second has no PROTO",
        plain + pickled(BOOM, protocol=None),
        ("every",),
    )
    yield v(
        "data-pkl-second-pickle",
        11,
        "behind the STOP of a data.pkl",
        torch_zip(HONEST + boom),
        (),
        suffix=".pt",
    )
    positions = ("magic", "protocol", "sys_info", "body", "keys")
    for i, label in enumerate(positions):

        def make(i: int = i) -> bytes:
            parts = [
                pickled(LEGACY_MAGIC),
                pickled(1001),
                pickled(SYS_INFO),
                pickled(dict_of({"a": 1})),
                pickled([]),
            ]
            parts[i] = bytes(ops(proto(2), BOOM, POP, parts[i][2:]))
            return torch_legacy(
                parts[3], magic=parts[0], protocol=parts[1], sys_info=parts[2], keys=parts[4]
            )

        yield v(
            f"legacy-{i + 1}-{label}",
            11,
            f"in pickle {i + 1} of a legacy torch file",
            make,
            ("torch",),
            suffix=".pth",
        )
    yield v(
        "legacy-trailing",
        11,
        "behind the records of a legacy torch file",
        lambda: torch_legacy(
            pickled(dict_of({"w": tensor(legacy_storage())})), {"0": bytes(16)}, trailing=boom
        ),
        (),
        suffix=".pth",
    )
    tar = torch_tar
    yield v(
        "tar-pickle",
        11,
        "in the `pickle` of a torch tar",
        lambda: tar(boom),
        ("torch",),
        suffix=".pth",
    )
    yield v(
        "tar-storages-count",
        11,
        "in the count of `storages`",
        lambda: tar(plain, storages=pickled(BOOM, POP, 0) + pickled([])),
        ("torch",),
        suffix=".pth",
    )
    yield v(
        "tar-storages-entry",
        11,
        "in an entry of `storages`",
        lambda: tar(plain, storages=pickled(1) + boom),
        ("torch",),
        suffix=".pth",
    )
    yield v(
        "tar-storages-views",
        11,
        "in the views of `storages`",
        lambda: tar(plain, storages=pickled(0) + boom),
        ("torch",),
        suffix=".pth",
    )
    yield v(
        "tar-tensors-count",
        11,
        "in the count of `tensors`",
        lambda: tar(plain, tensors=boom),
        ("torch",),
        suffix=".pth",
    )
    yield v(
        "tar-tensors-entry",
        11,
        "in an entry of `tensors`",
        lambda: tar(plain, tensors=pickled(1) + boom),
        ("torch",),
        suffix=".pth",
    )
    yield v(
        "tar-sys-info",
        11,
        "in `sys_info`, which newer loaders skip",
        lambda: tar(plain, sys_info=boom),
        (),
        suffix=".pth",
    )
    yield v(
        "tar-body-second",
        11,
        "behind the STOP of `pickle`",
        lambda: tar(plain + boom),
        (),
        suffix=".pth",
    )


def zip_names() -> Iterator[Vector]:
    """Class 12: two entries that answer to one name, or one under another's."""

    def two(first: Member, second: Member, *, front: bool = True) -> bytes:
        honest = torch_members(HONEST)[1:]
        rest = [second, *honest] if front else [*honest, second]
        return zip_file([first, *rest])

    good = Member("archive/data.pkl", HONEST)
    evil = Member("archive/data.pkl", HOSTILE)
    yield v(
        "zip-duplicate-second",
        12,
        "data.pkl twice, the second one harmful",
        two(good, evil),
        (),
        rules="duplicate-member",
        suffix=".pt",
    )
    yield v(
        "zip-duplicate-first",
        12,
        "data.pkl twice, the first one harmful",
        two(evil, good),
        TORCH,
        rules="duplicate-member",
        suffix=".pt",
    )
    yield v(
        "zip-duplicate-last",
        12,
        "the harmful one stands at the end",
        two(good, evil, front=False),
        (),
        rules="duplicate-member",
        suffix=".pt",
    )
    for label, other in (
        ("upper", "archive/DATA.PKL"),
        ("mixed", "archive/Data.pkl"),
        ("folder", "ARCHIVE/data.pkl"),
    ):
        yield v(
            f"zip-case-{label}-second",
            12,
            f"{other} beside data.pkl",
            two(good, replace(evil, name=other)),
            (),
            rules="case-variant-member",
            suffix=".pt",
        )
        yield v(
            f"zip-case-{label}-first",
            12,
            f"data.pkl is harmful, {other} is not",
            two(evil, replace(good, name=other)),
            () if label == "folder" else TORCH,
            rules="case-variant-member",
            suffix=".pt",
        )
    yield v(
        "zip-case-only",
        12,
        "there is only a DATA.PKL, which torch takes",
        zip_file([Member("archive/DATA.PKL", HOSTILE), *torch_members(HONEST)[1:]]),
        TORCH,
        suffix=".pt",
    )
    yield v(
        "zip-second-root",
        12,
        "a second folder with a data.pkl of its own",
        zip_file([*torch_members(HONEST), Member("other/data.pkl", HOSTILE)]),
        (),
        suffix=".pt",
    )
    yield v(
        "zip-second-root-first",
        12,
        "the honest folder comes second",
        zip_file(
            [
                Member("other/data.pkl", HOSTILE),
                Member("other/version", b"3\n"),
                *torch_members(HONEST),
            ]
        ),
        (),
        suffix=".pt",
    )
    yield v(
        "zip-backslash",
        12,
        "a backslash where other readers see a folder",
        zip_file([Member("archive\\data.pkl", HOSTILE), *torch_members(HONEST)]),
        (),
        suffix=".pt",
    )
    yield v(
        "zip-nul-in-name",
        12,
        "a NUL in a name: zipfile cuts it there",
        zip_file([Member("archive/data.pkl\0.txt", HOSTILE), *torch_members(HONEST)]),
        (),
        suffix=".pt",
    )
    yield v(
        "zip-path-traversal",
        12,
        "a member that would be unpacked elsewhere",
        zip_file([*torch_members(HONEST), Member("archive/../../x", b"hello")]),
        (),
        rules="path-traversal-member",
        suffix=".pt",
    )
    yield v(
        "zip-absolute-path",
        12,
        "a member with an absolute path",
        zip_file([*torch_members(HONEST), Member("/etc/x", b"hello")]),
        (),
        rules="path-traversal-member",
        suffix=".pt",
    )


def zip_disagreements() -> Iterator[Vector]:
    """Class 13: what one reader of the archive sees and another does not."""
    evil = torch_members(HOSTILE)
    rest = torch_members(HONEST)[1:]

    def with_first(**fields: object) -> bytes:
        return zip_file([replace(evil[0], **fields), *evil[1:]])  # type: ignore[arg-type]

    yield v(
        "zip-local-name",
        13,
        "another name in the local header: zipfile refuses, torch loads",
        with_first(local_name="archive/README"),
        TORCH,
        rules="local-header-mismatch",
        suffix=".pt",
    )
    yield v(
        "zip-local-flags",
        13,
        "encrypted, says the local header alone",
        with_first(local_flags=1),
        TORCH,
        rules="local-header-mismatch",
        suffix=".pt",
    )
    yield v(
        "zip-local-method",
        13,
        "deflated, says the local header alone",
        with_first(local_method=8),
        TORCH,
        rules="local-header-mismatch",
        suffix=".pt",
    )
    yield v(
        "zip-local-size",
        13,
        "another size in the local header",
        with_first(local_nbytes=3),
        TORCH,
        rules="local-header-mismatch",
        suffix=".pt",
    )
    yield v(
        "zip-local-crc",
        13,
        "another CRC-32 in the local header",
        with_first(local_crc32=1),
        TORCH,
        rules="local-header-mismatch",
        suffix=".pt",
    )
    yield v(
        "zip-bad-crc",
        13,
        "the CRC-32 is wrong: zipfile refuses, torch loads",
        with_first(crc32=1),
        TORCH,
        suffix=".pt",
    )
    yield v(
        "zip-encrypted",
        13,
        "the directory calls it encrypted",
        with_first(flags=1),
        (),
        NOT_CLEAN,
        "encrypted-member",
        suffix=".pt",
    )
    yield v(
        "zip-strong-encryption",
        13,
        "the flag of strong encryption",
        with_first(flags=0x41),
        (),
        NOT_CLEAN,
        "encrypted-member",
        suffix=".pt",
    )
    yield v(
        "zip-unknown-method",
        13,
        "compressed in a way nobody reads",
        with_first(method=99),
        (),
        NOT_CLEAN,
        suffix=".pt",
    )
    yield v(
        "zip-deflated", 13, "deflated: torch inflates it", with_first(method=8), TORCH, suffix=".pt"
    )
    yield v(
        "zip-shared-body",
        13,
        "the directory's data.pkl points at another member's body",
        zip_file(
            [
                Member("archive/data.pkl", HOSTILE, local_name="archive/notes", in_directory=True),
                *rest,
            ]
        ),
        TORCH,
        rules="local-header-mismatch",
        suffix=".pt",
    )
    yield replace(
        v(
            "zip-not-in-directory",
            13,
            "a data.pkl that only a walk of the local headers sees",
            zip_file([replace(evil[0], in_directory=False), *torch_members(HONEST)]),
            (),
            suffix=".pt",
        ),
        deep=True,
    )
    yield v(
        "zip-prefix",
        13,
        "bytes in front of the archive",
        torch_zip(HOSTILE, prefix=b"\n" * 64),
        (),
        suffix=".pt",
    )
    yield v(
        "zip-prefix-uncounted",
        13,
        "the same, and no offset counts them",
        torch_zip(HOSTILE, prefix=b"\n" * 64, counts_prefix=False),
        (),
        suffix=".pt",
    )
    yield replace(
        v(
            "zip-gap",
            13,
            "bytes between the members, a pickle of them",
            torch_zip(HONEST, gap=pickled(BOOM)),
            (),
            suffix=".pt",
        ),
        deep=True,
    )
    yield replace(
        v(
            "zip-before-directory",
            13,
            "bytes in front of the directory",
            torch_zip(HONEST, trailing=pickled(BOOM)),
            (),
            suffix=".pt",
        ),
        deep=True,
    )
    yield replace(
        v(
            "zip-comment",
            13,
            "a pickle as the archive's comment",
            torch_zip(HONEST, comment=pickled(BOOM)),
            (),
            suffix=".pt",
        ),
        deep=True,
    )
    yield v(
        "zip-after-end",
        13,
        "bytes behind the archive",
        torch_zip(HOSTILE, after_end=b"x" * 40),
        TORCH,
        rules="trailing-data",
        suffix=".pt",
    )
    yield v(
        "zip-wrong-count",
        13,
        "the end record counts fewer members than there are",
        torch_zip(HOSTILE, count=1),
        (),
        suffix=".pt",
    )
    yield v(
        "zip-two-archives",
        13,
        "one archive behind another: readers take one or the other",
        torch_zip(HOSTILE) + torch_zip(HONEST),
        (),
        suffix=".pt",
    )
    yield v(
        "zip-two-archives-other",
        13,
        "the honest one first",
        torch_zip(HONEST) + torch_zip(HOSTILE),
        (),
        suffix=".pt",
    )
    yield v(
        "polyglot-pickle-zip",
        13,
        "a pickle with an honest archive behind it: loaders take "
        "the pickle, is_zipfile the archive",
        pickled(BOOM) + torch_zip(HONEST),
        (*PICKLE, "torch"),
        suffix=".pt",
    )
    yield v(
        "polyglot-pickle-end-record",
        13,
        "a pickle with an empty end record behind it",
        pickled(BOOM) + zip_file([]),
        (*PICKLE, "torch"),
        suffix=".pt",
    )
    yield v(
        "polyglot-pickle-relative-zip",
        13,
        "the archive's offsets do not count the pickle",
        torch_zip(HONEST, prefix=pickled(BOOM), counts_prefix=False),
        (*PICKLE, "torch"),
        suffix=".pt",
    )
    yield v(
        "polyglot-legacy-zip",
        13,
        "a legacy torch file with an archive behind it",
        lambda: torch_legacy(pickled(BOOM)) + torch_zip(HONEST),
        ("torch",),
        suffix=".pt",
    )
    yield v(
        "polyglot-tar-zip",
        13,
        "a torch tar with an archive behind it",
        lambda: torch_tar(pickled(BOOM)) + torch_zip(HONEST),
        ("torch",),
        suffix=".pt",
    )
    yield v(
        "polyglot-gzip-zip",
        13,
        "a gzip with an archive behind it",
        lambda: gzip.compress(pickled(BOOM)) + torch_zip(HONEST),
        ("gzip",),
        suffix=".pt",
    )
    yield v(
        "polyglot-safetensors-pickle",
        13,
        "begins like safetensors, ends as an archive",
        lambda: safetensors({"__metadata__": {"format": "pt"}}) + torch_zip(HOSTILE),
        (),
        suffix=".safetensors",
    )
    yield v(
        "pickle-named-safetensors",
        13,
        "a pickle under the name of a safe format",
        pickled(BOOM),
        PICKLE,
        suffix=".safetensors",
    )
    yield v(
        "torch-zip-named-safetensors",
        13,
        "a torch zip under the name of a safe format",
        torch_zip(HOSTILE),
        TORCH,
        suffix=".safetensors",
    )
    yield v(
        "pickle-named-png",
        13,
        "a pickle under a name that nobody scans",
        pickled(BOOM),
        PICKLE,
        suffix=".png",
    )
    yield v(
        "zip64-end-record",
        13,
        "the zip64 end record and the plain one point at two directories",
        two_directories(HOSTILE, HONEST),
        ("torch", "torch-mmap"),
        rules="prefix-data gap-data overlapping-members",
        suffix=".pt",
    )
    yield v(
        "zip64-end-record-honest",
        13,
        "the same, and the harmful directory is the one that the plain record names",
        two_directories(HONEST, HOSTILE),
        (),
        rules="prefix-data gap-data overlapping-members",
        suffix=".pt",
    )
    yield replace(
        v(
            "record-crc",
            13,
            "the CRC-32 of a record is wrong: torch loads other weights than were saved",
            zip_file(
                replace(m, crc32=1) if m.name == "archive/data/0" else m
                for m in torch_members(HONEST)
            ),
            (),
            rules="crc-mismatch",
            suffix=".pt",
        ),
        deep=True,
    )


def two_directories(zip64: bytes, plain: bytes) -> bytes:
    """A torch zip whose zip64 end record points at one directory, its plain one at another."""
    first = zip_file(torch_members(zip64))
    count, nbytes, start = struct.unpack("<HII", first[-12:-2])
    both = zip_file(torch_members(plain), prefix=first[:-22])
    end64 = struct.pack(
        "<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, nbytes, start
    )
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, len(both) - 22, 1)
    return both[:-22] + end64 + locator + both[-22:]


def hidden() -> Iterator[Vector]:
    """Class 14: pickles where nobody looks."""
    boom = pickled(BOOM)
    text_boom = pickled(inst("os", "mkdir", line_text(MARKER)), protocol=None)
    places = (
        ("other-pkl", "archive/other.pkl", boom),
        ("no-suffix", "archive/notes", boom),
        ("protocol-0", "archive/notes.txt", text_boom),
        ("version", "archive/version", boom),
        ("byteorder", "archive/byteorder", boom),
        ("other-root", "extra/thing", boom),
        ("record", "archive/data/1", boom),
        ("record-protocol-0", "archive/data/1", text_boom),
        ("nested-folder", "archive/data/0/x", boom),
        ("dot-data", "archive/.data/version", boom),
    )
    for label, member, data in places:
        members = [m for m in torch_members(HONEST) if m.name != member]
        yield v(
            f"hidden-{label}",
            14,
            f"a pickle in {member}, which no tensor needs",
            zip_file([*members, Member(member, data)]),
            (),
            rules="hidden-pickle",
            suffix=".pt",
        )
    yield v(
        "hidden-deflated",
        14,
        "a deflated pickle under another name",
        zip_file([*torch_members(HONEST), Member("archive/x.bin", boom, method=8)]),
        (),
        rules="hidden-pickle",
        suffix=".pt",
    )
    yield v(
        "hidden-constants",
        14,
        "constants.pkl of a TorchScript archive",
        zip_file([*torch_members(HONEST), Member("archive/constants.pkl", boom)]),
        (),
        suffix=".pt",
    )
    yield v(
        "torchscript",
        14,
        "a TorchScript archive: code that runs by design",
        zip_file(
            [
                *torch_members(pickled(1)),
                Member("archive/constants.pkl", pickled(())),
                Member("archive/code/__torch__.py", b"def forward(): pass"),
            ]
        ),
        (),
        rules="torchscript",
        suffix=".pt",
    )
    yield v("no-proto", 14, "a pickle of protocol 0 without a PROTO byte", text_boom)
    yield v(
        "no-proto-bin", 14, "a data.pkl of protocol 0", torch_zip(text_boom), TORCH, suffix=".pt"
    )
    yield v("leading-ops", 14, "harmless opcodes in front", pickled(NONE, POP, BOOM, protocol=None))
    yield v(
        "plain-zip-member",
        14,
        "an archive without data.pkl, a pickle among its files",
        zip_file([Member("README", b"hello"), Member("weights.bin", boom)]),
        (),
        suffix=".zip",
    )
    yield v(
        "plain-tar-member",
        14,
        "a tar with a pickle among its files",
        lambda: tar_file({"README": b"hello", "weights.bin": boom}),
        (),
        suffix=".tar",
    )


def wrappers() -> Iterator[Vector]:
    """Class 15: a pickle inside something else."""
    boom = pickled(BOOM)
    yield v("gzip", 15, "gzip", lambda: gzip.compress(boom), ("gzip",), suffix=".gz")
    yield v("bz2", 15, "bzip2", lambda: bz2.compress(boom), ("bz2",), suffix=".bz2")
    yield v("xz", 15, "xz", lambda: lzma.compress(boom), ("lzma",), suffix=".xz")
    yield v(
        "lzma-alone",
        15,
        "lzma, the format before xz",
        lambda: lzma.compress(boom, lzma.FORMAT_ALONE),
        ("lzma",),
        suffix=".lzma",
    )
    yield v(
        "zlib",
        15,
        "zlib, as joblib compresses",
        lambda: zlib.compress(boom),
        ("zlib",),
        suffix=".joblib",
    )
    yield v("zlib-fast", 15, "zlib at another level", lambda: zlib.compress(boom, 1), ("zlib",))
    yield v(
        "gzip-concatenated",
        15,
        "the second member of a gzip file",
        lambda: gzip.compress(boom[:3]) + gzip.compress(boom[3:]),
        ("gzip",),
    )
    padded = boom[:-1] + bytes(ops(POP, bytearray8(bytes(1 << 20)), STOP))
    yield v(
        "gzip-trailing",
        15,
        "bytes behind a gzip, which its reader finds too late",
        lambda: gzip.compress(boom) + b"garbage",
        ("gzip",),
    )
    yield v(
        "gzip-cut",
        15,
        "a gzip that is cut behind the payload",
        lambda: gzip.compress(padded, 0)[:400_000],
        ("gzip",),
    )
    yield v(
        "bz2-cut",
        15,
        "a bzip2 that is cut behind the payload",
        lambda: bz2.compress(padded + bytes(range(256)) * 4000, 1)[:-10],
        ("bz2",),
    )
    yield v(
        "xz-cut",
        15,
        "an xz that is cut behind the payload",
        lambda: lzma.compress(padded, preset=0)[:-30],
        ("lzma",),
    )
    yield v("gzip-twice", 15, "gzip in gzip", lambda: gzip.compress(gzip.compress(boom)), ())
    yield v(
        "gzip-torch-zip", 15, "a torch zip in a gzip", lambda: gzip.compress(torch_zip(HOSTILE)), ()
    )
    yield v(
        "zip-in-zip",
        15,
        "a torch zip in a zip",
        lambda: zip_file([Member("model.pt", torch_zip(HOSTILE))]),
        (),
        suffix=".zip",
    )
    yield v(
        "zip-in-zip-deflated",
        15,
        "a torch zip in a zip, deflated",
        lambda: zip_file([Member("model.pt", torch_zip(HOSTILE), method=8)]),
        (),
        suffix=".zip",
    )
    yield v(
        "mar",
        15,
        "a TorchServe archive",
        lambda: zip_file(
            [Member("MAR-INF/MANIFEST.json", b"{}"), Member("model.pt", torch_zip(HOSTILE))]
        ),
        (),
        suffix=".mar",
    )
    yield v(
        "zip-in-tar",
        15,
        "a torch zip in a tar",
        lambda: tar_file({"model.pt": torch_zip(HOSTILE)}),
        (),
        suffix=".tar",
    )
    yield v(
        "tar-gz",
        15,
        "a tar in a gzip",
        lambda: gzip.compress(tar_file({"model.pt": torch_zip(HOSTILE)})),
        (),
        suffix=".tgz",
    )
    yield v(
        "zip-in-zip-in-zip",
        15,
        "three archives deep",
        lambda: zip_file([Member("a.zip", zip_file([Member("b.pt", torch_zip(HOSTILE))]))]),
        (),
        suffix=".zip",
    )
    yield v(
        "zip-too-deep",
        15,
        "more archives in archives than anybody looks into",
        lambda: deep_zip(12),
        (),
        NOT_CLEAN,
        suffix=".zip",
    )
    yield v("npy-object", 15, "an .npy of objects", lambda: npy(boom), ("numpy",), suffix=".npy")
    yield v(
        "npy-object-v2",
        15,
        "an .npy of objects, header version 2",
        lambda: npy(boom, version=2),
        ("numpy",),
        suffix=".npy",
    )
    yield v(
        "npy-struct-object",
        15,
        "an .npy of structures with an object in them",
        lambda: npy(boom, descr="[('a', '<f4'), ('b', '|O')]"),
        ("numpy",),
        suffix=".npy",
    )
    yield v(
        "npy-bare-pickle",
        15,
        "a pickle called .npy, which numpy loads as one",
        boom,
        ("numpy",),
        suffix=".npy",
    )
    yield v(
        "npz-object",
        15,
        "an .npz with an array of objects",
        lambda: npz({"a": npy(boom)}),
        ("numpy",),
        suffix=".npz",
    )
    yield v(
        "npz-object-deflated",
        15,
        "the same, deflated",
        lambda: npz({"a": npy(boom)}, method=8),
        ("numpy",),
        suffix=".npz",
    )
    yield v(
        "npz-raw-pickle",
        15,
        "an .npz whose member is a pickle and no array",
        lambda: zip_file([Member("a.npy", boom)]),
        (),
        suffix=".npz",
    )
    yield v(
        "npy-in-torch-zip",
        15,
        "an .npy of objects as a member of a torch zip",
        lambda: zip_file([*torch_members(HONEST), Member("archive/extra.npy", npy(boom))]),
        ("numpy",),
        suffix=".pt",
    )
    yield v(
        "gzip-in-torch-zip",
        15,
        "a gzip as a member of a torch zip",
        lambda: zip_file([*torch_members(HONEST), Member("archive/extra.gz", gzip.compress(boom))]),
        (),
        suffix=".pt",
    )


def deep_zip(levels: int) -> bytes:
    """A torch zip in `levels` zips."""
    data = torch_zip(HOSTILE)
    for _ in range(levels):
        data = zip_file([Member("inner.zip", data)])
    return data


def nested() -> Iterator[Vector]:
    """Class 16: vouched names that load, call or hold something else."""
    rebuild = name("torch._tensor", "_rebuild_from_type_v2")
    torch_zip_of = torch_zip

    def z(label: str, why: str, body: Ops, loaders: tuple[str, ...] = TORCH) -> Vector:
        return v(label, 16, why, lambda: torch_zip_of(pickled(body)), loaders, suffix=".pt")

    load = name("torch.storage", "_load_from_bytes")
    yield z("load-from-bytes", "a pickle in a bytes argument", call(load, NESTED))
    yield z(
        "load-from-bytes-twice",
        "a pickle in a pickle in a bytes argument",
        call(load, pickled(call(load, NESTED))),
    )
    yield z(
        "rebuild-from-type-func",
        "_rebuild_from_type_v2 calls its first argument",
        call(rebuild, MKDIR, name("torch", "Tensor"), (MARKER,), {}),
    )
    yield z(
        "rebuild-from-type-list",
        "the same with a list of arguments",
        call(rebuild, MKDIR, name("torch", "Tensor"), [MARKER], {}),
    )
    yield z(
        "rebuild-from-type-state",
        "its state plants attributes on the tensor",
        call(
            rebuild,
            name("torch._utils", "_rebuild_tensor_v2"),
            name("torch", "Tensor"),
            (storage(), 0, (4,), (1,), False, call(name("collections", "OrderedDict"))),
            {"__setstate__": MKDIR},
        ),
        (),
    )
    yield z(
        "rebuild-from-type-setstate",
        "the tensor's planted __setstate__ is called",
        build(
            call(
                rebuild,
                name("torch._utils", "_rebuild_tensor_v2"),
                name("torch", "Tensor"),
                (storage(), 0, (4,), (1,), False, call(name("collections", "OrderedDict"))),
                {"__setstate__": MKDIR},
            ),
            MARKER,
        ),
    )
    yield z(
        "wrapper-subclass",
        "_rebuild_wrapper_subclass of any class",
        call(
            name("torch._utils", "_rebuild_wrapper_subclass"),
            name("subprocess", "Popen"),
            name("torch", "float32"),
            (1,),
            (1,),
            0,
            name("torch", "strided"),
            "cpu",
            False,
        ),
        (),
    )
    yield z(
        "backward-hooks",
        "a tensor with hooks that run when it is trained",
        dict_of({"w": tensor(hooks=setitem(call(name("collections", "OrderedDict")), 0, MKDIR))}),
        (),
    )
    yield z(
        "parameter-hooks",
        "a parameter with such hooks",
        dict_of(
            {
                "w": call(
                    name("torch._utils", "_rebuild_parameter"),
                    tensor(),
                    True,
                    setitem(call(name("collections", "OrderedDict")), 0, MKDIR),
                )
            }
        ),
        (),
    )
    yield z(
        "parameter-state",
        "a parameter whose state plants __setstate__",
        build(
            call(
                name("torch._utils", "_rebuild_parameter_with_state"),
                tensor(),
                True,
                call(name("collections", "OrderedDict")),
                {"__setstate__": MKDIR},
            ),
            MARKER,
        ),
    )
    yield z(
        "tensor-setstate",
        "BUILD plants __setstate__ on a tensor, and calls it",
        build(build(tensor(), (None, {"__setstate__": MKDIR})), MARKER),
        (),
    )
    yield z(
        "reconstructor-base",
        "copyreg._reconstructor runs the constructor of any base",
        call(
            name("copyreg", "_reconstructor"),
            name("subprocess", "Popen"),
            name("subprocess", "Popen"),
            ["touch", MARKER],
        ),
    )
    yield z(
        "defaultdict-factory",
        "a defaultdict whose factory is a harmful function",
        call(name("collections", "defaultdict"), MKDIR),
        (),
    )
    yield z(
        "defaultdict-partial",
        "a defaultdict whose factory is a partial",
        call(name("collections", "defaultdict"), call(name("functools", "partial"), MKDIR, MARKER)),
        (),
    )
    yield z(
        "storage-class",
        "a persistent id whose storage class is something else",
        persistent(("storage", MKDIR, "0", "cpu", 4)),
        (),
    )
    yield z(
        "numpy-object-array",
        "an array of objects with a harmful one in it",
        build(
            call(
                name("numpy._core.multiarray", "_reconstruct"), name("numpy", "ndarray"), (0,), b"b"
            ),
            (1, (1,), call(name("numpy", "dtype"), "O8", False, True), False, [BOOM]),
        ),
    )
    yield z(
        "numpy-object-name",
        "an array of objects with a harmful name in it",
        build(
            call(
                name("numpy._core.multiarray", "_reconstruct"), name("numpy", "ndarray"), (0,), b"b"
            ),
            (1, (1,), call(name("numpy", "dtype"), "O8", False, True), False, [MKDIR]),
        ),
        (),
    )
    yield z(
        "numpy-reconstruct-class",
        "numpy's _reconstruct of another class",
        call(
            name("numpy._core.multiarray", "_reconstruct"), name("subprocess", "Popen"), (0,), b"b"
        ),
        (),
    )
    yield z(
        "numpy-scalar-object",
        "a scalar of dtype object",
        call(name("numpy._core.multiarray", "scalar"), call(name("numpy", "dtype"), "O8"), MKDIR),
        (),
    )
    yield z(
        "module-pickled",
        "a layer that is called by name",
        build(newobj(name("torch.nn.modules.linear", "Linear")), {"_modules": {}}),
        (),
    )
    yield z(
        "ordered-dict-of-call",
        "a harmful call among the items of a state dict",
        ops(call(name("collections", "OrderedDict")), MARK, text("w"), BOOM, b"u"),
    )
    yield z(
        "metadata-of-call",
        "a harmful call in the `_metadata` of a state dict",
        build(call(name("collections", "OrderedDict")), {"_metadata": BOOM}),
    )
    yield z(
        "pid-of-call",
        "a harmful call inside a persistent id",
        persistent(("storage", name("torch", "FloatStorage"), BOOM, "cpu", 4)),
    )
    yield z("key-of-call", "a harmful call as the key of a dict", setitem(EMPTY_DICT, BOOM, 1))
    yield z(
        "codecs-encode",
        "_codecs.encode with another codec than honest files use",
        call(name("_codecs", "encode"), "x", "rot13"),
        (),
    )
    yield z(
        "str-codec",
        "str of bytes imports the codec it is told",
        call(name("builtins", "str"), b"x", "no_such_codec"),
        (),
    )
    yield z(
        "bytes-codec",
        "bytes of a string imports the codec it is told",
        call(name("builtins", "bytes"), "x", "no_such_codec"),
        (),
    )
    yield z(
        "getattr-bound",
        "a bound method, as python pickles one",
        call(name("builtins", "getattr"), tensor(), "share_memory_"),
        (),
    )
    yield z(
        "torch-tensor-mapped",
        "torch.tensor is mapped to torch._tensor when torch loads",
        call(
            name("torch.tensor", "_rebuild_from_type_v2"),
            MKDIR,
            name("torch", "Tensor"),
            (MARKER,),
            {},
        ),
    )
    yield z(
        "torch-function",
        "a function of torch that nobody needs to rebuild a tensor",
        call(name("torch", "zeros"), 1),
        (),
    )
    yield v(
        "legacy-module-pid",
        16,
        "a `module` persistent id brings source code along",
        lambda: torch_legacy(
            pickled(persistent(("module", name("subprocess", "Popen"), "x.py", "import os")))
        ),
        (),
        suffix=".pth",
    )


def denial() -> Iterator[Vector]:
    """Class 17: no code, but all the memory or all the time."""
    huge = 1 << 60
    yield v(
        "memo-huge",
        17,
        "a memo index that makes the C unpickler allocate gigabytes",
        pickled(1, b"r\xff\xff\xff\x7f"),
        (),
        NOT_CLEAN,
        "memo-index",
    )
    yield v(
        "memo-huge-text",
        17,
        "PUT with an index of a thousand digits",
        pickled(1, line_put(b"9" * 1000)),
        (),
        NOT_CLEAN,
        "memo-index",
    )
    yield v(
        "bytes-claim",
        17,
        "BINBYTES8 that claims an exabyte",
        pickled("x", POP, bytes8(b"x", huge)),
        (),
        NOT_CLEAN,
    )
    yield v(
        "text-claim",
        17,
        "BINUNICODE8 that claims an exabyte",
        pickled("x", POP, text8("x", huge)),
        (),
        NOT_CLEAN,
    )
    yield v(
        "bytearray-claim",
        17,
        "BYTEARRAY8 that claims an exabyte",
        pickled("x", POP, bytearray8(b"x", huge), protocol=5),
        (),
        NOT_CLEAN,
    )
    yield v(
        "long-claim",
        17,
        "LONG4 that claims two gigabytes",
        pickled("x", POP, b"\x8b\xff\xff\xff\x7f"),
        (),
        NOT_CLEAN,
    )
    yield v(
        "long-huge",
        17,
        "an integer of a megabyte",
        lambda: pickled("x", POP, b"\x8b", struct.pack("<i", 1 << 20), b"\x7f" * (1 << 20)),
        (),
        NOT_CLEAN,
    )
    yield v(
        "int-digits",
        17,
        "an integer of 100,000 digits in text",
        lambda: pickled("x", POP, line_int(b"9" * 100_000)),
        (),
        NOT_CLEAN,
    )
    calls = (
        ("bytes", name("builtins", "bytes"), (10**12,)),
        ("bytearray", name("builtins", "bytearray"), (10**12,)),
        ("range-list", name("builtins", "list"), (call(name("builtins", "range"), 10**12),)),
        ("range-tuple", name("builtins", "tuple"), (call(name("builtins", "range"), 10**12),)),
        ("range-set", name("builtins", "set"), (call(name("builtins", "range"), 10**12),)),
        ("range-deque", name("collections", "deque"), (call(name("builtins", "range"), 10**12),)),
        (
            "range-counter",
            name("collections", "Counter"),
            (call(name("builtins", "range"), 10**12),),
        ),
        ("fraction", name("fractions", "Fraction"), ("1e999999999",)),
        ("int-text", name("builtins", "int"), ("9" * 4000 + "0" * 400,)),
        ("ndarray", name("numpy", "ndarray"), ((10**12,),)),
    )
    for label, function, args in calls:
        yield v(
            f"huge-{label}",
            17,
            "an inert name with an argument that exhausts memory",
            pickled(call(function, *args)),
            (),
            NOT_CLEAN,
        )
    yield v(
        "huge-ndarray-reconstruct",
        17,
        "numpy's _reconstruct with an enormous shape",
        pickled(
            call(
                name("numpy._core.multiarray", "_reconstruct"),
                name("numpy", "ndarray"),
                (10**12,),
                b"b",
            )
        ),
        (),
        NOT_CLEAN,
    )
    yield v(
        "many-pickles",
        17,
        "ten thousand pickles in a row",
        lambda: pickled(1) * 10_000,
        (),
        NOT_CLEAN,
    )
    yield v(
        "nested-aliases",
        17,
        "a few bytes that flatten to 2^40 leaves",
        lambda: torch_zip(
            pickled(
                dict_of({"a": 1}),
                put(0),
                POP,
                *(ops(list_of(get(i), get(i)), put(i + 1), POP) for i in range(40)),
                dict_of({"w": tensor(), "x": get(40)}),
            )
        ),
        (),
        NOT_CLEAN,
        suffix=".pt",
    )
    yield v(
        "zip-bomb",
        17,
        "a data.pkl that inflates to 300 MB",
        lambda: zip_file(
            [
                Member(
                    "archive/data.pkl", pickled(bytes8(bytes(300 << 20)), POP, EMPTY_DICT), method=8
                ),
                *torch_members(HONEST)[1:],
            ]
        ),
        (),
        NOT_CLEAN,
        suffix=".pt",
    )
    yield v(
        "zip-bomb-lie",
        17,
        "the directory lies about the inflated size",
        lambda: zip_file(
            [Member("archive/data.pkl", HONEST, method=8, nbytes=10**9), *torch_members(HONEST)[1:]]
        ),
        (),
        NOT_CLEAN,
        suffix=".pt",
    )
    yield v(
        "gzip-bomb",
        17,
        "a gzip that inflates to 300 MB",
        lambda: gzip.compress(pickled(bytes8(bytes(300 << 20)))),
        (),
        NOT_CLEAN,
        suffix=".gz",
    )
    yield v(
        "tensor-bomb",
        17,
        "one element, and a stride of zero over a trillion",
        torch_zip(pickled(dict_of({"w": tensor(size=(10**6, 10**6), stride=(0, 0))}))),
        (),
        NOT_CLEAN,
        "tensor-bomb",
        suffix=".pt",
    )
    yield v(
        "storage-lie",
        17,
        "a storage that declares more than its record holds",
        torch_zip(pickled(dict_of({"w": tensor(storage(numel=10**9))}))),
        (),
        NOT_CLEAN,
        "record-size-mismatch",
        suffix=".pt",
    )
    yield v(
        "storage-negative",
        17,
        "a storage of a negative size",
        torch_zip(pickled(dict_of({"w": tensor(storage(numel=-4))}))),
        (),
        NOT_CLEAN,
        suffix=".pt",
    )
    yield v(
        "storage-missing",
        17,
        "a storage without a record",
        torch_zip(pickled(dict_of({"w": tensor(storage("9"))}))),
        (),
        NOT_CLEAN,
        suffix=".pt",
    )
    yield v(
        "storage-conflict",
        17,
        "one key, two declarations: the first one wins",
        torch_zip(
            pickled(
                dict_of(
                    {
                        "a": tensor(storage("0", "FloatStorage", 4)),
                        "b": tensor(storage("0", "IntStorage", 4)),
                    }
                )
            )
        ),
        (),
        NOT_CLEAN,
        "storage-conflict",
        suffix=".pt",
    )
    yield v(
        "tensor-past-storage",
        17,
        "a tensor longer than its storage",
        torch_zip(pickled(dict_of({"w": tensor(size=(5,))}))),
        (),
        NOT_CLEAN,
        "tensor-out-of-bounds",
        suffix=".pt",
    )
    yield v(
        "tensor-offset",
        17,
        "a tensor that begins behind its storage",
        torch_zip(pickled(dict_of({"w": tensor(offset=10**15)}))),
        (),
        NOT_CLEAN,
        "tensor-out-of-bounds",
        suffix=".pt",
    )
    yield v(
        "tensor-negative-stride",
        17,
        "a negative stride",
        torch_zip(pickled(dict_of({"w": tensor(stride=(-1,), offset=3)}))),
        (),
        NOT_CLEAN,
        suffix=".pt",
    )
    yield v(
        "tensor-negative-size",
        17,
        "a negative size",
        torch_zip(pickled(dict_of({"w": tensor(size=(-4,))}))),
        (),
        NOT_CLEAN,
        suffix=".pt",
    )
    yield v(
        "tensor-huge-size",
        17,
        "sizes whose product is a number of 10,000 digits",
        torch_zip(pickled(dict_of({"w": tensor(size=(1 << 2000,) * 2, stride=(1, 1))}))),
        (),
        NOT_CLEAN,
        suffix=".pt",
    )
    yield v(
        "legacy-numel",
        17,
        "a legacy record that claims 2^62 elements",
        lambda: torch_legacy(
            pickled(dict_of({"w": tensor(legacy_storage())})), {"0": bytes(16)}, numel=1 << 62
        ),
        (),
        NOT_CLEAN,
        suffix=".pth",
    )


def disagreements() -> Iterator[Vector]:
    """Class 18: one loader runs what another refuses."""
    yield v(
        "reduce-list",
        18,
        "REDUCE with a list: an error in C, a call in Python",
        pickled(call_with(MKDIR, list_of(MARKER))),
        ("python",),
        rules="loader-disagreement",
    )
    yield v(
        "newobj-list",
        18,
        "NEWOBJ with a list of arguments",
        pickled(name("_io", "FileIO"), list_of(MARKER, "w"), b"\x81"),
        (),
    )
    yield v(
        "reduce-dict",
        18,
        "REDUCE with a dict: its keys are the arguments in Python",
        pickled(call_with(MKDIR, dict_of({MARKER: 0}))),
        ("python",),
        rules="loader-disagreement",
    )
    yield v(
        "reduce-string",
        18,
        "REDUCE with a string: its letters are the arguments in Python",
        pickled(call_with(MKDIR, text("m"))),
        ("python",),
        rules="loader-disagreement",
    )
    yield v(
        "int-octal",
        18,
        "INT 010: 8 or an error",
        pickled(line_int(b"010")),
        (),
        SUSPICIOUS,
        "loader-disagreement",
    )
    yield v(
        "int-underscore",
        18,
        "INT 1_0: 10 or an error",
        pickled(line_int(b"1_0")),
        (),
        SUSPICIOUS,
        "loader-disagreement",
    )
    yield v(
        "int-space",
        18,
        "INT with blanks",
        pickled(line_int(b" 10 ")),
        (),
        SUSPICIOUS,
        "loader-disagreement",
    )
    yield v(
        "global-at-end",
        18,
        "the file ends in a name: Python cuts its last letter",
        b"\x80\x02cos\nsystemX",
        (),
        rules="truncated-name",
    )
    yield v(
        "python-only-tail",
        18,
        "C gives up before the payload, Python does not",
        pickled(call_with(name("builtins", "len"), list_of("ab")), POP, BOOM),
        ("python",),
    )
    yield v(
        "c-only-octal-memo",
        18,
        "a number that picks another memo entry",
        pickled(line_int(b"010"), POP, BOOM),
        ("c-file", "c-bytes"),
    )
    yield v(
        "escaped-mutation",
        18,
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
        (),
        SUSPICIOUS,
        "escaped-mutation",
    )
    yield v(
        "escaped-mutation-rebuild",
        18,
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
        (),
        SUSPICIOUS,
        "escaped-mutation",
        suffix=".pt",
    )
    yield v(
        "py2-string-name",
        18,
        "names as strings of python 2",
        pickled(call(ops(py2_string(b"os"), py2_string(b"mkdir"), b"\x93"), MARKER)),
        PICKLE,
    )


def tensor_files() -> Iterator[Vector]:
    """safetensors that break the format's own rules; nothing runs, and nothing may be trusted."""

    def entry(begin: int, end: int, shape: list[int] | None = None, dtype: str = "F32") -> object:
        return {
            "dtype": dtype,
            "shape": [1] if shape is None else shape,
            "data_offsets": [begin, end],
        }

    cases: tuple[tuple[str, str, bytes], ...] = (
        ("length-huge", "a header of 512 GB", safetensors({"a": entry(0, 4)}, bytes(4), 1 << 39)),
        (
            "length-short",
            "the header's length cuts the header",
            safetensors({"a": entry(0, 4)}, bytes(4), 20),
        ),
        (
            "length-long",
            "the header's length reaches into the data",
            safetensors({"a": entry(0, 4)}, bytes(40), 70),
        ),
        (
            "hole",
            "bytes that belong to no tensor",
            safetensors({"a": entry(0, 4), "b": entry(8, 12)}, bytes(12)),
        ),
        (
            "overlap",
            "two tensors share bytes",
            safetensors({"a": entry(0, 4), "b": entry(2, 6)}, bytes(6)),
        ),
        ("trailing", "bytes behind the last tensor", safetensors({"a": entry(0, 4)}, bytes(400))),
        (
            "trailing-pickle",
            "a pickle behind the last tensor",
            safetensors({"a": entry(0, 4)}, bytes(4) + pickled(BOOM)),
        ),
        ("past-end", "a tensor that ends behind the file", safetensors({"a": entry(0, 4)}, b"")),
        (
            "backwards",
            "a tensor that ends before it begins",
            safetensors({"a": entry(4, 0, [0])}, bytes(4)),
        ),
        ("negative", "a negative offset", safetensors({"a": entry(-4, 0)}, bytes(4))),
        (
            "shape-lie",
            "a shape that needs more bytes",
            safetensors({"a": entry(0, 4, [2])}, bytes(4)),
        ),
        (
            "shape-overflow",
            "a shape whose product overflows",
            safetensors({"a": entry(0, 4, [1 << 62, 1 << 62])}, bytes(4)),
        ),
        ("shape-negative", "a negative size", safetensors({"a": entry(0, 4, [-1, -1])}, bytes(4))),
        (
            "shape-bool",
            "a size that is `true`",
            safetensors(b'{"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}', bytes(4)),
        ),
        (
            "dtype-unknown",
            "a dtype nobody knows",
            safetensors({"a": entry(0, 4, dtype="X32")}, bytes(4)),
        ),
        (
            "duplicate-key",
            "one name, two tensors",
            safetensors(
                b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
                b'"a":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}',
                bytes(4),
            ),
        ),
        (
            "duplicate-field",
            "one field, two values",
            safetensors(
                b'{"a":{"dtype":"F32","dtype":"I32","shape":[1],"data_offsets":[0,4]}}', bytes(4)
            ),
        ),
        (
            "metadata-number",
            "metadata that is no string",
            safetensors({"__metadata__": {"a": 1}, "b": entry(0, 4)}, bytes(4)),
        ),
        (
            "metadata-list",
            "metadata that is no object",
            safetensors({"__metadata__": ["a"], "b": entry(0, 4)}, bytes(4)),
        ),
        (
            "metadata-twice",
            "metadata that comes twice",
            safetensors(b'{"__metadata__":{},"__metadata__":{}}'),
        ),
        ("nul-in-name", "a NUL in a name", safetensors({"a\0b": entry(0, 4)}, bytes(4))),
        ("not-json", "a header that is no JSON", safetensors(b'{"a": }')),
        (
            "deep-json",
            "a header that nests 100,000 deep",
            safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        ),
        (
            "big-number",
            "an offset of 10,000 digits",
            safetensors(
                b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,' + b"4" * 10_000 + b"]}}",
                bytes(4),
            ),
        ),
        (
            "float-offset",
            "an offset that is no integer",
            safetensors(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4.0]}}', bytes(4)),
        ),
        (
            "not-utf8",
            "a name that is not UTF-8",
            safetensors(b'{"\xff":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
        ),
        (
            "lone-surrogate",
            "a name that no UTF-8 can hold",
            safetensors(b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
        ),
    )
    for label, why, data in cases:
        yield v(f"safetensors-{label}", 17, why, data, (), NOT_CLEAN, suffix=".safetensors")


FAMILIES = (
    gadgets,
    dotted_names,
    python2_names,
    odd_names,
    memo,
    extension_codes,
    without_reduce,
    computed_names,
    broken,
    streams,
    zip_names,
    zip_disagreements,
    hidden,
    wrappers,
    nested,
    denial,
    disagreements,
    tensor_files,
)
VECTORS: tuple[Vector, ...] = tuple(vector for family in FAMILIES for vector in family())
