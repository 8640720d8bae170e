"""Write torch zips whose pickle is large beside their data: many tensors of one small storage.

    python benchmarks/make_small.py FOLDER --files 1000 --tensors 10

A program of its own, so that the process that measures never loads numpy.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path

from make_checkpoint import Tensor, TorchZip, Weights, pickled


def main() -> None:
    """Read the command line and write the files, with the same content unless it is asked for."""
    parser = argparse.ArgumentParser(description="Write torch zips of many small tensors.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=1)
    parser.add_argument("--tensors", type=int, required=True)
    parser.add_argument("--ema", action="store_true", help="half of them are the EMA of the others")
    parser.add_argument("--different", action="store_true", help="no two have the same names")
    options = parser.parse_args()
    storage = Weights(is_half=False, is_legacy=False, scale=1).tensor("Float", (16,)).storage
    # torch makes a tuple for each size: pickle would write one that is shared only once
    sizes = [tuple(map(int, (4, 4))) for _ in range(options.tensors)]
    for number in range(options.files):
        prefix = f"model{number}." if options.different else ""
        names = (prefix + name_of(i, options.ema) for i in range(options.tensors))
        tensors = zip(names, (Tensor(storage, size) for size in sizes), strict=True)
        data = pickled(OrderedDict(tensors), is_legacy=False)
        with open(options.folder / f"{number}.ckpt", "wb") as file:
            archive = TorchZip(file, "archive")
            archive.add("data.pkl", len(data), [data])
            archive.add("byteorder", 6, [b"little"])
            archive.add("data/0", storage.nbytes, storage.chunks())
            archive.add("version", 2, [b"3\n"])
            archive.close()


def name_of(number: int, with_ema: bool) -> str:
    """Name a tensor; of a pair the second one is its EMA, as ldm calls it."""
    if not with_ema:
        return f"layer.{number}.weight"
    if number % 2:
        return f"model_ema.diffusion_modellayer{number - 1}weight"
    return f"model.diffusion_model.layer.{number}.weight"


if __name__ == "__main__":
    main()
