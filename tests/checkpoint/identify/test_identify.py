"""What `identify` says of files with the shapes of real models: a header and no data."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.dtypes import BY_NAME
from sdtool.checkpoint.errors import Unsupported
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.identify import Identity, identify, resolve
from sdtool.checkpoint.identify.architecture import (
    SCHEDULE,
    UNET_REFINER,
    UNET_V1,
    UNET_V2,
    UNET_XL,
    Shapes,
    UNetConfig,
    clip_l,
    open_clip,
    unet,
    vae,
)
from sdtool.checkpoint.identify.ema import SCALARS, ema_name
from sdtool.checkpoint.identify.families import TABLE as FAMILIES
from sdtool.checkpoint.identify.kinds import BY_SLUG
from sdtool.checkpoint.identify.promises import broken_promises
from sdtool.checkpoint.identify.signatures import ADD_ONS, PARTS
from sdtool.checkpoint.source import local_file

ROOT = Path(__file__).parents[3]


def below(prefix: str, shapes: Mapping[str, tuple[int, ...]]) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


def net(config: UNetConfig) -> Shapes:
    return below("model.diffusion_model.", unet(config))


VAE = below("first_stage_model.", vae())
CLIP = below("cond_stage_model.transformer.", clip_l())
OPEN_CLIP = below("cond_stage_model.model.", open_clip(1024, 24))
XL_TEXT = below("conditioner.embedders.0.transformer.", clip_l()) | below(
    "conditioner.embedders.1.model.", open_clip(1280, 32)
)
SD1 = SCHEDULE | net(UNET_V1) | VAE | CLIP
SD2 = SCHEDULE | net(UNET_V2) | VAE | OPEN_CLIP
XL = net(UNET_XL) | XL_TEXT | VAE
REFINER = net(UNET_REFINER) | below("conditioner.embedders.0.model.", open_clip(1280, 32)) | VAE


def with_ema(shapes: Shapes) -> Shapes:
    ema = {ema_name(name): shape for name, shape in shapes.items() if name.startswith("model.")}
    return shapes | ema | dict.fromkeys(SCALARS, ())


def flux(in_channels: int = 64, *, guided: bool = True) -> Shapes:
    """FLUX.1's transformer in its own names."""
    h, shapes = 3072, Shapes()

    def linear(name: str, out: int, width: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, width), (out,)

    linear("img_in", h, in_channels)
    linear("txt_in", h, 4096)
    for name, width in (("time_in", 256), ("vector_in", 768), ("guidance_in", 256)):
        if guided or name != "guidance_in":
            linear(f"{name}.in_layer", h, width)
            linear(f"{name}.out_layer", h, h)
    for i in range(19):
        for side in ("img", "txt"):
            block = f"double_blocks.{i}.{side}"
            linear(f"{block}_mod.lin", 6 * h, h)
            linear(f"{block}_attn.qkv", 3 * h, h)
            linear(f"{block}_attn.proj", h, h)
            shapes[f"{block}_attn.norm.query_norm.scale"] = (128,)
            shapes[f"{block}_attn.norm.key_norm.scale"] = (128,)
            linear(f"{block}_mlp.0", 4 * h, h)
            linear(f"{block}_mlp.2", h, 4 * h)
    for i in range(38):
        block = f"single_blocks.{i}"
        linear(f"{block}.linear1", 7 * h, h)
        linear(f"{block}.linear2", h, 5 * h)
        linear(f"{block}.modulation.lin", 3 * h, h)
        shapes[f"{block}.norm.query_norm.scale"] = (128,)
        shapes[f"{block}.norm.key_norm.scale"] = (128,)
    linear("final_layer.linear", 64, h)
    linear("final_layer.adaLN_modulation.1", 2 * h, h)
    return shapes


def sd3(depth: int, pos_embed: int, *, dual: int = 0) -> Shapes:
    """The transformer of SD 3 and 3.5 in its own names; `dual` blocks have a second attention."""
    h, shapes = 64 * depth, Shapes()

    def linear(name: str, out: int, width: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, width), (out,)

    shapes["pos_embed"] = (1, pos_embed, h)
    shapes["x_embedder.proj.weight"], shapes["x_embedder.proj.bias"] = (h, 16, 2, 2), (h,)
    linear("context_embedder", h, 4096)
    for name, width in (("t_embedder", 256), ("y_embedder", 2048)):
        linear(f"{name}.mlp.0", h, width)
        linear(f"{name}.mlp.2", h, h)
    for i in range(depth):
        for side in ("context_block", "x_block"):
            block, last = f"joint_blocks.{i}.{side}", i == depth - 1 and side == "context_block"
            twice = side == "x_block" and i < dual
            linear(f"{block}.adaLN_modulation.1", (2 if last else 9 if twice else 6) * h, h)
            linear(f"{block}.attn.qkv", 3 * h, h)
            if twice:
                linear(f"{block}.attn2.qkv", 3 * h, h)
                linear(f"{block}.attn2.proj", h, h)
            if not last:
                linear(f"{block}.attn.proj", h, h)
                linear(f"{block}.mlp.fc1", 4 * h, h)
                linear(f"{block}.mlp.fc2", h, 4 * h)
    linear("final_layer.linear", 64, h)
    linear("final_layer.adaLN_modulation.1", 2 * h, h)
    return shapes


def lora(
    module: str, width: int, rank: int = 16, out: int = 320, **more: tuple[int, ...]
) -> Shapes:
    """A pair of kohya's names for one module, and tensors of other endings beside it."""
    shapes: Shapes = {
        f"{module}.lora_down.weight": (rank, width),
        f"{module}.lora_up.weight": (out, rank),
        f"{module}.alpha": (),
    }
    return shapes | {f"{module}.{ending}": shape for ending, shape in more.items()}


KEY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
XL_KEY = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
XL_DEEP = "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k"
CONV_KEY = "lora_unet_down_blocks_0_resnets_0_conv1"
PEFT_KEY = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
CONTROL = "control_model."
RRDB = {"conv_first.bias": (64,), "body.0.rdb1.conv1.weight": (32, 64, 3, 3)}
FACE_ID: Shapes = {
    "image_proj.proj.0.weight": (1024, 512),
    "ip_adapter.1.to_k_ip.weight": (640, 2048),
    **{f"ip_adapter.0.to_{x}_lora.{end}.weight": (8, 8) for x in "qkv" for end in ("down", "up")},
}
HYPER: Shapes = {
    f"{width}.{half}.linear.{layer}.{part}": shape
    for width in (320, 768)
    for half in (0, 1)
    for layer, sizes in ((0, (2 * width, width)), (1, (width, 2 * width)))
    for part, shape in (("weight", sizes), ("bias", sizes[:1]))
}

FILES: dict[str, tuple[Shapes, str, str | None, str | None]] = {
    # what a person would call it: tensors, kind, family, version
    "SD 1.5": (SD1, "checkpoint", "SD 1.x", None),
    "SD 1.5 with EMA": (with_ema(SD1), "checkpoint", "SD 1.x", None),
    "SD 1.5 without VAE": (net(UNET_V1) | CLIP, "checkpoint", "SD 1.x", None),
    "SD 1.5 inpainting": (
        SD1 | net(replace(UNET_V1, in_channels=9)), "checkpoint", "SD 1.x", "inpainting"
    ),
    "InstructPix2Pix": (
        SD1 | net(replace(UNET_V1, in_channels=8)), "checkpoint", "SD 1.x", "InstructPix2Pix"
    ),
    "Zero-1-to-3": (
        SD1 | net(replace(UNET_V1, in_channels=8)) | {"cc_projection.weight": (768, 772)},
        "checkpoint", "SD 1.x", "Zero-1-to-3",
    ),
    "SD 2.1": (SD2, "checkpoint", "SD 2.x", None),
    "SD 2 inpainting": (
        SD2 | net(replace(UNET_V2, in_channels=9)), "checkpoint", "SD 2.x", "inpainting"
    ),
    "SD 2 depth": (
        SD2 | net(replace(UNET_V2, in_channels=5)) | {"depth_model.model.x": (4,)},
        "checkpoint", "SD 2.x", "depth",
    ),
    "SD 2.1 unCLIP-h": (
        SD2 | net(replace(UNET_V2, adm=2048)), "checkpoint", "SD 2.x", "unCLIP (ViT-H)"
    ),
    "SD 2.1 unCLIP-l": (
        SD2 | net(replace(UNET_V2, adm=1536)), "checkpoint", "SD 2.x", "unCLIP (ViT-L)"
    ),
    "x4 upscaler": (
        below("model.diffusion_model.", {
            "input_blocks.0.0.weight": (256, 7, 3, 3),
            "input_blocks.10.0.skip_connection.bias": (1024,),
        }) | VAE, "checkpoint", "SD 2.x", "x4 upscaler",
    ),
    "SDXL base": (XL, "checkpoint", "SDXL", "base"),
    "SDXL v-prediction": (XL | {"v_pred": (0,)}, "checkpoint", "SDXL", "base, v-prediction"),
    "SDXL inpainting": (
        XL | net(replace(UNET_XL, in_channels=9)), "checkpoint", "SDXL", "inpainting"
    ),
    "CosXL": (XL | {"edm_vpred.sigma_max": ()}, "checkpoint", "SDXL", "CosXL"),
    "Playground 2.5": (XL | {"edm_mean": (1, 4, 1, 1)}, "checkpoint", "SDXL", "Playground 2.5"),
    "SDXL refiner": (REFINER, "checkpoint", "SDXL", "refiner"),
    "SSD-1B": (
        net(replace(UNET_XL, depths=(0, 2, 4), middle=0)) | XL_TEXT, "checkpoint", "SSD-1B", None
    ),
    "Segmind Vega": (
        net(replace(UNET_XL, depths=(0, 1, 2), middle=0)) | XL_TEXT,
        "checkpoint", "Segmind Vega", None,
    ),
    "SD 3 medium": (
        below("model.diffusion_model.", sd3(24, 36864)) | VAE, "checkpoint", "SD 3", "medium"
    ),
    "SD 3.5 medium": (
        below("model.diffusion_model.", sd3(24, 147456, dual=13)),
        "transformer", "SD 3.5", "medium",
    ),
    "SD 3.5 large": (sd3(38, 36864), "transformer", "SD 3.5", "large"),
    "FLUX.1 dev": (flux(), "transformer", "FLUX.1", "dev"),
    "FLUX.1 schnell": (flux(guided=False), "transformer", "FLUX.1", "schnell"),
    "FLUX.1 Fill": (flux(384), "transformer", "FLUX.1", "Fill dev"),
    "FLUX.1 Depth": (flux(128), "transformer", "FLUX.1", "Depth or Canny dev"),
    "FLUX.1 dev, ComfyUI": (
        below("model.diffusion_model.", flux())
        | below("vae.", vae(16))
        | below("text_encoders.clip_l.transformer.", clip_l()),
        "checkpoint", "FLUX.1", "dev",
    ),
    "UNet of SD 1.5": (unet(UNET_V1), "unet", "SD 1.x", None),
    "UNet of SDXL": (below("model.diffusion_model.", unet(UNET_XL)), "unet", "SDXL", "base"),
    "VAE": (vae(), "vae", "SD 1.x, SD 2.x or SDXL", None),
    "VAE in training": (
        vae() | {ema_name(name): shape for name, shape in vae().items()}
        | {"loss.logvar": (), "loss.discriminator.main.0.weight": (64, 3, 4, 4)},
        "vae", "SD 1.x, SD 2.x or SDXL", None,
    ),
    "VAE of Flux": (vae(16), "vae", "SD 3 or FLUX.1", None),
    "CLIP-L": (clip_l(), "text-encoder", "CLIP-L", None),
    "CLIP-L without text_model": (
        {name.removeprefix("text_model."): shape for name, shape in clip_l().items()},
        "text-encoder", "CLIP-L", None,
    ),
    "OpenCLIP-H": (open_clip(1024, 24), "text-encoder", "OpenCLIP ViT-H", None),
    "T5-XXL": (
        {"shared.weight": (32128, 4096),
         "encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096)},
        "text-encoder", "T5-XXL", None,
    ),
    "CLIP vision": (
        {"vision_model.embeddings.class_embedding": (1280,), "visual_projection.weight": (1, 1)},
        "clip-vision", "CLIP ViT-H", None,
    ),
    "LoRA": (lora(KEY, 768), "lora", "SD 1.x", None),
    "LoRA of SD 2": (lora(KEY, 1024), "lora", "SD 2.x", None),
    "LoRA of SDXL": (lora(XL_KEY, 2048, out=640), "lora", "SDXL", None),
    "LoRA, PEFT": (
        {f"{PEFT_KEY}.lora_A.weight": (4, 2048), f"{PEFT_KEY}.lora_B.weight": (640, 4)},
        "lora", "SDXL", None,
    ),
    "LoRA, diffusers processors": (
        {"mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.down.weight":
         (4, 768),
         "mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.up.weight":
         (1280, 4)},
        "lora", "SD 1.x", None,
    ),
    "LoRA of Flux": (
        lora("lora_unet_double_blocks_18_img_attn_qkv", 3072, out=9216),
        "lora", "FLUX.1", None,
    ),
    "LoRA of Flux, XLabs": (
        {"double_blocks.0.processor.qkv_lora1.down.weight": (16, 3072),
         "double_blocks.0.processor.qkv_lora1.up.weight": (9216, 16)},
        "lora", "FLUX.1", None,
    ),
    "LoCon": (
        lora(KEY, 768) | {f"{CONV_KEY}.lora_down.weight": (8, 320, 3, 3),
                          f"{CONV_KEY}.lora_up.weight": (320, 8, 1, 1)},
        "locon", "SD 1.x", None,
    ),
    "DoRA": (lora(KEY, 768, dora_scale=(1, 768)), "dora", "SD 1.x", None),
    "LoHa": (
        {f"{XL_KEY}.hada_w{i}_{side}": shape for i in (1, 2)
         for side, shape in (("a", (640, 8)), ("b", (8, 2048)))},
        "loha", "SDXL", None,
    ),
    "LoKr": ({f"{XL_KEY}.lokr_w1": (8, 8), f"{XL_KEY}.lokr_w2": (80, 256)}, "lokr", "SDXL", None),
    "OFT": ({"oft_unet_x.oft_blocks": (4, 80, 80), "oft_unet_x.alpha": ()}, "oft", None, None),
    "BOFT": ({f"{XL_DEEP}.oft_blocks": (4, 16, 40, 40), f"{XL_DEEP}.alpha": ()}, "boft", "SDXL",
             None),
    "IA3": ({f"{KEY}.weight": (320,), f"{KEY}.on_input": ()}, "ia3", "SD 1.x or SD 2.x", None),
    "GLoRA": ({f"{KEY}.{part}.weight": (8, 8) for part in ("a1", "a2", "b1", "b2")},
              "glora", None, None),
    "differences": ({f"{XL_KEY}.diff": (640, 2048), f"{XL_KEY}.diff_b": (640,)},
                    "full-diff", "SDXL", None),
    "embedding": ({"emb_params": (8, 768)}, "textual-inversion", "SD 1.x", None),
    "embedding of SD 2": ({"<style>": (1024,)}, "textual-inversion", "SD 2.x", None),
    "embedding of SDXL": (
        {"clip_l": (4, 768), "clip_g": (4, 1280)}, "textual-inversion", "SDXL", None
    ),
    "hypernetwork": (HYPER, "hypernetwork", "SD 1.x", None),
    "ControlNet": (
        below(CONTROL, {"input_hint_block.0.weight": (16, 3, 3, 3), "zero_convs.0.0.weight":
              (320, 320, 1, 1)} | {n: s for n, s in unet(UNET_V1).items() if "output" not in n}),
        "controlnet", "SD 1.x", None,
    ),
    "SD 1.5 with a ControlNet": (
        SD1 | below(CONTROL, {"input_hint_block.0.weight": (16, 3, 3, 3),
                              "zero_convs.0.0.weight": (320, 320, 1, 1)}),
        "checkpoint", "SD 1.x", None,
    ),
    "Control-LoRA": (
        {"lora_controlnet": (0,), "input_hint_block.0.weight": (16, 3, 3, 3),
         "input_blocks.1.0.in_layers.2.down": (128, 320), "input_blocks.1.0.in_layers.2.up":
         (320, 128)},
        "control-lora", None, None,
    ),
    "LLLite": (
        {"lllite_unet_input_blocks_4_1_x.down.0.weight": (32, 640),
         "lllite_unet_input_blocks_4_1_x.conditioning1.0.weight": (16, 3, 4, 4)},
        "controllllite", "SDXL", None,
    ),
    "T2I-Adapter": (
        {"conv_in.weight": (320, 192, 3, 3), "body.0.block1.weight": (320, 320, 3, 3)},
        "t2i-adapter", "SD 1.x", None,
    ),
    "IP-Adapter": (
        {"image_proj.proj.weight": (3072, 1024), "ip_adapter.1.to_k_ip.weight": (320, 768)},
        "ip-adapter", "SD 1.x", None,
    ),
    "IP-Adapter FaceID": (FACE_ID, "ip-adapter", "SDXL", "FaceID"),
    "motion module": (
        {"down_blocks.0.motion_modules.0.temporal_transformer.norm.weight": (320,)},
        "motion-module", "AnimateDiff", None,
    ),
    "Real-ESRGAN x4": (RRDB | {"conv_first.weight": (64, 3, 3, 3)}, "upscaler", "Real-ESRGAN",
                       "x4"),
    "Real-ESRGAN x2": (RRDB | {"conv_first.weight": (64, 12, 3, 3)}, "upscaler", "Real-ESRGAN",
                       "x2"),
    "ESRGAN, old names": (
        {"model.0.weight": (64, 3, 3, 3), "model.1.sub.0.RDB1.conv1.0.weight": (32, 64, 3, 3)},
        "upscaler", "ESRGAN", None,
    ),
    "YOLO": (
        {"model.0.conv.weight": (16, 3, 3, 3), "model.22.dfl.conv.weight": (1, 16, 1, 1)},
        "detector", "YOLO", None,
    ),
    "SwinIR": (
        {"conv_first.weight": (180, 3, 3, 3),
         "layers.0.residual_group.blocks.0.norm1.weight": (180,),
         "layers.0.residual_group.blocks.0.attn.qkv.weight": (540, 180),
         "upsample.0.weight": (256, 64, 3, 3), "upsample.2.weight": (256, 64, 3, 3)},
        "upscaler", "SwinIR", "x4",
    ),
    "a classifier": (
        {"conv1.weight": (64, 3, 7, 7), "layer1.0.conv1.weight": (64, 64, 3, 3),
         "fc.weight": (1000, 2048)},
        "unknown", None, None,
    ),
    "GPT-2": ({"h.0.attn.c_attn.weight": (768, 2304), "wte.weight": (50257, 768)}, "unknown",
              None, None),
}  # fmt: skip


def header_only(
    path: Path, shapes: Shapes, *, dtype: str = "float16", metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a safetensors file with a real header and a hole where the data would be."""
    kind, position = BY_NAME[dtype], 0
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    for name, shape in shapes.items():
        end = position + math.prod(shape) * kind.itemsize
        header[name] = {
            "dtype": kind.safetensors, "shape": shape, "data_offsets": [position, end]
        }  # fmt: skip
        position = end
    data = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(data)) + data)
        file.truncate(8 + len(data) + position)
    return path


def identity_of(
    path: Path, leaves: Mapping[str, int] | None = None, *, resolved: bool = False
) -> Identity:
    with local_file(path) as source:
        found = open_checkpoint(source)
        answer = identify(
            found.tensors,
            {**found.leaves, **(leaves or {})},
            found.metadata,
            found.training,
            format=found.format,
        )
        return resolve(answer) if resolved else answer


def fill(path: Path, name: str, data: bytes) -> None:
    """Give one tensor of a header-only file its values."""
    with local_file(path) as source:
        entry = next(entry for entry in open_checkpoint(source).tensors if entry.name == name)
    with path.open("r+b") as file:
        file.seek(entry.storage.offset + entry.offset * entry.dtype.itemsize)
        file.write(data)


@pytest.mark.parametrize("what", FILES)
def test_every_file_is_what_it_is_and_nothing_else(what: str, tmp_path: Path) -> None:
    shapes, kind, family, version = FILES[what]
    found = identity_of(header_only(tmp_path / "x.safetensors", shapes))
    assert (found.kind, found.family, found.version) == (kind, family, version)
    assert found.tensors == len(shapes)
    assert sum(part.parameters for part in found.components) == sum(map(math.prod, shapes.values()))
    assert found.dtype == "fp16"
    assert json.loads(json.dumps(found.as_json()))["kind"] == kind


def test_the_confusion_table_has_every_kind() -> None:
    assert {kind for _, kind, _, _ in FILES.values()} | {"training-state"} == BY_SLUG.keys()


@pytest.mark.parametrize("prefix", ["wrapped.", "a.b.c."])
def test_an_unknown_prefix_is_unknown_and_not_the_next_best(prefix: str, tmp_path: Path) -> None:
    found = identity_of(header_only(tmp_path / "x.safetensors", below(prefix, unet(UNET_V1))))
    assert (found.kind, found.confidence) == ("unknown", "none")


def test_flux_and_sd3_have_their_published_sizes() -> None:
    assert sum(map(math.prod, flux().values())) == 11_901_408_320
    assert sum(map(math.prod, flux(guided=False).values())) == 11_891_178_560
    assert sum(map(math.prod, sd3(24, 36864).values())) == 2_084_951_104


def test_the_architectures_are_those_of_the_official_files() -> None:
    listed = json.loads((ROOT / "benchmarks" / "sd-v1-full-ema.json").read_text())["tensors"]
    official = {name: tuple(shape) for name, _, shape in listed}
    assert with_ema(SD1) == official
    raw = [name for name in official if not name.startswith("model_ema.")]
    assert list(SD1) == raw  # the builders keep the file's own order
    counted = {
        "v1": (unet(UNET_V1), 686, 859_520_964),
        "v1 inpainting": (unet(replace(UNET_V1, in_channels=9)), 686, 859_535_364),
        "xl": (unet(UNET_XL), 1680, 2_567_463_684),
        "refiner": (unet(UNET_REFINER), 1220, 2_259_526_660),
        "vae": (vae(), 248, 83_653_863),
        "clip": (clip_l(), 197, 123_060_557),
    }
    for name, (shapes, tensors, elements) in counted.items():
        assert (len(shapes), sum(map(math.prod, shapes.values()))) == (tensors, elements), name
    assert len(open_clip(1024, 24)) == 294
    assert len(XL) == 2515
    assert unet(UNET_V1).keys() == unet(UNET_V2).keys()
    different = [n for n, shape in unet(UNET_V1).items() if unet(UNET_V2)[n] != shape]
    assert len(different) == 64


def test_components_carry_their_counts(tmp_path: Path) -> None:
    found = identity_of(header_only(tmp_path / "x.safetensors", with_ema(SD1), dtype="float32"))
    parts = {part.role: part for part in found.components}
    assert found.confidence == "certain"
    assert {role: part.tensors for role, part in parts.items()} == {
        "schedule": 12, "unet": 686, "vae": 248, "text-encoder": 197, "ema": 688,
    }  # fmt: skip
    assert parts["unet"].nbytes == 859_520_964 * 4
    assert parts["text-encoder"].label == "CLIP-L"
    assert (found.ema.state, found.ema.pairs, found.ema.nbytes) == ("full", 686, 859_520_964 * 4)


def test_missing_unexpected_and_misshapen_are_named(tmp_path: Path) -> None:
    shapes = dict(SD1)
    gone = "model.diffusion_model.output_blocks.3.1.proj_out.bias"
    odd = "first_stage_model.decoder.conv_out.bias"
    del shapes[gone]
    shapes["model.diffusion_model.mystery"] = (3,)
    shapes[odd] = (4,)
    found = identity_of(header_only(tmp_path / "x.safetensors", shapes))
    parts = {part.role: part for part in found.components}
    net_fit, vae_fit = parts["unet"].fit, parts["vae"].fit
    assert net_fit is not None and vae_fit is not None
    assert (net_fit.missing, net_fit.unexpected) == ((gone,), ("model.diffusion_model.mystery",))
    assert vae_fit.misshapen == (odd,)
    assert (found.kind, found.confidence) == ("checkpoint", "likely")


def test_position_ids_may_come_and_go(tmp_path: Path) -> None:
    name = "cond_stage_model.transformer.text_model.embeddings.position_ids"
    without = {key: shape for key, shape in SD1.items() if key != name}
    assert identity_of(header_only(tmp_path / "a.safetensors", without)).confidence == "certain"
    found = identity_of(header_only(tmp_path / "b.safetensors", SD1))
    assert found.notes == (f"{name} is float16: an integer, cast by mistake",)


def test_novelai_names_are_told(tmp_path: Path) -> None:
    shapes = {name.replace(".text_model.", "."): shape for name, shape in SD1.items()}
    found = identity_of(header_only(tmp_path / "x.safetensors", shapes))
    assert (found.kind, found.family) == ("checkpoint", "SD 1.x")
    assert any("NovelAI" in note for note in found.notes)


PROBE = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    ("scale", "type", "version"), [(0.2, "v", "768-v"), (0.05, "epsilon", "base")]
)
def test_sd2_is_decided_by_one_tensor(
    tmp_path: Path, dtype: str, scale: float, type: str, version: str
) -> None:
    torch = pytest.importorskip("torch")
    values = torch.linspace(-1, 1, 320).mul(scale * 3**0.5).to(getattr(torch, dtype))
    raw = bytes(values.view(torch.uint8).tolist())
    path = header_only(tmp_path / "x.safetensors", net(UNET_V2) | OPEN_CLIP, dtype=dtype)
    fill(path, PROBE, raw)
    found = identity_of(path)
    assert found.prediction is not None and found.prediction.type == "undecided"
    assert found.probe is not None and found.probe.name == PROBE
    done = identity_of(path, resolved=True)
    assert done.prediction is not None
    assert (done.prediction.type, done.version, done.probe) == (type, version, None)
    deviation = float(values.double().std(unbiased=False))
    assert f"{deviation:.3f}" in done.prediction.reason


@pytest.mark.parametrize(
    ("step", "type"), [(875_000, "epsilon"), (220_000, "epsilon"), (110_000, "v"), (7, "undecided")]
)
def test_sd2_of_known_steps_needs_no_value(tmp_path: Path, step: int, type: str) -> None:
    path = header_only(tmp_path / "x.safetensors", SD2)
    answer = identity_of(path, {"global_step": step})
    assert answer.prediction is not None and answer.prediction.type == type
    assert (answer.probe is None) == (type != "undecided")


def test_metadata_may_declare_the_prediction(tmp_path: Path) -> None:
    path = header_only(tmp_path / "x.safetensors", SD2, metadata={"modelspec.prediction_type": "v"})
    found = identity_of(path)
    assert found.prediction is not None and found.prediction.type == "v"
    assert "modelspec" in found.prediction.reason


def test_lora_rank_alpha_and_modules(tmp_path: Path) -> None:
    shapes = lora(KEY, 768, 16) | lora("lora_te_text_model_encoder_layers_0_mlp_fc1", 768, 8)
    path = header_only(tmp_path / "x.safetensors", shapes, metadata={"ss_network_alpha": "4.0"})
    facts = identity_of(path).adapter
    assert facts is not None
    assert (facts.ranks, facts.alpha, facts.naming) == ({16: 1, 8: 1}, 4.0, "kohya")
    assert facts.modules == {"unet": 1, "text-encoder": 1}


def test_lora_alpha_is_read_when_no_metadata_tells(tmp_path: Path) -> None:
    path = header_only(tmp_path / "x.safetensors", lora(KEY, 768), dtype="float32")
    fill(path, f"{KEY}.alpha", struct.pack("<f", 0.5))
    facts = identity_of(path, resolved=True).adapter
    assert facts is not None and facts.alpha == 0.5


def test_embedding_and_hypernetwork_facts(tmp_path: Path) -> None:
    tokens = identity_of(
        header_only(tmp_path / "a.safetensors", {"clip_l": (4, 768), "clip_g": (4, 1280)})
    ).embedding
    assert tokens is not None
    assert tokens.tokens == {"clip_l": (4, 768), "clip_g": (4, 1280)}
    found = identity_of(header_only(tmp_path / "b.safetensors", HYPER)).hypernetwork
    assert found is not None
    assert (found.widths, found.layer_structure) == ((320, 768), (1.0, 2.0, 1.0))


def test_ema_states_are_told_apart(tmp_path: Path) -> None:
    whole = with_ema(SD1)
    gone = ema_name("model.diffusion_model.out.2.weight")
    states = {
        "none": SD1,
        "scalars-only": SD1 | dict.fromkeys(SCALARS, ()),
        "full": whole,
        "partial": {name: shape for name, shape in whole.items() if name != gone},
        "orphan": {n: s for n, s in whole.items() if not n.startswith("model.")},
    }
    for state, shapes in states.items():
        found = identity_of(header_only(tmp_path / f"{state}.safetensors", shapes))
        assert found.ema.state == state
    partial = identity_of(tmp_path / "partial.safetensors").ema
    assert (partial.pairs, partial.bare) == (685, ("model.diffusion_model.out.2.weight",))


def test_no_tensors_at_all() -> None:
    assert identify(()).kind == "unknown"
    assert identify((), {"base_lrs.0": 0.1}).kind == "training-state"


def test_every_row_names_its_source_and_is_reachable() -> None:
    assert all(row.source and row.signs for row in FAMILIES)
    assert all(row.source and row.signs for row in (*ADD_ONS, *PARTS))
    assert {row.kind for row in (*ADD_ONS, *PARTS)} <= BY_SLUG.keys()
    rows = [(row.prediction, row.signs) for row in FAMILIES]
    assert len({signs for _, signs in rows}) == len(rows)
    for i, (_, signs) in enumerate(rows):  # no row stands in front of one that is more special
        assert not any(set(before) < set(signs) for _, before in rows[:i]), signs


@pytest.mark.parametrize(
    "shapes",
    [
        {"cond_stage_model.model.transformer.resblocks.0.ln_1.weight": (), "cond_stage_model.model."
         "ln_final.weight": (), "cond_stage_model.model.token_embedding.weight": ()},
        {"first_stage_model.decoder.conv_in.weight": (), "first_stage_model.decoder.mid.block_1."
         "conv1.weight": ()},
        {"0.0.linear.0.weight": (0, 0), "0.1.linear.0.weight": (0, 0)},
        {f"{KEY}.lora_down.weight": (), f"{KEY}.lora_up.weight": (0,)},
        {"emb_params": ()},
        {"input_blocks.0.0.weight": (), "conv_in.weight": (), "img_in.weight": ()},
        {"": (1,), ".": (1,), "..": (1,), "model_ema.": (1,)},
    ],
)  # fmt: skip
def test_odd_shapes_and_names_only_make_it_unsure(tmp_path: Path, shapes: Shapes) -> None:
    found = identity_of(header_only(tmp_path / "x.safetensors", shapes), resolved=True)
    assert found.tensors == len(shapes)
    assert found.confidence != "certain" or found.kind == "textual-inversion"


def test_a_probe_of_monstrous_size_is_not_read(tmp_path: Path) -> None:
    shapes = SD2 | {PROBE: (1 << 30,)}
    with pytest.raises(Unsupported, match="larger than any tensor that decides"):
        identity_of(header_only(tmp_path / "x.safetensors", shapes), resolved=True)


def test_values_that_are_not_finite_decide_nothing(tmp_path: Path) -> None:
    path = header_only(tmp_path / "x.safetensors", SD2, dtype="float32")
    fill(path, PROBE, struct.pack("<f", math.nan))
    found = identity_of(path, resolved=True)
    assert found.prediction is not None
    assert (found.prediction.type, found.version) == ("undecided", None)
    path = header_only(
        tmp_path / "y.safetensors", lora(KEY, 768), metadata={"ss_network_alpha": "nan"}
    )
    facts = identity_of(path).adapter
    assert facts is not None
    assert facts.alpha is None
    assert identify((), {"epoch": 10**5000}).training.epoch is None


@pytest.mark.parametrize(
    ("name", "what", "expected"),
    [
        ("sdxl-anime.safetensors", "SD 1.5", "its name says SDXL; it is an SD 1.x checkpoint"),
        ("x-inpainting.safetensors", "SD 1.5",
         "its name says inpainting; it is an SD 1.x checkpoint with the usual 4 channels"),
        ("x-inpainting.safetensors", "SD 1.5 inpainting", None),
        ("X-EMA-only.safetensors", "SD 1.5 with EMA",
         "its name says emaonly; 686 EMA weights stand beside the raw ones"),
        ("x-emaonly.safetensors", "SD 1.5", None),
        ("my_lora.safetensors", "VAE", "its name says LoRA; it is an SD 1.x, SD 2.x or SDXL VAE"),
        ("lora.safetensors", "embedding",
         "its name says LoRA; it is an SD 1.x textual inversion embedding"),
        ("lora.ti.safetensors", "embedding", None),
        ("x-bf16.safetensors", "SDXL base", "its name says bf16; most of its weights are fp16"),
        ("x.fp16.safetensors", "SDXL base", None),
        ("half-life.safetensors", "a classifier", None),
    ],
)  # fmt: skip
def test_broken_promises(tmp_path: Path, name: str, what: str, expected: str | None) -> None:
    found = identity_of(header_only(tmp_path / name, FILES[what][0]))
    assert broken_promises(name, found, Format.SAFETENSORS) == ((expected,) if expected else ())
