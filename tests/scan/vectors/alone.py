"""One rule, and nothing else to find: harmless content in a structure that no serializer writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.forge import (
    EMPTY_LIST,
    STOP,
    Member,
    additems,
    build,
    call,
    dict_of,
    frame,
    list_of,
    name,
    ops,
    persistent,
    pickled,
    tar_file,
    tensor,
    torch_members,
    torch_zip,
    value,
    zip_file,
)
from tests.scan.vectors.vector import HONEST, HOSTILE, Vector, silent


def alone() -> Iterator[Vector]:
    """Of every class: what a rule finds, where no other one finds anything."""
    honest = torch_members(HONEST)
    first, *rest = honest
    ordered_dict = name("collections", "OrderedDict")
    rebuild = name("torch._tensor", "_rebuild_from_type_v2")

    def one(threat: int, label: str, why: str, data: bytes, suffix: str = ".pkl") -> Vector:
        return replace(silent(f"alone-{label}", why, data, suffix=suffix), threat=threat)

    def in_zip(threat: int, label: str, why: str, data: bytes) -> Vector:
        return one(threat, label, why, data, ".pt")

    yield in_zip(
        6,
        "frame-past-stop",
        "a frame goes on behind the STOP of a data.pkl",
        torch_zip(bytes(ops(b"\x80\x04", frame(dict_of({"w": tensor()}), STOP, b"K\2")))),
    )
    yield one(
        6,
        "frame-past-end",
        "a frame longer than the file",
        pickled(frame(value(1), nbytes=10_000), protocol=4),
    )
    yield one(
        8, "unknown-state", "ADDITEMS on a list", pickled(additems(EMPTY_LIST, 1), protocol=4)
    )
    yield one(
        8,
        "unknown-state-of-a-call",
        "a method among the attributes of an OrderedDict",
        pickled(build(call(ordered_dict), {"__setstate__": ordered_dict})),
    )
    yield one(
        10,
        "truncated-name",
        "the file ends in a name, and its beginning is one too",
        b"\x80\x02cnumpy\nbool_",
    )
    yield one(11, "trailing-data", "bytes after the pickle", pickled(1) + b"\xff" * 9)
    yield in_zip(12, "duplicate-member", "`version` twice", zip_file([*honest, honest[-1]]))
    yield in_zip(
        12,
        "case-variant-member",
        "`VERSION` beside `version`",
        zip_file([*honest, Member("archive/VERSION", b"3\n")]),
    )
    yield in_zip(
        13,
        "local-header-mismatch",
        "the local header of data.pkl has another CRC-32",
        zip_file([replace(first, local_crc32=1), *rest]),
    )
    yield in_zip(
        13,
        "directory-disagreement",
        "the end record counts one member too few",
        torch_zip(HONEST, count=len(honest) - 1),
    )
    yield in_zip(
        13,
        "prefix-data",
        "a line of text before the archive",
        torch_zip(HONEST, prefix=b"hello there\n", counts_prefix=False),
    )
    yield in_zip(
        13,
        "overlapping-members",
        "two records at one place",
        zip_file([*honest[:3], Member("archive/data/1", bytes(16), has_body=False), *honest[3:]]),
    )
    yield one(
        13,
        "polyglot",
        "a tar whose first name is the beginning of a pickle",
        tar_file({"\udc80\x02K\1K\2\udcff": b"", "a.txt": b"text", "b.pkl": pickled(1)}),
    )
    yield in_zip(
        14,
        "hidden-pickle",
        "a pickle that no tensor refers to",
        zip_file([*honest, Member("archive/other.pkl", pickled({"a": 1}))]),
    )
    yield one(
        16,
        "dangerous-call",
        "_rebuild_from_type_v2 calls an allowlisted class",
        pickled(call(rebuild, ordered_dict, name("torch", "Tensor"), (), None)),
    )
    yield one(
        16, "dangerous-call-type", "type() of a value", pickled(call(name("builtins", "type"), 1))
    )
    yield one(18, "buffer-opcode", "bytes that come from outside", pickled(b"\x97", protocol=5))
    yield in_zip(
        18,
        "odd-persistent-id",
        "a persistent id that is a word",
        torch_zip(pickled(dict_of({"w": persistent("storage")}))),
    )
    yield in_zip(
        18,
        "odd-persistent-id-location",
        "a storage whose location is a number",
        torch_zip(
            pickled(
                dict_of({"w": persistent(("storage", name("torch", "FloatStorage"), "0", 0, 4))})
            )
        ),
    )
    storage = name("torch", "FloatStorage")
    for label, why, pid in (
        ("class", "a storage whose class is a word", ("storage", "FloatStorage", "0", "cpu", 4)),
        ("kind", "an id that is not of a storage", ("tensor", storage, "0", "cpu", 4)),
        ("short", "an id without the number of elements", ("storage", storage, "0", "cpu")),
        ("long", "an id with a part too many", ("storage", storage, "0", "cpu", 4, None, 1)),
        ("key", "a storage whose key is a number", ("storage", storage, 0, "cpu", 4)),
        ("elements", "a number of elements in words", ("storage", storage, "0", "cpu", "4")),
        ("list", "an id that is no tuple", list_of("storage", storage, "0", "cpu", 4)),
    ):
        yield in_zip(
            18,
            f"odd-persistent-id-{label}",
            why,
            torch_zip(pickled(dict_of({"w": persistent(pid)}))),
        )
    for label, data in (("", HONEST), ("-over-a-payload", HOSTILE)):
        yield in_zip(
            13,
            f"gap-data-empty-directory{label}",
            "a directory without members over local headers with content",
            _emptied(torch_zip(data)),
        )


def _emptied(archive: bytes) -> bytes:
    """A zip whose directory lists nothing, behind the members that it has."""
    members = archive[: archive.index(b"PK\x01\x02")]
    return members + b"PK\5\6" + bytes(12) + len(members).to_bytes(4, "little") + bytes(2)
