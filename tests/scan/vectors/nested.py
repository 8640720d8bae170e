"""Allowlisted names that load, call or hold something else."""

from __future__ import annotations

from collections.abc import Iterator

from tests.forge import (
    EMPTY_DICT,
    MARK,
    Ops,
    build,
    call,
    dict_of,
    name,
    newobj,
    ops,
    persistent,
    pickled,
    setitem,
    storage,
    tensor,
    text,
    torch_legacy,
    torch_zip,
)
from tests.scan.gadgets import MARKER, MKDIR, NESTED
from tests.scan.vectors.vector import BOOM, TORCH, Vector, silent, zipped


def nested() -> Iterator[Vector]:
    """Class 16: allowlisted names that load, call or hold something else."""
    rebuild = name("torch._tensor", "_rebuild_from_type_v2")

    def z(label: str, why: str, body: Ops, loaders: tuple[str, ...] = TORCH) -> Vector:
        return zipped(label, why, torch_zip(pickled(body)), loaders)

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
    yield silent(
        "legacy-module-pid",
        "a `module` persistent id brings source code along",
        lambda: torch_legacy(
            pickled(persistent(("module", name("subprocess", "Popen"), "x.py", "import os")))
        ),
        suffix=".pth",
    )
