"""Which diffusion network this is: one row per family and version, and the tensors that show it.

A row holds when each of its tensors is there, with the sizes named. Names are relative to the
network's prefix, or to the root of the file when they start with `^`. The first row that holds
wins, so the special stand before the general. A network that fits no row is unknown: there is no
fallback to SD 1.x.

Source: each row's own; all checked against diffusers loaders/single_file_utils.py
(CHECKPOINT_KEY_NAMES, infer_diffusers_model_type) or ComfyUI comfy/model_detection.py and
comfy/supported_models.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sdtool.checkpoint.identify.architecture import (
    UNET_REFINER,
    UNET_V1,
    UNET_V2,
    UNET_XL,
    UNetConfig,
)
from sdtool.checkpoint.reading import TensorEntry

PREFIXES = (
    "model.diffusion_model.",
    "",
    "diffusion_model.",
    "model.model.",
    "net.",
    "model.",
    "module.",
    "unet.",
    "transformer.",
)
"""Where a diffusion network may hang; "" is a file that holds nothing else."""

Sign = str | tuple[str, int, int]
"""A name that must be there, or (name, dimension, size)."""


@dataclass(frozen=True, slots=True)
class Family:
    """One row. `network` is `unet` or `transformer`; `layout` the exact shapes, where known."""

    family: str
    version: str | None
    signs: tuple[Sign, ...]
    prediction: str
    source: str
    network: str = "unet"
    layout: UNetConfig | None = None


_IN = "input_blocks.0.0.weight"
_K1 = "input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight"
_KX = "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
_ADM = "label_emb.0.0.weight"
_DEEP = "input_blocks.7.1.transformer_blocks.{}.attn2.to_k.weight"
_D_IN = "conv_in.weight"
_DK = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
_D_ADM = "add_embedding.linear_1.weight"
_D_DEEP = "down_blocks.2.attentions.0.transformer_blocks.{}.attn2.to_k.weight"
_EMB1 = "class_embedding.linear_1.weight"

_V1 = "CompVis v1-inference.yaml; diffusers single_file_utils.py"
_V2 = "Stability-AI/stablediffusion configs; diffusers single_file_utils.py"
_XL = "sgm sd_xl_base.yaml; ComfyUI supported_models.py"
_DIF = "diffusers UNet2DConditionModel configs"
_SF = "diffusers single_file_utils.py"
_CU = "ComfyUI model_detection.py"


def _v1(version: str | None, channels: int, *more: Sign) -> Family:
    signs = ((_K1, 1, 768), (_IN, 1, channels), *more)
    layout = replace(UNET_V1, in_channels=channels)
    return Family("SD 1.x", version, signs, "epsilon", _V1, layout=layout)


def _v2(version: str | None, prediction: str, channels: int, adm: int = 0) -> Family:
    signs: tuple[Sign, ...] = ((_K1, 1, 1024), (_IN, 1, channels))
    signs += ((_ADM, 1, adm),) if adm else ()
    layout = replace(UNET_V2, in_channels=channels, adm=adm)
    return Family("SD 2.x", version, signs, prediction, _V2, layout=layout)


def _xl(version: str, prediction: str, channels: int, *more: Sign) -> Family:
    signs = ((_KX, 1, 2048), (_ADM, 1, 2816), (_IN, 1, channels), _DEEP.format(9), *more)
    layout = replace(UNET_XL, in_channels=channels)
    return Family("SDXL", version, signs, prediction, _XL, layout=layout)


def _dit(family: str, version: str | None, source: str, *signs: Sign, p: str = "flow") -> Family:
    return Family(family, version, signs, p, source, "transformer")


_SD3 = "joint_blocks.0.context_block.adaLN_modulation.1.bias"
_D_SD3 = "transformer_blocks.0.attn.add_k_proj.weight"
_FLUX = "double_blocks.0.img_attn.norm.key_norm.scale"
_GUIDED = "guidance_in.in_layer.weight"
_D_FLUX = "single_transformer_blocks.0.attn.norm_k.weight"
_D_GUIDED = "time_text_embed.guidance_embedder.linear_1.weight"
_WAN = "head.modulation"

TABLE: tuple[Family, ...] = (
    # --- UNets with the names of LDM and sgm
    Family(
        "SVD",
        "image to video",
        ("input_blocks.1.1.time_stack.0.attn1.to_q.weight", (_IN, 1, 8)),
        "v",
        "sgm svd.yaml; " + _CU,
    ),
    Family(
        "AltDiffusion",
        None,
        ((_K1, 1, 768), "^cond_stage_model.roberta.embeddings.word_embeddings.weight"),
        "epsilon",
        "A1111 sd_models_config.py",
        layout=UNET_V1,
    ),
    Family(
        "SD 1.x",
        "Zero-1-to-3",
        ((_K1, 1, 768), (_IN, 1, 8), "^cc_projection.weight"),
        "epsilon",
        "cvlab-columbia/zero123 sd-objaverse-finetune-c_concat-256.yaml",
        layout=replace(UNET_V1, in_channels=8),
    ),
    _v1("inpainting", 9),
    _v1("InstructPix2Pix", 8),
    _v1(None, 4),
    _v2("unCLIP (ViT-L)", "v", 4, 1536),
    _v2("unCLIP (ViT-H)", "v", 4, 2048),
    _v2("inpainting", "epsilon", 9),
    _v2("depth", "epsilon", 5),
    _v2(None, "undecided", 4),
    Family(
        "SD 2.x",
        "x4 upscaler",
        ((_IN, 0, 256), (_IN, 1, 7), "input_blocks.10.0.skip_connection.bias"),
        "v",
        "Stability-AI/stablediffusion x4-upscaling.yaml; " + _SF,
    ),
    _xl("CosXL edit", "edm", 8, "^edm_vpred.sigma_max"),
    _xl("CosXL", "edm", 4, "^edm_vpred.sigma_max"),
    _xl("Playground 2.5", "edm", 4, "^edm_mean"),
    _xl("base, v-prediction", "v", 4, "^v_pred"),
    _xl("inpainting", "epsilon", 9),
    _xl("InstructPix2Pix", "epsilon", 8),
    _xl("base", "epsilon", 4),
    Family(
        "SDXL",
        "refiner",
        ((_KX, 1, 1280), (_ADM, 1, 2560)),
        "epsilon",
        "sgm sd_xl_refiner.yaml; " + _CU,
        layout=UNET_REFINER,
    ),
    Family("Kolors", None, ((_KX, 1, 2048), (_ADM, 1, 5632)), "epsilon", _CU),
    Family("SSD-1B", None, ((_KX, 1, 2048), (_ADM, 1, 2816), _DEEP.format(3)), "epsilon", _CU),
    Family(
        "Segmind Vega", None, ((_KX, 1, 2048), (_ADM, 1, 2816), _DEEP.format(1)), "epsilon", _CU
    ),
    *(
        Family(
            "KOALA",
            version,
            (
                ("input_blocks.3.1.transformer_blocks.0.attn2.to_k.weight", 1, 2048),
                f"input_blocks.5.1.transformer_blocks.{depth - 1}.attn2.to_k.weight",
            ),
            "epsilon",
            _CU,
        )
        for version, depth in (("1B", 6), ("700M", 5))
    ),
    # --- the same networks with the names of diffusers
    Family(
        "SVD",
        "image to video",
        ("down_blocks.0.attentions.0.temporal_transformer_blocks.0.attn1.to_q.weight",),
        "v",
        "diffusers UNetSpatioTemporalConditionModel",
    ),
    *(
        Family("SD 1.x", version, ((_DK, 1, 768), (_D_IN, 1, channels)), "epsilon", _DIF)
        for version, channels in (("inpainting", 9), ("InstructPix2Pix", 8), (None, 4))
    ),
    *(
        Family(
            "SD 2.x", f"unCLIP (ViT-{letter})", ((_DK, 1, 1024), (_EMB1, 1, width)), "v", _DIF
        )
        for letter, width in (("L", 1536), ("H", 2048))
    ),
    Family("SD 2.x", "inpainting", ((_DK, 1, 1024), (_D_IN, 1, 9)), "epsilon", _DIF),
    Family("SD 2.x", "depth", ((_DK, 1, 1024), (_D_IN, 1, 5)), "epsilon", _DIF),
    Family("SD 2.x", "x4 upscaler", ((_DK, 1, 1024), (_D_IN, 1, 7)), "v", _DIF),
    Family("SD 2.x", None, ((_DK, 1, 1024), (_D_IN, 1, 4)), "undecided", _DIF),
    *(
        Family(
            "SDXL",
            version,
            ((_DK, 1, 2048), (_D_ADM, 1, 2816), (_D_IN, 1, channels), _D_DEEP.format(9)),
            "epsilon",
            _DIF,
        )
        for version, channels in (("inpainting", 9), ("InstructPix2Pix", 8), ("base", 4))
    ),
    Family("SDXL", "refiner", ((_DK, 1, 1280), (_D_ADM, 1, 2560)), "epsilon", _DIF),
    Family("Kolors", None, ((_DK, 1, 2048), (_D_ADM, 1, 5632)), "epsilon", _DIF),
    *(
        Family(name, None, ((_DK, 1, 2048), (_D_ADM, 1, 2816), _D_DEEP.format(last)), "epsilon",
               _DIF)
        for name, last in (("SSD-1B", 3), ("Segmind Vega", 1))
    ),
    # --- Stable Cascade
    *(
        Family("Stable Cascade", version, (("clip_txt_mapper.weight", 0, width),), "epsilon", _SF)
        for version, width in (("stage C", 2048), ("stage C lite", 1536))
    ),
    *(
        Family(
            "Stable Cascade", version, (("down_blocks.1.0.channelwise.0.weight", -1, width),),
            "epsilon", _SF,
        )
        for version, width in (("stage B", 640), ("stage B lite", 576))
    ),
    # --- SD 3
    _dit("SD 3.5", "large", _SF, _SD3, "joint_blocks.37.x_block.mlp.fc1.weight"),
    _dit("SD 3.5", "medium", _SF, _SD3, ("pos_embed", 1, 147456)),
    _dit("SD 3", "medium", _SF, _SD3, ("pos_embed", 1, 36864)),
    _dit("SD 3", None, _CU, _SD3),
    # --- Flux and what is built on it
    _dit("HunyuanVideo", None, _CU, "txt_in.individual_token_refiner.blocks.0.norm1.weight"),
    _dit("FLUX.3", "klein", _SF, "early_stream_modulations.image.lin.weight"),
    _dit("FLUX.2", None, _SF, "single_stream_modulation.lin.weight"),
    _dit("Chroma", "Radiance", _CU, "nerf_blocks.0.norm.scale",
         "distilled_guidance_layer.in_proj.bias"),
    _dit("Chroma", None, _SF, "distilled_guidance_layer.in_proj.bias"),
    _dit("FLUX.1", "Fill dev", _SF, _FLUX, _GUIDED, ("img_in.weight", 1, 384)),
    _dit("FLUX.1", "Depth or Canny dev", _SF, _FLUX, _GUIDED, ("img_in.weight", 1, 128)),
    _dit("FLUX.1", "dev", _SF, _FLUX, _GUIDED, ("img_in.weight", 1, 64)),
    _dit("FLUX.1", "schnell", _SF, _FLUX, "vector_in.in_layer.weight", ("img_in.weight", 1, 64)),
    # --- transformers with the names of diffusers
    _dit("Qwen-Image", None, _SF, "txt_in.text_norm.weight"),
    _dit("Qwen-Image", None, _CU, _D_SD3, "txt_norm.weight", "img_in.weight"),
    *(
        _dit("FLUX.1", version, "diffusers FluxTransformer2DModel", _D_FLUX, _D_GUIDED,
             ("x_embedder.weight", 1, width))
        for version, width in (("Fill dev", 384), ("Depth or Canny dev", 128), ("dev", 64))
    ),
    _dit("FLUX.1", "schnell", "diffusers FluxTransformer2DModel", _D_FLUX,
         "time_text_embed.text_embedder.linear_1.weight", ("x_embedder.weight", 1, 64)),
    *(
        _dit(family, version, "diffusers SD3Transformer2DModel", _D_SD3, "pos_embed.proj.weight",
             sign)
        for family, version, sign in (
            ("SD 3.5", "large", "transformer_blocks.37.attn.to_k.weight"),
            ("SD 3.5", "medium", "transformer_blocks.0.attn2.to_k.weight"),
            ("SD 3", "medium", "transformer_blocks.23.attn.to_k.weight"),
        )
    ),
    # --- others
    _dit("AuraFlow", None, _SF, "double_layers.0.attn.w1q.weight", "cond_seq_linear.weight"),
    _dit("HunyuanDiT", None, _CU, "mlp_t5.0.weight", p="v"),
    _dit("Sana", None, _SF, "blocks.0.cross_attn.q_linear.weight",
         "blocks.0.mlp.inverted_conv.conv.weight"),
    _dit("PixArt", "alpha", _CU, "t_block.1.weight", "ar_embedder.mlp.0.weight", p="epsilon"),
    _dit("PixArt", "sigma", _CU, "t_block.1.weight", "y_embedder.y_embedding", p="epsilon"),
    _dit("PixArt", None, _CU, "adaln_single.emb.timestep_embedder.linear_1.bias",
         "pos_embed.proj.bias", p="epsilon"),
    _dit("LTX-2", None, _SF,
         "av_ca_a2v_gate_adaln_single.emb.timestep_embedder.linear_1.weight"),
    _dit("LTX-Video", None, _SF, "patchify_proj.weight",
         "adaln_single.emb.timestep_embedder.linear_1.bias"),
    _dit("Mochi", "1 preview", _CU, "t5_yproj.weight"),
    _dit("Z-Image", None, _SF, "layers.0.adaLN_modulation.0.weight", "cap_embedder.1.weight"),
    _dit("Lumina 2", None, _SF, "cap_embedder.0.weight"),
    _dit("Wan", "VACE", _SF, _WAN, "vace_blocks.0.after_proj.bias"),
    _dit("Wan", "Animate", _SF, _WAN, "motion_encoder.dec.direction.weight"),
    _dit("Wan", "text to video 1.3B", _SF, _WAN, ("patch_embedding.weight", 0, 1536)),
    _dit("Wan", "text to video 14B", _SF, _WAN, ("patch_embedding.weight", 0, 5120),
         ("patch_embedding.weight", 1, 16)),
    _dit("Wan", "image to video 14B", _SF, _WAN, ("patch_embedding.weight", 0, 5120),
         ("patch_embedding.weight", 1, 36)),
    _dit("Wan", None, _CU, _WAN),
    _dit("HiDream", "I1", _SF, "double_stream_blocks.0.block.adaLN_modulation.1.bias"),
    _dit("Cosmos", "1.0", _SF, "blocks.block0.blocks.0.block.attn.to_q.0.weight", p="edm"),
    _dit("Cosmos", "2.0", _SF, "x_embedder.proj.1.weight", "blocks.0.self_attn.q_proj.weight"),
    _dit("Krea", "2", _SF, "txtfusion.projector.weight"),
    _dit("Stable Audio", None, _CU, "transformer.rotary_pos_emb.inv_freq",
         "to_timestep_embed.0.weight", p="v"),
    # --- LDM networks of sizes that no release has: small ones for tests, LDSR, own trainings
    Family("SD-like", "non-standard size",
           (_IN, "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"), "epsilon",
           "CompVis ldm/modules/diffusionmodules/openaimodel.py"),
    Family("latent diffusion", "non-standard size", (_IN, "middle_block.0.in_layers.0.weight",
           "output_blocks.0.0.in_layers.0.weight"), "epsilon",
           "CompVis ldm/modules/diffusionmodules/openaimodel.py"),
)  # fmt: skip


def family_of(named: Mapping[str, TensorEntry]) -> tuple[Family, str] | None:
    """Return the first row that holds for the tensors `named`, and the network's prefix."""
    for prefix in PREFIXES:
        for row in TABLE:
            if all(holds(sign, prefix, named) for sign in row.signs):
                return row, prefix
    return None


def holds(sign: Sign, prefix: str, named: Mapping[str, TensorEntry]) -> bool:
    """Whether the tensor of `sign` is there below `prefix`, in the size it names."""
    name = sign if isinstance(sign, str) else sign[0]
    entry = named.get(name[1:] if name[0] == "^" else prefix + name)
    if entry is None or isinstance(sign, str):
        return entry is not None
    _, dimension, size = sign
    at = dimension if dimension >= 0 else len(entry.shape) + dimension
    return 0 <= at < len(entry.shape) and entry.shape[at] == size
