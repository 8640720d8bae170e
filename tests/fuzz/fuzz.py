"""Fuzz targets: `python -m tests.fuzz.fuzz TARGET [CORPUS...] [-max_total_time=600]`, with atheris.

Each target puts the fuzzer's bytes where one reader begins, scans the whole file, plain and deep,
and asks for what always holds: a verdict, a reason where there is none, and no exception. libFuzzer
holds the bounds on time (-timeout) and memory (-rss_limit_mb).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris  # pyright: ignore

with atheris.instrument_imports(include=["sdtool"]):  # pyright: ignore
    from sdtool.checkpoint import readings
    from sdtool.checkpoint.limits import Limits
    from sdtool.checkpoint.source import Memory
    from sdtool.scan.findings import Verdict
    from sdtool.scan.scanner import judge

from tests.forge import EMPTY_DICT, npy, pickled, torch_legacy, torch_tar
from tests.scan.vectors import VECTORS

LIMITS = Limits(opcodes=100_000, inflated_nbytes=1 << 22, pickles=50, members=500, leaves=2_000)


def _legacy(data: bytes) -> bytes:
    return torch_legacy(data, keys=b"")


def _tar(data: bytes) -> bytes:
    half = len(data) // 2
    return torch_tar(pickled(EMPTY_DICT), storages=data[:half], tensors=data[half:])


def _safetensors(data: bytes) -> bytes:
    header = b'{"' + data
    return len(header).to_bytes(8, "little") + header


def _npy(data: bytes) -> bytes:
    return npy(b"")[:10] + data


# How a target makes a file, and which vectors show it the way: (threat, suffix) of their table.
TARGETS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bool]]] = {
    "machine": (bytes, lambda seed: seed[:1] == b"\x80"),
    "zip": (bytes, lambda seed: b"PK\x05\x06" in seed),
    "legacy": (_legacy, lambda seed: seed[:1] == b"\x80"),
    "tar": (_tar, lambda seed: seed[:1] == b"\x80"),
    "safetensors": (_safetensors, lambda seed: seed[8:10] == b'{"'),
    "npy": (_npy, lambda seed: seed[:6] == b"\x93NUMPY"),
}


def check(data: bytes) -> None:
    """Scan `data` as a file."""
    for deep in (False, True):
        found = readings(Memory(data, "fuzz"), limits=LIMITS, deep=deep)
        report = judge(found, path="fuzz", deep=deep, limits=LIMITS)
        assert report.verdict in Verdict
        assert report.verdict != "undecided" or report.error
        report.as_json()


def main() -> None:
    target = sys.argv[1]
    make, is_seed = TARGETS[target]
    skip = {"safetensors": 10, "npy": 10}.get(target, 0)

    def one(data: bytes) -> None:
        check(make(data))

    with TemporaryDirectory() as seeds:
        for vector in VECTORS:
            if vector.threat not in (1, 2) and len(seed := vector.build()) < 4_000:
                if is_seed(seed):
                    (Path(seeds) / vector.name).write_bytes(seed[skip:])
        options = ["-timeout=10", "-rss_limit_mb=2048", "-max_len=8192"]
        atheris.Setup([sys.argv[0], *sys.argv[2:], seeds, *options], one)  # pyright: ignore
        atheris.Fuzz()  # pyright: ignore


if __name__ == "__main__":
    main()
