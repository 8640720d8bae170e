"""Models of Keras and ONNX that name what is not in them: code, functions, files."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.forge import Member, zip_file
from tests.protobuf import message, number
from tests.scan.vectors.vector import Vector, silent

_SYSTEM = {"module": "os", "class_name": "function", "config": "system"}
_LAMBDA = {"class_name": "Lambda", "config": {"function": ["4wEA", None, None]}}
_DENSE = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 3}}


def foreign_programs() -> Iterator[Vector]:
    """Configurations of Keras, alone and in HDF5; graphs of ONNX."""
    yield from _keras()
    yield from _hdf5()
    yield from _onnx()


def _keras() -> Iterator[Vector]:
    cases: tuple[tuple[str, str, object], ...] = (
        ("plain", "layers of Keras only", _DENSE),
        ("lambda-inside", "a Lambda deep in a list", [[_DENSE, {"x": [_LAMBDA]}]]),
        ("function", "a function of the standard library", _SYSTEM),
        (
            "class",
            "a class of the standard library",
            {"module": "subprocess", "class_name": "Popen", "config": {}},
        ),
        (
            "get-file",
            "a function of Keras that fetches a file",
            {"module": "keras.utils", "class_name": "function", "config": "get_file"},
        ),
        (
            "unsafe-mode",
            "the function that switches safe mode off",
            {"module": "keras.config", "class_name": "enable_unsafe_deserialization"},
        ),
        (
            "builtin",
            "`eval` as a loss",
            {"module": "builtins", "class_name": "function", "config": "eval"},
        ),
        (
            "module",
            "a module of another package",
            {"module": "pip._internal", "class_name": "main", "config": {}},
        ),
        ("not-json", "a configuration that is not JSON", b"{"),
        ("nested", "arrays in arrays, 100,000 deep", b"[" * 100_000 + b"]" * 100_000),
        ("huge", "a configuration of 9 MB", b"[" + b"0," * (9 << 19) + b"0]"),
    )
    for name, why, config in cases:
        raw = config if isinstance(config, bytes) else json.dumps({"layers": config}).encode()
        members = [
            Member("metadata.json", b"{}"),
            Member("config.json", raw),
            Member("model.weights.h5", b"\x89HDF\r\n\x1a\n"),
        ]
        yield silent(f"keras-{name}", why, zip_file(members), suffix=".keras")


def _hdf5() -> Iterator[Vector]:
    whole = {"class_name": "Functional", "config": {"layers": [_DENSE, _LAMBDA]}}
    hostile = {"module": "keras", "class_name": "Functional", "config": [_SYSTEM]}
    far = bytes(9 << 20)
    cases: tuple[tuple[str, str, bytes, bool], ...] = (
        ("plain", "no configuration that is found", b"", False),
        ("lambda", "a layer that is Python", _text(whole), False),
        ("function", "a function of the standard library", _text(hostile), False),
        ("at-the-end", "a configuration behind 18 MB", far + far + _text(whole), False),
        ("in-the-middle", "one between 9 MB and 9 MB", far + _text(whole) + far, True),
        ("not-json", "a text that only begins as one", b'{"class_name": "x\0', False),
        (
            "keys-turned",
            "the class behind its configuration, everywhere",
            _text({"config": {"layers": [{"config": {}, "class_name": "Lambda"}]}, "x": 1}),
            False,
        ),
        (
            "spelled",
            "a key and a class in escapes, spaces before them",
            b'{ \n"\\u0063lass_name": "\\u004cambda"}\0',
            False,
        ),
        ("many-before", "40 other objects before it", _text({"x": 1}) * 40 + _text(whole), False),
        (
            "root-attribute",
            "an attribute of the root group, between 9 MB and 9 MB",
            _root_attribute(json.dumps(whole).encode()),
            False,
        ),
        ("behind-a-block", "a user block of 512 bytes", b"", False),
    )
    for name, why, data, deep in cases:
        before = bytes(512) if name == "behind-a-block" else b""
        head = b"" if name == "root-attribute" else b"\x89HDF\r\n\x1a\n" + bytes(88)
        body = before + head + data
        yield silent(f"hdf5-{name}", why, body, suffix=".h5", deep=deep)


def _root_attribute(text: bytes) -> bytes:
    """A file whose root group has the attribute `model_config`, in a heap far behind it."""
    heap_at = 10 << 20
    kind = b"\x19\x01\0\0\x10\0\0\0\x10\0\0\0\x01\0\0\0\0\0\x08\0"
    value = len(text).to_bytes(4, "little") + heap_at.to_bytes(8, "little") + b"\x01\0\0\0"
    name = b"model_config\0"
    sizes = b"".join(len(part).to_bytes(2, "little") for part in (name, kind, bytes(8)))
    padded = b"".join(part + bytes(-len(part) % 8) for part in (name, kind))
    body = b"\x01\0" + sizes + padded + b"\x01" + bytes(7) + value
    message = b"\x0c\0" + len(body).to_bytes(2, "little") + bytes(4) + body
    header = b"\x01\0\x01\0\x01\0\0\0" + len(message).to_bytes(4, "little") + bytes(4)
    superblock = b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0" + bytes(48) + (96).to_bytes(8, "little")
    front = superblock + bytes(24) + header + message
    stored = b"\x01\0\0\0\0\0\0\0" + len(text).to_bytes(8, "little") + text
    stored += bytes(-len(stored) % 8)
    heap = b"GCOL\x01\0\0\0" + (16 + len(stored)).to_bytes(8, "little") + stored
    return front + bytes(heap_at - len(front)) + heap + bytes(9 << 20)


def _text(config: object) -> bytes:
    return json.dumps(config).encode() + b"\0"


def _onnx() -> Iterator[Vector]:
    def model(*graph: bytes, behind: bytes = b"") -> bytes:
        return number(1, 8) + message(2, b"pytorch") + message(7, *graph) + behind

    def tensor(path: bytes) -> bytes:
        return message(13, message(1, b"location"), message(2, path))

    def outside(path: str) -> bytes:
        return model(message(5, number(1, 2), tensor(path.encode()), message(8, b"w")))

    cases: tuple[tuple[str, str, bytes], ...] = (
        ("plain", "a file beside the model", outside("weights.bin")),
        ("parent", "a file above the folder", outside("../../etc/passwd")),
        ("parent-inside", "a way out behind a folder", outside("a/../../b")),
        ("absolute", "an absolute path", outside("/etc/passwd")),
        ("drive", "a path of Windows", outside("C:\\Windows\\win.ini")),
        ("backslash", "the same without a drive", outside("..\\x")),
        (
            "subgraph",
            "such a path in a graph that is an attribute of a node",
            model(message(1, message(5, message(6, message(5, tensor(b"/etc/passwd")))))),
        ),
        (
            "function",
            "such a path in a constant of a function",
            model(behind=message(25, message(7, message(5, message(5, tensor(b"/x")))))),
        ),
        ("operator", "an operator of another domain", model(message(1, message(7, b"evil.ops")))),
        ("cut", "the graph is cut", outside("../x")[:-5] + b"\xff"),
        (
            "nodes-many",
            "more nodes than a file of its size can have",
            model(message(1) * 300_000),
        ),
    )
    for name, why, data in cases:
        yield silent(f"onnx-{name}", why, data, suffix=".onnx")
