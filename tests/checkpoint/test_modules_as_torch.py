"""Whole pickled modules: the names and values of `module.state_dict()`."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.tensor_values import assert_same_weights
from torch import nn
from torch.nn.utils import prune

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.source import Memory


def opened(value: object, **options: Any) -> Checkpoint:
    """What sdtool makes of what torch.save writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return open_checkpoint(Memory(buffer.getvalue(), "test"))


class Wrapped(nn.Module):
    """Submodules that are called as wrappers and training state are."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for number, key in enumerate(names):
            self.add_module(key, nn.Linear(1, number + 1))


class Yolo(nn.Module):
    """As an ultralytics model: `model` below it, attributes beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.stride = torch.tensor([8.0, 16.0, 32.0])
        self.names = {0: "person"}
        self.save = [1, 2]


class Buffers(nn.Module):
    """Persistent and other buffers, and parameters that are None."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.ones(2))
        self.register_buffer("passing", torch.ones(3), persistent=False)
        self.register_buffer("none", None)
        self.register_parameter("nothing", None)
        self.weight = nn.Parameter(torch.ones(1))
        self.inner = nn.BatchNorm1d(2, affine=False)


class Lists(nn.Module):
    """torch's containers of parameters and modules."""

    def __init__(self) -> None:
        super().__init__()
        self.many = nn.ParameterList([nn.Parameter(torch.ones(n)) for n in (1, 2)])
        self.named = nn.ParameterDict({"a": nn.Parameter(torch.ones(3)), "data": torch.ones(4)})
        self.modules_ = nn.ModuleDict({"x": nn.Linear(1, 1), "model": nn.Linear(2, 1)})
        self.list = nn.ModuleList([nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 2), nn.ReLU())])


class Shared(nn.Module):
    """One module and one parameter under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(2, 2)
        self.b = self.a
        self.tied = nn.Linear(2, 2)
        self.tied.weight = self.a.weight


def pruned() -> nn.Module:
    """torch.nn.utils.prune keeps `weight_orig` and `weight_mask`."""
    layer = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    prune.l1_unstructured(layer[0], "weight", 0.5)  # type: ignore[no-untyped-call]
    layer(torch.ones(1, 4))
    return layer


def weight_normed() -> nn.Module:
    """The older weight norm keeps `weight_g` and `weight_v`, the weight is an attribute."""
    layer = nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(2, 3)))
    with torch.no_grad():
        layer(torch.ones(1, 2))
    return layer


def compiled() -> nn.Module:
    """What torch.compile returns is a module around the module."""
    module = torch.compile(nn.Sequential(nn.Linear(1, 2)))
    assert isinstance(module, nn.Module)
    return module


MODULES: dict[str, Callable[[], nn.Module]] = {
    "called-as-wrappers": lambda: Wrapped("model", "module", "net", "params", "params_ema", "ema"),
    "called-as-training": lambda: Wrapped("optimizer", "scheduler", "callbacks", "scaler", "loops"),
    "only-model": lambda: Wrapped("model"),
    "state-and-groups": lambda: Wrapped("state", "param_groups", "string_to_param"),
    "yolo": Yolo,
    "buffers": Buffers,
    "lists": Lists,
    "shared": Shared,
    "parameter-list": lambda: nn.ParameterList([nn.Parameter(torch.ones(n)) for n in (1, 2)]),
    "parameter-dict": lambda: nn.ParameterDict({"model": nn.Parameter(torch.ones(2))}),
    "module-dict": lambda: nn.ModuleDict({"model": nn.Linear(1, 2), "net": nn.Linear(2, 1)}),
    "data-parallel": lambda: nn.DataParallel(nn.Sequential(nn.Linear(1, 2))),
    "compiled": compiled,
    "pruned": pruned,
    "weight-norm": weight_normed,
    "spectral-norm": lambda: torch.nn.utils.spectral_norm(nn.Linear(2, 3)),
    "lstm": lambda: nn.LSTM(2, 3, num_layers=2),
    "attention": lambda: nn.MultiheadAttention(4, 2),
    "transformer": lambda: nn.TransformerEncoderLayer(4, 2, 8),
    "batch-norm": lambda: nn.BatchNorm2d(3),
    "embedding-bag": lambda: nn.EmbeddingBag(3, 2),
    "half": lambda: nn.Sequential(nn.Linear(2, 2), nn.GroupNorm(1, 2)).half(),
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("case", MODULES)
def test_modules(case: str, legacy: bool) -> None:
    module = MODULES[case]()
    expected = module.state_dict()
    checkpoint = opened(module, _use_new_zipfile_serialization=not legacy)
    assert_same_weights(checkpoint, expected)
    assert checkpoint.wrappers == ()


def test_what_torch_leaves_out_of_a_state_dict_is_named() -> None:
    checkpoint = opened(Yolo())
    assert [(left.entry.name, left.entry.shape) for left in checkpoint.left_out] == [
        ("stride", (3,))
    ]
    assert checkpoint.notes == ("left as no part of a module's state_dict(): stride",)
    checkpoint = opened(nn.Sequential(Buffers()))
    assert [left.entry.shape for left in checkpoint.left_out] == [(3,)]


def test_a_module_in_a_dict() -> None:
    model = Yolo()
    checkpoint = opened({"epoch": 3, "model": model, "ema": None, "updates": None})
    assert checkpoint.wrappers == ("model",)
    assert_same_weights(checkpoint, model.state_dict())
    assert checkpoint.leaves["epoch"] == 3


def test_an_ema_without_a_model() -> None:
    ema = Yolo()
    checkpoint = opened({"epoch": 3, "model": None, "ema": ema, "updates": 10})
    assert checkpoint.wrappers == ("ema",)
    assert_same_weights(checkpoint, ema.state_dict())


def test_an_ema_beside_a_model() -> None:
    """ultralytics takes `ckpt["ema"] or ckpt["model"]`."""
    model, ema = Yolo(), Yolo()
    checkpoint = opened({"epoch": 3, "model": model, "ema": ema})
    assert checkpoint.wrappers == ("ema",)
    assert_same_weights(checkpoint, ema.state_dict())
    (raw,) = checkpoint.others
    assert (raw.key, raw.holds, len(raw.tensors)) == ("model", "raw", 7)


def test_an_ema_that_is_no_module_stays_beside_the_model() -> None:
    checkpoint = opened({"model": {"w": torch.ones(1)}, "ema": {"w": torch.ones(2)}})
    assert checkpoint.wrappers == ("model",)
    assert checkpoint.tensors[0].shape == (1,)
    (average,) = checkpoint.others
    assert (average.key, average.holds, average.tensors[0].shape) == ("ema", "EMA", (2,))


def test_an_uninitialized_parameter_is_no_weight_that_can_be_written() -> None:
    checkpoint = opened(nn.Sequential(nn.LazyLinear(3)))
    assert [(e.name, e.unsupported) for e in checkpoint.tensors] == [
        ("0.weight", "an uninitialized parameter"),
        ("0.bias", "an uninitialized parameter"),
    ]


def test_a_module_keeps_its_deep_copies_apart() -> None:
    model = Yolo()
    both = nn.ModuleDict({"a": model, "b": copy.deepcopy(model)})
    assert_same_weights(opened(both), both.state_dict())


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_a_nested_tensor_of_either_layout_is_named() -> None:
    parts = [torch.ones(2, 3), torch.ones(1, 3)]
    for layout in (torch.strided, torch.jagged):
        nested = torch.nested.nested_tensor(parts, layout=layout)
        checkpoint = opened({"w": torch.ones(1), "n": nested})
        assert [(e.name, e.unsupported) for e in checkpoint.tensors] == [
            ("w", None), ("n", "nested"),
        ]  # fmt: skip
