"""Make headers of the field's own classes on torch's meta device, with the answers wanted.

    python benchmarks/field_headers.py FIELD.json.xz [networks] [siblings] [encoders] [upscalers]

Names and shapes of real models without their memory, from whichever of diffusers, transformers,
peft, lycoris and spandrel is installed; what a library refuses to build is named and left out.
`siblings` are what the tables were not made from: LoRAs of some layers, and every other network of
diffusers.
`identification.py` judges what `identify` says of them.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import lzma
import re
import sys
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any

Shapes = dict[str, tuple[int, ...]]
Header = dict[str, Any]


def header(
    file: str, kind: str, family: Iterable[str] | str | None, shapes: Shapes, **more: Any
) -> Header:
    """Make one header; `more` is `version` (a list) and `metadata`."""
    families = [family] if isinstance(family, str) else None if family is None else list(family)
    return {
        "file": f"{file}.safetensors",
        "expected": {
            "kind": kind.split("|"),
            "family": families,
            "version": more.get("version"),
            "pred": None,
        },
        "metadata": more.get("metadata"),
        "tensors": {name: ["BF16", list(shape)] for name, shape in shapes.items()},
    }


def on_meta(make: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Make a module without memory for its weights."""
    torch = importlib.import_module("torch")
    with torch.device("meta"):
        return make(*arguments, **options)


def shapes_of(module: Any) -> Shapes:
    """Names and shapes of a module's weights."""
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def linears_of(module: Any) -> dict[str, Any]:
    """The linear layers of a module, by name."""
    Linear = importlib.import_module("torch").nn.Linear
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, Linear)}


# (case, class of diffusers, its configuration, kind, families that count as right)
FLUX2 = "Flux2Transformer2DModel"
WAN = "WanTransformer3DModel"
SD3 = "SD3Transformer2DModel"
TRANSFORMERS: tuple[tuple[str, str, dict[str, Any], Any], ...] = (
    ("flux-dev", "FluxTransformer2DModel", {"guidance_embeds": True}, "FLUX.1"),
    ("flux-fill", "FluxTransformer2DModel",
     {"guidance_embeds": True, "in_channels": 384, "out_channels": 64}, "FLUX.1"),
    ("flux2-dev", FLUX2, {}, "FLUX.2"),
    ("flux2-klein-9b", FLUX2, {"num_layers": 8, "num_single_layers": 24, "num_attention_heads": 32,
     "joint_attention_dim": 12288, "guidance_embeds": False}, "FLUX.2"),
    ("flux2-klein-4b", FLUX2, {"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24,
     "joint_attention_dim": 7680, "guidance_embeds": False}, "FLUX.2"),
    ("flux3", "Flux3Transformer2DModel", {}, "FLUX.3"),
    ("chroma", "ChromaTransformer2DModel", {}, ("Chroma", "FLUX.1")),
    ("qwen-image", "QwenImageTransformer2DModel", {}, "Qwen-Image"),
    ("z-image", "ZImageTransformer2DModel", {}, "Z-Image"),
    ("sd3-medium", SD3, {"num_layers": 24, "num_attention_heads": 24,
     "caption_projection_dim": 1536, "pos_embed_max_size": 192}, ("SD 3", "SD 3 or SD 3.5")),
    ("sd35-medium", SD3, {"num_layers": 24, "num_attention_heads": 24, "qk_norm": "rms_norm",
     "caption_projection_dim": 1536, "pos_embed_max_size": 384,
     "dual_attention_layers": tuple(range(13))}, "SD 3.5"),
    ("sd35-large", SD3, {"num_layers": 38, "num_attention_heads": 38, "qk_norm": "rms_norm",
     "caption_projection_dim": 2432, "pos_embed_max_size": 192}, "SD 3.5"),
    ("auraflow", "AuraFlowTransformer2DModel", {}, "AuraFlow"),
    ("hidream", "HiDreamImageTransformer2DModel",
     {"patch_size": 2, "in_channels": 16, "num_layers": 16, "num_single_layers": 32,
      "attention_head_dim": 128, "num_attention_heads": 20, "caption_channels": [4096, 4096],
      "text_emb_dim": 2048, "num_routed_experts": 4, "num_activated_experts": 2,
      "axes_dims_rope": (64, 32, 32), "max_resolution": (128, 128), "llama_layers": [0] * 48},
     "HiDream"),
    ("lumina2", "Lumina2Transformer2DModel", {"cap_feat_dim": 2304}, "Lumina 2"),
    ("ltx-2b", "LTXVideoTransformer3DModel", {}, "LTX-Video"),
    ("ltx-13b", "LTXVideoTransformer3DModel", {"num_layers": 48, "num_attention_heads": 32,
     "attention_head_dim": 128, "cross_attention_dim": 4096}, "LTX-Video"),
    ("ltx2", "LTX2VideoTransformer3DModel", {}, "LTX-2"),
    ("wan-14b-t2v", WAN, {}, "Wan"),
    ("wan-14b-i2v", WAN, {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}, "Wan"),
    ("wan-1.3b", WAN, {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}, "Wan"),
    ("wan-1.3b-fun", WAN, {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30,
     "in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 1536}, "Wan"),
    ("wan-5b", WAN, {"num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30,
     "in_channels": 48, "out_channels": 48}, "Wan"),
    ("wan-vace-14b", "WanVACETransformer3DModel", {}, "Wan"),
    ("wan-vace-1.3b", "WanVACETransformer3DModel", {"num_attention_heads": 12, "ffn_dim": 8960,
     "num_layers": 30, "vace_layers": list(range(0, 30, 2))}, "Wan"),
    ("wan-animate", "WanAnimateTransformer3DModel", {}, "Wan"),
    ("hunyuanvideo", "HunyuanVideoTransformer3DModel", {}, "HunyuanVideo"),
    ("hunyuanvideo-i2v", "HunyuanVideoTransformer3DModel",
     {"in_channels": 33, "guidance_embeds": False}, "HunyuanVideo"),
    ("framepack", "HunyuanVideoFramepackTransformer3DModel",
     {"has_image_proj": True, "has_clean_x_embedder": True}, "HunyuanVideo"),
    ("hunyuanvideo15", "HunyuanVideo15Transformer3DModel", {}, "HunyuanVideo"),
    ("hunyuanimage", "HunyuanImageTransformer2DModel", {"guidance_embeds": True}, "HunyuanImage"),
    ("hunyuandit", "HunyuanDiT2DModel",
     {"num_attention_heads": 16, "attention_head_dim": 88, "in_channels": 4, "patch_size": 2,
      "sample_size": 128, "num_layers": 40, "mlp_ratio": 4.3637, "cross_attention_dim": 1024,
      "cross_attention_dim_t5": 2048, "pooled_projection_dim": 1024, "hidden_size": 1408},
     "HunyuanDiT"),
    ("pixart-alpha", "PixArtTransformer2DModel",
     {"caption_channels": 4096, "cross_attention_dim": 1152, "use_additional_conditions": True,
      "sample_size": 128}, "PixArt"),
    ("pixart-sigma", "PixArtTransformer2DModel",
     {"caption_channels": 4096, "cross_attention_dim": 1152, "use_additional_conditions": False,
      "sample_size": 128}, "PixArt"),
    ("sana-1.6b", "SanaTransformer2DModel", {}, "Sana"),
    ("sana-0.6b", "SanaTransformer2DModel", {"num_attention_heads": 36, "num_layers": 28,
     "num_cross_attention_heads": 16, "cross_attention_head_dim": 72, "cross_attention_dim": 1152},
     "Sana"),
    ("cosmos2-2b", "CosmosTransformer3DModel",
     {"in_channels": 16, "num_attention_heads": 16, "num_layers": 28,
      "extra_pos_embed_type": None}, ("Cosmos", "Anima")),
    ("cosmos1-7b", "CosmosTransformer3DModel", {}, "Cosmos"),
    ("krea2", "Krea2Transformer2DModel", {}, "Krea"),
    ("cogvideox-2b", "CogVideoXTransformer3DModel", {}, "CogVideoX"),
    ("cogvideox-5b", "CogVideoXTransformer3DModel",
     {"num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True},
     "CogVideoX"),
    ("cogview3", "CogView3PlusTransformer2DModel", {}, ("CogView", "CogView 3", "CogView3")),
    ("cogview4", "CogView4Transformer2DModel",
     {"num_layers": 28, "num_attention_heads": 32, "attention_head_dim": 128},
     ("CogView", "CogView 4", "CogView4")),
    ("mochi", "MochiTransformer3DModel", {}, "Mochi"),
    ("allegro", "AllegroTransformer3DModel", {"cross_attention_dim": 2304}, "Allegro"),
    # BRIA 3.2 has 4 billion parameters; the defaults of its class are the 12 billion of FLUX.1
    ("bria", "BriaTransformer2DModel", {"num_layers": 4, "num_single_layers": 19}, ("Bria",)),
    ("longcat", "LongCatImageTransformer2DModel", {"num_layers": 10, "num_single_layers": 20},
     ("LongCat-Image",)),
    ("ovis", "OvisImageTransformer2DModel", {}, ("Ovis-Image",)),
    ("kandinsky5", "Kandinsky5Transformer3DModel", {}, ("Kandinsky", "Kandinsky 5")),
    ("omnigen", "OmniGenTransformer2DModel", {"rope_scaling": {"short_factor": [1.0] * 48,
     "long_factor": [1.0] * 48, "original_max_position_embeddings": 4096, "type": "su"}},
     "OmniGen"),
    ("prx", "PRXTransformer2DModel", {}, ("PRX",)),
)  # fmt: skip

OTHERS: tuple[tuple[str, str, dict[str, Any], str, Any], ...] = (
    ("vae-kl-4", "AutoencoderKL", {"block_out_channels": (128, 256, 512, 512),
     "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
     "layers_per_block": 2}, "vae", "SD 1.x, SD 2.x or SDXL"),
    ("vae-kl-16", "AutoencoderKL", {"block_out_channels": (128, 256, 512, 512),
     "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
     "layers_per_block": 2, "latent_channels": 16}, "vae", "SD 3 or FLUX.1"),
    ("vae-flux2", "AutoencoderKLFlux2", {}, "vae", "FLUX.2"),
    ("vae-wan21", "AutoencoderKLWan", {}, "vae", ("Wan or Qwen-Image", "Wan")),
    ("vae-wan22", "AutoencoderKLWan", {"base_dim": 160, "decoder_base_dim": 256, "z_dim": 48,
     "in_channels": 12, "out_channels": 12, "is_residual": True, "patch_size": 2}, "vae",
     ("Wan", "Wan 2.2")),
    ("vae-qwen", "AutoencoderKLQwenImage", {}, "vae", ("Wan or Qwen-Image", "Qwen-Image")),
    ("vae-ltx", "AutoencoderKLLTXVideo", {}, "vae", ("LTX-Video",)),
    ("vae-ltx2", "AutoencoderKLLTX2Video", {}, "vae", ("LTX-2", "LTX-Video")),
    ("vae-cogvideox", "AutoencoderKLCogVideoX", {"block_out_channels": (128, 256, 256, 512),
     "down_block_types": ("CogVideoXDownBlock3D",) * 4,
     "up_block_types": ("CogVideoXUpBlock3D",) * 4, "latent_channels": 16}, "vae", "CogVideoX"),
    ("vae-mochi", "AutoencoderKLMochi", {}, "vae", "Mochi"),
    ("vae-hunyuanvideo", "AutoencoderKLHunyuanVideo", {}, "vae", "HunyuanVideo"),
    ("vae-hunyuanvideo15", "AutoencoderKLHunyuanVideo15", {}, "vae",
     ("HunyuanVideo 1.5", "HunyuanVideo")),
    ("vae-hunyuanimage", "AutoencoderKLHunyuanImage", {"in_channels": 3, "out_channels": 3,
     "latent_channels": 64, "block_out_channels": (128, 256, 512, 512, 1024, 1024),
     "layers_per_block": 2, "spatial_compression_ratio": 32, "sample_size": 384}, "vae",
     "HunyuanImage"),
    ("vae-cosmos", "AutoencoderKLCosmos", {}, "vae", "Cosmos"),
    ("vae-allegro", "AutoencoderKLAllegro", {}, "vae", "Allegro"),
    ("vae-svd", "AutoencoderKLTemporalDecoder", {"block_out_channels": (128, 256, 512, 512),
     "down_block_types": ("DownEncoderBlock2D",) * 4, "layers_per_block": 2}, "vae", "SVD"),
    ("vae-dcae", "AutoencoderDC", {"encoder_block_types": "ResBlock"}, "vae",
     ("DC-AE (Sana)", "Sana")),
    ("vae-taesd", "AutoencoderTiny", {}, "vae", None),
    ("vae-taef1", "AutoencoderTiny", {"latent_channels": 16}, "vae", None),
    ("vae-asymmetric", "AsymmetricAutoencoderKL", {"layers_per_down_block": 2,
     "down_block_out_channels": (128, 256, 512, 512), "layers_per_up_block": 3,
     "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
     "up_block_out_channels": (192, 384, 768, 768)}, "vae", None),
    ("vae-oobleck", "AutoencoderOobleck", {}, "vae", ("Stable Audio",)),
    ("cn-flux", "FluxControlNetModel", {"num_layers": 5, "num_single_layers": 10}, "controlnet",
     "FLUX.1"),
    ("cn-flux-union", "FluxControlNetModel", {"num_layers": 5, "num_single_layers": 0,
     "num_mode": 10}, "controlnet", "FLUX.1"),
    ("cn-qwen", "QwenImageControlNetModel", {"num_layers": 5}, "controlnet", "Qwen-Image"),
    ("cn-sd3", "SD3ControlNetModel", {"num_layers": 6, "num_attention_heads": 24,
     "caption_projection_dim": 1536}, "controlnet", ("SD 3", "SD 3.5")),
    ("cn-hunyuandit", "HunyuanDiT2DControlNetModel",
     {"num_attention_heads": 16, "attention_head_dim": 88, "in_channels": 4, "patch_size": 2,
      "sample_size": 128, "transformer_num_layers": 40, "mlp_ratio": 4.3637, "hidden_size": 1408},
     "controlnet", "HunyuanDiT"),
    ("cn-sana", "SanaControlNetModel", {}, "controlnet", "Sana"),
    ("cn-z-image", "ZImageControlNetModel", {"control_layers_places": [0, 5, 10, 15, 20, 25],
     "control_in_dim": 16}, "controlnet", "Z-Image"),
    ("cn-sd1", "ControlNetModel", {"cross_attention_dim": 768}, "controlnet", "SD 1.x"),
    ("cn-sd2", "ControlNetModel", {"cross_attention_dim": 1024}, "controlnet", "SD 2.x"),
    ("cn-sparse", "SparseControlNetModel", {}, "controlnet", ("AnimateDiff", "SD 1.x")),
    ("motion", "MotionAdapter", {}, "motion-module", ("AnimateDiff", "SD 1.x")),
    ("unet-svd", "UNetSpatioTemporalConditionModel", {}, "unet", "SVD"),
    ("unet-modelscope", "UNet3DConditionModel", {}, "unet", ("ModelScope", "ModelScope T2V")),
    ("t2i-sd1", "T2IAdapter", {}, "t2i-adapter", ("SD 1.x", None)),
    ("unet-sd1", "UNet2DConditionModel", {"cross_attention_dim": 768}, "unet", "SD 1.x"),
    ("unet-sd2", "UNet2DConditionModel", {"cross_attention_dim": 1024, "use_linear_projection":
     True, "attention_head_dim": [5, 10, 20, 20]}, "unet", "SD 2.x"),
    ("cascade", "StableCascadeUNet", {"in_channels": 16, "out_channels": 16,
     "block_out_channels": (2048, 2048), "num_layers_per_block": (8, 24),
     "down_num_layers_per_block": (8, 24), "up_num_layers_per_block": (24, 8),
     "conditioning_dim": 2048, "clip_text_in_channels": 1280, "clip_image_in_channels": 768,
     "clip_text_pooled_in_channels": 1280, "down_blocks_repeat_mappers": (1, 1),
     "up_blocks_repeat_mappers": (1, 1), "switch_level": [False]}, "unet", "Stable Cascade"),
)  # fmt: skip

PREFIXES = ("", "model.diffusion_model.")
ATTENTION = re.compile(r"\.(to_(q|k|v|out\.0)|add_[qkv]_proj|to_add_out|q_proj|qkv)$")
BLOCK = re.compile(r"(blocks|layers|refiner)\.")
NUMBER = re.compile(r"(?:blocks|layers)\.(\d+)\.")


def networks() -> Iterator[Header]:
    """Diffusion transformers of diffusers, bare, and LoRAs for each of them."""
    diffusers = importlib.import_module("diffusers")
    for case, name, options, family in TRANSFORMERS:
        with built(case):
            net = on_meta(getattr(diffusers, name), **options)
            yield header(f"networks/{case}", "transformer", family, shapes_of(net))
            yield from adapters(case, linears_of(net), family, "transformer")
    for case, name, options, kind, families in OTHERS:
        with built(case):
            net = on_meta(getattr(diffusers, name), **options)
            yield header(f"parts/{case}", kind, families, shapes_of(net))
            if name == "UNet2DConditionModel":
                yield from adapters(case, linears_of(net), families, "unet")


SIBLINGS: tuple[tuple[str, dict[str, Any], Any], ...] = (
    # class of diffusers, its configuration, families that count as right
    ("QwenImage21Transformer2DModel", {}, "Qwen-Image"),
    ("BriaFiboTransformer2DModel", {"num_layers": 8}, "Bria"),
    ("BriaFibo2Transformer2DModel", {}, "Bria"),
    ("ChronoEditTransformer3DModel", {"in_channels": 36, "image_dim": 1280,
     "added_kv_proj_dim": 5120}, ("Wan", "ChronoEdit")),
    ("SkyReelsV2Transformer3DModel", {"num_attention_heads": 40, "ffn_dim": 13824,
     "num_layers": 40}, ("SkyReels V2", "Wan")),
    ("AnyFlowTransformer3DModel", {}, ("AnyFlow", "Wan")),
    ("AnyFlowFARTransformer3DModel", {}, ("AnyFlow", "Wan")),
    ("HeliosTransformer3DModel", {}, ("Helios", "Wan")),
    ("NucleusMoEImageTransformer2DModel", {}, "Nucleus-Image"),
    ("GlmImageTransformer2DModel", {}, "GLM-Image"),
    ("Ideogram4Transformer2DModel", {}, "Ideogram 4"),
    ("LuminaNextDiT2DModel", {"hidden_size": 2304, "num_kv_heads": 8}, ("Lumina-Next", "Lumina")),
    ("LatteTransformer3DModel", {"num_attention_heads": 16, "attention_head_dim": 72,
     "in_channels": 4, "out_channels": 8, "num_layers": 28, "patch_size": 2, "sample_size": 64,
     "cross_attention_dim": 1152, "caption_channels": 4096, "attention_bias": True,
     "norm_type": "ada_norm_single", "activation_fn": "gelu-approximate"}, "Latte"),
    ("WanAnimate2Transformer3DModel", {}, ("Wan",)),
    ("ConsisIDTransformer3DModel", {}, ("ConsisID", "CogVideoX")),
    ("AceStepTransformer1DModel", {}, "ACE-Step"),
    ("StableAudioDiTModel", {}, "Stable Audio"),
    ("StableAudio3DiTModel", {}, ("Stable Audio", "Stable Audio 3")),
    ("SanaVideoTransformer3DModel", {}, ("Sana Video", "Sana")),
    ("SanaWMTransformer3DModel", {}, ("Sana WM", "Sana")),
    ("CogView3PlusTransformer2DModel", {}, "CogView 3"),
    ("Kandinsky6Transformer3DModel", {}, "Kandinsky 6"),
    ("ErnieImageTransformer2DModel", {}, "ERNIE-Image"),
    ("MiniMaxH3Transformer3DModel", {}, "MiniMax H3"),
    *((name, {}, name) for name in (
        "Cosmos3OmniTransformer", "JoyImageEditTransformer3DModel",
        "JoyImageEditPlusTransformer3DModel", "LongCatAudioDiTTransformer",
        "UVit2DModel", "PriorTransformer", "I2VGenXLUNet",
        "Kandinsky3UNet", "DreamLiteUNetModel",
        "AudioLDM2UNet2DConditionModel", "UNet2DModel",
    )),
)  # fmt: skip
PARTIAL: dict[str, Callable[[str, int, int], bool]] = {
    # what is trained: whether a layer is, by its name, the number of its block, the highest number
    "values": lambda name, _at, _last: name.endswith((".to_v", ".to_out.0", ".v_proj")),
    "middle": lambda _name, at, last: last // 3 <= at <= last // 2,
    "first": lambda _name, at, _last: at == 0,
}


def siblings() -> Iterator[Header]:
    """Networks beside the common ones, and LoRAs of few layers for those and the others."""
    diffusers = importlib.import_module("diffusers")
    for name, options, family in SIBLINGS:
        with built(name):
            net = on_meta(getattr(diffusers, name), **options)
            part = "unet" if "UNet" in name else "transformer"
            yield header(f"siblings/{name}", f"{part}|unknown", family, shapes_of(net))
            yield from adapters(f"sibling-{name}", linears_of(net), family, part)
    rows = [(case, name, options, family) for case, name, options, family in TRANSFORMERS]
    rows += [
        (case, name, options, family)
        for case, name, options, _, family in OTHERS
        if name == "UNet2DConditionModel"
    ]
    for case, name, options, family in rows:
        with built(case):
            net = on_meta(getattr(diffusers, name), **options)
            yield from partial(case, linears_of(net), family)


def partial(case: str, layers: Mapping[str, Any], family: Any) -> Iterator[Header]:
    """LoRAs of few of a network's layers."""
    numbers = {name: int(found[1]) for name in layers if (found := NUMBER.search(name))}
    last = max(numbers.values(), default=0)
    for what, is_trained in PARTIAL.items():
        some = {
            f"transformer.{name}": layers[name]
            for name, number in numbers.items()
            if is_trained(name, number, last)
        }
        if some:
            yield header(f"lora-{what}/{case}", "lora", family, pairs(some, "lora_A", "lora_B"))


def adapters(case: str, layers: dict[str, Any], family: Any, part: str) -> Iterator[Header]:
    """LoRAs and their kin for some layers of a network, as several trainers name them."""
    in_blocks = {name: layer for name, layer in layers.items() if BLOCK.search(f"{name}.")}
    attention = {name: layer for name, layer in in_blocks.items() if ATTENTION.search(name)}
    if not attention:
        attention = in_blocks
    kohya = {name.replace(".", "_"): layer for name, layer in in_blocks.items()}
    dotted = {f"{part}.{name}": layer for name, layer in attention.items()}
    wrapped = {f"base_model.model.{name}": layer for name, layer in attention.items()}
    yield header(f"lora-diffusers/{case}", "lora", family, pairs(dotted, "lora_A", "lora_B"))
    yield header(f"lora-peft/{case}", "lora", family, pairs(wrapped, "lora_A", "lora_B"))
    for prefix in ("lora_unet_", "lora_transformer_"):
        named = {prefix + name: layer for name, layer in kohya.items()}
        shapes = pairs(named, "lora_down", "lora_up")
        shapes |= {f"{name}.alpha": () for name in named}
        yield header(f"{prefix[:-1].replace('_', '-')}/{case}", "lora", family, shapes)
    with built(f"lycoris {case}"):
        modules = importlib.import_module("lycoris.modules")
        some = dict(list(kohya.items())[:: -max(1, len(kohya) // 60)])
        for kind, algorithm in (
            ("loha", modules.LohaModule),
            ("lokr", modules.LokrModule),
            ("oft", modules.DiagOFTModule),
            ("glora", modules.GLoRAModule),
            ("ia3", modules.IA3Module),
        ):
            yield header(f"{kind}/{case}", kind, family, lycoris(some, algorithm))
    full = {f"lycoris_{name}.diff": tuple(layer.weight.shape) for name, layer in kohya.items()}
    yield header(f"full-diff/{case}", "full-diff", family, full)


def lycoris(layers: Mapping[str, Any], algorithm: Any) -> Shapes:
    """What LyCORIS saves for some layers, by its own modules."""
    shapes: Shapes = {}
    for name, layer in layers.items():
        module = on_meta(algorithm, f"lycoris_{name}", layer, 1.0, 8, 1)
        for key, value in module.custom_state_dict().items() if hasattr(
            module, "custom_state_dict") and module.custom_state_dict() else (
            module.state_dict().items()):  # fmt: skip
            shapes[f"lycoris_{name}.{key}"] = tuple(value.shape)
    return shapes


def pairs(layers: Mapping[str, Any], down: str, up: str, rank: int = 16) -> Shapes:
    """Down and up of each linear layer."""
    shapes: Shapes = {}
    for name, layer in layers.items():
        shapes[f"{name}.{down}.weight"] = (rank, layer.in_features)
        shapes[f"{name}.{up}.weight"] = (layer.out_features, rank)
    return shapes


def encoders() -> Iterator[Header]:
    """Text and image encoders of transformers."""
    t = importlib.import_module("transformers")
    clip_l = {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072}
    vision = {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
    }
    cases: tuple[tuple[str, str, str, dict[str, Any], str, Any], ...] = (
        ("clip-whole", "CLIPModel", "CLIPConfig",
         {"text_config": clip_l, "vision_config": vision}, "text-encoder", "CLIP-L"),
        ("clip-vision-l", "CLIPVisionModelWithProjection", "CLIPVisionConfig", vision,
         "clip-vision", "CLIP ViT-L"),
        ("umt5-base", "UMT5EncoderModel", "UMT5Config",
         {"d_model": 768, "d_ff": 2048, "vocab_size": 256384, "num_heads": 12}, "text-encoder",
         ("UMT5", "UMT5-base")),
        ("umt5-xxl", "UMT5EncoderModel", "UMT5Config", {"d_model": 4096, "d_ff": 10240,
         "num_layers": 24, "vocab_size": 256384, "num_heads": 64}, "text-encoder",
         ("UMT5-XXL", "UMT5")),
        ("mt5-xl", "MT5EncoderModel", "MT5Config", {"d_model": 2048, "d_ff": 5120,
         "num_layers": 24, "vocab_size": 250112, "num_heads": 32}, "text-encoder",
         ("mT5-XL", "mT5")),
        ("t5-xxl", "T5EncoderModel", "T5Config", {"d_model": 4096, "d_ff": 10240, "num_layers": 24,
         "num_heads": 64, "feed_forward_proj": "gated-gelu"}, "text-encoder", "T5-XXL"),
        ("qwen2.5-vl-7b", "Qwen2_5_VLForConditionalGeneration", "Qwen2_5_VLConfig", {},
         "text-encoder", ("Qwen2.5-VL", "language model")),
        ("qwen3-4b", "Qwen3Model", "Qwen3Config", {"hidden_size": 2560, "num_hidden_layers": 36,
         "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
         "intermediate_size": 9728}, "text-encoder", ("Qwen3", "language model")),
        ("gemma2-2b", "Gemma2Model", "Gemma2Config", {}, "text-encoder",
         ("Gemma 2", "Gemma", "language model")),
        ("gemma3-text", "Gemma3TextModel", "Gemma3TextConfig", {}, "text-encoder",
         ("Gemma 3", "Gemma", "language model")),
        ("llama3-8b", "LlamaModel", "LlamaConfig", {"vocab_size": 128256, "num_key_value_heads": 8,
         "intermediate_size": 14336}, "text-encoder", ("Llama 3", "Llama", "language model")),
        ("mistral", "MistralModel", "MistralConfig", {}, "text-encoder",
         ("Mistral", "language model")),
        ("chatglm-like-bert", "BertModel", "BertConfig", {}, "text-encoder|unknown", None),
        ("siglip-whole", "SiglipModel", "SiglipConfig", {}, "clip-vision", "SigLIP"),
        ("siglip-vision", "SiglipVisionModel", "SiglipVisionConfig", {}, "clip-vision", "SigLIP"),
        ("dinov2", "Dinov2Model", "Dinov2Config", {}, "clip-vision", ("DINOv2",)),
        ("blip", "BlipForConditionalGeneration", "BlipConfig", {}, "unknown|captioner|detector",
         None),
        ("vit", "ViTModel", "ViTConfig", {}, "unknown|clip-vision", None),
        ("whisper", "WhisperModel", "WhisperConfig", {}, "unknown", None),
        ("yolos", "YolosModel", "YolosConfig", {}, "unknown|detector", None),
        ("depth-anything", "DepthAnythingForDepthEstimation", "DepthAnythingConfig", {},
         "unknown", None),
        ("sam", "SamModel", "SamConfig", {}, "unknown|detector", None),
    )  # fmt: skip
    for case, model, config, options, kind, family in cases:
        with built(case):
            made = on_meta(getattr(t, model), getattr(t, config)(**options))
            yield header(f"encoders/{case}", kind, family, shapes_of(made))


SCALES = ("upscale", "scale", "upscaling", "scale_factor", "upscaling_factor", "num_scale")

_RGB = {"num_in_ch": 3, "num_out_ch": 3}
NEEDED: dict[str, dict[str, Any]] = {
    "SPAN": _RGB,
    "MMRealSR": _RGB,
    "SAFMN": {"dim": 36},
    "SAFMNBCIE": {"dim": 36},
    "SwinIR": {"window_size": 8},
    "Swin2SR": {"window_size": 8},
    "SRFormer": {"window_size": 16, "img_size": 64},
    "AuraSR": {"dim": 64, "image_size": 256, "input_image_size": 64},
}
"""Arguments without a default, or with one that the class itself refuses."""
CALLED = {"Compact": ("Real-ESRGAN", "Compact")}


def upscalers() -> Iterator[Header]:
    """Every architecture of spandrel, with its own defaults and in other scales."""
    inspect = importlib.import_module("inspect")
    pkgutil = importlib.import_module("pkgutil")
    for library in ("spandrel", "spandrel_extra_arches"):
        with built(library):
            package = importlib.import_module(f"{library}.architectures")
            for found in pkgutil.iter_modules(package.__path__):
                if found.name.startswith("__"):
                    continue
                module = importlib.import_module(f"{library}.architectures.{found.name}")
                for name in module.__all__:
                    cls = getattr(module, name)
                    if name.endswith("Arch") or not hasattr(cls, "forward"):
                        continue
                    accepted = inspect.signature(cls).parameters
                    word = next((word for word in SCALES if word in accepted), None)
                    for scale in (None, 1, 2, 3, 4) if word else (None,):
                        with built(f"{name} x{scale}"):
                            options = dict(NEEDED.get(name, {}))
                            upsampler = accepted.get("upsampler")
                            if scale and scale > 1 and upsampler and upsampler.default == "":
                                options["upsampler"] = "pixelshuffle"
                            options |= {} if scale is None or word is None else {word: scale}
                            net = cls(**options)  # most compute as they are made
                            version = [f"x{scale}", f"{name}, x{scale}"] if scale else None
                            family = CALLED.get(name, found.name)
                            shapes = shapes_of(net)
                            case = f"upscalers/{name}-{scale}"
                            yield header(case, "upscaler", family, shapes, version=version)


@contextlib.contextmanager
def built(case: str) -> Generator[None]:
    """Name what a library refuses, and go on."""
    try:
        yield
    except Exception as e:  # a library's own troubles are as many as libraries
        print(f"left out: {case}: {type(e).__name__}: {str(e)[:100]}", file=sys.stderr)


def main() -> None:
    """Write all headers that can be made."""
    warnings.simplefilter("ignore")
    made: list[Header] = []
    sources = {
        "networks": networks,
        "siblings": siblings,
        "encoders": encoders,
        "upscalers": upscalers,
    }
    for name in sys.argv[2:] or sources:
        made += sources[name]()
    with lzma.open(sys.argv[1], "wt") as stream:
        json.dump(made, stream)
    print(f"{len(made)} headers")


if __name__ == "__main__":
    main()
