"""The kinds of file, in the field's own words, and the folder that each belongs in.

Source: AUTOMATIC1111/stable-diffusion-webui modules/{shared_cmd_options,sd_models,sd_vae}.py and
extensions-builtin/Lora; comfyanonymous/ComfyUI folder_paths.py.
"""

from __future__ import annotations

from sdtool.checkpoint.light_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind; `webui` and `comfyui` are folders below each program's own, "" for none."""

    slug: str
    label: str
    meaning: str
    webui: str = ""
    comfyui: str = ""


_LORA = ("models/Lora", "models/loras")
_CONTROL = ("models/ControlNet", "models/controlnet")

TABLE: tuple[Kind, ...] = (
    Kind(
        "checkpoint",
        "checkpoint",
        "a whole model: the diffusion network with a VAE or text encoder beside it",
        "models/Stable-diffusion",
        "models/checkpoints",
    ),
    Kind(
        "unet",
        "UNet",
        "the diffusion network alone; VAE and text encoder come from other files",
        "models/Stable-diffusion",
        "models/diffusion_models",
    ),
    Kind(
        "transformer",
        "diffusion transformer",
        "the diffusion network alone, where that is a transformer (SD 3, Flux and younger)",
        "models/Stable-diffusion",
        "models/diffusion_models",
    ),
    Kind(
        "vae",
        "VAE",
        "the decoder that turns latents into images, and its encoder",
        "models/VAE",
        "models/vae",
    ),
    Kind(
        "text-encoder",
        "text encoder",
        "what turns a prompt into numbers: CLIP, OpenCLIP, T5",
        "models/text_encoder",
        "models/text_encoders",
    ),
    Kind(
        "clip-vision",
        "image encoder",
        "the vision encoder of CLIP, which IP-Adapters and unCLIP need",
        "",
        "models/clip_vision",
    ),
    Kind("lora", "LoRA", "a low-rank change to the linear layers of a model", *_LORA),
    Kind("locon", "LoCon", "a LoRA that changes convolutions too", *_LORA),
    Kind("loha", "LoHa", "a change made of Hadamard products (LyCORIS)", *_LORA),
    Kind("lokr", "LoKr", "a change made of Kronecker products (LyCORIS)", *_LORA),
    Kind("dora", "DoRA", "a LoRA that stores magnitudes apart from directions", *_LORA),
    Kind("oft", "OFT", "a change that rotates weights", *_LORA),
    Kind("boft", "BOFT", "an OFT in the order of a butterfly (LyCORIS)", *_LORA),
    Kind("ia3", "IA3", "a change that scales activations (LyCORIS)", *_LORA),
    Kind("glora", "GLoRA", "a generalised LoRA (LyCORIS)", *_LORA),
    Kind("full-diff", "weight difference", "whole differences of weights, in a LoRA file", *_LORA),
    Kind(
        "textual-inversion",
        "textual inversion embedding",
        "a few vectors that stand for a word in the prompt",
        "embeddings",
        "models/embeddings",
    ),
    Kind(
        "hypernetwork",
        "hypernetwork",
        "small networks in front of the keys and values of attention (SD 1.x)",
        "models/hypernetworks",
        "models/hypernetworks",
    ),
    Kind("controlnet", "ControlNet", "a copy of the encoder that an image steers", *_CONTROL),
    Kind("control-lora", "Control-LoRA", "a ControlNet stored as low-rank changes", *_CONTROL),
    Kind("controllllite", "ControlNet-LLLite", "kohya's small ControlNet for SDXL", *_CONTROL),
    Kind("t2i-adapter", "T2I-Adapter", "a small network that an image steers", *_CONTROL),
    Kind(
        "ip-adapter",
        "IP-Adapter",
        "attention layers that take an image as the prompt",
        "models/ControlNet",
        "models/ipadapter",
    ),
    Kind(
        "motion-module",
        "motion module",
        "AnimateDiff's layers that make a film of an SD model",
        "",
        "models/animatediff_models",
    ),
    Kind(
        "upscaler",
        "upscaler",
        "a network that enlarges or restores images",
        "models/ESRGAN",
        "models/upscale_models",
    ),
    Kind(
        "detector",
        "detector",
        "finds faces, hands or other things in an image, for ADetailer and its kin",
        "models/adetailer",
        "models/ultralytics",
    ),
    Kind(
        "training-state",
        "training state",
        "optimizer, scheduler or random state: for going on with a training, no weights",
    ),
    Kind("unknown", "unknown", "nothing in the tables fits"),
)
BY_SLUG = {kind.slug: kind for kind in TABLE}
