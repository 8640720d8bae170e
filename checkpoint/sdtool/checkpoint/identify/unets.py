"""The UNets: one row per family and version.

Source: each row's own; all checked against diffusers loaders/single_file_utils.py
(CHECKPOINT_KEY_NAMES, infer_diffusers_model_type) or ComfyUI comfy/model_detection.py and
comfy/supported_models.py.
"""

from __future__ import annotations

from dataclasses import replace

from sdtool.checkpoint.identify.architecture import (
    UNET_REFINER,
    UNET_V1,
    UNET_V2,
    UNET_XL,
)
from sdtool.checkpoint.identify.signs import COMFY_SOURCE as _CU
from sdtool.checkpoint.identify.signs import LDM_SOURCE as _SF
from sdtool.checkpoint.identify.signs import Family, Sign

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


UNETS: tuple[Family, ...] = (
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
    Family("ModelScope", None, ("transformer_in.proj_in.weight",
           "down_blocks.0.temp_convs.0.conv1.0.weight", ("conv_in.weight", 1, 4)), "epsilon",
           "diffusers UNet3DConditionModel"),
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
)  # fmt: skip

OWN_SIZES: tuple[Family, ...] = (
    # --- LDM networks of sizes that no release has: small ones for tests, LDSR, own trainings
    Family("SD-like", "non-standard size",
           (_IN, "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"), "epsilon",
           "CompVis ldm/modules/diffusionmodules/openaimodel.py"),
    Family("latent diffusion", "non-standard size", (_IN, "middle_block.0.in_layers.0.weight",
           "output_blocks.0.0.in_layers.0.weight"), "epsilon",
           "CompVis ldm/modules/diffusionmodules/openaimodel.py"),
)  # fmt: skip
"""Asked when no release fits."""
