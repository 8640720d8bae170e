"""Names that are walked to, mapped, misread or made while loading."""

from __future__ import annotations

from collections.abc import Iterator

from tests.forge import (
    POP,
    Ops,
    call,
    dict_of,
    inst,
    name,
    newobj,
    ops,
    pickled,
    proto,
    stack_name,
    text,
    torch_zip,
    tuple_of,
    value,
)
from tests.scan.gadgets import MARKER, MKDIR, NESTED, OS, PYTHON, SHELL, attribute
from tests.scan.vectors.vector import Vector, silent, v, zipped


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
            yield v(
                f"dotted-{module}-{dotted}-{how}",
                f"walks from {module} to {dotted}",
                pickled(body, protocol=4),
                runs,
                needs_torch=module.startswith(("torch", "numpy")),
            )
    yield v(
        "dotted-late-proto",
        "PROTO 4 in the middle of a protocol 2 pickle switches dots on",
        pickled(1, POP, proto(4), call(name("argparse", "_os.mkdir"), MARKER)),
    )
    yield v(
        "dotted-inst",
        "INST with a dotted name at protocol 4",
        pickled(inst("argparse", "_os.mkdir", MARKER), protocol=4),
    )
    yield zipped(
        "dotted-from-torch",
        "from the module torch itself",
        torch_zip(pickled(call(name("torch", "serialization.os.mkdir"), MARKER), protocol=4)),
    )
    yield silent(
        "dotted-allowlisted-head",
        "an allowlisted class, and one of its attributes",
        pickled(call(name("collections", "OrderedDict.fromkeys"), ["a"]), protocol=4),
    )
    yield silent(
        "dotted-allowlisted-tail",
        "another module's way to an allowlisted name",
        pickled(call(name("argparse", "_os.PathLike")), protocol=4),
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
            f"{module}.{attr}, mapped to what python 3 calls it",
            pickled(body),
        )
    yield v(
        "python2-protocol-0",
        "the same without PROTO: protocol 0 maps names too",
        pickled(call(name("cPickle", "loads"), NESTED), protocol=None),
    )
    yield v(
        "python2-stack-global",
        "STACK_GLOBAL below protocol 4 maps names as well",
        pickled(call(stack_name("cPickle", "loads"), NESTED)),
    )
    yield v(
        "python2-protocol-drops",
        "PROTO 4, then PROTO 2: the mapping is on again",
        pickled(proto(2), call(stack_name("__builtin__", "eval"), PYTHON), protocol=4),
    )
    yield v("python2-inst", "INST of a python 2 name", pickled(inst("__builtin__", "eval", PYTHON)))
    yield silent(
        "python2-unmapped",
        "a python 2 name at protocol 4, where only python 2 has it",
        pickled(call(name("__builtin__", "eval"), PYTHON), protocol=4),
    )


def odd_names() -> Iterator[Vector]:
    """Class 5: names that are read as something else, or look like something else."""
    yield v(
        "nul-global",
        "CPython 3.11 to 3.13 import `os` for `os\\0anything`",
        pickled(call(name("os\0x", "mkdir"), MARKER)),
        ("c-file", "c-bytes"),
        until=13,
    )
    yield v(
        "nul-stack-global",
        "the same through STACK_GLOBAL",
        pickled(call(stack_name("os\0x", "mkdir"), MARKER), protocol=4),
        ("c-file", "c-bytes"),
        until=13,
    )
    yield v(
        "nul-inst",
        "the same through INST",
        pickled(inst("os\0x", "mkdir", MARKER)),
        ("c-file", "c-bytes"),
        until=13,
    )
    yield silent(
        "nul-allowlisted",
        "an allowlisted module with a NUL behind it",
        pickled(call(name("collections\0.x", "OrderedDict"))),
    )
    yield v(
        "nul-hides-os",
        "what stands behind the NUL looks allowlisted",
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
        yield silent(
            f"odd-name-{label}",
            "a name that is not quite an allowlisted one",
            pickled(call(name(module, attr))),
        )
    yield silent(
        "surrogate-name",
        "a lone surrogate in a name",
        pickled(call(stack_name(text("collections\udc80"), "OrderedDict")), protocol=4),
    )


def computed_names() -> Iterator[Vector]:
    """Class 9: STACK_GLOBAL whose strings are made while loading."""
    joined = call(name("builtins", "str.join"), "", ["mk", "dir"])
    yield v(
        "computed-join",
        "the name is the result of str.join",
        pickled(call(stack_name("os", joined), MARKER), protocol=4),
    )
    yield v(
        "computed-str",
        "the module is made by `str`, which many allow",
        pickled(
            call(stack_name(call(name("builtins", "str"), b"os", "ascii"), "mkdir"), MARKER),
            protocol=4,
        ),
    )
    yield v(
        "computed-str-newobj",
        "the same by NEWOBJ",
        pickled(
            call(stack_name("os", newobj(name("builtins", "str"), b"mkdir", "ascii")), MARKER),
            protocol=4,
        ),
    )
    yield v(
        "computed-replace",
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
        "the module is another object's attribute",
        pickled(call(stack_name(attribute(OS, "__name__"), "mkdir"), MARKER), protocol=4),
    )
    yield silent(
        "computed-decode",
        "the module is decoded",
        pickled(
            call(stack_name(call(name("_codecs", "decode"), b"bf", "rot13"), "mkdir"), MARKER),
            protocol=4,
        ),
    )
    yield silent(
        "computed-of-an-allowlisted-name",
        "both halves come out as allowlisted ones",
        pickled(
            call(stack_name("collections", call(name("builtins", "str"), "Counter"))), protocol=4
        ),
    )
    yield silent(
        "computed-bytes",
        "STACK_GLOBAL of bytes: an error, and no honest file",
        pickled(ops(value(b"os"), value("mkdir"), b"\x93"), protocol=4),
    )
