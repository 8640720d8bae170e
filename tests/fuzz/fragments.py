"""What the fuzzer puts into a pickle: gadgets, allowlisted calls around them, odd spellings."""

from __future__ import annotations

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

INTS = (0, 1, -1, 2, 3, 4, 5, 8, 16, 127, 128, 255, 256, 65535, 1 << 31, -(1 << 31), 1 << 63)
BOOM = call(MKDIR, MARKER)
MODULES = (
    "os", "posix", "builtins", "__builtin__", "torch", "torch._utils", "torch._tensor",
    "collections",
    "torch.storage", "numpy", "numpy.core.multiarray", "numpy._core.multiarray", "copyreg",
    "copy_reg", "_codecs", "torch.serialization", "argparse", "subprocess", "cPickle", "os.path",
    "torch.nn.parameter", "torch.nn.modules.linear", "torch.jit._pickle", "functools", "operator",
)  # fmt: skip
ATTRIBUTES = (
    "mkdir", "system", "eval", "getattr", "OrderedDict", "dict", "list", "set", "tuple", "bytes",
    "bytearray", "defaultdict", "Counter", "deque", "_rebuild_tensor_v2", "_rebuild_tensor",
    "_rebuild_parameter", "_load_from_bytes", "_rebuild_from_type_v2", "Tensor", "FloatStorage",
    "UntypedStorage", "Size", "device", "dtype", "ndarray", "_reconstruct", "scalar", "encode",
    "_reconstructor", "os.mkdir", "Namespace", "object", "float32", "Parameter", "loads",
)  # fmt: skip
TEXTS = (
    "", "weight", "bias", "state_dict", "model", "params", "params_ema", "__setstate__", "__dict__",
    "_parameters", "_modules", "__class__", "__reduce__", "data", "0", "1", "cpu", "cuda", "meta",
    "storage", "module", "little", "O", "|O", "O8", "f4", "<f4", ">f4", "latin1", "utf-8", "rot13",
    "a.b", "../x", "\0", "\n", "é", MARKER, "append", "extend", "__setitem__", "_metadata",
)  # fmt: skip


def names(rng: Random) -> Ops:
    """A name, as one of the opcodes for it: mostly one that is real."""
    if rng.random() < 0.7:
        gadget = rng.choice(DIRECT)
        known = rng.random() < 0.6
        module, attribute = rng.choice(_REAL) if known else (gadget.module, gadget.name)
    else:
        module, attribute = rng.choice(MODULES), rng.choice(ATTRIBUTES)
    return name(module, attribute) if rng.random() < 0.6 else stack_name(module, attribute)


_REAL = (
    ("os", "mkdir"), ("builtins", "getattr"), ("builtins", "dict"), ("builtins", "list"),
    ("builtins", "tuple"), ("builtins", "set"), ("builtins", "bytearray"), ("builtins", "object"),
    ("builtins", "complex"), ("__builtin__", "object"), ("builtins", "slice"), ("builtins",
    "range"),
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
    ("pytorch_lightning.utilities.parsing", "AttributeDict"), ("numpy.random",
    "__RandomState_ctor"),
)  # fmt: skip


def gadget_of(rng: Random) -> Ops:
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


def allowlisted(rng: Random, inner: Ops) -> Ops:
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


def fragment(rng: Random) -> Ops:
    """Opcodes to put in."""
    kind = rng.randrange(14)
    if kind < 3:
        return rng.choice(
            (NONE, POP, DUP, MARK, POP_MARK, EMPTY_DICT, EMPTY_LIST, EMPTY_TUPLE, EMPTY_SET,
            MEMOIZE,
             REDUCE, BUILD, STOP, Ops(b"a"), Ops(b"s"), Ops(b"u"), Ops(b"e"), Ops(b"t"),
             Ops(b"\x81"),
             Ops(b"\x90"), Ops(b"\x91"), Ops(b"\x92"), Ops(b"\x93"), Ops(b"Q"), Ops(b"o"),
             Ops(b"l"),
             Ops(b"d"), Ops(b"\x85"), Ops(b"\x86"), Ops(b"\x87"), Ops(b"\x97"), Ops(b"\x98"))
        )  # fmt: skip
    if kind == 3:
        return gadget_of(rng)
    if kind == 4:
        return names(rng)
    if kind == 5:
        return value(rng.choice(TEXTS))
    if kind == 6:
        return value(rng.choice(INTS))
    if kind == 7:
        return put(rng.choice((0, 1, 2, 5, 9, 20, 255, 300)))
    if kind == 8:
        return get(rng.randrange(32))
    if kind == 9:
        return allowlisted(rng, rng.choice((gadget_of, names, _plain))(rng))
    if kind == 10:
        return proto(rng.choice((0, 1, 2, 3, 4, 5, 6, 255)))
    if kind == 11:
        return ops(fragment(rng), POP)
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
            line_int(b"01"), line_int(b"00"), line_int(b"-0"), line_int(b"1L"),
            line_int(b"\xd9\xa1"),
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
