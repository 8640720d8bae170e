"""Honest files, written by the programs that people use: none of them may be accused.

`HONEST` maps a name to what writes it into a path. Where a library is not installed its files are
left out (`test_corpus.py` reports that as skipped).
"""

from __future__ import annotations

import argparse
import array
import collections
import datetime
import decimal
import fractions
import gzip
import io
import pathlib
import pickle
import random
import uuid
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from tests.scan import states

Writer = Callable[[pathlib.Path], object]
HONEST: dict[str, Writer] = {}
WHOLE_MODELS: dict[str, Writer] = {}
"""Pickled modules: honest as well, and nevertheless code that runs: `suspicious` by design."""
NEEDS: dict[str, str] = {}
"""Which package a file needs, beyond torch and numpy."""


def _save(make: Callable[[], Any], path: pathlib.Path, **options: Any) -> None:
    torch.save(make(), path, **options)


def _saved(name: str, make: Callable[[], Any], **options: Any) -> None:
    """One object through torch.save."""
    HONEST[name] = partial(_save, make, **options)


def _everywhere(name: str, make: Callable[[], Any]) -> None:
    """One object as torch's zip, as its legacy format, and at each protocol of pickle."""
    _saved(f"{name}-zip", make)
    _saved(f"{name}-legacy", make, _use_new_zipfile_serialization=False)
    for protocol in (3, 4, 5):
        _saved(f"{name}-zip-{protocol}", make, pickle_protocol=protocol)


def _pickled(name: str, make: Callable[[], Any]) -> None:
    """One object through pickle.dump at every protocol; below 3 with the names of python 2."""
    for protocol in range(6):

        def write(path: pathlib.Path, protocol: int = protocol) -> None:
            path.write_bytes(pickle.dumps(make(), protocol))

        HONEST[f"pickle-{name}-{protocol}"] = write


# --- tensors: every dtype, layout and quirk -------------------------------------------------------

DTYPES = [
    name
    for name in (
        "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex128 complex64"
        " complex32 uint16 uint32 uint64 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz"
        " float8_e8m0fnu float4_e2m1fn_x2"
    ).split()
    if hasattr(torch, name)
]


def _of_dtype(name: str) -> torch.Tensor:
    return torch.empty(3, 2, dtype=getattr(torch, name))


def _weight_of_dtype(name: str) -> Any:
    return {"weight": _of_dtype(name)}


for _dtype in DTYPES:
    _everywhere(f"dtype-{_dtype}", partial(_weight_of_dtype, _dtype))


def _layouts() -> dict[str, Callable[[], Any]]:
    base = torch.arange(16.0).reshape(4, 4)
    parameter = torch.nn.Parameter(base.clone())
    marked = torch.nn.Parameter(base.clone())
    marked.decay = True  # type: ignore[attr-defined]
    shared = base.clone()
    return {
        "transposed": lambda: base.t(),
        "expanded": lambda: torch.ones(1).expand(4),
        "view": lambda: base[1:, 2:],
        "scalar": lambda: torch.tensor(3.0),
        "empty": lambda: torch.empty(0, 4),
        "conj": lambda: torch.ones(2, dtype=torch.complex64).conj(),
        "neg": lambda: torch.ones(2, dtype=torch.complex64).conj().imag,
        "requires-grad": lambda: base.clone().requires_grad_(),
        "parameter": lambda: parameter,
        "parameter-state": lambda: marked,
        "buffer": lambda: torch.nn.Buffer(base.clone()),
        "shared": lambda: {"a": shared, "b": shared, "c": shared[1:]},
        "sparse-coo": lambda: base.to_sparse(),
        "sparse-csr": lambda: base.to_sparse_csr(),
        "sparse-csc": lambda: base.to_sparse_csc(),
        "sparse-bsr": lambda: base.to_sparse_bsr((2, 2)),
        "sparse-bsc": lambda: base.to_sparse_bsc((2, 2)),
        "nested": lambda: torch.nested.nested_tensor([base, base[:2]]),
        "meta": lambda: torch.empty(4, device="meta"),
        "quantized": lambda: torch.quantize_per_tensor(base, 0.1, 0, torch.quint8),
        "quantized-qint8": lambda: torch.quantize_per_tensor(base, 0.1, 0, torch.qint8),
        "quantized-qint32": lambda: torch.quantize_per_tensor(base, 0.1, 0, torch.qint32),
        "quantized-channel": lambda: torch.quantize_per_channel(
            base, torch.ones(4), torch.zeros(4, dtype=torch.int64), 0, torch.qint8
        ),
        "storage": lambda: base.untyped_storage(),
        "size-device-dtype": lambda: {
            "size": base.size(),
            "device": torch.device("cpu"),
            "cuda": torch.device("cuda", 1),
            "dtype": torch.float16,
            "layout": torch.strided,
        },
        "rng": lambda: torch.get_rng_state(),
    }


for _name, _make in _layouts().items():
    _saved(f"tensor-{_name}-zip", _make)
    _saved(f"tensor-{_name}-legacy", _make, _use_new_zipfile_serialization=False)


def _model() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2)
    )


_everywhere("state-dict", lambda: _model().state_dict())
_everywhere("state-dict-wrapped", lambda: {"state_dict": _model().state_dict(), "epoch": 3})
_saved("parameter-dict", lambda: torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.ones(2))}))
_saved("parameter-list", lambda: torch.nn.ParameterList([torch.nn.Parameter(torch.ones(2))]))
for _name, _make in {
    "linear": lambda: torch.nn.Linear(2, 2),
    "sequential": _model,
    "transformer": lambda: torch.nn.TransformerEncoderLayer(8, 2),
}.items():
    WHOLE_MODELS[f"module-{_name}"] = partial(_save, _make)
    WHOLE_MODELS[f"module-{_name}-legacy"] = partial(
        _save, _make, _use_new_zipfile_serialization=False
    )


def _without_crc32(path: pathlib.Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(_model().state_dict(), path)
    finally:
        torch.serialization.set_crc32_options(True)


def _zipped_again(path: pathlib.Path) -> None:
    """What is left of a torch file that somebody unpacked and packed again."""
    content = io.BytesIO()
    torch.save(_model().state_dict(), content)
    with zipfile.ZipFile(content) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))


HONEST["no-crc32"] = _without_crc32
HONEST["zipped-again"] = _zipped_again


# --- training state -------------------------------------------------------------------------------

OPTIMIZERS = (
    "SGD Adam AdamW Adagrad Adadelta Adamax NAdam RAdam RMSprop Rprop ASGD LBFGS Adafactor"
).split()


def _trained(name: str) -> Any:
    model = torch.nn.Linear(3, 3)
    extra: dict[str, Any] = {"momentum": 0.9} if name == "SGD" else {}
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.01, **extra)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = model(torch.ones(1, 3)).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)
    return optimizer


def _optimizer_state(name: str) -> Any:
    return _trained(name).state_dict()


for _name in OPTIMIZERS:
    if hasattr(torch.optim, _name):
        _saved(f"optimizer-{_name}", partial(_optimizer_state, _name))
        _saved(
            f"optimizer-{_name}-legacy",
            partial(_optimizer_state, _name),
            _use_new_zipfile_serialization=False,
        )


def _schedulers() -> dict[str, Callable[[Any], Any]]:
    s = torch.optim.lr_scheduler
    return {
        "StepLR": lambda o: s.StepLR(o, 2),
        "MultiStepLR": lambda o: s.MultiStepLR(o, [2, 2, 5]),
        "ConstantLR": lambda o: s.ConstantLR(o),
        "LinearLR": lambda o: s.LinearLR(o),
        "ExponentialLR": lambda o: s.ExponentialLR(o, 0.9),
        "PolynomialLR": lambda o: s.PolynomialLR(o),
        "CosineAnnealingLR": lambda o: s.CosineAnnealingLR(o, 5),
        "CosineAnnealingWarmRestarts": lambda o: s.CosineAnnealingWarmRestarts(o, 5),
        "OneCycleLR": lambda o: s.OneCycleLR(o, 0.1, 10),
        "CyclicLR": lambda o: s.CyclicLR(o, 0.1, 0.2, cycle_momentum=False),
        "ReduceLROnPlateau": lambda o: s.ReduceLROnPlateau(o),
        "LambdaLR": lambda o: s.LambdaLR(o, lambda epoch: 0.9**epoch),
        "MultiplicativeLR": lambda o: s.MultiplicativeLR(o, lambda epoch: 0.9),
        "SequentialLR": lambda o: s.SequentialLR(
            o, [s.ConstantLR(o, total_iters=2), s.ExponentialLR(o, 0.9)], milestones=[2]
        ),
        "ChainedScheduler": lambda o: s.ChainedScheduler([s.ConstantLR(o)], optimizer=o),
    }


def _scheduler_state(schedule: Callable[[Any], Any]) -> Any:
    return schedule(_trained("SGD")).state_dict()


for _name, _schedule in _schedulers().items():
    _saved(f"scheduler-{_name}", partial(_scheduler_state, _schedule))


def _python_random() -> Any:
    return random.getstate()


_saved(
    "accelerate-random-states",
    lambda: {
        "random_state": _python_random(),
        "numpy_random_seed": np.random.get_state(),
        "torch_manual_seed": torch.get_rng_state(),
        "torch_cuda_manual_seed": [],
        "step": 100,
    },
)
_saved("grad-scaler", lambda: torch.amp.GradScaler("cpu").state_dict())
_saved(
    "basicsr-training-state",
    lambda: {
        "epoch": 12,
        "iter": 4000,
        "optimizers": [_trained("Adam").state_dict()],
        "schedulers": [_schedulers()["MultiStepLR"](_trained("Adam")).state_dict()],
    },
)
_saved(
    "basicsr-params", lambda: {"params": _model().state_dict(), "params_ema": _model().state_dict()}
)


def _lightning(path: pathlib.Path, hyper_parameters: str, *, legacy: bool = False) -> None:
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

    class Tiny(pl.LightningModule):
        def __init__(self, **hparams: Any) -> None:
            super().__init__()
            if hyper_parameters == "omegaconf":
                from omegaconf import OmegaConf

                self.save_hyperparameters(
                    OmegaConf.create(
                        {"lr": 1e-4, "unet": {"target": "ldm.UNet", "params": {"mult": [1, 2]}}}
                    )
                )
            elif hyper_parameters == "attribute-dict":
                self.save_hyperparameters(hparams)
            self.model = torch.nn.Linear(2, 2)

        def training_step(self, batch: Any, _: int) -> Any:
            loss = self.model(batch[0]).sum()
            self.log("val/loss", loss)
            return loss

        def train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 2)))

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
            return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            max_steps=2,
            accelerator="cpu",
            default_root_dir=path.parent,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[
                ModelCheckpoint(dirpath=path.parent / "callback", monitor="val/loss"),
                EarlyStopping("val/loss", check_on_train_epoch_end=True),
            ],
        )
        module = Tiny(lr=1e-4, unet_config={"target": "ldm.UNet", "ratios": (1, 2)}, paths=[None])
        trainer.fit(module)
        trainer.save_checkpoint(path)
    if legacy:
        content = torch.load(path, weights_only=False)
        torch.save(content, path, _use_new_zipfile_serialization=False)


for _hparams in ("none", "attribute-dict", "omegaconf"):
    for _legacy in (False, True):
        _label = f"lightning-{_hparams}{'-legacy' if _legacy else ''}"
        HONEST[_label] = partial(_lightning, hyper_parameters=_hparams, legacy=_legacy)
        NEEDS[_label] = "omegaconf" if _hparams == "omegaconf" else "pytorch_lightning"


def _lightning_1() -> Any:
    """The shape of a checkpoint of Lightning 1.4: a class as the key, a numpy scalar as rate."""
    from pytorch_lightning.callbacks import ModelCheckpoint

    return {
        "epoch": 6,
        "global_step": 470000,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": _model().state_dict(),
        "callbacks": {
            ModelCheckpoint: {
                "monitor": "val/loss_simple_ema",
                "best_model_score": torch.tensor(0.1),
                "best_model_path": "/data/logs/epoch=000006.ckpt",
                "current_score": torch.tensor(0.1),
            }
        },
        "optimizer_states": [_trained("AdamW").state_dict()],
        "lr_schedulers": [{"base_lrs": [1e-4], "last_epoch": 470000, "_last_lr": [np.float64(1)]}],
    }


_saved("lightning-1", _lightning_1)
_saved("lightning-1-legacy", _lightning_1, _use_new_zipfile_serialization=False)
NEEDS["lightning-1"] = NEEDS["lightning-1-legacy"] = "pytorch_lightning"


def _omegaconf() -> Any:
    from omegaconf import OmegaConf

    config = OmegaConf.create(
        {"a": 1, "b": 2.5, "c": "x", "d": None, "e": True, "f": [1, {"g": "${a}"}], "h": b"x",
         "p": pathlib.Path("x")}
    )  # fmt: skip
    return {"config": config, "list": OmegaConf.create([1, 2]), "state_dict": _model().state_dict()}


_everywhere("omegaconf", _omegaconf)
NEEDS.update({name: "omegaconf" for name in HONEST if name.startswith("omegaconf")})


# --- what Stable Diffusion's programs write -------------------------------------------------------


def _embedding() -> Any:
    return {
        "string_to_token": {"*": 265},
        "string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.ones(2, 768))}),
        "name": "my-style",
        "step": 1500,
        "sd_checkpoint": "7460a6fa",
        "sd_checkpoint_name": "model",
    }


def _first_embedding() -> Any:
    token = torch.arange(77)
    return {
        "string_to_token": {"*": token[1]},
        "string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.ones(1, 768))}),
    }


def _hypernetwork() -> Any:
    layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 4)).state_dict()
    return {320: [layers, layers], 640: [layers, layers], "step": 100, "name": "h", "layer_norm":
            False, "activation_func": "linear", "sd_checkpoint": None}  # fmt: skip


def _lora() -> Any:
    prefix = "lora_unet_down_blocks_0_attentions_0_proj_in"
    return {
        f"{prefix}.lora_down.weight": torch.ones(4, 8, dtype=torch.float16),
        f"{prefix}.lora_up.weight": torch.ones(8, 4, dtype=torch.float16),
        f"{prefix}.alpha": torch.tensor(4),
    }


_everywhere("embedding-a1111", _embedding)
_everywhere("embedding-ldm", _first_embedding)
_everywhere("embedding-diffusers", lambda: {"<cat>": torch.ones(768)})
_everywhere("hypernetwork", _hypernetwork)
_everywhere("lora", _lora)
_saved("controlnet", lambda: {"state_dict": {"control_model.input_blocks.0.0.weight": torch.ones(
    1)}})  # fmt: skip
_saved("vae", lambda: {"state_dict": {"encoder.conv_in.weight": torch.ones(1)}, "loss": {}})
_saved("gfpgan", lambda: {"params_ema": collections.OrderedDict(a=torch.ones(1))})


# --- plain pickles --------------------------------------------------------------------------------

PYTHON_VALUES: dict[str, Callable[[], Any]] = {
    "scalars": lambda: [None, True, False, 0, -1, 1 << 40, -(1 << 90), 1.5, float("inf"), "text"],
    "text": lambda: ["", "ä", "\udc80", "a\nb", "x" * 100_000, "\0"],
    "bytes": lambda: [b"", b"abc", bytes(range(256)), bytearray(b"abc"), b"x" * 100_000],
    "containers": lambda: [(), (1,), (1, 2, 3, 4), [], [[1]], {}, {"a": {"b": 1}}],
    "sets": lambda: [set[int](), {1, 2}, frozenset({1}), frozenset({"a"})],
    "complex": lambda: [1 + 2j, complex(0, -1)],
    "ranges": lambda: [range(3), range(10, 0, -2), slice(1, 2, None)],
    "ordered-dict": lambda: collections.OrderedDict(a=1, b=[2]),
    "defaultdict": lambda: collections.defaultdict(list, a=[1]),
    "defaultdict-none": lambda: collections.defaultdict(None, a=1),
    "counter": lambda: collections.Counter("abca"),
    "deque": lambda: collections.deque([1, 2], maxlen=5),
    "deque-unbounded": lambda: collections.deque([1, 2]),
    "paths": lambda: [pathlib.PurePosixPath("/a/b"), pathlib.PureWindowsPath("C:\\a")],
    "path": lambda: pathlib.Path("a/b"),
    "dates": lambda: [
        datetime.datetime(2024, 2, 29, 1, 2, 3, 4),
        datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
        datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=2), "x")),
        datetime.date(2024, 1, 1),
        datetime.time(1, 2, 3),
        datetime.timedelta(days=1, seconds=2),
    ],
    "decimal": lambda: [decimal.Decimal("1.50"), decimal.Decimal("NaN")],
    "fraction": lambda: fractions.Fraction(1, 3),
    "uuid": lambda: uuid.UUID(int=5),
    "array": lambda: [array.array("d", [1.0, 2.0]), array.array("b", [1])],
    "namespace": lambda: argparse.Namespace(lr=1e-4, name="x", layers=[1, 2]),
    "random-state": _python_random,
    "classes": lambda: {int: 1, "type": collections.OrderedDict, "factory": dict},
    "aliases": lambda: (lambda shared: [shared, shared, {"a": shared}])([1]),
}


def _beside_a_tensor(make: Callable[[], Any]) -> Any:
    return {"weight": torch.ones(2), "extra": make()}


for _name, _make in PYTHON_VALUES.items():
    _pickled(_name, _make)
    _saved(f"torch-{_name}", partial(_beside_a_tensor, _make))


def _cycle() -> Any:
    ring: list[Any] = [1]
    ring.append(ring)
    return ring


_pickled("cycle", _cycle)

ARRAYS: dict[str, Callable[[], Any]] = {
    **{
        f"dtype-{code}": partial(np.ones, (2, 3), dtype=code)
        for code in "? b B h H i I l L q Q e f d g F D G".split()
    },
    "big-endian": lambda: np.ones(3, dtype=">f4"),
    "fortran": lambda: np.asfortranarray(np.ones((2, 3))),
    "empty": lambda: np.empty((0, 3)),
    "scalar-array": lambda: np.array(1.0),
    "strided": lambda: np.arange(10)[::2],
    "text": lambda: np.array(["a", "bc"]),
    "bytes": lambda: np.array([b"a", b"bc"]),
    "dates": lambda: np.array(["2024-01-01"], dtype="datetime64[D]"),
    "structured": lambda: np.zeros(2, dtype=[("a", "<f4"), ("b", "<i8")]),
    "bool": lambda: np.array([True, False]),
    "scalars": lambda: [np.float64(1.5), np.float32(2), np.int64(3), np.bool_(True), np.uint8(4)],
    "dtypes": lambda: [np.dtype("float32"), np.dtype("int64")],
    "random-state": lambda: np.random.RandomState(1).get_state(),
}
for _name, _make in ARRAYS.items():
    _pickled(f"numpy-{_name}", _make)
for _name in ("dtype-f", "dtype-d", "structured", "scalars", "random-state"):
    _saved(f"torch-numpy-{_name}", partial(_beside_a_tensor, ARRAYS[_name]))
_pickled("numpy-objects", lambda: np.array(["a", None, 1], dtype=object))
_pickled("numpy-state-dict", lambda: {"weight": np.ones((2, 2), dtype=np.float32), "bias": None})


def _npy(name: str, make: Callable[[], Any]) -> None:
    def write(path: pathlib.Path) -> None:
        with path.open("wb") as file:
            np.save(file, make())

    HONEST[f"npy-{name}"] = write


for _name in ("dtype-f", "dtype-q", "big-endian", "fortran", "scalar-array", "empty", "bool"):
    _npy(_name, ARRAYS[_name])
_npy("objects", lambda: np.array(["a", None, 1], dtype=object))


def _npz(path: pathlib.Path, save: Callable[..., None]) -> None:
    with path.open("wb") as file:
        save(file, a=np.ones(3), b=np.arange(4))


HONEST["npz"] = lambda path: _npz(path, np.savez)
HONEST["npz-compressed"] = lambda path: _npz(path, np.savez_compressed)
_pickled("torch-tensor", lambda: {"weight": torch.ones(2), "half": torch.ones(2).half()})
_pickled("torch-parameter", lambda: torch.nn.Parameter(torch.ones(2)))
HONEST["gzip-pickle"] = lambda path: path.write_bytes(gzip.compress(pickle.dumps({"a": [1, 2]})))
HONEST["two-pickles"] = lambda path: path.write_bytes(pickle.dumps([1, 2]) + pickle.dumps({"a": 1}))


def _safetensors(path: pathlib.Path, metadata: dict[str, str] | None) -> None:
    from safetensors.torch import save_file

    tensors = {f"t.{i}": _of_dtype(name) for i, name in enumerate(DTYPES[:10])}
    save_file(tensors, path, metadata=metadata)


HONEST["safetensors"] = lambda path: _safetensors(path, None)
HONEST["safetensors-metadata"] = lambda path: _safetensors(path, {"format": "pt", "a": "{}"})


# --- training runs, distributed checkpoints, python 2 ---------------------------------------------

HONEST.update(states.STATES)
NEEDS.update(states.NEEDS)
