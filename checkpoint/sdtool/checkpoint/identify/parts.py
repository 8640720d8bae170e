"""The parts of a model: one table of what a tensor belongs to, by its name, for all verbs.

`info` shows the parts, `convert` counts and restrains its casts by them, `prune` decides by them
what stays, and what `--only` takes out. A new part is one row.

Rows are asked in order and the first that fits decides, so the special stand before the general:
what is no weight, the prefixes of checkpoints, adapters (which are named after the part that they
change), the prefixes of pipelines, and networks by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache, cached_property
from typing import Literal

from sdtool.checkpoint.identify.architecture import SCHEDULE
from sdtool.checkpoint.identify.families import TABLE as FAMILIES
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.prefixes import plain_name

Casts = Literal["any", "no fp8", "never"]
"""What a cast may make of a tensor: `no fp8` is a VAE, which does not survive it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One row: names that begin with `prefix` and go on as `pattern` says.

    A prefix without a dot at its end is the whole name of one tensor. With `signs`, the row is for
    files only that hold one of these names: it claims names that by themselves could be another
    part's.
    """

    prefix: str
    role: str
    label: str
    source: str = ""
    casts: Casts = "any"
    own: str = ""
    """What goes off the names when the part is taken out, so that its own loaders find them."""
    pattern: str = ""
    """A regular expression for what follows the prefix; anything, when empty."""
    signs: frozenset[str] = frozenset()


EMA_PREFIX = "model_ema."
EMA_SCALARS = frozenset({"model_ema.decay", "model_ema.num_updates"})
"""The two numbers that LitEma keeps beside the weights; they stay in an official emaonly file."""

_DDPM = "CompVis/stable-diffusion ldm/models/diffusion/ddpm.py"
_SD2 = "Stability-AI/stablediffusion ldm/models/diffusion/ddpm.py"
_SGM = "Stability-AI/generative-models sgm/modules/encoders/modules.py"
_SVD = "Stability-AI/generative-models configs/inference/svd.yaml"
_COMFY = "ComfyUI comfy/supported_models.py"
_PIPE = "diffusers pipelines"
_MODULES = "CompVis/stable-diffusion ldm/modules/encoders/modules.py"
_BIG_G, _VIT_H = "OpenCLIP ViT-bigG", "OpenCLIP ViT-H"
_VISION, _FRAMES = "OpenCLIP, vision encoder", "VAE encoder of the frame"

_TRANSFORMERS = frozenset(
    row.signs[0] if isinstance(row.signs[0], str) else row.signs[0][0]
    for row in FAMILIES
    if row.network == "transformer"
)
"""One name of each diffusion transformer, which no other network has."""

_ADAPTER = (
    r"(?:lora|lycoris|oft|lllite)_(?:unet|te\d?|dit|text_encoder|transformer)_"
    r"|.+\.(?:lora_(?:down|up|mid|A|B|magnitude_vector)(?:\.|\Z)|lora\.(?:down|up)\."
    r"|lora_linear_layer\.|hada_[wt]\d|lokr_[wt]\d|oft_(?:blocks|diag|R)|dora_scale\Z)"
    r"|.+_lora\d?\.(?:down|up)\."
    r"|(?:unet|transformer|text_encoder(?:_\d)?|diffusion_model)\..+"
    r"\.(?:alpha|diff(?:_b)?|[wb]_norm|set_weight|on_input|[ab][12]\.weight)\Z"
)
"""Endings of adapters' names; the more general ones only where the module's part is named."""

PARTS: tuple[Part, ...] = (
    # --- no weights, or those of training
    *(Part(name, "schedule", "noise schedule", _DDPM, "never") for name in SCHEDULE),
    *(
        Part(name, "schedule", "noise schedule", _DDPM, "never")
        for name in ("logvar", "lvlb_weights", "scale_factor")
    ),
    *(
        Part(name, "schedule", "noise schedule", "crowsonkb/k-diffusion external.py", "never")
        for name in ("sigmas", "log_sigmas")
    ),
    Part("denoiser.", "schedule", "noise schedule", "sgm/modules/diffusionmodules/denoiser.py",
         "never", pattern=r"sigmas\Z"),
    *(
        Part(name, "marker", "marker", f"{_COMFY}; stable-diffusion.cpp model_loader.cpp", "never")
        for name in ("v_pred", "ztsnr", "edm_mean", "edm_std", "edm_vpred.")
    ),
    Part("scaled_fp8", "marker", "marker", "ComfyUI comfy/utils.py", "never"),
    *(
        Part(name, "ema", "EMA weights", "CompVis/stable-diffusion ldm/modules/ema.py", "never")
        for name in sorted(EMA_SCALARS)
    ),
    Part(EMA_PREFIX, "ema", "EMA weights", "CompVis/stable-diffusion ldm/modules/ema.py"),
    # the discriminator, LPIPS and logvar of an autoencoder; A1111 skips what begins with `loss`
    *(
        Part(name, "loss", "training loss", "CompVis ldm/models/autoencoder.py; A1111 sd_vae.py",
             "no fp8")
        for name in ("loss.", "first_stage_model.loss.")
    ),
    # --- checkpoints
    Part("model.diffusion_model.", "unet", "UNet", _DDPM),
    Part("first_stage_model.", "vae", "VAE", _DDPM, "no fp8", "first_stage_model."),
    Part("vae.", "vae", "VAE", f"{_COMFY}; {_PIPE}", "no fp8", "vae."),
    Part("cond_stage_model.transformer.", "text-encoder", "CLIP-L", _MODULES,
         own="cond_stage_model.transformer."),
    Part("cond_stage_model.model.", "text-encoder", _VIT_H, _MODULES,
         own="cond_stage_model.model."),
    Part("cond_stage_model.embedding.", "other", "class embedding", _MODULES),
    Part("cond_stage_model.", "text-encoder", "text encoder", _MODULES),
    Part("conditioner.embedders.0.transformer.", "text-encoder", "CLIP-L", _SGM,
         own="conditioner.embedders.0.transformer."),
    Part("conditioner.embedders.0.open_clip.", "image-encoder", _VISION, _SVD),
    Part("conditioner.embedders.3.encoder.", "image-encoder", _FRAMES, _SVD, "no fp8"),
    Part("conditioner.embedders.0.model.", "text-encoder", _BIG_G, _SGM,
         own="conditioner.embedders.0.model."),
    Part("conditioner.embedders.1.model.", "text-encoder", _BIG_G, _SGM,
         own="conditioner.embedders.1.model."),
    Part("conditioner.", "text-encoder", "conditioner", _SGM),
    Part("text_encoders.clip_l.", "text-encoder", "CLIP-L", _COMFY),
    Part("text_encoders.clip_g.", "text-encoder", _BIG_G, _COMFY),
    Part("text_encoders.t5xxl.", "text-encoder", "T5-XXL", _COMFY),
    Part("text_encoders.", "text-encoder", "text encoder", _COMFY),
    Part("control_model.", "controlnet", "ControlNet", "lllyasviel/ControlNet cldm/cldm.py"),
    Part("depth_model.", "depth", "MiDaS depth network", f"{_SD2} (LatentDepth2ImageDiffusion)"),
    Part("embedder.", "image-encoder", "CLIP, vision encoder",
         "Stability-AI/stablediffusion configs/stable-diffusion/v2-1-stable-unclip-l-inference"),
    Part("noise_augmentor.", "schedule", "noise augmentor", f"{_SD2} (ImageEmbeddingConditioned)"),
    Part("low_scale_model.", "schedule", "noise augmentor", f"{_SD2} (LatentUpscaleDiffusion)"),
    Part("embedding_manager.", "embedding", "embedding manager", "rinongal/textual_inversion"),
    Part("cc_projection.", "other", "camera projection", "cvlab-columbia/zero123 ddpm.py"),
    # --- adapters
    Part("", "adapter", "adapter", "identify/adapters.py", pattern=_ADAPTER),
    Part("", "motion-module", "motion module", "guoyww/AnimateDiff", pattern=r".*motion_modules\."),
    # --- pipelines, and what else hangs below the name of a part
    Part("unet.", "unet", "UNet", _PIPE, own="unet."),
    Part("diffusion_model.", "unet", "UNet", "ComfyUI comfy/model_detection.py",
         own="diffusion_model."),
    # not GPT's, nor a T5 held by a wrapper, nor open_clip's
    Part("transformer.", "transformer", "diffusion transformer", _PIPE, own="transformer.",
         pattern=r"(?!h\.\d|wte\.|wpe\.|ln_f\.|word_embeddings|shared\.|encoder\.|resblocks\."
                 r"|text_model\.|layers?\.)"),
    *(
        Part(name, "text-encoder", "text encoder", _PIPE, own=name)
        for name in ("text_encoder.", "text_encoder_2.", "text_encoder_3.")
    ),
    Part("image_encoder.", "image-encoder", "CLIP, vision encoder", _PIPE),
    Part("controlnet.", "controlnet", "ControlNet", _PIPE),
    # --- networks by themselves that have names of another: the file's other names tell
    Part("", "controlnet", "ControlNet", "lllyasviel/ControlNet cldm.py; diffusers ControlNetModel",
         signs=frozenset({"input_hint_block.0.weight", "controlnet_blocks.0.weight",
                          "controlnet_cond_embedding.conv_in.weight",
                          "control_all_x_embedder.2-1.weight"})),
    Part("", "t2i-adapter", "T2I-Adapter", "TencentARC/T2I-Adapter adapter.py",
         pattern=r"(?:conv_in|body)\.",
         signs=frozenset({"body.0.block1.weight", "body.0.resnets.0.block1.weight",
                          "body.0.in_conv.weight"})),
    Part("", "transformer", "diffusion transformer", "identify/families.py", signs=_TRANSFORMERS),
    *(
        Part(prefix, "transformer", "diffusion transformer", "ComfyUI comfy/model_detection.py",
             signs=frozenset(prefix + name for name in _TRANSFORMERS))
        for prefix in ("net.", "model.model.", "model.")
    ),
    Part("", "image-encoder", "CLIP, vision encoder", "transformers 5 CLIPVisionModel",
         pattern=r"(?:embeddings|encoder\.layers|pre_layrnorm|post_layernorm)\.",
         signs=frozenset({"embeddings.class_embedding"})),
    Part("", "text-encoder", "CLIP", "transformers 5 CLIPTextModel",
         pattern=r"(?:embeddings|encoder\.layers|final_layer_norm)\.",
         signs=frozenset({"embeddings.token_embedding.weight"})),
    # --- networks by themselves
    Part("", "unet", "UNet",
         "ldm/modules/diffusionmodules/openaimodel.py; diffusers UNet2DConditionModel",
         pattern=r"(?:time_embed|label_emb|input_blocks|middle_block|output_blocks|out)\.\d"
                 r"|(?:conv_in|down_blocks|mid_block|up_blocks|conv_norm_out|conv_out)\."
                 r"|(?:time|add|class)_embedding\.|encoder_hid_proj\."),
    Part("", "vae", "VAE", "ldm/models/autoencoder.py; diffusers AutoencoderKL", "no fp8",
         pattern=r"(?:post_)?quant_conv\.|(?:encoder|decoder)\.(?:conv_in|conv_out|norm_out"
                 r"|conv_norm_out|down|up|mid|down_blocks|up_blocks|mid_block)\."),
    Part("", "vae", "VAE", "identify/autoencoders.py: Wan, DC-AE, Mochi, Allegro, TAESD", "no fp8",
         pattern=r"(?:encoder|decoder)\.(?:(?:downsamples|upsamples|middle|head|stages)\.\d"
                 r"|block_(?:in|out)\.|temp_conv_(?:in|out)\."
                 r"|layers\.\d+\.(?:conv\.|weight\Z|bias\Z))"
                 r"|(?:taesd_(?:encoder|decoder)|decoder_unet)\."),
    Part("", "text-encoder", "text encoder",
         "transformers CLIPTextModelWithProjection; open_clip model.py",
         pattern=r"text_model\.|transformer\.resblocks\.|(?:token_embedding|ln_final)\."
                 r"|(?:positional_embedding|text_projection(?:\.weight)?|logit_scale|attn_mask)\Z"),
    Part("", "text-encoder", "T5", "transformers T5EncoderModel",
         pattern=r"(?:transformer\.)?(?:shared\.weight\Z|encoder\.(?:block\.\d"
                 r"|(?:final_layer_norm|embed_tokens)\.weight\Z))"),
    Part("", "image-encoder", "CLIP, vision encoder",
         "transformers CLIPVisionModel; open_clip model.py",
         pattern=r"(?:vision_model|visual|visual_projection)\."),
)  # fmt: skip

_Row = tuple[Part, str, str]
"""A row, its prefix and its pattern."""

_compiled = cache(re.compile)
"""The patterns that were asked: of most files none is, as prefixes decide."""

POSITIONS = "position_ids"
"""Positions of tokens: integers, which some programs have made floats of."""


class Lookup:
    """A table of parts, ready to be asked by name."""

    def __init__(self, rows: tuple[Part, ...]) -> None:
        self.rows = rows

    @cached_property
    def signed(self) -> tuple[Part, ...]:
        """The rows that need another name of the file."""
        return tuple(row for row in self.rows if row.signs)

    @cached_property
    def all_signs(self) -> frozenset[str]:
        """The names that they need."""
        return frozenset(name for row in self.signed for name in row.signs)

    @cached_property
    def never_cast(self) -> frozenset[str]:
        """Last pieces of names that are never cast, whatever part they hang in."""
        whole = {row.prefix for row in self.rows if row.casts == "never" and "." not in row.prefix}
        return frozenset(whole | {POSITIONS})

    @cached_property
    def _by_root(self) -> dict[str, tuple[_Row, ...]]:
        """The rows for names with a first piece, in order; "" for all other first pieces."""
        rows = [(row.prefix.partition(".")[0], row) for row in self.rows]
        return {
            root: tuple((row, row.prefix, row.pattern) for top, row in rows if top in ("", root))
            for root in {"", *(top for top, _ in rows)}
        }

    @cached_property
    def _of_any_root(self) -> Callable[[str], re.Match[str] | None]:
        """Matches what a row without a prefix may fit, if it needs no other name: one look tells
        that most names are of no known part.
        """
        rows = (row for row in self.rows if not (row.prefix or row.signs))
        return re.compile("|".join(f"(?:{row.pattern})" for row in rows)).match

    def find(self, name: str, context: Sequence[Part] = ()) -> Part | None:
        """Return the first row that fits a plain name."""
        rows = self._by_root.get(name.partition(".")[0])
        if rows is None:
            if not context and self._of_any_root(name) is None:
                return None
            rows = self._by_root[""]
        for row, prefix, pattern in rows:
            if not name.startswith(prefix):
                continue
            if prefix and prefix[-1] != "." and name != prefix:
                continue
            if pattern and _compiled(pattern).match(name[len(prefix) :]) is None:
                continue
            if not row.signs or row in context:
                return row
        return None


LOOKUP = Lookup(PARTS)


def part_of(name: str, context: Sequence[Part] = ()) -> Part | None:
    """Return the part of a model that a tensor belongs to; None where no row speaks of its name.

    `context` is what `context_of` says of the file's names; without it, only the name is asked.
    Names of wrappers around a module are seen through.
    """
    return LOOKUP.find(plain_name(name), context)


def context_of(names: Iterable[str]) -> tuple[Part, ...]:
    """Return the rows with signs that the names of one file call for."""
    held = LOOKUP.all_signs.intersection(names)
    return tuple(row for row in LOOKUP.signed if not row.signs.isdisjoint(held))


def casts_of(name: str) -> Casts:
    """Return what a cast may make of the tensor `name`.

    Buffers that are no weights are never cast, wherever they hang. Source of `edm_`: ComfyUI
    comfy/supported_models.py.
    """
    if name.rpartition(".")[2] in LOOKUP.never_cast:
        return "never"
    if "edm_" in name and any(piece.startswith("edm_") for piece in name.split(".")):
        return "never"
    part = part_of(name)
    return "any" if part is None else part.casts
