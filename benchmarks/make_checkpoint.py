"""Write a full-size Stable Diffusion v1 training checkpoint, streamed, without torch.

    python benchmarks/make_checkpoint.py training.ckpt --kind training
    python benchmarks/make_checkpoint.py small.ckpt --kind full --format legacy --scale 8

Names, order, shapes and dtypes are those of the published file (sd-v1-full-ema.json); the values
are pseudo-random, finite, small, and the same in every run. `emaonly` has 1,145 weights (4.27 GB
in fp32), `full` adds the EMA copy (1,831, 7.7 GB), `training` adds the state of AdamW (14.6 GB).
The pickle is written as torch.save writes it: same opcodes, same persistent ids, same members.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import pickle
import struct
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, TypeAlias

import numpy as np

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
BLOCK_NBYTES = 64 << 20
STORAGES = {
    "Float": ("FloatStorage", "<f4"),
    "Half": ("HalfStorage", "<f2"),
    "Int": ("IntStorage", "<i4"),
    "Long": ("LongStorage", "<i8"),
}


class Name:
    """A global, written as it stands and never imported."""

    def __init__(self, module: str, name: str) -> None:
        self.written = f"c{module}\n{name}\n".encode()


class Storage:
    """What a persistent id points at: `values` tile or fill `numel` elements."""

    def __init__(self, key: str, element: str, numel: int, start: int, values: Array) -> None:
        self.key = key
        self.type_name = TYPE_NAMES[element]
        self.numel = numel
        self.nbytes = numel * values.itemsize
        self._start = start
        self._values = values

    def chunks(self) -> Iterator[memoryview]:
        """Its bytes, at most one block at a time."""
        left, at = self.numel, self._start
        while left:
            part = self._values[at : at + left]
            yield part.data.cast("B")
            left -= len(part)
            at = 0


class Tensor:
    """A tensor that is the whole of its storage."""

    def __init__(self, storage: Storage, shape: tuple[int, ...]) -> None:
        self.storage = storage
        self.shape = shape


TYPE_NAMES = {element: Name("torch", name) for element, (name, _) in STORAGES.items()}
REBUILD = Name("torch._utils", "_rebuild_tensor_v2")
MODEL_CHECKPOINT = Name("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")


PythonPickler: Any = vars(pickle)["_Pickler"]  # the C pickler cannot be taught


class TorchPickler(PythonPickler):  # type: ignore[misc]
    """CPython's own pickler, taught to write names and tensors that are not there."""

    dispatch: ClassVar[dict[type, Any]] = dict(PythonPickler.dispatch)

    def __init__(self, file: BinaryIO, *, is_legacy: bool) -> None:
        super().__init__(file, protocol=2)
        self.is_legacy = is_legacy

    def persistent_id(self, obj: Any) -> Any:
        """torch's id of a storage; the legacy format has a sixth field for views."""
        if not isinstance(obj, Storage):
            return None
        pid = ("storage", obj.type_name, obj.key, "cpu", obj.numel)
        return (*pid, None) if self.is_legacy else pid

    def save_name(self, obj: Name) -> None:
        """Write a GLOBAL."""
        self.write(obj.written)
        self.memoize(obj)

    def save_tensor(self, obj: Tensor) -> None:
        """Write the call that rebuilds a tensor."""
        stride = tuple(math.prod(obj.shape[i + 1 :]) for i in range(len(obj.shape)))
        self.save(REBUILD)
        self.save((obj.storage, 0, obj.shape, stride, False, OrderedDict()))
        self.write(pickle.REDUCE)
        self.memoize(obj)

    dispatch[Name] = save_name
    dispatch[Tensor] = save_tensor


class Weights:
    """Makes tensors: slices of one random block, each from a place of its own."""

    def __init__(
        self, *, is_half: bool, is_legacy: bool, scale: int, is_zero: bool = False
    ) -> None:
        rng = np.random.default_rng(20220822)
        block = rng.standard_normal(BLOCK_NBYTES // 4, dtype=np.float32) * np.float32(0.02)
        if is_zero:
            block[:] = 0
        self._float = "Half" if is_half else "Float"
        self._block = block.astype(STORAGES[self._float][1])
        self._positive = np.abs(self._block)
        self._is_legacy = is_legacy
        self._scale = scale
        self.storages: list[Storage] = []

    def tensor(
        self, element: str, shape: Iterable[int], *, values: Any = None, positive: bool = False
    ) -> Tensor:
        """Make the next tensor; `values` fill it in place of random ones."""
        element = self._float if element == "Float" else element
        shape = tuple(shape)
        start = 0
        if values is None:
            # Channel counts shrink; kernels, positions and other small sizes stay.
            shape = tuple(max(1, n // self._scale) if n >= 64 else n for n in shape)
            array = self._positive if positive else self._block
            start = len(self.storages) * 1_000_003 % len(array)
        else:
            array = np.asarray(values, dtype=STORAGES[element][1]).reshape(-1)
        number = len(self.storages)
        key = str(94_000_000_000_000 + 64 * number) if self._is_legacy else str(number)
        storage = Storage(key, element, math.prod(shape), start, array)
        self.storages.append(storage)
        return Tensor(storage, shape)


def state_dict(layout: list[Any], weights: Weights, *, with_ema: bool) -> OrderedDict[str, Tensor]:
    """The weights, as `Module.state_dict` returns them: ordered, and with their `_metadata`."""
    fixed = {
        "model_ema.decay": 0.9999,
        "model_ema.num_updates": 470_000,
        "cond_stage_model.transformer.text_model.embeddings.position_ids": range(77),
    }
    state: OrderedDict[str, Tensor] = OrderedDict()
    modules = {"": None}
    for name, element, shape in layout:
        if name.startswith("model_ema.") and name not in fixed and not with_ema:
            continue
        state[name] = weights.tensor(element, shape, values=fixed.get(name))
        parents = name.split(".")[:-1]
        modules.update({".".join(parents[: i + 1]): None for i in range(len(parents))})
    vars(state)["_metadata"] = OrderedDict((module, {"version": 1}) for module in modules)
    return state


def optimizer_state(layout: list[Any], weights: Weights) -> dict[str, Any]:
    """AdamW's state over the parameters of the UNet, in the order of the layout."""
    shapes = [shape for name, _, shape in layout if name.startswith("model.diffusion_model.")]
    state = {
        i: {
            "step": weights.tensor("Float", (), values=50_000),
            "exp_avg": weights.tensor("Float", shape),
            "exp_avg_sq": weights.tensor("Float", shape, positive=True),
        }
        for i, shape in enumerate(shapes)
    }
    group = {
        "lr": 1e-4,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 0.01,
        "amsgrad": False,
        "maximize": False,
        "initial_lr": 1e-4,
        "params": list(range(len(shapes))),
    }
    return {"state": state, "param_groups": [group]}


def lightning_checkpoint(layout: list[Any], weights: Weights, kind: str) -> dict[str, Any]:
    """What Lightning 1.4's `Trainer.save_checkpoint` saves."""
    checkpoint: dict[str, Any] = {
        "epoch": 6,
        "global_step": 470_000,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": state_dict(layout, weights, with_ema=kind != "emaonly"),
        "callbacks": {
            MODEL_CHECKPOINT: {
                "monitor": "val/loss_simple_ema",
                "best_model_score": weights.tensor("Float", (), values=0.1328125),
                "best_model_path": "logs/checkpoints/epoch=000006.ckpt",
                "current_score": weights.tensor("Float", (), values=0.140625),
                "dirpath": "logs/checkpoints",
            }
        },
    }
    if kind == "training":
        checkpoint["optimizer_states"] = [optimizer_state(layout, weights)]
    checkpoint["lr_schedulers"] = [
        {
            "base_lrs": [1e-4],
            "last_epoch": 470_000,
            "_step_count": 470_001,
            "verbose": False,
            "_get_lr_called_within_step": False,
            "_last_lr": [1e-4],
            "lr_lambdas": [{}],
        }
    ]
    return checkpoint


def pickled(obj: Any, *, is_legacy: bool) -> bytes:
    """The object's pickle, protocol 2."""
    out = io.BytesIO()
    TorchPickler(out, is_legacy=is_legacy).dump(obj)
    return out.getvalue()


class TorchZip:
    """A stored archive as torch writes it: data aligned to 64, descriptors behind the data."""

    def __init__(self, file: Any, root: str) -> None:
        self._file = file
        self._root = root
        self._directory: list[bytes] = []

    def add(self, name: str, nbytes: int, chunks: Iterable[bytes | memoryview]) -> None:
        """Append one record."""
        written = f"{self._root}/{name}".encode()
        at = self._file.tell()
        padding = -(at + 30 + len(written) + 4) % 64
        extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
        flags = 0x808 if nbytes else 0x800
        head = struct.pack(
            "<IHHHHHIIIHH", 0x04034B50, 0, flags, 0, 0, 0, 0, 0, 0, len(written), len(extra)
        )
        self._file.write(head + written + extra)
        crc = 0
        for chunk in chunks:
            crc = zlib.crc32(chunk, crc)
            self._file.write(chunk)
        if nbytes:
            sizes = "QQ" if nbytes >= 1 << 32 else "II"
            self._file.write(struct.pack("<4sI" + sizes, b"PK\7\10", crc, nbytes, nbytes))
        big = [n for n in (nbytes, nbytes, at) if n >= 0xFFFFFFFF]
        zip64 = struct.pack(f"<HH{len(big)}Q", 1, 8 * len(big), *big) if big else b""
        size, offset = min(nbytes, 0xFFFFFFFF), min(at, 0xFFFFFFFF)
        self._directory.append(
            struct.pack(
                "<IHHHHHHIIIHHHHHII",
                *(0x02014B50, 45 if big else 0, 0, flags, 0, 0, 0, crc, size, size),
                *(len(written), len(zip64), 0, 0, 0, 0, offset),
            )
            + written
            + zip64
        )

    def close(self) -> None:
        """Write the directory and its end, in both their forms."""
        at = self._file.tell()
        directory = b"".join(self._directory)
        count = len(self._directory)
        self._file.write(directory)
        end64 = self._file.tell()
        self._file.write(
            struct.pack(
                "<IQHHIIQQQQ", 0x06064B50, 44, 0x31E, 45, 0, 0, count, count, len(directory), at
            )
            + struct.pack("<IIQI", 0x07064B50, 0, end64, 1)
            + struct.pack(
                "<IHHHHIIH",
                *(0x06054B50, 0, 0, min(count, 0xFFFF), min(count, 0xFFFF)),
                *(len(directory), min(at, 0xFFFFFFFF), 0),
            )
        )


def write_zip(file: Any, checkpoint: Any, storages: list[Storage]) -> None:
    """Write the format that torch.save uses since 1.6."""
    archive = TorchZip(file, "archive")
    data = pickled(checkpoint, is_legacy=False)
    for name, content in (
        ("data.pkl", data),
        (".format_version", b"1"),
        (".storage_alignment", b"64"),
        ("byteorder", b"little"),
    ):
        archive.add(name, len(content), [content])
    for storage in storages:
        archive.add(f"data/{storage.key}", storage.nbytes, storage.chunks())
    archive.add("version", 2, [b"3\n"])
    archive.add(".data/serialization_id", 40, [f"{zlib.crc32(data):040d}".encode()])
    archive.close()


def write_legacy(file: Any, checkpoint: Any, storages: list[Storage]) -> None:
    """Write torch's first format: five pickles, then each storage behind its length."""
    system = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    ordered = sorted(storages, key=lambda storage: storage.key)
    for obj in (0x1950A86A20F9469CFC6C, 1001, system):
        file.write(pickle.dumps(obj, protocol=2))
    file.write(pickled(checkpoint, is_legacy=True))
    file.write(pickle.dumps([storage.key for storage in ordered], protocol=2))
    for storage in ordered:
        file.write(struct.pack("<q", storage.numel))
        for chunk in storage.chunks():
            file.write(chunk)


class Sparse:
    """A file into which blocks of zeros are not written: its holes cost no disk."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._zeros = bytes(BLOCK_NBYTES)
        self.tell = file.tell

    def write(self, data: bytes | memoryview) -> None:
        """Write, or go on behind what would be zeros."""
        if len(data) >= 4096 and data == memoryview(self._zeros)[: len(data)]:
            self._file.seek(len(data), 1)
        else:
            self._file.write(data)


def make_checkpoint(
    path: Path,
    *,
    kind: str = "full",
    format: str = "zip",
    dtype: str = "fp32",
    scale: int = 1,
    sparse: bool = False,
) -> int:
    """Write the checkpoint to `path` and return its size in bytes."""
    layout = json.loads(Path(__file__).with_name("sd-v1-full-ema.json").read_text())["tensors"]
    weights = Weights(
        is_half=dtype == "fp16", is_legacy=format == "legacy", scale=scale, is_zero=sparse
    )
    checkpoint = lightning_checkpoint(layout, weights, kind)
    with open(path, "wb") as file:
        write = write_legacy if format == "legacy" else write_zip
        write(Sparse(file) if sparse else file, checkpoint, weights.storages)
        return file.tell()


def main() -> None:
    """Read the command line and write one file."""
    parser = argparse.ArgumentParser(description="Write a full-size checkpoint.", epilog=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kind", choices=("emaonly", "full", "training"), default="full")
    parser.add_argument("--format", choices=("zip", "legacy"), default="zip")
    parser.add_argument("--dtype", choices=("fp32", "fp16"), default="fp32")
    parser.add_argument("--scale", type=int, default=1, help="divide channel counts by this")
    parser.add_argument("--sparse", action="store_true", help="zeros for weights, as holes")
    options = vars(parser.parse_args())
    path = options.pop("out")
    print(f"{path}: {make_checkpoint(path, **options):,} bytes")


if __name__ == "__main__":
    main()
