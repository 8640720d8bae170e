"""Honest files of training runs and of old programs; `corpus.py` takes them up.

DeepSpeed is not needed: its classes stand in for a moment under the names that its files hold, with
the fields of deepspeed/runtime/zero/stage_1_and_2.py (`state_dict`) and bf16_optimizer.py.
"""

from __future__ import annotations

import collections
import enum
import io
import pathlib
import pickle
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import torch
from tests.forge import (
    Ops,
    build,
    call,
    dict_of,
    legacy_storage,
    list_of,
    name,
    newobj,
    pickled,
    py2_string,
    storage,
    tensor,
    torch_legacy,
    torch_zip,
)

Writer = Callable[[pathlib.Path], object]
STATES: dict[str, Writer] = {}
NEEDS: dict[str, str] = {}


@contextmanager
def standing_in(classes: dict[str, type]) -> Generator[None]:
    """Let classes be found as `module.Name` by whoever pickles them."""
    before = dict(sys.modules)
    try:
        for path, cls in classes.items():
            module, _, cls.__qualname__ = path.rpartition(".")
            cls.__module__, cls.__name__ = module, cls.__qualname__
            for end in (i for i, char in enumerate(f"{module}.") if char == "."):
                sys.modules.setdefault(module[:end], ModuleType(module[:end]))
            setattr(sys.modules[module], cls.__name__, cls)
        yield
    finally:
        for module in sys.modules.keys() - before.keys():
            del sys.modules[module]


class _Fields:
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


def _of(cls: type) -> type:
    return type("Stand", (cls,), {})


def _zero(package: str, scaler: str, path: pathlib.Path, **options: Any) -> None:
    loss_scaler, fragment = _of(_Fields), _of(_Fields)

    class Stage(int, enum.Enum):
        GRADIENTS = 2

    names = {
        f"deepspeed.{package}.loss_scaler.{scaler}": loss_scaler,
        "deepspeed.utils.tensor_fragment.fragment_address": fragment,
        "deepspeed.runtime.zero.config.ZeroStageEnum": Stage,
    }
    with standing_in(names):
        state = {
            "loss_scaler": loss_scaler(cur_scale=65536.0, dynamic=True, dtype=torch.float16),
            "dynamic_loss_scale": True,
            "overflow": False,
            "clip_grad": 0.0,
            "base_optimizer_state": {"state": {0: {"exp_avg": torch.ones(4)}}, "param_groups": []},
            "single_partition_of_fp32_groups": [torch.ones(4)],
            "zero_stage": Stage.GRADIENTS,
            "group_paddings": [0],
            "partition_count": [1],
            "ds_version": "0.15.4",
            "param_slice_mappings": [collections.OrderedDict(weight=fragment(numel=4, start=0))],
        }
        content = {"optimizer_state_dict": state, "ds_config": {"train_batch_size": 1}}
        torch.save(content, path, **options)


for _package, _scaler in (
    ("runtime.fp16", "LossScaler"),
    ("runtime.fp16", "DynamicLossScaler"),
    ("pt", "LossScaler"),
):
    _label = f"deepspeed-{_package}-{_scaler}"
    STATES[_label] = partial(_zero, _package, _scaler)
    STATES[f"{_label}-legacy"] = partial(
        _zero, _package, _scaler, _use_new_zipfile_serialization=False
    )


# --- distributed checkpoints ----------------------------------------------------------------------


def _distributed(file: str, path: pathlib.Path) -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = {
        "model": model.state_dict(),
        "half": torch.ones(3, 3, dtype=torch.bfloat16).t(),
        "optimizer": optimizer.state_dict(),
        "step": 3,
    }
    _distributed_file(state, file, path)


def _distributed_file(state: dict[str, Any], file: str, path: pathlib.Path) -> None:
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        writer = FileSystemWriter(folder, single_file_per_rank=True)
        save(state, storage_writer=writer, no_dist=True)
        shutil.copyfile(pathlib.Path(folder) / file, path)


STATES["distributed-metadata"] = partial(_distributed, ".metadata")
STATES["distributed-shard"] = partial(_distributed, "__0_0.distcp")
STATES["distributed-shard-alike"] = partial(  # archives of one size
    _distributed_file, {"a": torch.ones(3), "b": torch.ones(2)}, "__0_0.distcp"
)


def _older_metadata(path: pathlib.Path) -> None:
    """The tensor properties of torch 2.0: another module, the fields in a tuple."""
    where = "torch.distributed._shard.sharded_tensor.metadata"
    encoding = call(name(where, "MEM_FORMAT_ENCODING"), 0)
    fields = (name("torch", "float32"), name("torch", "strided"), False, encoding, False)
    path.write_bytes(pickled(build(newobj(name(where, "TensorProperties")), fields)))


STATES["distributed-older-properties"] = _older_metadata


# --- jagged tensors -------------------------------------------------------------------------------


def _jagged(kind: str, path: pathlib.Path, **options: Any) -> None:
    parts = [torch.ones(2, 3), torch.ones(4, 3)]
    made = torch.nested.nested_tensor(parts, layout=torch.jagged)
    if kind == "lengths":
        made = torch.nested.nested_tensor_from_jagged(
            torch.ones(8, 3), torch.tensor([0, 2, 8]), lengths=torch.tensor([1, 3])
        )
    elif kind == "bounds":
        made = torch.nested.nested_tensor_from_jagged(
            torch.ones(6, 3), torch.tensor([0, 2, 6]), min_seqlen=2, max_seqlen=4
        )
    elif kind == "transposed":
        made = made.transpose(1, 2)
    elif kind == "parameter":
        made = torch.nn.Parameter(made)
    torch.save({"w": made}, path, **options)


for _kind in ("plain", "lengths", "bounds", "transposed", "parameter"):
    STATES[f"jagged-{_kind}"] = partial(_jagged, _kind)
STATES["jagged-legacy"] = partial(_jagged, "plain", _use_new_zipfile_serialization=False)


# --- python 2 -------------------------------------------------------------------------------------

_ORDERED = name("collections", "OrderedDict")


def _key(text: str) -> Ops:
    return py2_string(text.encode())


def _ordered(*pairs: tuple[str, Ops]) -> Ops:
    """What OrderedDict.__reduce__ of python 2.7 writes: the class, and a list of lists."""
    return call(_ORDERED, list_of(*(list_of(_key(key), item) for key, item in pairs)))


def _python2(store: Ops) -> bytes:
    weight = tensor(store, hooks=_ordered())
    parameter = call(name("torch._utils", "_rebuild_parameter"), weight, True, _ordered())
    versions = _ordered(("", dict_of({"version": 1})))
    state = build(
        _ordered(("module.weight", weight), ("module.bias", parameter)),
        dict_of({"_metadata": versions}),
    )
    optimizer = dict_of({"state": dict_of({}), "param_groups": list_of(dict_of({"lr": 0.1}))})
    epoch = dict_of({"epoch": 3, "arch": _key("resnet18"), "best_prec1": 1.0})
    content = (("state_dict", state), ("optimizer", optimizer), ("at", epoch))
    return pickled(_ordered(*content))


def _python2_values() -> bytes:
    """What else protocol 2 holds: names of python 2, numbers as byte strings."""
    dtype = call(name("numpy", "dtype"), _key("f8"), 0, 1)
    return pickled(
        dict_of(
            {
                "set": call(name("__builtin__", "set"), list_of(1, 2)),
                "default": call(name("collections", "defaultdict"), name("__builtin__", "list")),
                "rate": call(name("numpy.core.multiarray", "scalar"), dtype, py2_string(bytes(8))),
                "args": call(
                    name("copy_reg", "_reconstructor"),
                    name("argparse", "Namespace"),
                    name("__builtin__", "object"),
                    None,
                ),
                "unicode": "ä",
            }
        )
    )


STATES["python2-zip"] = lambda path: path.write_bytes(torch_zip(_python2(storage())))
STATES["python2-legacy"] = lambda path: path.write_bytes(
    torch_legacy(_python2(legacy_storage()), {"0": bytes(16)})
)
STATES["python2-values"] = lambda path: path.write_bytes(_python2_values())


# --- Lightning ------------------------------------------------------------------------------------


def _lightning_states(protocol: int, path: pathlib.Path) -> None:
    from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason
    from pytorch_lightning.callbacks.timer import Interval
    from pytorch_lightning.trainer.states import (
        RunningStage,
        TrainerFn,
        TrainerState,
        TrainerStatus,
    )
    from pytorch_lightning.utilities.enums import GradClipAlgorithmType

    values = [
        *TrainerFn, *TrainerStatus, *RunningStage, *EarlyStoppingReason, *Interval,
        *GradClipAlgorithmType, TrainerState(fn=TrainerFn.FITTING, stage=RunningStage.TRAINING),
    ]  # fmt: skip
    content = io.BytesIO()
    pickle.dump({"loops": values}, content, protocol)
    path.write_bytes(content.getvalue())


for _protocol in range(6):
    STATES[f"lightning-states-{_protocol}"] = partial(_lightning_states, _protocol)
    NEEDS[f"lightning-states-{_protocol}"] = "pytorch_lightning"


# --- keys that are no text ------------------------------------------------------------------------

STATES["keys"] = lambda path: path.write_bytes(
    pickle.dumps(
        [
            {(number, -1): number, (number, -2): number, number << 70: number, -number: number}
            for number in range(3000)
        ]
        + [dict.fromkeys([(-1,), (-2,), -1, -2, 1.5, (1.0, "a", None)])] * 3
    )
)
