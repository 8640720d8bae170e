"""Pickles inside something else: compressed, archived, arrays of objects."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Iterator

from tests.forge import (
    POP,
    STOP,
    Member,
    bytearray8,
    gz,
    npy,
    npz,
    ops,
    pickled,
    tar_file,
    torch_members,
    torch_zip,
    zip_file,
)
from tests.scan.vectors.vector import BOOM, HONEST, HOSTILE, Vector, silent, v


def wrappers() -> Iterator[Vector]:
    """Class 15: a pickle inside something else."""
    boom = pickled(BOOM)
    yield v("gzip", "gzip", lambda: gz(boom), ("gzip", "pandas", "joblib"), suffix=".gz")
    yield v("bz2", "bzip2", lambda: bz2.compress(boom), ("bz2", "pandas", "joblib"), suffix=".bz2")
    yield v("xz", "xz", lambda: lzma.compress(boom), ("lzma", "pandas", "joblib"), suffix=".xz")
    yield v(
        "lzma-alone",
        "lzma, the format before xz",
        lambda: lzma.compress(boom, lzma.FORMAT_ALONE),
        ("lzma", "joblib"),
        suffix=".lzma",
    )
    yield v(
        "zlib",
        "zlib, as joblib compresses",
        lambda: zlib.compress(boom),
        ("zlib", "joblib"),
        suffix=".joblib",
    )
    yield v("zlib-fast", "zlib at another level", lambda: zlib.compress(boom, 1), ("zlib",))
    yield v(
        "gzip-concatenated",
        "the second member of a gzip file",
        lambda: gz(boom[:3]) + gz(boom[3:]),
        ("gzip",),
    )
    yield v(
        "zfile",
        "joblib's own compression before 0.10",
        lambda: b"ZF" + f"{len(boom):#x}".encode().ljust(19) + zlib.compress(boom),
        ("joblib",),
        suffix=".joblib",
    )
    yield v(
        "zip-of-one",
        "a zip of one pickle, as pandas writes it",
        lambda: zip_file([Member("model.pkl", boom, method=8)]),
        ("pandas",),
        suffix=".zip",
    )
    yield v(
        "tar-of-one",
        "a tar of one pickle, as pandas writes it",
        lambda: tar_file({"model.pkl": boom}),
        ("pandas",),
        suffix=".tar",
    )
    padded = boom[:-1] + bytes(ops(POP, bytearray8(bytes(1 << 20)), STOP))
    yield v(
        "gzip-trailing",
        "bytes behind a gzip, which its reader finds too late",
        lambda: gz(boom) + b"garbage",
        ("gzip",),
    )
    yield v(
        "gzip-cut",
        "a gzip that is cut behind the payload",
        lambda: gz(padded, 0)[:400_000],
        ("gzip",),
    )
    yield v(
        "bz2-cut",
        "a bzip2 that is cut behind the payload",
        lambda: bz2.compress(padded + bytes(range(256)) * 4000, 1)[:-10],
        ("bz2",),
    )
    yield v(
        "xz-cut",
        "an xz that is cut behind the payload",
        lambda: lzma.compress(padded, preset=0)[:-30],
        ("lzma",),
    )
    yield silent("gzip-twice", "gzip in gzip", lambda: gz(gz(boom)))
    yield silent("gzip-torch-zip", "a torch zip in a gzip", lambda: gz(torch_zip(HOSTILE)))
    yield silent(
        "zip-in-zip",
        "a torch zip in a zip",
        lambda: zip_file([Member("model.pt", torch_zip(HOSTILE))]),
        suffix=".zip",
    )
    yield silent(
        "zip-in-zip-deflated",
        "a torch zip in a zip, deflated",
        lambda: zip_file([Member("model.pt", torch_zip(HOSTILE), method=8)]),
        suffix=".zip",
    )
    yield silent(
        "mar",
        "a TorchServe archive",
        lambda: zip_file(
            [Member("MAR-INF/MANIFEST.json", b"{}"), Member("model.pt", torch_zip(HOSTILE))]
        ),
        suffix=".mar",
    )
    yield silent(
        "zip-in-tar",
        "a torch zip in a tar",
        lambda: tar_file({"model.pt": torch_zip(HOSTILE)}),
        suffix=".tar",
    )
    yield silent(
        "tar-gz",
        "a tar in a gzip",
        lambda: gz(tar_file({"model.pt": torch_zip(HOSTILE)})),
        suffix=".tgz",
    )
    yield silent(
        "zip-in-zip-in-zip",
        "three archives deep",
        lambda: zip_file([Member("a.zip", zip_file([Member("b.pt", torch_zip(HOSTILE))]))]),
        suffix=".zip",
    )
    yield silent(
        "zip-too-deep",
        "more archives in archives than anybody looks into",
        lambda: deep_zip(12),
        suffix=".zip",
    )
    yield v("npy-object", "an .npy of objects", lambda: npy(boom), ("numpy",), suffix=".npy")
    yield v(
        "npy-object-v2",
        "an .npy of objects, header version 2",
        lambda: npy(boom, version=2),
        ("numpy",),
        suffix=".npy",
    )
    yield v(
        "npy-struct-object",
        "an .npy of structures with an object in them",
        lambda: npy(boom, descr="[('a', '<f4'), ('b', '|O')]"),
        ("numpy",),
        suffix=".npy",
    )
    yield v(
        "npy-bare-pickle",
        "a pickle called .npy, which numpy loads as one",
        boom,
        ("numpy",),
        suffix=".npy",
    )
    yield v(
        "npz-object",
        "an .npz with an array of objects",
        lambda: npz({"a": npy(boom)}),
        ("numpy",),
        suffix=".npz",
    )
    yield v(
        "npz-object-deflated",
        "the same, deflated",
        lambda: npz({"a": npy(boom)}, method=8),
        ("numpy",),
        suffix=".npz",
    )
    yield silent(
        "npz-raw-pickle",
        "an .npz whose member is a pickle and no array",
        lambda: zip_file([Member("a.npy", boom)]),
        suffix=".npz",
    )
    yield v(
        "npy-in-torch-zip",
        "an .npy of objects as a member of a torch zip",
        lambda: zip_file([*torch_members(HONEST), Member("archive/extra.npy", npy(boom))]),
        ("numpy",),
        suffix=".pt",
    )
    yield silent(
        "gzip-in-torch-zip",
        "a gzip as a member of a torch zip",
        lambda: zip_file([*torch_members(HONEST), Member("archive/extra.gz", gz(boom))]),
        suffix=".pt",
    )


def deep_zip(levels: int) -> bytes:
    """A torch zip in `levels` zips."""
    data = torch_zip(HOSTILE)
    for _ in range(levels):
        data = zip_file([Member("inner.zip", data)])
    return data
