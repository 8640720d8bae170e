"""Which part of a file is the weights, and what each tensor is called."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import Any

import pytest
import torch

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.source import Memory


def opened(value: object, limits: Limits | None = None, **options: Any) -> Checkpoint:
    """What sdtool makes of what torch.save writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return open_checkpoint(Memory(buffer.getvalue(), "test"), limits=limits or Limits())


def names(checkpoint: Checkpoint) -> list[str]:
    """The names of the weights, in order."""
    return [entry.name for entry in checkpoint.tensors]


def t(*shape: int) -> torch.Tensor:
    """Any tensor of a shape."""
    return torch.ones(shape)


def test_a_flat_state_dict() -> None:
    checkpoint = opened({"a.weight": t(2), "b": t(1)})
    assert names(checkpoint) == ["a.weight", "b"]
    assert checkpoint.wrappers == ()
    assert checkpoint.kind == "state-dict"


def test_a_training_checkpoint_keeps_training_apart() -> None:
    layer = torch.nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(t(1, 2)).sum().backward()
    optimizer.step()
    checkpoint = opened(
        {"epoch": 6, "global_step": 470_000, "state_dict": layer.state_dict(),
         "optimizer_states": [optimizer.state_dict()], "callbacks": {torch.nn.Linear: {"x": t(1)}},
         "lr_schedulers": []}
    )  # fmt: skip
    assert checkpoint.wrappers == ("state_dict",)
    assert names(checkpoint) == ["weight", "bias"]
    assert checkpoint.leaves["epoch"] == 6
    assert checkpoint.leaves["global_step"] == 470_000
    training = [entry.name for entry in checkpoint.training]
    assert "optimizer_states.0.state.0.exp_avg" in training
    assert "callbacks.torch.nn.modules.linear.Linear.x" in training
    assert len(training) == 7


def test_training_state_that_stands_in_two_places_is_named_once() -> None:
    held = {"exp_avg": t(3), "step": 7}
    inner = opened({"state_dict": {"w": t(2)}, "optimizer_states": [held, {"again": held}]})
    assert [entry.name for entry in inner.training] == ["optimizer_states.0.exp_avg"]
    assert inner.leaves == {"optimizer_states.0.step": 7}
    twice = opened({"a": held, "b": held})
    assert names(twice) == ["a.exp_avg", "b.exp_avg"]  # of weights both places count


def test_state_dicts_in_state_dicts() -> None:
    checkpoint = opened({"state_dict": {"state_dict": {"a": t(1)}, "step": 3}})
    assert checkpoint.wrappers == ("state_dict", "state_dict")
    assert names(checkpoint) == ["a"]


def test_a_state_dict_beside_stray_tensors() -> None:
    checkpoint = opened({"state_dict": {"a": t(1)}, "loss": t(1)})
    assert names(checkpoint) == ["a"]
    assert [entry.name for entry in checkpoint.training] == ["loss"]


@pytest.mark.parametrize("wrapper", ["model", "module", "params", "params_ema", "net"])
def test_wrappers(wrapper: str) -> None:
    checkpoint = opened({wrapper: {"a": t(1)}, "iteration": 5})
    assert checkpoint.wrappers == (wrapper,)
    assert names(checkpoint) == ["a"]
    assert checkpoint.leaves["iteration"] == 5


def test_a_key_of_that_name_beside_tensors_is_no_wrapper() -> None:
    checkpoint = opened({"a": t(1), "model": {"b": t(1)}})
    assert names(checkpoint) == ["a", "model.b"]


def test_params_ema_wins_over_params_and_both_are_there() -> None:
    checkpoint = opened({"params": {"a": t(1)}, "params_ema": {"a": t(2)}})
    assert checkpoint.wrappers == ("params_ema",)
    assert [(e.name, e.shape) for e in checkpoint.tensors] == [("a", (2,))]
    (other,) = checkpoint.others
    assert (other.key, other.holds) == ("params", "raw")
    assert [(e.name, e.shape) for e in other.tensors] == [("a", (1,))]
    assert checkpoint.training == ()


def test_what_has_other_names_is_no_second_set() -> None:
    checkpoint = opened({"model": {"a": t(1)}, "ema": {"b": t(1)}})
    assert (names(checkpoint), checkpoint.others) == (["a"], ())
    assert [entry.name for entry in checkpoint.training] == ["ema.b"]


def test_names_that_are_lost_are_told() -> None:
    (note,) = opened([t(1), t(2)]).notes
    assert note.startswith("names are lost: 2 tensors are in a list")
    (note,) = opened({"a": t(1), "b": [t(1)]}).notes
    assert note.startswith("names are lost: 1 tensor is in a list")
    assert opened({"a": t(1)}).notes == ()


def test_embeddings_are_named_by_their_token() -> None:
    checkpoint = opened(
        {"string_to_token": {"*": 265}, "string_to_param": {"*": t(2, 768)}, "name": "x",
         "step": 10, "sd_checkpoint": None}
    )  # fmt: skip
    assert checkpoint.kind == "embedding"
    assert names(checkpoint) == ["*"]
    assert checkpoint.leaves["name"] == "x"
    assert checkpoint.leaves["sd_checkpoint"] is None


def test_an_embedding_in_a_parameter_dict() -> None:
    params = torch.nn.ParameterDict({"*": torch.nn.Parameter(t(2, 768))})
    tokens = {"*": torch.arange(77)[1]}
    checkpoint = opened({"string_to_token": tokens, "string_to_param": params})
    assert names(checkpoint) == ["*"]
    assert checkpoint.tensors[0].shape == (2, 768)
    assert [(e.name, e.offset) for e in checkpoint.training] == [("string_to_token.*", 1)]


def test_hypernetworks() -> None:
    pair = ({"linear.0.weight": t(2, 2)}, {"linear.0.weight": t(2, 2)})
    checkpoint = opened({320: pair, 640: pair, "step": 1, "name": "h", "layer_structure": [1, 2]})
    assert checkpoint.kind == "hypernetwork"
    assert names(checkpoint) == [
        "320.0.linear.0.weight", "320.1.linear.0.weight",
        "640.0.linear.0.weight", "640.1.linear.0.weight",
    ]  # fmt: skip
    assert checkpoint.leaves["layer_structure.1"] == 2


def test_a_whole_module_has_the_names_of_its_state_dict() -> None:
    class_free = torch.nn.Sequential(
        torch.nn.Linear(2, 3), torch.nn.Sequential(torch.nn.BatchNorm1d(3)), torch.nn.ReLU()
    )
    checkpoint = opened(class_free)
    assert checkpoint.kind == "module"
    assert names(checkpoint) == list(class_free.state_dict())


def test_a_single_tensor() -> None:
    assert names(opened(t(2))) == ["tensor"]


def test_nested_groups_are_joined() -> None:
    checkpoint = opened({"image_proj": {"w": t(1)}, "ip_adapter": {"1.to_k_ip.weight": t(1)}})
    assert names(checkpoint) == ["image_proj.w", "ip_adapter.1.to_k_ip.weight"]


def test_keys_that_python_takes_for_one() -> None:
    value: dict[Any, Any] = {1: t(1), "1": t(2)}
    with pytest.raises(Malformed, match="two tensors would be called '1'"):
        opened(value)


def test_a_key_given_twice_takes_the_last_value() -> None:
    # {"a": 1, "a": 2} in one SETITEMS, and 1 beside True
    data = b"\x80\x02}(X\1\0\0\0aK\1X\1\0\0\0aK\2K\1K\3\x88K\4u."
    checkpoint = open_checkpoint(Memory(data, "t"))
    assert checkpoint.leaves == {"a": 2, "1": 4}


def test_names_that_collide_when_flattened_are_shown() -> None:
    with pytest.raises(Malformed, match=r"\['a'\]\['b'\] and \['a.b'\]"):
        opened({"a": {"b": t(1)}, "a.b": t(1)})


def test_optimizer_files_hold_no_weights() -> None:
    layer = torch.nn.Linear(2, 3)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(t(1, 2)).sum().backward()
    optimizer.step()
    checkpoint = opened(optimizer.state_dict())
    assert checkpoint.tensors == ()
    assert len(checkpoint.training) == 6


def test_numpy_scalars_are_numbers() -> None:
    import numpy as np

    checkpoint = opened({"a": t(1), "lr": np.float64(1e-4), "n": np.int64(7)})
    assert checkpoint.leaves == {"lr": 1e-4, "n": 7}


def test_nested_aliases_are_bounded() -> None:
    # 40 times: a tuple of the same thing twice; 2**40 leaves in 200 bytes.
    data = b"\x80\x02K\1" + b"2\x86" * 40 + b"."
    with pytest.raises(LimitExceeded, match="leaves"):
        open_checkpoint(Memory(data, "t"), limits=Limits(leaves=10_000))


def test_depth_is_bounded() -> None:
    data = b"\x80\x02" + b"]" * 10_000 + b"a" * 9_999 + b"."
    with pytest.raises(LimitExceeded, match="levels"):
        open_checkpoint(Memory(data, "t"))


def test_a_cycle_ends() -> None:
    value: dict[str, Any] = {"w": t(1)}
    value["self"] = value
    assert names(opened(value)) == ["w"]


@pytest.mark.parametrize("good", [{"good": t(2)}, {}])
def test_a_tensor_beyond_its_storage_is_refused_by_name(good: dict[str, torch.Tensor]) -> None:
    buffer = io.BytesIO()
    torch.save({**good, "long": t(200)}, buffer, _use_new_zipfile_serialization=False)
    data = buffer.getvalue().replace(b"K\xc8\x85", b"K\xc9\x85")
    with pytest.raises(InputError, match="'long': a tensor that reaches beyond its storage"):
        open_checkpoint(Memory(data, "t"))


def test_metadata_that_lightning_builds_is_no_weight() -> None:
    layer = torch.nn.Linear(2, 3)
    state = layer.state_dict()
    assert isinstance(state, OrderedDict)
    checkpoint = opened({"state_dict": state})
    assert names(checkpoint) == ["weight", "bias"]
    assert checkpoint.leaves == {}
