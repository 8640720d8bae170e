"""How well `identify` names headers whose answers are known.

    python benchmarks/identification.py HEADERS.json.xz
    python benchmarks/identification.py FOLDER --show wrong vague

A file is a list of `{"file", "expected", "metadata", "tensors"}`: `tensors` has `[dtype, shape]` by
name, `expected` the answers that count as right for `kind`, `family`, `version` and `pred` (null:
not judged). `field_headers.py` makes such a file of the libraries that are installed. An answer is

    right     kind and family, and version and prediction where they are judged
    vague     the kind is right, what else is judged is left open, or several families are named
              and the right one is among them
    unknown   the kind is `unknown`
    wrong     another kind, family, version or prediction
"""

from __future__ import annotations

import argparse
import json
import lzma
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sdtool.checkpoint.dtypes import BY_SAFETENSORS
from sdtool.checkpoint.identify import Identity, identify
from sdtool.checkpoint.source import Memory
from sdtool.checkpoint.tensors import Storage, TensorEntry

JUDGED = ("right", "vague", "unknown", "wrong")
OLDER_WORDS = {
    "FLUX": "FLUX.1",
    "Flux.2": "FLUX.2",
    "SD 3 or Flux": "SD 3 or FLUX.1",
    "TAESD (SD 3 or Flux)": "TAESD (SD 3 or FLUX.1)",
    "SD 1.x, 2.x or SDXL": "SD 1.x, SD 2.x or SDXL",
}
"""Words of headers that were written before `identify.words` had one list of them."""


def headers_of(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the headers of a file, or of every `.json.xz` in a folder."""
    for file in sorted(path.glob("*.json.xz")) if path.is_dir() else (path,):
        with lzma.open(file) as stream:
            yield from json.load(stream)


def entries_of(tensors: Mapping[str, tuple[str, list[int]]]) -> list[TensorEntry]:
    """Make tensors of names, types and shapes, without bytes."""
    storage = Storage("", Memory(b"", "no bytes"), 0, 0)
    return [
        TensorEntry((name,), name, BY_SAFETENSORS[code], tuple(shape), (), 0, storage)
        for name, (code, shape) in tensors.items()
    ]


def judge(found: Identity, expected: Mapping[str, list[str | None] | None]) -> str:
    """Return one of `JUDGED`."""
    if found.kind not in (expected["kind"] or [found.kind]):
        return "unknown" if found.kind == "unknown" else "wrong"
    answers = {
        "family": found.family,
        "version": found.version,
        "pred": found.prediction.type if found.prediction else None,
    }
    is_vague = False
    for what, answer in answers.items():
        wanted = expected[what]
        if wanted is None or _word(answer) in map(_word, wanted):
            continue
        is_open = answer in (None, "undecided")
        if what == "family" and found.families:
            is_open = any(_word(family) in map(_word, wanted) for family in found.families)
        if not is_open:
            return "wrong"
        is_vague = True
    return "vague" if is_vague else "right"


def _word(answer: str | None) -> str | None:
    """A word without what only spelling makes of it: `ACE-Step` and `acestep` are one."""
    if answer is None:
        return None
    return "".join(filter(str.isalnum, OLDER_WORDS.get(answer, answer))).casefold()


def main() -> None:
    """Judge each header, and print counts by group and the time of one."""
    parser = argparse.ArgumentParser(
        description="How well `identify` names headers whose answers are known."
    )
    parser.add_argument("headers", type=Path)
    parser.add_argument("--show", nargs="*", default=["wrong"], choices=JUDGED)
    options = parser.parse_args()
    groups: dict[str, Counter[str]] = {}
    seconds: list[float] = []
    for header in headers_of(options.headers):
        entries = entries_of(header["tensors"])
        start = time.perf_counter()
        found = identify(entries, {}, header["metadata"] or {})
        seconds.append(time.perf_counter() - start)
        verdict = judge(found, header["expected"])
        groups.setdefault(header["file"].partition("/")[0], Counter())[verdict] += 1
        if verdict in options.show:
            print(f"{verdict:<8} {header['file']:<44} {found.title}; {header['expected']}")
    groups["all"] = sum(groups.values(), Counter())
    print(f"\n{'group':<24}" + "".join(f"{name:>9}" for name in ("headers", *JUDGED)))
    for group, counts in groups.items():
        print(f"{group:<24}{counts.total():>9}" + "".join(f"{counts[j]:>9}" for j in JUDGED))
    print(f"\nmilliseconds: median {1e3 * statistics.median(seconds):.1f}, "
          f"most {1e3 * max(seconds):.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
