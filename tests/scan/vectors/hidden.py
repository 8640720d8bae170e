"""Pickles where nobody looks."""

from __future__ import annotations

from collections.abc import Iterator

from tests.forge import (
    NONE,
    POP,
    Member,
    inst,
    line_text,
    pickled,
    tar_file,
    torch_members,
    torch_zip,
    zip_file,
)
from tests.scan.gadgets import MARKER
from tests.scan.vectors.vector import BOOM, HONEST, PICKLE, Vector, silent, v, zipped


def hidden() -> Iterator[Vector]:
    """Class 14: pickles where nobody looks."""
    boom = pickled(BOOM)
    text_boom = pickled(inst("os", "mkdir", line_text(MARKER)), protocol=None)
    places = (
        ("other-pkl", "archive/other.pkl", boom),
        ("no-suffix", "archive/notes", boom),
        ("protocol-0", "archive/notes.txt", text_boom),
        ("version", "archive/version", boom),
        ("byteorder", "archive/byteorder", boom),
        ("other-root", "extra/thing", boom),
        ("record", "archive/data/1", boom),
        ("record-protocol-0", "archive/data/1", text_boom),
        ("nested-folder", "archive/data/0/x", boom),
        ("dot-data", "archive/.data/version", boom),
    )
    for label, member, data in places:
        members = [m for m in torch_members(HONEST) if m.name != member]
        yield silent(
            f"hidden-{label}",
            f"a pickle in {member}, which no tensor needs",
            zip_file([*members, Member(member, data)]),
            suffix=".pt",
        )
    yield silent(
        "hidden-deflated",
        "a deflated pickle under another name",
        zip_file([*torch_members(HONEST), Member("archive/x.bin", boom, method=8)]),
        suffix=".pt",
    )
    yield silent(
        "hidden-constants",
        "constants.pkl of a TorchScript archive",
        zip_file([*torch_members(HONEST), Member("archive/constants.pkl", boom)]),
        suffix=".pt",
    )
    yield silent(
        "torchscript",
        "a TorchScript archive: code that runs by design",
        zip_file(
            [
                *torch_members(pickled(1)),
                Member("archive/constants.pkl", pickled(())),
                Member("archive/code/__torch__.py", b"def forward(): pass"),
            ]
        ),
        suffix=".pt",
    )
    everywhere = (*PICKLE, "pandas", "joblib", "dill", "cloudpickle", "numpy")
    yield v("no-proto", "a pickle of protocol 0 without a PROTO byte", text_boom, everywhere)
    yield zipped("no-proto-bin", "a data.pkl of protocol 0", torch_zip(text_boom))
    leading = pickled(NONE, POP, BOOM, protocol=None)
    yield v("leading-ops", "harmless opcodes in front", leading, everywhere)
    yield silent(
        "plain-zip-member",
        "an archive without data.pkl, a pickle among its files",
        zip_file([Member("README", b"hello"), Member("weights.bin", boom)]),
        suffix=".zip",
    )
    yield silent(
        "plain-tar-member",
        "a tar with a pickle among its files",
        lambda: tar_file({"README": b"hello", "weights.bin": boom}),
        suffix=".tar",
    )
