"""Payloads in front of a broken byte, and in another pickle than the first."""

from __future__ import annotations

from collections.abc import Iterator

from tests.forge import (
    LEGACY_MAGIC,
    POP,
    SYS_INFO,
    dict_of,
    legacy_storage,
    ops,
    pickled,
    proto,
    tensor,
    torch_legacy,
    torch_tar,
    torch_zip,
)
from tests.scan.vectors.vector import BOOM, HONEST, HOSTILE, Vector, silent, v, zipped


def broken() -> Iterator[Vector]:
    """Class 10: the payload has run when the loader gives up."""
    tails = (
        ("cut", b""),
        ("no-opcode", b"\xff"),
        ("empty-stack", b"00000000"),
        ("missing-memo", b"h\xfa."),
        ("bad-utf8", b"X\x01\0\0\0\xff."),
        ("string-too-long", b"X\xff\xff\xff\x0fabc"),
        ("no-mark", b"t."),
        ("bad-number", b"Iseven\n."),
        ("protocol-99", b"\x80\x63."),
        ("negative-length", b"T\xff\xff\xff\xff."),
        ("persistent-id", b"Pabc\n."),
        ("out-of-band", b"\x97."),
        ("unhashable-key", b"}]K\1s."),
        ("no-such-name", b"cno_such_module\nx\n."),
        ("unquoted-string", b"Sabc\n."),
    )
    for label, tail in tails:
        yield v(
            f"broken-{label}",
            "the stream is broken behind the payload",
            bytes(ops(proto(2), BOOM, tail)),
        )
    yield zipped(
        "broken-torch-zip",
        "the same inside a torch zip",
        torch_zip(bytes(ops(proto(2), BOOM, b"\xff"))),
    )
    yield silent(
        "broken-zip-cut",
        "a torch zip that lost its directory",
        torch_zip(HOSTILE)[:-60],
        suffix=".pt",
    )


def streams() -> Iterator[Vector]:
    """Class 11: not the first pickle."""
    plain = pickled(dict_of({"a": 1}))
    boom = pickled(BOOM)
    yield v("second-pickle", "the payload is in the second pickle", plain + boom, ("every",))
    yield v("fifth-pickle", "the payload is in the fifth", plain * 4 + boom, ("every",))
    yield v("second-after-number", "the first pickle is a number", pickled(1) + boom, ("every",))
    yield v(
        "second-without-proto",
        "the second has no PROTO",
        plain + pickled(BOOM, protocol=None),
        ("every",),
    )
    yield silent(
        "data-pkl-second-pickle",
        "behind the STOP of a data.pkl",
        torch_zip(HONEST + boom),
        suffix=".pt",
    )
    positions = ("magic", "protocol", "sys_info", "body", "keys")
    for i, label in enumerate(positions):

        def make(i: int = i) -> bytes:
            parts = [
                pickled(LEGACY_MAGIC),
                pickled(1001),
                pickled(SYS_INFO),
                pickled(dict_of({"a": 1})),
                pickled([]),
            ]
            parts[i] = bytes(ops(proto(2), BOOM, POP, parts[i][2:]))
            return torch_legacy(
                parts[3], magic=parts[0], protocol=parts[1], sys_info=parts[2], keys=parts[4]
            )

        yield v(
            f"legacy-{i + 1}-{label}",
            f"in pickle {i + 1} of a legacy torch file",
            make,
            ("torch",),
            suffix=".pth",
        )
    yield silent(
        "legacy-trailing",
        "behind the records of a legacy torch file",
        lambda: torch_legacy(
            pickled(dict_of({"w": tensor(legacy_storage())})), {"0": bytes(16)}, trailing=boom
        ),
        suffix=".pth",
    )
    tar = torch_tar
    yield v(
        "tar-pickle", "in the `pickle` of a torch tar", lambda: tar(boom), ("torch",), suffix=".pth"
    )
    yield v(
        "tar-storages-count",
        "in the count of `storages`",
        lambda: tar(plain, storages=pickled(BOOM, POP, 0) + pickled([])),
        ("torch",),
        suffix=".pth",
    )
    yield v(
        "tar-storages-entry",
        "in an entry of `storages`",
        lambda: tar(plain, storages=pickled(1) + boom),
        ("torch",),
        suffix=".pth",
    )
    yield v(
        "tar-storages-views",
        "in the views of `storages`",
        lambda: tar(plain, storages=pickled(0) + boom),
        ("torch",),
        suffix=".pth",
    )
    yield v(
        "tar-tensors-count",
        "in the count of `tensors`",
        lambda: tar(plain, tensors=boom),
        ("torch",),
        suffix=".pth",
    )
    yield v(
        "tar-tensors-entry",
        "in an entry of `tensors`",
        lambda: tar(plain, tensors=pickled(1) + boom),
        ("torch",),
        suffix=".pth",
    )
    yield silent(
        "tar-sys-info",
        "in `sys_info`, which newer loaders skip",
        lambda: tar(plain, sys_info=boom),
        suffix=".pth",
    )
    yield silent(
        "tar-body-second", "behind the STOP of `pickle`", lambda: tar(plain + boom), suffix=".pth"
    )
