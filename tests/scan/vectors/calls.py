"""Execution by every opcode but REDUCE, and by extension codes."""

from __future__ import annotations

from collections.abc import Iterator

from tests.forge import (
    MARK,
    POP,
    POP_MARK,
    additems,
    append,
    appends,
    build,
    call,
    dict_of,
    extension,
    inst,
    name,
    newobj,
    newobj_ex,
    obj,
    ops,
    pickled,
    quoted_string,
    setitem,
    setitems,
)
from tests.scan.gadgets import MARKER, MKDIR, OS, PYTHON, attribute
from tests.scan.vectors.vector import BOOM, EXEC, NAMESPACE, Vector, silent, v


def extension_codes() -> Iterator[Vector]:
    """Class 7: EXT codes, whose names are not in the file or stand elsewhere in it."""
    for code in (7, 0x1234, 0x12345):
        yield v(
            f"ext-{len(extension(code)) - 1}-after-add-extension",
            "copyreg.add_extension, then the code",
            pickled(
                call(name("copyreg", "add_extension"), "os", "mkdir", code),
                POP,
                call(extension(code), MARKER),
            ),
            ("c-file",),
        )
    yield silent("ext-alone", "a code that only the loading program knows", pickled(extension(5)))
    yield silent(
        "ext-called",
        "a call of a code that only the loading program knows",
        pickled(call(extension(5), MARKER)),
    )


def without_reduce() -> Iterator[Vector]:
    """Class 8: execution by every other opcode."""
    yield v("inst", "INST", pickled(inst("os", "mkdir", MARKER)))
    yield v(
        "inst-no-proto",
        "INST at protocol 0",
        pickled(
            ops(MARK, quoted_string(b"'%s'" % MARKER.encode()), b"ios\nmkdir\n"), protocol=None
        ),
    )
    yield v("obj", "OBJ", pickled(obj(MKDIR, MARKER)))
    yield v(
        "obj-pop",
        "OBJ, and POP takes the result away",
        pickled(obj(MKDIR, MARKER), POP, dict_of({"a": 1})),
    )
    yield v(
        "reduce-pop", "REDUCE, and POP takes the result away", pickled(BOOM, POP, dict_of({"a": 1}))
    )
    yield v(
        "reduce-pop-mark",
        "REDUCE behind a mark, and POP_MARK takes all away",
        pickled(MARK, BOOM, POP_MARK, dict_of({"a": 1})),
    )
    lazy = call(name("builtins", "map"), MKDIR, [MARKER])
    for cls in ("bytes", "tuple", "frozenset"):
        yield v(
            f"newobj-{cls}-map",
            f"NEWOBJ: {cls}.__new__ runs an iterator",
            pickled(newobj(name("builtins", cls), lazy)),
        )
    yield v(
        "newobj-map-then-build",
        "the iterator is made by NEWOBJ as well",
        pickled(
            newobj(name("builtins", "tuple"), newobj(name("builtins", "map"), MKDIR, [MARKER]))
        ),
    )
    yield v(
        "newobj-zip",
        "iterators in iterators",
        pickled(newobj(name("builtins", "bytes"), newobj(name("builtins", "zip"), lazy))),
    )
    yield v(
        "newobj-ex-partial",
        "NEWOBJ_EX, then a call of what it made",
        pickled(call(newobj_ex(name("functools", "partial"), (MKDIR,), {"path": MARKER}))),
    )
    yield v(
        "newobj-ex-tuple",
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
            "BUILD plants __setstate__, the next BUILD calls it",
            pickled(build(build(host, setstate), MARKER)),
        )
    yield v(
        "build-append-attribute",
        "BUILD plants `append`, APPEND calls it",
        pickled(append(build(newobj(NAMESPACE), {"append": MKDIR}), MARKER)),
    )
    yield v(
        "build-appends-attribute",
        "BUILD plants `append`, APPENDS calls it",
        pickled(appends(build(newobj(NAMESPACE), {"append": MKDIR}), MARKER)),
    )
    yield silent(
        "build-extend-attribute",
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
    )
    yield v(
        "build-add-attribute",
        "BUILD plants `add`, ADDITEMS calls it",
        pickled(additems(build(newobj(NAMESPACE), {"add": MKDIR}), MARKER), protocol=4),
    )
    yield v(
        "build-append-ordered-dict",
        "an OrderedDict with a planted `append`",
        pickled(append(build(call(name("collections", "OrderedDict")), {"append": MKDIR}), MARKER)),
    )
    yield v(
        "build-append-class",
        "a class gets an `append` by the slot state of BUILD",
        pickled(build(NAMESPACE, (None, {"append": EXEC})), POP, append(newobj(NAMESPACE), PYTHON)),
    )
    yield v(
        "build-setitem-class",
        "a class gets a `__setitem__`, SETITEM calls it",
        pickled(
            build(NAMESPACE, (None, {"__setitem__": MKDIR})),
            POP,
            setitem(newobj(NAMESPACE), MARKER, 0o777),
        ),
    )
    yield v(
        "build-setitems-class",
        "the same by SETITEMS",
        pickled(
            build(NAMESPACE, (None, {"__setitem__": MKDIR})),
            POP,
            setitems(newobj(NAMESPACE), MARKER, 0o777),
        ),
    )
    yield silent(
        "build-new-class",
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
    )
    yield v(
        "build-module",
        "BUILD overwrites an allowlisted function of a module",
        pickled(
            build(name("re", "copyreg"), {"_reconstructor": MKDIR}),
            POP,
            call(name("copyreg", "_reconstructor"), MARKER),
        ),
    )
    yield v(
        "build-module-class",
        "BUILD overwrites an allowlisted class of a module",
        pickled(
            build(name("argparse", "_sys"), {"exit": MKDIR}), POP, call(name("sys", "exit"), MARKER)
        ),
    )
    yield v(
        "build-module-dotted",
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
        "SETITEM on a module's namespace",
        pickled(
            setitem(name("copyreg", "__dict__"), "_reconstructor", MKDIR),
            POP,
            call(name("copyreg", "_reconstructor"), MARKER),
        ),
    )
    yield v(
        "setitem-sys-modules",
        "SETITEM on sys.modules",
        pickled(
            setitem(name("sys", "modules"), "decimal", OS),
            POP,
            call(name("decimal", "mkdir"), MARKER),
        ),
    )
    yield silent(
        "setitem-on-a-name",
        "SETITEM on an allowlisted name",
        pickled(setitem(name("collections", "OrderedDict"), "a", 1)),
    )
    yield silent(
        "append-on-a-name",
        "APPEND on an allowlisted name",
        pickled(append(name("collections", "deque"), 1)),
    )
    yield silent(
        "build-on-a-name",
        "BUILD on an allowlisted name",
        pickled(build(name("collections", "OrderedDict"), {"a": 1})),
    )
    yield silent(
        "build-on-a-function",
        "BUILD on an allowlisted function",
        pickled(build(name("torch._utils", "_rebuild_tensor_v2"), {"a": 1})),
    )
    yield silent(
        "append-to-a-call",
        "APPENDS on what an unknown call made",
        pickled(appends(call(name("collections", "UserList")), 1)),
    )
