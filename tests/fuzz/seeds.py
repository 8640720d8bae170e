"""What the differential fuzzer starts from: honest files of real writers, and hostile vectors."""

from __future__ import annotations

import io
import pickle
import sys
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from tests.forge import (
    SYS_INFO,
    dict_of,
    name,
    pickled,
    stack_name,
    tar_file,
    tensor,
    torch_legacy,
    torch_tar,
    torch_zip,
)
from tests.fuzz.headers import PACKERS
from tests.scan.vectors import VECTORS

_NBYTES = 12_000
_SLOW = ("lightning-none", "lightning-attribute-dict", "lightning-omegaconf")
"""Files of a real training run: they take seconds to write."""


@dataclass(frozen=True)
class Seed:
    """A file to mutate; an honest one is clean, whatever its spelling."""

    name: str
    data: bytes
    suffix: str
    honest: bool


def seeds() -> tuple[Seed, ...]:
    """All of them, in an order that does not change."""
    return (*_honest(), *_hostile())


def _hostile() -> Iterator[Seed]:
    for vector in VECTORS:
        if vector.threat == 17 or sys.version_info[:2] > (3, vector.until):
            continue  # bombs are for the tests of limits
        if vector.threat in (1, 2) and hash_of(vector.name) % 12:
            continue  # the gadgets differ by a name only
        data = vector.build()
        if len(data) <= _NBYTES:
            yield Seed(vector.name, data, vector.suffix, False)


def hash_of(text: str) -> int:
    """A number that is the same in every process."""
    return sum(i * byte for i, byte in enumerate(text.encode(), 1))


def _honest() -> Iterator[Seed]:
    yield from _with_values()
    from tests.scan.corpus import HONEST

    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for label, write in sorted(HONEST.items()):
            if label.startswith(_SLOW) or _is_dull(label):
                continue
            path = Path(folder) / "file"
            try:
                write(path)
            except ImportError:
                continue
            data = path.read_bytes()
            if len(data) <= _NBYTES:
                yield Seed(label, data, _suffix(label), True)


def _suffix(label: str) -> str:
    kind = label.partition("-")[0]
    return {"pickle": ".pkl", "safetensors": ".safetensors", "npz": ".npz"}.get(kind, ".pt")


def _is_dull(label: str) -> bool:
    """Whether it differs from others by its dtype or protocol only."""
    return label.startswith(("dtype-", "pickle-numpy-dtype")) and hash_of(label) % 6 > 0


def _saved(make: Callable[[], Any], **options: Any) -> bytes:
    out = io.BytesIO()
    torch.save(make(), out, **options)
    return out.getvalue()


def _with_values() -> Iterator[Seed]:
    """State dicts whose values all differ, so that a wrong one shows."""
    for label, make in _states().items():
        for protocol in (2, 4):
            data = _saved(make, pickle_protocol=protocol)
            yield Seed(f"values-{label}-zip{protocol}", data, ".pt", True)
            if len(data) < 6_000:  # the same thing where mutants are cheapest to make
                yield Seed(f"values-{label}-zip{protocol}-again", data, ".ckpt", True)
        data = _saved(make, _use_new_zipfile_serialization=False)
        yield Seed(f"values-{label}-legacy", data, ".pt", True)
        plain = pickle.dumps(make(), 2)
        yield Seed(f"values-{label}-pickle", plain, ".pkl", True)
        yield Seed(f"values-{label}-gzip", PACKERS["gzip"](plain), ".pkl.gz", True)
    weights = pickled(dict_of({"w": tensor(), "b": tensor(offset=2, size=(2,))}))
    yield Seed("forged-zip", torch_zip(weights, {"0": bytes(range(16))}), ".pt", True)
    by_stack = pickled(dict_of({"w": stack_name("torch", "float32")}), protocol=4)
    yield Seed("forged-stack-global", torch_zip(by_stack), ".pt", True)
    empty = pickled(dict_of({"a": 1, "b": name("collections", "OrderedDict")}))
    yield Seed("forged-tar", torch_tar(empty), ".pt", True)
    yield Seed("forged-tar-plain", tar_file({"a.pkl": empty}), ".tar", True)
    yield Seed("forged-legacy", torch_legacy(empty), ".pth", True)
    yield Seed("forged-row", pickled(SYS_INFO) + empty, ".pkl", True)
    yield from _other_writers()


def _other_writers() -> Iterator[Seed]:
    """Files of joblib and of numpy, which keep arrays in other ways than pickle does."""
    arrays = {
        "a": np.arange(6, dtype="<f4").reshape(2, 3),
        "o": np.array([None, "x"], dtype=object),
    }
    out = io.BytesIO()
    np.savez(out, a=arrays["a"], o=arrays["o"])
    yield Seed("npz-with-objects", out.getvalue(), ".npz", True)
    out = io.BytesIO()
    np.savez_compressed(out, a=arrays["a"], o=arrays["o"])
    yield Seed("npz-compressed", out.getvalue(), ".npz", True)
    try:
        joblib: Any = import_module("joblib")
    except ImportError:
        return
    for compress in (0, 1, ("lzma", 3), ("bz2", 3)):
        out = io.BytesIO()
        joblib.dump(arrays, out, compress=compress)
        yield Seed(f"joblib-{compress}", out.getvalue(), ".joblib", True)


def _states() -> dict[str, Callable[[], Any]]:
    base = torch.arange(1.0, 25.0).reshape(4, 6)
    half = torch.arange(1, 9).half()
    longs = torch.arange(100, 112).reshape(3, 4)
    state = OrderedDict(
        [
            ("a.weight", base),
            ("a.bias", base[1]),
            ("t", base.t()),
            ("half", half),
            ("long", longs[1:]),
        ]
    )
    wrapped = {"state_dict": state, "epoch": 3, "optimizer": {"state": {0: {"m": half + 1}}}}
    counted = defaultdict[str, Any](dict, {"w": half, "v": base})
    return {
        "plain": lambda: dict(state),
        "ordered": lambda: state,
        "wrapped": lambda: wrapped,
        "parameters": lambda: {"p": torch.nn.Parameter(base), "q": torch.nn.Parameter(half)},
        "two-sets": lambda: {"params": {"w": base}, "params_ema": {"w": base + 1}},
        "lists": lambda: {"w": [base, half], "t": (longs, half[2:5])},
        "default": lambda: counted,
        "embedding": lambda: {
            "string_to_token": {"*": 265},
            "string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(base)}),
        },
        "views": lambda: {"a": base[::2], "b": base[:, 1:3], "c": base[3, 5], "d": base[4:]},
        "complex": lambda: {"c": torch.arange(4.0).to(torch.complex64), "n": _negated()},
        "module": lambda: torch.nn.Linear(2, 2),
        "bytes": lambda: {
            "u": torch.arange(9, dtype=torch.uint8),
            "b": torch.tensor([True, False]),
        },
    }


def _negated() -> torch.Tensor:
    return torch.tensor([1 + 2j, 3 + 4j]).conj().imag


def usable(found: Sequence[Seed]) -> bool:
    """Whether there is something of both sorts."""
    return any(s.honest for s in found) and any(not s.honest for s in found)
