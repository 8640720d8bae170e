"""Array files of numpy and compressed files of joblib that hold a pickle."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import replace

from tests.forge import (
    Member,
    Ops,
    build,
    call,
    dict_of,
    list_of,
    name,
    newobj,
    npy,
    pickled,
    torch_members,
    zip_file,
)
from tests.scan.vectors.vector import BOOM, HONEST, Vector, silent, v

EVIL = pickled(BOOM)
NDARRAY_CLASS = name("numpy", "ndarray")
DESCRS = {
    "object": "'object'",
    "object-code": "'O'",
    "object-4": "'O4'",
    "object-type-name": "'object_'",
    "comma-string": "'i4,O'",
    "comma-string-name": "'i4,object'",
    "comma-shape": "'(2,)O,i4'",
    "field-object": "[('a', 'object')]",
    "field-object-8": "[('a', '<i4'), ('b', '|O8')]",
    "field-comma": "[('a', 'i4,O')]",
    "nested-field": "[('a', [('b', '<f4'), ('c', 'object')])]",
    "title": "[(('t', 'a'), 'object')]",
    "title-nested": "[(('t', 'a'), [(('u', 'b'), '|O')])]",
    "subarray-field": "[('a', 'object', (2,))]",
    "subarray": "('object', (1,))",
    "subarray-nested": "([('a', 'object')], (1,))",
    "field-as-string": "['aO']",
    "dict-as-fields": "{'aO': 0}",
}


def arrays() -> Iterator[Vector]:
    """Class 15: arrays of objects, and what joblib compresses."""
    for label, descr in DESCRS.items():
        for version in (1, 2, 3):
            if version == 1 or label in ("object", "nested-field", "title"):
                yield v(
                    f"npy-descr-{label}{'' if version == 1 else f'-v{version}'}",
                    f"an array of {descr}",
                    npy(EVIL, descr, version=version),
                    ("numpy",),
                    suffix=".npy",
                    needs_torch=True,
                )
    yield from _npz()
    yield from _torch_zips()
    yield from _compressed()
    yield from _joblib_arrays()


def _npz() -> Iterator[Vector]:
    array = npy(EVIL, "'object'")
    plain = Member("a.npy", npy(bytes(4), "'<f4'"))
    for label, members in {
        "no-suffix": [Member("a", array)],
        "folder": [plain, Member("b/", array)],
        "folder-alone": [Member("b/", array)],
        "folder-npy": [plain, Member("b.npy/", array)],
        "deflated-folder": [plain, Member("b/", array, method=8)],
        "of-any-name": [plain, Member("LICENSE.txt", array)],
        "duplicate-name": [plain, Member("a.npy", array)],
    }.items():
        yield v(
            f"npz-{label}",
            f"a member that np.load unpickles ({label})",
            zip_file(members),
            ("numpy",),
            suffix=".npz",
            needs_torch=True,
        )


def _torch_zips() -> Iterator[Vector]:
    array = npy(EVIL, "'object'")
    for label, members in {
        "storage": torch_members(HONEST, {"0": array.ljust(16, b"\0")}),
        "storage-outside": [*torch_members(HONEST), Member("data/0", array)],
        "storage-unused": torch_members(HONEST, {"0": bytes(16), "1": array}),
        "byteorder": [
            *(m for m in torch_members(HONEST) if "byteorder" not in str(m.name)),
            Member("archive/.data/serialization_id", array),
        ],
        "folder": [*torch_members(HONEST), Member("archive/x/", array)],
        "code": [
            *torch_members(HONEST),
            Member("archive/constants.pkl", pickled(())),
            Member("archive/code/__torch__.py", array),
        ],
    }.items():
        yield v(
            f"torch-zip-npy-{label}",
            f"np.load opens a torch zip, and unpickles an array of objects in it ({label})",
            zip_file(members),
            ("numpy",),
            suffix=".pt",
            needs_torch=True,
        )


def _compressed() -> Iterator[Vector]:
    files = {f"lzma-{preset}": lzma.compress(EVIL, lzma.FORMAT_ALONE, preset=preset) for preset in
             range(10)}  # fmt: skip
    files |= {f"xz-{preset}": lzma.compress(EVIL, preset=preset) for preset in (0, 9)}
    files |= {f"zlib-{level}": zlib.compress(EVIL, level) for level in (0, 1, 6, 9)}
    files |= {f"bz2-{level}": bz2.compress(EVIL, level) for level in (1, 9)}
    files |= {f"gzip-{level}": gzip.compress(EVIL, level, mtime=0) for level in (0, 1, 9)}
    body = zlib.compress(EVIL)
    files["z-file"] = b"ZF" + hex(len(EVIL)).encode().ljust(19) + body
    files["gzip-that-begins-like-safetensors"] = (
        b"\x1f\x8b\x08\0\0\0\0\0{ " + gzip.compress(EVIL, mtime=0)[10:]
    )
    for label, data in files.items():
        yield replace(
            v(
                f"joblib-{label}",
                f"what joblib compresses with {label}",
                data,
                ("joblib",),
                suffix=".dat",
            ),
            needs_torch=True,
        )


def _joblib_arrays() -> Iterator[Vector]:
    wrapper = joblib_array("O", b"")
    yield v(
        "joblib-object-array",
        "an array of objects behind its wrapper",
        pickled(Ops(wrapper + EVIL)),
        ("joblib",),
        suffix=".joblib",
        needs_torch=True,
    )
    yield v(
        "joblib-behind-an-array",
        "a call behind the elements of an array",
        pickled(list_of(Ops(joblib_array("f4", bytes(4))), BOOM)),
        ("joblib",),
        suffix=".joblib",
        needs_torch=True,
    )
    yield silent(
        "joblib-memmap-subclass",
        "an array of another class",
        pickled(Ops(joblib_array("f4", bytes(4), subclass=name("numpy", "memmap")))),
        suffix=".joblib",
    )


def joblib_array(code: str, content: bytes, subclass: Ops = NDARRAY_CLASS) -> bytes:
    """joblib's wrapper of an array with one element, and its content."""
    flags = 63 if code == "O" else 0
    dtype = build(
        call(name("numpy", "dtype"), code, False, True),
        (3, "|" if code == "O" else "<", None, None, None, -1, -1, flags),
    )
    state = dict_of(
        {"subclass": subclass, "shape": (1,), "order": "C", "dtype": dtype, "allow_mmap": False}
    )
    return build(newobj(name("joblib.numpy_pickle", "NumpyArrayWrapper")), state) + content
