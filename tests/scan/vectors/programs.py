"""Archives that carry a program, and members that are not what their header says."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace

from tests.forge import SYS_INFO, Member, dict_of, name, persistent, pickled, tensor, zip_file
from tests.scan.vectors.vector import BOOM, HONEST, HOSTILE, Vector, silent


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
