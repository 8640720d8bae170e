"""The table of names of the two layouts, read in both directions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.sd_models import entries_of, shapes_of, state_of

from sdtool.checkpoint import Checkpoint, Format, Reading, TensorEntry, Unsupported, open_checkpoint
from sdtool.checkpoint.identify.architecture import open_clip, vae
from sdtool.checkpoint.source import Memory
from sdtool.convert import Predicts, plan_safetensors, verify_against, write_safetensors
from sdtool.convert.layouts.models import REFINER, SD_1, SD_2, SDXL, Model, model_of
from sdtool.convert.layouts.networks import open_clip_names, vae_names
from sdtool.convert.layouts.rows import Names
from sdtool.convert.plan.layouts import select_folder, select_single
from sdtool.convert.plan.selection import Selected, Selection, joined_shape

MODELS = (SD_1, SD_2, SDXL, REFINER)
BY_FAMILY = {model.family: model for model in MODELS}
each_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.family)


def parts_of(model: Model, **sizes: int) -> dict[str, dict[str, TensorEntry]]:
    """The full-size tensors of each component, by their names in a single file."""
    whole = entries_of(shapes_of(model.family, **sizes))
    return {
        part.folder: {
            name.removeprefix(part.prefix): entry
            for name, entry in whole.items()
            if name.startswith(part.prefix)
        }
        for part in model.components
    }


@each_model
def test_to_diffusers_and_back_is_the_identity(model: Model) -> None:
    for part in model.components:
        own = parts_of(model)[part.folder]
        there = part.names.to_diffusers(own)
        back = part.names.to_single(there)
        assert set(own) - set(back) <= {"logit_scale"}
        for name, pieces in back.items():
            entry, origin = pieces[0], own[name]
            assert joined_shape(entry, pieces[1:]) == origin.shape
            assert entry.stride == origin.stride
            # each piece goes on where the one before it ends: the bytes are those of one tensor
            assert [piece.offset for piece in pieces] == [
                i * origin.numel // len(pieces) for i in range(len(pieces))
            ]
            assert all(piece.storage is origin.storage for piece in pieces)


@each_model
def test_no_name_leads_to_two(model: Model) -> None:
    for part in model.components:
        rows = part.names.rows
        assert len({row.single for row in rows}) == len(rows)
        others = [name for row in rows for name in row.diffusers]
        assert len(set(others)) == len(others)


@each_model
def test_every_tensor_of_a_full_model_is_expected(model: Model) -> None:
    for folder, own in parts_of(model).items():
        (part,) = (part for part in model.components if part.folder == folder)
        part.check({n: e.shape for n, e in own.items()}, "m", in_diffusers=False)


@pytest.mark.parametrize(
    ("family", "inputs", "expected"),
    [
        ("SD 1.x", 4, SD_1), ("SD 1.x", 9, SD_1), ("SD 1.x", 8, SD_1),
        ("SD 2.x", 4, SD_2), ("SD 2.x", 9, SD_2),
        ("SDXL", 4, SDXL), ("SDXL", 9, SDXL), ("SDXL", 8, SDXL), ("SDXL refiner", 4, REFINER),
    ],
)  # fmt: skip
def test_the_unet_tells_the_model_in_either_naming(
    family: str, inputs: int, expected: Model
) -> None:
    single = entries_of(shapes_of(family, inputs=inputs))
    assert model_of(single, "m") is expected
    unet = parts_of(BY_FAMILY[family], inputs=inputs)["unet"]
    assert model_of(expected.components[0].names.to_diffusers(unet), "m") is expected


@pytest.mark.parametrize(
    ("family", "inputs", "name"),
    [("SD 2.x", 5, "SD 2.x, depth"), ("SD 2.x", 7, "SD-like, non-standard size")],
)
def test_a_model_with_one_layout_is_named(family: str, inputs: int, name: str) -> None:
    entries = entries_of(shapes_of(family, inputs=inputs))
    with pytest.raises(
        Unsupported, match=rf"^m\.ckpt: is {name}, whose other layout is not known$"
    ):
        model_of(entries, "m.ckpt")


def test_what_is_no_unet_is_told() -> None:
    with pytest.raises(Unsupported, match=r"^v\.pt: holds no UNet of SD 1\.x, SD 2\.x or SDXL$"):
        model_of(entries_of(vae()), "v.pt")


def test_markers_of_another_schedule_are_no_sdxl() -> None:
    entries = entries_of(shapes_of("SDXL"))
    entries["edm_mean"] = next(iter(entries.values()))
    with pytest.raises(Unsupported, match=r"^m: is SDXL, Playground 2\.5, whose other layout"):
        model_of(entries, "m")


def test_what_is_wrong_with_a_network_is_named_in_the_names_of_the_input() -> None:
    part = SD_2.components[2]
    shapes = open_clip(1024, 2, 16)
    lacking = {n: s for n, s in shapes.items() if "resblocks.1.attn.in_proj" not in n}
    for names, shown in (
        (False, "transformer.resblocks.1.attn.in_proj_weight"),
        (True, "text_model.encoder.layers.1.self_attn.q_proj.weight"),
    ):
        told = f"its text encoder OpenCLIP ViT-H lacks 2 tensors, {shown!a}"
        with pytest.raises(Unsupported, match=f"^m: {re.escape(told)}$"):
            part.check(lacking, "m", in_diffusers=names)
    told = "has a tensor that it should not have, 'ln_final.scale'"
    with pytest.raises(Unsupported, match=re.escape(told)):
        part.check({**shapes, "ln_final.scale": (1,)}, "m", in_diffusers=False)
    with pytest.raises(Unsupported, match="has a tensor of another shape"):
        part.check({**shapes, "ln_final.weight": (1,)}, "m", in_diffusers=False)
    part.check({**shapes, "logit_scale": (1,)}, "m", in_diffusers=False)  # of no weight


@pytest.mark.parametrize(
    ("old", "new"),
    [("query", "q"), ("key", "k"), ("value", "v"), ("proj_attn", "proj_out")],
)
def test_older_names_of_a_vae_are_read(old: str, new: str) -> None:
    shapes = {f"decoder.mid_block.attentions.0.{old}.weight": (8, 8)}
    (name, (entry,)), *_ = vae_names().to_single(entries_of(shapes)).items()
    assert (name, entry.shape) == (f"decoder.mid.attn_1.{new}.weight", (8, 8, 1, 1))
    written = {name for row in vae_names().rows for name in row.diffusers}
    assert not any(f".{old}." in name for name in written)
    assert vae()[name] == (512, 512, 1, 1)


def convert(source: Path, out: Path, table: Names, *, to_single: bool) -> None:
    """Write one network in the other layout."""
    with open_checkpoint(source) as checkpoint:
        tensors = {entry.name: entry for entry in checkpoint.tensors}
        if to_single:
            whole = table.to_single(tensors)
        else:
            whole = {name: (entry,) for name, entry in table.to_diffusers(tensors).items()}
        entries = tuple(
            Selected(name, parts[0], parts[0].dtype, joined=parts[1:])
            for name, parts in whole.items()
        )
        selection = Selection(entries, {"format": "pt"})
        write_safetensors(plan_safetensors(selection), out)
        assert verify_against(out, checkpoint, selection=selection).ok
        state = load_file(out)
        name = max(state, key=lambda name: ("in_proj" in name, name))
        state[name][-1] += 1  # of q, k and v the last
        save_file(state, out.with_name("other"))
        found = verify_against(out.with_name("other"), checkpoint, selection=selection)
        assert [difference.name for difference in found.differences] == [name]


@pytest.mark.parametrize("pickled", [False, True])
def test_values_of_open_clip_as_torch_has_them(
    tmp_path: Path, both_ways: None, pickled: bool
) -> None:
    shapes = {n: s for n, s in open_clip(8, 2, 16).items() if n != "logit_scale"}
    state = state_of(shapes)
    save_file(state, tmp_path / "m.safetensors", {"format": "pt"})
    torch.save(state, tmp_path / "m.pt")
    source = tmp_path / ("m.pt" if pickled else "m.safetensors")
    convert(source, tmp_path / "d.safetensors", open_clip_names(2), to_single=False)
    found = load_file(tmp_path / "d.safetensors")
    assert len(found) == len(state) + 2 * 4
    assert torch.equal(found["text_projection.weight"], state["text_projection"].T)
    for kind in ("weight", "bias"):
        parts = state[f"transformer.resblocks.1.attn.in_proj_{kind}"].chunk(3)
        for letter, part in zip("qkv", parts, strict=True):
            name = f"text_model.encoder.layers.1.self_attn.{letter}_proj.{kind}"
            assert torch.equal(found[name], part)
    convert(tmp_path / "d.safetensors", tmp_path / "b.safetensors", open_clip_names(2),
            to_single=True)  # fmt: skip
    assert (tmp_path / "b.safetensors").read_bytes() == (tmp_path / "m.safetensors").read_bytes()


def test_parts_of_one_tensor_have_one_type() -> None:
    shapes = {f"text_model.encoder.layers.0.self_attn.{x}_proj.bias": (8,) for x in "qkv"}
    entries = entries_of(shapes)
    name = "text_model.encoder.layers.0.self_attn.k_proj.bias"
    entries[name] = entries[name].changed(shape=(4,))
    with pytest.raises(Unsupported, match="parts of one tensor, but differ in shape or type"):
        open_clip_names(1).to_single(entries)


def checkpoint_of(name: str, tensors: Iterable[TensorEntry]) -> Checkpoint:
    """A file of these tensors, without values."""
    reading = Reading(Format.SAFETENSORS, Memory(b"", name))
    return Checkpoint(reading, Format.SAFETENSORS, tuple(tensors), (), {}, {})


@each_model
@pytest.mark.parametrize("prediction", list(Predicts))
def test_a_full_model_as_a_folder_and_as_one_file_again(model: Model, prediction: Predicts) -> None:
    shapes = shapes_of(model.family)
    more = entries_of({"betas": (1000,), "model_ema.diffusion_modelout2bias": (4,)})
    whole = checkpoint_of("m", (*entries_of(shapes).values(), *more.values()))
    folder = select_folder(whole, prediction=prediction)
    assert folder.model is model
    gone = {left.name: left.reason for left in folder.left_out}
    assert gone.pop("betas") == "noise schedule"
    assert gone.pop("model_ema.diffusion_modelout2bias") == "EMA"
    parts = {
        part: checkpoint_of(part, (s.entry.changed(name=s.name) for s in selection.entries))
        for part, selection in folder.selections.items()
    }
    single = select_single(parts, folder.facts, where="d")
    made = {selected.name: selected.shape for selected in single.entries}
    marker = {"v_pred": (0,)} if model is SDXL and prediction is Predicts.V else {}
    assert made == {n: s for n, s in shapes.items() if n not in gone} | marker
    declared = {"modelspec.prediction_type": prediction} if model is SD_2 or not marker else {}
    if prediction is Predicts.EPSILON and model is not SD_2:
        declared = {}
    assert single.metadata == {"format": "pt", **declared}
    unused = {name.rpartition(".")[2] for name in gone if "resblocks" not in name}
    last = [name for name in gone if "resblocks" in name]
    if model is SD_2:  # the last layer of 24, and what follows it
        assert unused == {"logit_scale", "text_projection"}
        assert len(last) == 12
        assert all(
            name.startswith("cond_stage_model.model.transformer.resblocks.23.") for name in last
        )
    else:
        assert (unused, last) == ({"logit_scale"} if model is not SD_1 else set(), [])
