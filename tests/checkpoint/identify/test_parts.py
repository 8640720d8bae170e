"""One table of model parts: info, convert and prune give one answer for every name."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.checkpoint.identify.test_identify import (
    FILES,
    OPEN_CLIP,
    SD1,
    SD2,
    VAE,
    XL,
    XL_TEXT,
    below,
    flux,
    header_only,
    net,
    sd3,
    with_ema,
)
from tests.prune.layouts import SD_V1_FULL, opened, shadow, tiny, written

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.dtypes import BY_NAME
from sdtool.checkpoint.errors import UsageError
from sdtool.checkpoint.identify import components, identify, parts
from sdtool.checkpoint.identify.architecture import (
    SCHEDULE,
    UNET_REFINER,
    UNET_V1,
    UNET_XL,
    Shapes,
    clip_l,
    open_clip,
    unet,
    vae,
)
from sdtool.checkpoint.identify.identity import Component
from sdtool.checkpoint.identify.parts import PARTS, Lookup, Part, part_of
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.source import local_file
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.convert import select_all
from sdtool.convert.plan.casts import components_of, target_dtype
from sdtool.prune import plan_prune
from sdtool.prune.roles import Role, weight_roles
from sdtool.prune.view import view_of

ANSWERS: dict[str, tuple[str, Role]] = {
    # what info says: what convert counts it as, what prune calls it
    "unet": ("unet", Role.UNET),
    "transformer": ("unet", Role.UNET),
    "vae": ("vae", Role.VAE),
    "text-encoder": ("text", Role.TEXT),
    "ema": ("ema", Role.EMA),
    "schedule": ("other", Role.SCHEDULE),
    "marker": ("other", Role.MARKER),
    "loss": ("other", Role.LOSS),
}
"""All other roles are `other` and other weights."""

T5: Shapes = {
    "shared.weight": (32128, 4096),
    "encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096),
    "encoder.block.0.layer.1.DenseReluDense.wo.weight": (4096, 10240),
    "encoder.final_layer_norm.weight": (4096,),
}
PICTURES: Shapes = {
    "visual.class_embedding": (1280,),
    "visual.transformer.resblocks.0.ln_1.weight": (1280,),
    "token_embedding.weight": (49408, 1024),
    "logit_scale": (),
}
SVD: Shapes = {
    "model.diffusion_model.input_blocks.0.0.weight": (320, 8, 3, 3),
    "model.diffusion_model.input_blocks.1.1.time_stack.0.attn1.to_q.weight": (320, 320),
    **below("conditioner.embedders.0.open_clip.model.", PICTURES),
    "conditioner.embedders.3.encoder.encoder.conv_in.weight": (128, 3, 3, 3),
    "conditioner.embedders.3.encoder.quant_conv.weight": (8, 8, 1, 1),
    **VAE,
}
CONTROLNET: Shapes = {
    "input_hint_block.0.weight": (16, 3, 3, 3),
    "zero_convs.0.0.weight": (320, 320, 1, 1),
    **{name: shape for name, shape in unet(UNET_V1).items() if "output" not in name},
}
DIFFUSERS_UNET: Shapes = {
    "conv_in.weight": (320, 4, 3, 3),
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": (640, 768),
    "time_embedding.linear_1.weight": (1280, 320),
    "conv_norm_out.weight": (320,),
}
DIFFUSERS_FLUX: Shapes = {
    "x_embedder.weight": (3072, 64),
    "single_transformer_blocks.0.attn.norm_k.weight": (128,),
    "time_text_embed.guidance_embedder.linear_1.weight": (3072, 256),
    "norm_out.linear.weight": (6144, 3072),
    "proj_out.weight": (64, 3072),
}
DIFFUSERS_VAE: Shapes = {
    "decoder.conv_in.weight": (512, 4, 3, 3),
    "decoder.mid_block.resnets.0.conv1.weight": (512, 512, 3, 3),
    "encoder.down_blocks.0.resnets.0.conv1.weight": (128, 128, 3, 3),
    "encoder.conv_norm_out.weight": (512,),
    "post_quant_conv.bias": (4,),
}
LAYOUTS: dict[str, Shapes] = {
    **{what: shapes for what, (shapes, *_) in FILES.items()},
    "SD 1 full": {
        name: tuple(shape) for name, _, shape in json.loads(SD_V1_FULL.read_text())["tensors"]
    },
    "tiny": {name: tuple(value.shape) for name, value in shadow(tiny()).items()},
    "SVD": SVD,
    "refiner": net(UNET_REFINER) | below("conditioner.embedders.0.model.", open_clip(1280, 32)),
    "SD 2 with all that may be there": SD2
    | {"logvar": (1000,), "lvlb_weights": (999,), "scale_factor": (), "sigmas": (1000,)}
    | {"log_sigmas": (1000,), "cond_stage_model.logit_scale": (), "depth_model.model.x": (4,)}
    | {"low_scale_model.betas": (1000,), "embedding_manager.x": (4,)}
    | {"cond_stage_model.embedding.weight": (4, 4)}
    | below("embedder.model.", PICTURES)
    | {"noise_augmentor.data_mean": (1, 1024), "noise_augmentor.betas": (1000,)},
    "SDXL with markers": XL
    | {"v_pred": (0,), "ztsnr": (0,), "edm_mean": (4,), "edm_std": (4,), "scaled_fp8": (0,)}
    | {"edm_vpred.sigma_max": (), "edm_vpred.sigma_min": (), "denoiser.sigmas": (1000,)},
    "VAE in training, in a checkpoint": SD1
    | {"first_stage_model.loss.logvar": (), "first_stage_model.loss.discriminator.x": (4, 4)},
    "SD 3 with its encoders": below("model.diffusion_model.", sd3(24, 36864))
    | below("text_encoders.clip_l.transformer.", clip_l())
    | below("text_encoders.clip_g.transformer.", clip_l())
    | below("text_encoders.t5xxl.transformer.", T5)
    | VAE,
    "FLUX, quantized": flux() | {"scaled_fp8": (0,), "img_in.scale_weight": ()},
    "FLUX of diffusers": DIFFUSERS_FLUX,
    "UNet of diffusers": DIFFUSERS_UNET,
    "VAE of diffusers": DIFFUSERS_VAE,
    "ControlNet without its prefix": CONTROLNET,
    "T5 in a wrapper": below("transformer.", T5),
    "GPT-2 in a wrapper": {
        "transformer.h.0.attn.c_attn.weight": (768, 2304),
        "transformer.wte.weight": (50257, 768),
    },
    "pipeline": below("unet.", DIFFUSERS_UNET)
    | below("vae.", DIFFUSERS_VAE)
    | below("text_encoder.", clip_l())
    | below("text_encoder_2.", clip_l())
    | {"image_encoder.vision_model.embeddings.class_embedding": (1280,)},
    "pipeline of FLUX": below("transformer.", DIFFUSERS_FLUX)
    | below("vae.", DIFFUSERS_VAE)
    | below("text_encoder.", clip_l())
    | below("text_encoder_2.", T5),
    "nothing but names": {"unet.conv_in.weight": (4,), "text_encoder.x": (4,), "vae.x": (4,)},
    "LoRA of a pipeline's names": {
        "unet.down_blocks.0.attentions.0.to_k.lora_A.weight": (4, 320),
        "unet.down_blocks.0.attentions.0.to_k.lora_B.weight": (320, 4),
        "unet.down_blocks.0.attentions.0.to_k.alpha": (),
        "text_encoder.text_model.encoder.layers.0.self_attn.k_proj.lora_A.weight": (4, 768),
        "text_encoder.text_model.encoder.layers.0.self_attn.k_proj.lora_B.weight": (768, 4),
    },
    **{
        f"{what} below {prefix}": below(prefix, dict(list(shapes.items())[:60]))
        for prefix in ("diffusion_model.", "model.model.", "net.", "model.", "transformer.")
        for what, shapes in (("FLUX", flux()), ("SD 3", sd3(24, 36864)))
    },
    "UNet below model.": below("model.", unet(UNET_XL)),
    "compiled": below("_orig_mod.", with_ema(SD1)),
    "distributed": below("module.", SD2 | {"v_pred": (0,)}),
    "VAEs bare": vae() | {"loss.logvar": ()},
    "XL text": XL_TEXT,
    "OpenCLIP": OPEN_CLIP,
    "schedule": dict(SCHEDULE),
}  # fmt: skip


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Which role info gives to each name, plain, as it sums them up."""
    found: dict[str, str] = {}
    once = components._component  # pyright: ignore[reportPrivateUsage]

    def noted(role: str, label: str, prefix: str, entries: list[TensorEntry], *a: Any) -> Component:
        found.update((entry.name, role) for entry in entries)
        return once(role, label, prefix, entries, *a)

    monkeypatch.setattr(components, "_component", noted)
    return found


def header_of(path: Path, shapes: Shapes) -> Checkpoint:
    with local_file(header_only(path, shapes, dtype="float32")) as source:
        return open_checkpoint(source)


def disagreements(checkpoint: Checkpoint, told: dict[str, str]) -> Iterator[str]:
    """The names that convert or prune call another thing than info."""
    identify(checkpoint.tensors)
    view = view_of(checkpoint)
    roles = weight_roles(view.checkpoint.tensors, view.ema)
    counted = components_of(entry.name for entry in checkpoint.tensors)
    assert roles.keys() == told.keys()
    for name, info in told.items():
        convert, prune = ANSWERS.get(info, ("other", Role.OTHER))
        own = {Role.EMA_SCALAR: Role.EMA, Role.UNKNOWN: Role.OTHER}.get(roles[name], roles[name])
        seen = counted[view.wrapped.get(name, name)]
        if (seen, own) != (convert, prune):
            yield f"{name}: info {info}, convert {seen}, prune {roles[name]}"


@pytest.mark.parametrize("what", LAYOUTS)
def test_info_convert_and_prune_give_one_answer(
    what: str, tmp_path: Path, told: dict[str, str]
) -> None:
    checkpoint = header_of(tmp_path / "x.safetensors", LAYOUTS[what])
    assert list(disagreements(checkpoint, told)) == []
    assert len(told) == len(LAYOUTS[what])


def test_nothing_of_the_known_models_is_unknown(tmp_path: Path) -> None:
    for what, (shapes, kind, _, _) in FILES.items():
        if kind in ("checkpoint", "unet", "transformer", "vae", "text-encoder", "controlnet"):
            checkpoint = header_of(tmp_path / "x.safetensors", shapes)
            view = view_of(checkpoint)
            roles = weight_roles(view.checkpoint.tensors, view.ema)
            assert Role.UNKNOWN not in roles.values(), what


@pytest.mark.parametrize(
    ("name", "role", "convert", "prune"),
    [
        ("conditioner.embedders.0.open_clip.model.token_embedding.weight",
         "image-encoder", "other", Role.OTHER),
        ("conditioner.embedders.3.encoder.encoder.conv_in.weight",
         "image-encoder", "other", Role.OTHER),
        ("first_stage_model.loss.discriminator.main.0.weight", "loss", "other", Role.LOSS),
        ("loss.logvar", "loss", "other", Role.LOSS),
        ("cond_stage_model.embedding.weight", "other", "other", Role.OTHER),
        ("unet.conv_in.weight", "unet", "unet", Role.UNET),
        ("transformer.x_embedder.weight", "transformer", "unet", Role.UNET),
        ("text_encoder_3.shared.weight", "text-encoder", "text", Role.TEXT),
        ("text_encoders.t5xxl.transformer.shared.weight", "text-encoder", "text", Role.TEXT),
        ("image_encoder.x", "image-encoder", "other", Role.OTHER),
        ("control_model.out.0.weight", "controlnet", "other", Role.OTHER),
        ("model_ema.decay", "ema", "ema", Role.EMA_SCALAR),
        ("model_ema.diffusion_modelout0weight", "ema", "ema", Role.EMA),
        ("sigmas", "schedule", "other", Role.SCHEDULE),
        ("noise_augmentor.data_mean", "schedule", "other", Role.SCHEDULE),
        ("scaled_fp8", "marker", "other", Role.MARKER),
        ("out.2.weight", "unet", "unet", Role.UNET),
        ("betas.weight", None, "other", Role.OTHER),
        ("transformer.h.0.attn.c_attn.weight", None, "other", Role.OTHER),
        ("module.vae.x", "vae", "vae", Role.VAE),
        ("decoder.upsamples.0.residual.2.weight", "vae", "vae", Role.VAE),
        ("encoder.middle.0.residual.0.gamma", "vae", "vae", Role.VAE),
        ("decoder.layers.1.conv.0.weight", "vae", "vae", Role.VAE),
        ("encoder.block_in.resnets.0.conv1.conv.weight", "vae", "vae", Role.VAE),
        ("encoder.layers.0.self_attn.k_proj.weight", None, "other", Role.OTHER),
    ],
)  # fmt: skip
def test_what_was_decided(
    name: str, role: str | None, convert: str, prune: Role, tmp_path: Path
) -> None:
    part = part_of(name)
    assert (None if part is None else part.role) == role
    assert components_of([name]) == {name: convert}
    view = view_of(header_of(tmp_path / "x.safetensors", {name: (4, 4)}))
    assert list(weight_roles(view.checkpoint.tensors, view.ema).values()) == [prune]


def entry(dtype: str = "float32", shape: tuple[int, ...] = (4, 4)) -> TensorEntry:
    """A tensor of which only type and shape are asked."""
    made = opened_entry()
    return made.changed(dtype=BY_NAME[dtype], shape=shape)


def opened_entry() -> TensorEntry:
    """Any tensor of a file."""
    from sdtool.checkpoint.source import Memory

    head = json.dumps({"x": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}).encode()
    content = len(head).to_bytes(8, "little") + head + bytes(4)
    return open_checkpoint(Memory(content, "x.safetensors")).tensors[0]


CASTS = {"any": ("float16", "float8_e4m3fn"), "no fp8": ("float16", "float32"),
         "never": ("float32", "float32")}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "casts"),
    [
        ("conditioner.embedders.3.encoder.encoder.conv_in.weight", "no fp8"),
        ("first_stage_model.x.weight", "no fp8"),
        ("first_stage_model.loss.x.weight", "no fp8"),
        ("decoder.up.0.block.0.conv1.weight", "no fp8"),
        ("decoder.stages.1.op_list.0.main.conv.conv.bias", "no fp8"),
        ("decoder.temp_conv_in.weight", "no fp8"),
        ("vae.x.weight", "no fp8"),
        ("_orig_mod.vae.x.weight", "no fp8"),
        ("transformer.x_embedder.weight", "any"),
        ("betas", "never"),
        ("low_scale_model.betas", "never"),
        ("model.diffusion_model.scaled_fp8", "never"),
        ("module.model_ema.decay", "never"),
        ("edm_vpred.sigma_max", "never"),
        ("x.edm_y.z", "never"),
        ("a.position_ids", "never"),
        ("some.weight", "any"),
    ],
)
def test_the_table_says_what_a_cast_may_do(name: str, casts: str) -> None:
    made = tuple(target_dtype(name, entry(), dtype).name for dtype in ("fp16", "fp8_e4m3fn"))
    assert made == CASTS[casts]


def test_one_row_adds_a_text_encoder_to_all_verbs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = "glyph_encoder.model.layers.0.weight"
    state = {name: torch.ones(2, 2), "model.diffusion_model.out.0.bias": torch.ones(2)}
    checkpoint = opened(tmp_path, state)

    def answers() -> tuple[object, ...]:
        """What info, convert, prune and `prune --text-dtype` say of the one tensor."""
        (info,) = (c.label for c in identify(checkpoint.tensors).components if c.role != "unet")
        plan = plan_prune(checkpoint, text_dtype="fp16")
        (prune,) = {row.role.value for row in plan.table} - {"unet"}
        (cast,) = (s.dtype.name for s in plan.selection.entries if s.name == name)
        fp8 = target_dtype(name, entry(), "fp8_e4m3fn").name
        return info, components_of([name])[name], prune, cast, fp8

    assert answers() == ("tensors", "other", "unknown", "float32", "float8_e4m3fn")
    with pytest.raises(UsageError, match="holds no text encoder"):
        plan_prune(checkpoint, only="text")
    row = Part("glyph_encoder.", "text-encoder", "Glyph", "a paper", "no fp8", "glyph_encoder.")
    monkeypatch.setattr(parts, "LOOKUP", Lookup((row, *PARTS)))
    assert answers() == ("Glyph", "text", "text encoder", "float16", "float32")
    out = written(plan_prune(checkpoint, only="text"), tmp_path)
    assert out.keys() == {"model.layers.0.weight"}


def test_an_image_encoder_is_not_taken_out_as_a_text_encoder(tmp_path: Path) -> None:
    checkpoint = header_of(tmp_path / "svd.safetensors", SVD)
    with pytest.raises(UsageError, match="holds no text encoder"):
        plan_prune(checkpoint, only="text")
    plan = plan_prune(checkpoint, only="vae")
    assert {s.name for s in plan.selection.entries} == set(vae())


def test_the_parts_of_a_pipeline_have_their_own_types(tmp_path: Path) -> None:
    checkpoint = header_of(tmp_path / "x.safetensors", LAYOUTS["pipeline"])
    plan = plan_prune(checkpoint, unet_dtype="fp16", text_dtype="bf16")
    types = {s.name.partition(".")[0]: s.dtype.name for s in plan.selection.entries
             if not s.name.endswith("position_ids")}  # fmt: skip
    assert types == {
        "unet": "float16", "vae": "float32", "text_encoder": "bfloat16",
        "text_encoder_2": "bfloat16", "image_encoder": "float32",
    }  # fmt: skip
    assert [note for note in plan.notes if "no rule" in note] == []
    only = plan_prune(checkpoint, only="unet")
    assert {s.name for s in only.selection.entries} == set(DIFFUSERS_UNET)


def test_the_loss_of_a_vae_in_a_checkpoint_is_dropped_by_prune_only(tmp_path: Path) -> None:
    shapes = LAYOUTS["VAE in training, in a checkpoint"]
    checkpoint = header_of(tmp_path / "x.safetensors", shapes)
    loss = {"first_stage_model.loss.logvar", "first_stage_model.loss.discriminator.x"}
    found = {part.role: part for part in identify(checkpoint.tensors).components}
    assert found["loss"].tensors == 2
    assert found["vae"].fit is not None and found["vae"].fit.exact
    kept = {s.name for s in plan_prune(checkpoint).selection.entries}
    assert kept == shapes.keys() - loss
    assert {s.name for s in select_all(checkpoint).entries} == set(shapes)


def test_a_flux_with_scaled_weights_is_not_cast_by_its_component(tmp_path: Path) -> None:
    """The bare names of a transformer are its own, so its dtype would touch quantized weights."""
    head: dict[str, object] = {}
    position = 0
    for name, kind, width in (
        ("double_blocks.0.img_attn.norm.key_norm.scale", "F32", 4),
        ("img_in.weight", "F8_E4M3", 1),
        ("img_in.scale_weight", "F32", 4),
        ("scaled_fp8", "F8_E4M3", 1),
    ):
        shape, size = ([4, 4], 16 * width) if name == "img_in.weight" else ([1], width)
        head[name] = {"dtype": kind, "shape": shape, "data_offsets": [position, position + size]}
        position += size
    data = json.dumps(head).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(data).to_bytes(8, "little") + data + b"\x38" * position)
    with local_file(path) as source:
        checkpoint = open_checkpoint(source)
        with pytest.raises(Exception, match="quantized"):
            plan_prune(checkpoint, unet_dtype="fp16")


def prefixes(rows: Iterable[Part]) -> list[str]:
    """The prefixes of the rows that fit whatever follows, in order."""
    return [row.prefix for row in rows if row.prefix and not row.pattern and not row.signs]


def test_every_row_can_be_reached_and_has_a_source() -> None:
    seen: list[str] = []
    for prefix in prefixes(PARTS):
        assert not any(
            prefix.startswith(other) and (other.endswith(".") or prefix == other) for other in seen
        ), prefix
        seen.append(prefix)
    for row in PARTS:
        assert row.source, row
        assert row.own == "" or row.prefix.startswith(row.own) or row.own.startswith(row.prefix)
        assert re.compile(row.pattern)
        assert row.prefix or row.pattern or row.signs


_LONG_NAMES = """
from sdtool.checkpoint.identify.parts import part_of
from sdtool.checkpoint.prefixes import plain_name
for name in ("a." * 500_000, "a_lora" * 200_000, "." * 1_000_000):
    assert part_of(name) is None
assert part_of("unet." + "x." * 500_000).label == "UNet"
assert plain_name("module." * 1_000_000 + "w") == "w"
"""


def test_a_name_as_long_as_a_header_is_answered() -> None:
    """Work that grows with the square of its length would take hours, here and anywhere."""
    subprocess.run([sys.executable, "-c", _LONG_NAMES], check=True, timeout=120)
