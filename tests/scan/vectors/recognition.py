"""Pickles that do not begin as one, or break off, and are run all the same."""

from __future__ import annotations

from collections.abc import Iterator

from tests.forge import (
    LEGACY_MAGIC,
    POP,
    STOP,
    Ops,
    call,
    line_int,
    line_text,
    long1,
    name,
    ops,
    pickled,
    proto,
    text,
    torch_legacy,
    torch_zip,
)
from tests.scan.gadgets import MARKER, SHELL
from tests.scan.vectors.vector import BOOM, PICKLE, TORCH, Vector, v, zipped

COLLECT = call(name("torch.utils.collect_env", "run"), SHELL)
RUNSTRING = call(name("numpy.testing._private.utils", "runstring"), f"open('{MARKER}', 'w')", {})
DOTTED = ops(text(""), POP, proto(4), call(name("posixpath", "os.system"), SHELL))
"""PROTO in second place, and a name whose dots it makes an unpickler walk."""
OCTAL = ops(line_int(b"010"), POP)
"""8 to the C unpickler; others refuse it."""
BAD = Ops(b"\xff")
READERS = ("joblib", "numpy", "pandas", "dill", "cloudpickle")


def bare(*parts: bytes) -> bytes:
    """Opcodes without PROTO in front, and STOP."""
    return bytes(ops(*parts, STOP))


def recognition() -> Iterator[Vector]:
    """Class 11: what is a pickle to an unpickler alone."""
    payloads = {"third-party": COLLECT, "numpy": RUNSTRING, "dotted": DOTTED, "stdlib": BOOM}
    for label, payload in payloads.items():
        needs_torch = payload not in (DOTTED, BOOM)
        ends = {
            "octal": (bare(payload, POP, OCTAL, text("x")), ("c-bytes", *READERS)),
            "bad-byte": (bare(payload, BAD), PICKLE),
            "cut": (bytes(payload), PICKLE),
        }
        for end, (data, loaders) in ends.items():
            yield v(
                f"bare-{label}-{end}",
                f"no PROTO, a call of a {label} name, then what sdtool does not read ({end})",
                data,
                loaders,
                needs_torch=needs_torch or loaders is not PICKLE,
                suffix=".txt",
            )
        magic = bare(payload, POP, OCTAL, long1(LEGACY_MAGIC))
        yield v(
            f"legacy-{label}-octal",
            "a legacy torch file whose magic number comes behind the payload",
            torch_legacy(HONEST_BODY, magic=magic),
            TORCH[:1],
            suffix=".png",
            needs_torch=True,
        )
        for end, nested in (
            ("whole", torch_legacy(HONEST_BODY, magic=magic)),
            ("bad-byte", ends["bad-byte"][0]),
        ):
            yield zipped(
                f"nested-{label}-{end}",
                "the same as the bytes that torch.load is handed inside of a pickle",
                torch_zip(pickled(call(name("torch.storage", "_load_from_bytes"), nested))),
                (*TORCH, "torch-file"),
            )
    yield v(
        "bare-text-first",
        "text opcodes first, PROTO 4 later, a dotted name",
        bare(line_text("a b"), POP, DOTTED),
        (*PICKLE, "numpy", "pandas", "cloudpickle"),
        needs_torch=True,
        suffix=".txt",
    )
    yield v(
        "bare-int-first",
        "numbers as text first",
        bare(line_int(b"1"), POP, line_int(b"010"), POP, COLLECT),
        ("c-bytes", *READERS[1:]),
        needs_torch=True,
        suffix=".dat",
    )


HONEST_BODY = pickled({"a": 1})
