"""What a tensor costs in memory: bytes each, of whole processes, in a file of very many.

    python benchmarks/per_tensor.py [--tensors 200000] [--only KIND,...] [--verbs VERB,...]

The peak resident set on a file of many tensors, less that on a file of one, divided by their
number. `own` tensors have a storage and a record each, `shared` ones are views of one storage;
`legacy` ones have storages of their own in torch's first format. Linux and macOS only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path

VERBS: dict[str, list[str]] = {
    "scan": ["scan", "FILE"],
    "info": ["info", "FILE"],
    "convert": ["convert", "FILE", "--out-dir", "OUT"],
    "prune": ["prune", "FILE", "--out-dir", "OUT"],
    "verify": ["verify", "FILE"],
}
KINDS = ("own", "shared", "legacy")


def write(path: Path, kind: str, tensors: int) -> None:
    """Write a state dict of small tensors; called in a process of its own, which loads numpy."""
    from make_checkpoint import Tensor, Weights, write_legacy, write_zip

    is_legacy = kind == "legacy"
    weights = Weights(is_half=False, is_legacy=is_legacy, scale=1)
    count = 1 if kind == "shared" else tensors
    made = [weights.tensor("Float", (4, 4)) for _ in range(count)]
    state = OrderedDict(
        (f"layer.{i}.weight", Tensor(made[i % count].storage, (4, 4))) for i in range(tensors)
    )
    with open(path, "wb") as file:
        (write_legacy if is_legacy else write_zip)(file, state, weights.storages)


def peak_nbytes(arguments: list[str]) -> int:
    """The peak resident set of one run of sdtool.

    Raises:
        SystemExit: it failed.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", "sdtool", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"sdtool {' '.join(arguments)} ended with {child.returncode}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1 << 10)


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tensors", type=int, default=200_000)
    parser.add_argument("--only", default=",".join(KINDS), help="kinds, with commas between them")
    parser.add_argument("--verbs", default=",".join(VERBS), help="verbs, with commas between them")
    parser.add_argument("--write", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        path, kind, tensors = options.write
        write(Path(path), kind, int(tensors))
        return
    verbs = options.verbs.split(",")
    print(f"| bytes a tensor | {' | '.join(verbs)} |", "|---|" + "--:|" * len(verbs), sep="\n")
    for kind in options.only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            paths = Path(folder, "one.ckpt"), Path(folder, "many.ckpt")
            for path, count in zip(paths, (1, options.tensors), strict=True):
                command = [sys.executable, __file__, "--write", str(path), kind, str(count)]
                subprocess.run(command, check=True)
            cells: list[str] = []
            for verb in verbs:
                one, many = (
                    peak_nbytes(
                        [
                            {"FILE": str(path), "OUT": f"{folder}/{verb}"}.get(word, word)
                            for word in VERBS[verb]
                        ]
                    )
                    for path in paths
                )
                cells.append(f"{(many - one) / options.tensors:,.0f}")
        print(f"| {kind} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
