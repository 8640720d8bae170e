"""Raw weights and EMA in one file, under the same names: each variant against what torch loads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.prune.layouts import State, open_bytes, opened, written

from sdtool.checkpoint.identify import identify
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.sets import is_average, two_sets
from sdtool.convert import plan_safetensors, select_all
from sdtool.prune import Variant, plan_prune


def network(seed: int) -> State:
    """A small network with a buffer, as its own class saves it."""
    torch.manual_seed(seed)
    layers = (torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 3, 1))
    return OrderedDict(torch.nn.Sequential(*layers).state_dict(prefix="body."))


RAW, EMA = network(1), network(2)
PARAMETERS = [name for name in RAW if "running" not in name and "tracked" not in name]


def _ema_pytorch() -> dict[str, Any]:
    """As lucidrains' EMA module writes its state beside the model's."""
    return {
        **{f"online_model.{name}": value for name, value in RAW.items()},
        **{f"ema_model.{name}": value for name, value in EMA.items()},
        "initted": torch.tensor(True),
        "step": torch.tensor(7),
    }


OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
FORMS: dict[str, tuple[Callable[[], Any], str, str]] = {
    # what is saved, and the keys of the raw weights and the EMA
    "basicsr": (lambda: {"params": RAW, "params_ema": EMA}, "params", "params_ema"),
    "k-diffusion": (
        lambda: {"model": RAW, "model_ema": EMA, "opt": OPTIMIZER, "epoch": 3},
        "model",
        "model_ema",
    ),
    "timm": (
        lambda: {"state_dict": RAW, "state_dict_ema": EMA, "optimizer": OPTIMIZER},
        "state_dict",
        "state_dict_ema",
    ),
    "dit": (lambda: {"model": RAW, "ema": EMA, "opt": OPTIMIZER}, "model", "ema"),
    "ema-pytorch": (lambda: {"step": 7, "model": RAW, "ema": _ema_pytorch()}, "model", "ema"),
    "nested": (
        lambda: {"state_dict": RAW, "ema_state_dict": {"state_dict": EMA}},
        "state_dict",
        "ema_state_dict",
    ),
    "ddp": (
        lambda: {"net": RAW, "net_ema": {f"module.{k}": v for k, v in EMA.items()}},
        "net",
        "net_ema",
    ),
    "rates": (lambda: {"model": RAW, "ema_0.9": EMA, "ema_0.99": network(3)}, "model", "ema_0_9"),
    "flat": (
        lambda: {f"{k}.{n}": v for k, s in (("net", RAW), ("ema", EMA)) for n, v in s.items()},
        "net",
        "ema",
    ),
}


def equal(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("form", FORMS)
def test_each_variant_is_the_state_dict_that_it_names(form: str, tmp_path: Path) -> None:
    make, raw_key, ema_key = FORMS[form]
    checkpoint = opened(tmp_path, make())
    assert equal(written(plan_prune(checkpoint), tmp_path), RAW)
    plan = plan_prune(checkpoint, variant="ema-only")
    assert plan.ema.state == "full" and len(plan.ema.pairs) == len(RAW)
    assert equal(written(plan, tmp_path), EMA)
    both = written(plan_prune(checkpoint, variant="keep-both"), tmp_path)
    ddp = "module." if form == "ddp" else ""
    assert equal(
        both,
        {f"{raw_key}.{name}": value for name, value in RAW.items()}
        | {f"{ema_key}.{ddp}{name}": value for name, value in EMA.items()},
    )


@pytest.mark.parametrize("form", FORMS)
def test_what_was_kept_of_both_is_told_apart_again(form: str, tmp_path: Path) -> None:
    written(plan_prune(opened(tmp_path, FORMS[form][0]()), variant="keep-both"), tmp_path)
    again = open_bytes(tmp_path / "out.safetensors")
    found = identify(again.tensors, sets=two_sets(again))
    assert (found.ema.state, found.ema.tensors, found.ema.pairs) == ("full", len(EMA), len(RAW))
    assert equal(written(plan_prune(again), tmp_path), RAW)
    assert equal(written(plan_prune(again, variant="ema-only"), tmp_path), EMA)
    plan = plan_prune(again, variant="keep-both")
    assert plan.nothing_to_do == "it holds nothing that only training needs"


def left(checkpoint: Checkpoint, variant: Variant) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in plan_prune(checkpoint, variant=variant).selection.left_out:
        counts[one.reason] = counts.get(one.reason, 0) + one.nbytes
    return counts


def test_what_is_left_is_called_what_it_is(tmp_path: Path) -> None:
    nbytes = sum(value.nbytes for value in RAW.values())
    checkpoint = opened(tmp_path, FORMS["k-diffusion"][0]())
    assert left(checkpoint, "raw-only") == {"EMA": nbytes, "optimizer": 12}
    assert left(checkpoint, "ema-only") == {"raw weights": nbytes, "optimizer": 12}
    assert left(checkpoint, "keep-both") == {"optimizer": 12}
    checkpoint = opened(tmp_path, FORMS["ema-pytorch"][0]())
    assert left(checkpoint, "keep-both") == {"raw weights": nbytes, "EMA scalar": 9}
    assert left(checkpoint, "raw-only") == {"EMA": nbytes, "raw weights": nbytes, "EMA scalar": 9}


def test_numbers_of_an_ema_module_by_itself_stay_with_both_only(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, _ema_pytorch())
    assert equal(written(plan_prune(checkpoint), tmp_path), RAW)
    assert equal(written(plan_prune(checkpoint, variant="ema-only"), tmp_path), EMA)
    plan = plan_prune(checkpoint, variant="keep-both", drop=["nothing"])
    assert equal(written(plan, tmp_path), _ema_pytorch())


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"shadow_params": x, "num_updates": 5}])
def test_averages_in_a_list_are_named_after_the_weights(
    wrap: Callable[[Any], Any], tmp_path: Path
) -> None:
    """torch_ema keeps the parameters only: buffers are those of the model, as its copy_to does."""
    averages = [EMA[name] for name in PARAMETERS]
    checkpoint = opened(tmp_path, {"model": RAW, "ema": wrap(averages)})
    plan = plan_prune(checkpoint, variant="ema-only")
    assert plan.ema.state == "full"
    expected = {n: EMA[n] if n in PARAMETERS else v for n, v in RAW.items()}
    assert equal(written(plan, tmp_path), expected)
    assert equal(written(plan_prune(checkpoint), tmp_path), RAW)


def test_a_list_that_does_not_fit_is_weights_without_names(tmp_path: Path) -> None:
    averages = [EMA[name] for name in PARAMETERS[1:]]
    checkpoint = opened(tmp_path, {"model": RAW, "ema": {"shadow_params": averages}})
    assert checkpoint.others == ()
    assert set(left(checkpoint, "raw-only")) == {"EMA"}
    assert {one.reason for one in select_all(checkpoint).left_out} == {"EMA"}


def test_gaps_are_filled_only_when_asked(tmp_path: Path) -> None:
    name = "body.2.weight"
    partial = {key: value for key, value in EMA.items() if key != name}
    checkpoint = opened(tmp_path, {"params": RAW, "params_ema": partial})
    plan = plan_prune(checkpoint, variant="ema-only", fill_from_raw=True)
    assert plan.ema.state == "partial" and plan.ema.bare == (name,)
    assert equal(written(plan, tmp_path), partial | {name: RAW[name]})


def test_casts_and_patterns_mean_the_names_without_keys(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, {"params": RAW, "params_ema": EMA})
    out = written(
        plan_prune(checkpoint, variant="ema-only", dtype="fp16", drop=["body.1.*"]), tmp_path
    )
    kept = {n: v.half() for n, v in EMA.items() if not n.startswith("body.1.")}
    assert equal(out, kept)


def test_convert_takes_what_loaders_take_and_says_what_it_leaves(tmp_path: Path) -> None:
    nbytes = sum(value.nbytes for value in RAW.values())
    for form, taken, reason, key in (
        ("basicsr", EMA, "raw weights", "params"),
        ("k-diffusion", RAW, "EMA", "model_ema"),
    ):
        checkpoint = opened(tmp_path, FORMS[form][0]())
        selection = select_all(checkpoint)
        plan = plan_safetensors(selection)
        assert {s.name for s in selection.entries} == taken.keys()
        assert sum(one.nbytes for one in plan.left_out if one.reason == reason) == nbytes
        assert any(
            f"{reason} left out ({key}: 9 tensors, {nbytes:,} bytes)" in n for n in plan.notes
        )


@pytest.mark.parametrize("key", ["ema", "params_ema", "params-ema", "net.ema", "EMA"])
def test_keys_that_speak_of_averages(key: str) -> None:
    assert is_average(key)
    assert not is_average(f"{key}s")
    assert not is_average(key.encode())
