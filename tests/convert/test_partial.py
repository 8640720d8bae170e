"""Files that hold no weights, a part of them, or tensors that nothing names: the way on is said."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.state_dict_saver import save

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.errors import Unsupported
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.source import Memory
from sdtool.convert import convert_unjudged, select_all
from sdtool.prune.plan import plan_prune


def opened(value: object) -> Checkpoint:
    """What sdtool makes of what torch.save writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return open_checkpoint(Memory(buffer.getvalue(), "test"))


def zero_shard() -> dict[str, object]:
    """As DeepSpeed's `zero_pp_rank_0_mp_rank_00_optim_states.pt`."""
    flat = {"single_partition_of_fp32_groups": [torch.ones(9)], "zero_stage": 2}
    return {"optimizer_state_dict": flat, "ds_config": {}, "ds_version": "0.16.4"}


def model_states(stage: int) -> dict[str, object]:
    """As DeepSpeed's `mp_rank_00_model_states.pt`: stage 3 keeps no weights in it."""
    shapes = {"w": torch.Size([2]), "b": torch.Size([3])}
    module = {k: torch.ones(size) if stage < 3 else torch.empty(0) for k, size in shapes.items()}
    return {
        "module": module, "buffer_names": [], "optimizer": None, "param_shapes": [shapes],
        "ds_config": {"zero_optimization": {"stage": stage}}, "ds_version": "0.16.4",
    }  # fmt: skip


def refused(checkpoint: Checkpoint) -> Unsupported:
    """The error of convert; prune has the same."""
    with pytest.raises(Unsupported) as info:
        select_all(checkpoint)
    with pytest.raises(Unsupported, match="^" + str(info.value)[:20]):
        plan_prune(checkpoint)
    return info.value


def test_a_shard_of_deepspeeds_optimizer() -> None:
    error = refused(opened(zero_shard()))
    assert error.what.startswith("DeepSpeed's optimizer state, one shard of it")
    assert error.hint is not None
    assert "zero_to_fp32.py" in error.hint


def test_deepspeeds_model_states() -> None:
    error = refused(opened(model_states(3)))
    assert "ZeRO stage 3" in error.what
    assert "'w'" in error.what
    names = [s.name for s in select_all(opened(model_states(2))).entries]
    assert names == ["w", "b"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_index_of_a_distributed_checkpoint(tmp_path: Path) -> None:
    save({"w": torch.ones(3), "b": torch.ones(2)}, checkpoint_id=tmp_path)
    with open_checkpoint(tmp_path / ".metadata") as checkpoint:
        error = refused(checkpoint)
    assert ".distcp files" in error.what
    assert error.hint is not None
    assert "dcp_to_torch" in error.hint
    with pytest.raises(Unsupported) as shard:
        open_checkpoint(tmp_path / "__0_0.distcp")
    assert shard.value.what.startswith("one part of a distributed checkpoint of torch")
    assert shard.value.hint == error.hint


def test_tensors_that_nothing_names_are_refused_by_name_or_left_out_by_wish(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    torch.save({"w": torch.ones(2), "extra": {torch.ones(3)}, 0.5: torch.ones(4)}, path)
    with pytest.raises(Unsupported, match=r"a tensor whose key is a float cannot be written"):
        convert_unjudged(path, tmp_path / "out.safetensors", verify=True)
    assert not (tmp_path / "out.safetensors").exists()
    convert_unjudged(path, tmp_path / "out.safetensors", skip_unsupported=True)
    with open_checkpoint(tmp_path / "out.safetensors") as written:
        assert [entry.name for entry in written.tensors] == ["w"]
        assert written.metadata["sdtool.left_out"]
    with open_checkpoint(path) as checkpoint:
        left = select_all(checkpoint, skip_unsupported=True).left_out
    assert [(item.name, item.nbytes, item.reason) for item in left] == [
        ("0.5", 16, "a tensor whose key is a float"),
        ("extra.0.0.0", 12, "a tensor in a builtins.set, which gives it no name"),
    ]


def test_what_stands_beside_the_weights_is_listed_as_that() -> None:
    selection = select_all(
        opened(
            {
                "state_dict": {"w": torch.ones(2)},
                "loss": torch.ones(3),
                "optimizer": {"m": torch.ones(4)},
            }
        )
    )
    assert [(item.name, item.reason) for item in selection.left_out] == [
        ("loss", "what stands beside the weights"), ("optimizer.m", "training state"),
    ]  # fmt: skip
    assert selection.notes == ("loss (1 tensors), beside state_dict, left",)
