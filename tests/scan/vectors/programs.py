"""Archives that carry a program, and members that are not what their header says."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.forge import (
    SYS_INFO,
    Member,
    build,
    dict_of,
    name,
    newobj,
    persistent,
    pickled,
    tensor,
    torch_zip,
    zip_file,
)
from tests.scan.gadgets import MARKER
from tests.scan.vectors.vector import BOOM, HONEST, HOSTILE, Vector, silent, v


def programs() -> Iterator[Vector]:
    """Of every class: one structure each, with harmless pickles in it."""
    packaged = [
        Member("pkg/.data/extern_modules", b"torch\n"),
        Member("pkg/.data/version", b"6\n"),
        Member("pkg/model/model.pkl", pickled({"a": 1})),
        Member("pkg/collections.py", b"import os\n"),
    ]
    exported = [
        Member("a/archive_format", b"pt2"),
        Member("a/models/model.json", b'{"graph_module": {}}'),
        Member("a/data/sample_inputs/model.pt", zip_file([Member("b/data.pkl", pickled(()))])),
    ]

    def one(threat: int, label: str, why: str, data: bytes, suffix: str = ".pt") -> Vector:
        return replace(silent(label, why, data, suffix=suffix), threat=threat)

    yield one(16, "torch-package", "torch.package imports the archive's own", zip_file(packaged))
    yield one(
        16,
        "torch-package-storage",
        "a torch.package archive whose storage has a number",
        zip_file(
            [
                *packaged[:2],
                Member("pkg/.data/0.storage", bytes(16)),
                Member("pkg/m/m.pkl", pickled(dict_of({"w": _tensor_of_number()}))),
            ]
        ),
    )
    yield one(
        16,
        "torch-package-payload",
        "a torch.package archive with the payload in its pickle",
        zip_file([*packaged[:2], Member("pkg/model/model.pkl", HOSTILE)]),
    )
    yield one(
        16,
        "torchscript-second-pickle",
        "a payload behind the constants of a TorchScript archive",
        zip_file(
            [
                Member("archive/data.pkl", pickled(1)),
                Member("archive/constants.pkl", pickled(()) + pickled(BOOM)),
                Member("archive/version", b"3\n"),
            ]
        ),
    )
    yield one(16, "torch-export", "a graph that is interpreted", zip_file(exported), ".pt2")
    yield one(
        16,
        "torch-export-library",
        "an exported program with a library",
        zip_file([*exported, Member("a/data/aotinductor/model/m.wrapper.so", b"\x7fELF")]),
        ".pt2",
    )
    yield one(
        16,
        "torch-zip-python",
        "a Python source among the records",
        zip_file(
            [
                Member("archive/data.pkl", HONEST),
                Member("archive/data/0", bytes(16)),
                Member("archive/setup.py", b"import os\n"),
            ]
        ),
    )
    yield one(
        16,
        "torch-zip-library",
        "a library among the records",
        zip_file(
            [
                Member("archive/data.pkl", HONEST),
                Member("archive/data/0", bytes(16)),
                Member("archive/extra/lib.so.2", b"\x7fELF"),
            ]
        ),
    )
    yield one(
        16,
        "keras-lambda",
        "a Keras model with a layer of code",
        zip_file(
            [
                Member("metadata.json", b"{}"),
                Member("config.json", b'{"layers": [{"class_name": "Lambda"}]}'),
                Member("model.weights.h5", b"\x89HDF\r\n\x1a\n"),
            ]
        ),
        ".keras",
    )
    for kind, label, why in (
        (tarfile.LNKTYPE, "hard-link", "a hard link to another member"),
        (tarfile.SYMTYPE, "symlink", "a symbolic link to another member"),
        (b"Z", "unknown-type", "of a type that nobody knows"),
    ):
        yield one(13, f"torch-tar-{label}", f"the pickle is {why}", _torch_tar(kind), ".tar")
    yield from _live_programs()


def _live_programs() -> Iterator[Vector]:
    """One payload for each loader of programs, which runs it by design."""
    script = (
        "class M(Module):\n"
        "  __parameters__ = []\n"
        "  __buffers__ = []\n"
        "  def __getstate__(self: __torch__.M) -> Tensor:\n"
        "    return torch.ones([1])\n"
        "  def __setstate__(self: __torch__.M, state: Tensor) -> NoneType:\n"
        f'    torch.save(state, "{MARKER}")\n'
        "    return None\n"
    )
    yield _program(
        "torchscript-setstate",
        "a method of TorchScript that runs when its object is loaded, and writes a file",
        [
            Member("m/data.pkl", pickled(build(newobj(name("__torch__", "M")), tensor()))),
            Member("m/data/0", bytes(16)),
            Member("m/code/__torch__.py", script.encode()),
            Member("m/constants.pkl", pickled(())),
            Member("m/version", b"3\n"),
        ],
        "torch-jit",
    )
    yield _program(
        "torch-package-source",
        "a module of the archive, imported for a name",
        [
            Member("p/.data/extern_modules", b""),
            Member("p/.data/version", b"6\n"),
            Member("p/own.py", f"open('{MARKER}', 'w')\ndef f(): pass\n".encode()),
            Member("p/model/model.pkl", pickled(name("own", "f"))),
        ],
        "torch-package",
    )
    yield _program(
        "torch-export-expression",
        "the size of a tensor as an expression, which sympy evaluates as Python",
        [
            Member("a/archive_format", b"pt2"),
            Member("a/archive_version", b"0"),
            Member("a/.data/version", b"3\n"),
            Member("a/models/model.json", json.dumps(_exported()).encode()),
            Member("a/data/weights/model_weights_config.json", b'{"config": {}}'),
            Member("a/data/constants/model_constants_config.json", b'{"config": {}}'),
            Member("a/data/sample_inputs/model.pt", torch_zip(pickled(()), {})),
        ],
        "torch-export",
        suffix=".pt2",
    )


def _program(
    label: str, why: str, members: list[Member], loader: str, suffix: str = ".pt"
) -> Vector:
    return replace(v(label, why, zip_file(members), (loader,), suffix=suffix), threat=16)


def _exported() -> dict[str, Any]:
    """A graph of one input. Source: torch/_export/serde/schema.py (version 8)."""
    size = {"expr_str": f"__import__('os').mkdir('{MARKER}')", "hint": {"as_int": 3}}
    meta = {
        "dtype": 7,
        "sizes": [{"as_expr": size}],
        "requires_grad": False,
        "device": {"type": "cpu", "index": None},
        "strides": [{"as_int": 1}],
        "storage_offset": {"as_int": 0},
        "layout": 7,
    }
    graph = {
        "inputs": [{"as_tensor": {"name": "x"}}],
        "outputs": [],
        "nodes": [],
        "tensor_values": {"x": meta},
        "sym_int_values": {},
        "sym_bool_values": {},
    }
    signature: dict[str, Any] = {"input_specs": [], "output_specs": []}
    return {
        "graph_module": {"graph": graph, "signature": signature, "module_call_graph": []},
        "opset_version": {},
        "range_constraints": {},
        "schema_version": {"major": 8, "minor": 1},
    }


def _tensor_of_number() -> bytes:
    pid = ("storage", name("torch", "FloatStorage"), 0, "cpu", 4)
    return tensor(store=persistent(pid))


def _torch_tar(kind: bytes) -> bytes:
    """A tar of torch whose `pickle` is of another type than a file."""
    members = {
        "sys_info": pickled(SYS_INFO),
        "tensors": pickled(0),
        "storages": pickled(0) + pickled([]),
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo("pickle")
        info.type = kind
        if kind == b"Z":
            info.size = len(members["sys_info"])
            tar.addfile(info, io.BytesIO(members["sys_info"]))
        else:
            info.linkname = "sys_info"
            tar.addfile(info)
    return out.getvalue()
