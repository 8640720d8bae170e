"""Folders that are made of single files, and the other way round, are what diffusers loads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.sd_models import entries_of, shapes_of

from sdtool.cli.main import main
from sdtool.convert import Predicts
from sdtool.convert.layouts.configs import Facts, configs_of
from sdtool.convert.layouts.models import model_of

FULL = [
    ("SD 1.x", 4), ("SD 1.x", 9), ("SD 1.x", 8), ("SD 2.x", 4), ("SD 2.x", 9),
    ("SDXL", 4), ("SDXL", 9), ("SDXL", 8), ("SDXL refiner", 4),
]  # fmt: skip


def on_meta(config: dict[str, Any]) -> Any:
    """The model of diffusers or transformers that a configuration describes, without values."""
    diffusers: Any = pytest.importorskip("diffusers")
    transformers: Any = pytest.importorskip("transformers")
    with torch.device("meta"):
        if "_class_name" in config:
            return getattr(diffusers, config["_class_name"]).from_config(config)
        (name,) = config["architectures"]
        return getattr(transformers, name)(transformers.CLIPTextConfig(**config))


@pytest.mark.parametrize(("family", "inputs"), FULL)
@pytest.mark.parametrize("prediction", list(Predicts))
def test_names_and_shapes_of_full_models(family: str, inputs: int, prediction: Predicts) -> None:
    """Every tensor has a place in the model that its configuration describes, and none is empty."""
    whole = entries_of(shapes_of(family, inputs=inputs))
    model = model_of(whole, "m")
    parts = {
        part.folder: {
            name.removeprefix(part.prefix): entry
            for name, entry in whole.items()
            if name.startswith(part.prefix)
        }
        for part in model.components
    }
    for own in parts.values():  # what diffusers has no place for
        unused = {"logit_scale", "text_model.embeddings.position_ids"}
        if family == "SD 2.x":
            last = {name for name in own if name.startswith("transformer.resblocks.23.")}
            unused |= {"text_projection", *last}
        for name in unused & own.keys():
            del own[name]
    configs = configs_of(model, parts, Facts(prediction))
    for part in model.components:
        expected = on_meta(configs[f"{part.folder}/config.json"]).state_dict()
        found = part.names.to_diffusers(parts[part.folder])
        bare = part.folder == "text_encoder" and "embeddings.token_embedding.weight" in expected
        shapes = {
            name.removeprefix("text_model.") if bare else name: entry.shape
            for name, entry in found.items()
        }
        assert shapes == {name: tuple(tensor.shape) for name, tensor in expected.items()}


def text_encoder(cls: Any, width: int, activation: str, projection: int) -> Any:
    from transformers import CLIPTextConfig

    return cls(
        CLIPTextConfig(
            vocab_size=64, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=2,
            num_attention_heads=width // 64, hidden_act=activation, projection_dim=projection,
            bos_token_id=0, eos_token_id=2,
        )
    )  # fmt: skip


def unet(**options: Any) -> Any:
    diffusers: Any = pytest.importorskip("diffusers")
    crossed = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    defaults = {
        "down_block_types": crossed,
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "block_out_channels": (32, 64, 128, 128),
    }
    return diffusers.UNet2DConditionModel(**{**defaults, **options})


def vae(scaling: float) -> Any:
    diffusers: Any = pytest.importorskip("diffusers")
    return diffusers.AutoencoderKL(
        block_out_channels=(32, 64, 128, 128), latent_channels=4, scaling_factor=scaling,
        layers_per_block=2, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip


def sd1() -> Any:
    diffusers: Any = pytest.importorskip("diffusers")
    from transformers import CLIPTextModel

    return diffusers.StableDiffusionPipeline(
        unet=unet(cross_attention_dim=768, attention_head_dim=8), vae=vae(0.18215),
        text_encoder=text_encoder(CLIPTextModel, 768, "quick_gelu", 768),
        scheduler=diffusers.PNDMScheduler(), tokenizer=None, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def sd2() -> Any:
    diffusers: Any = pytest.importorskip("diffusers")
    from transformers import CLIPTextModel

    return diffusers.StableDiffusionPipeline(
        unet=unet(
            cross_attention_dim=1024, attention_head_dim=[1, 2, 4, 4], use_linear_projection=True,
            block_out_channels=(64, 128, 256, 256), upcast_attention=True,
        ),
        vae=vae(0.18215), text_encoder=text_encoder(CLIPTextModel, 1024, "gelu", 512),
        scheduler=diffusers.DDIMScheduler(prediction_type="v_prediction"), tokenizer=None,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def sdxl() -> Any:
    diffusers: Any = pytest.importorskip("diffusers")
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    crossed = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D")
    return diffusers.StableDiffusionXLPipeline(
        unet=unet(
            cross_attention_dim=2048, attention_head_dim=[1, 1, 2], use_linear_projection=True,
            block_out_channels=(32, 64, 128), transformer_layers_per_block=[1, 2, 10],
            down_block_types=("DownBlock2D", *crossed),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            addition_embed_type="text_time", addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        ),
        vae=vae(0.13025), text_encoder=text_encoder(CLIPTextModel, 768, "quick_gelu", 768),
        text_encoder_2=text_encoder(CLIPTextModelWithProjection, 1280, "gelu", 1280),
        scheduler=diffusers.EulerDiscreteScheduler(
            prediction_type="v_prediction", rescale_betas_zero_snr=True
        ),
        tokenizer=None, tokenizer_2=None,
    )  # fmt: skip


def loaded(folder: Path, name: str, cls: Any) -> Any:
    """A component of a folder, in which nothing is missing, left over or of another shape."""
    model, info = cls.from_pretrained(
        folder, subfolder=name, output_loading_info=True, torch_dtype=torch.float32
    )
    assert not any(info.values()), info
    return model.eval()


def answers(folder: Path, pipeline: Any) -> dict[str, torch.Tensor]:
    """What each component of a saved pipeline makes of one random input."""
    torch.manual_seed(3)
    channels = pipeline.unet.config.cross_attention_dim
    latents, text = torch.randn(1, 4, 8, 8), torch.randn(1, 5, channels)
    picture, tokens = torch.randn(1, 3, 32, 32), torch.tensor([[0, 5, 9, 33, 63]])
    more: dict[str, Any] = {}
    if channels == 2048:
        conditions = {"text_embeds": torch.randn(1, 1280), "time_ids": torch.ones(1, 6)}
        more = {"added_cond_kwargs": conditions}
    found: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        model = loaded(folder, "unet", type(pipeline.unet))
        found["unet"] = model(latents, 5, text, **more).sample
        found["vae"] = loaded(folder, "vae", type(pipeline.vae))(picture).sample
        for name in ("text_encoder", "text_encoder_2"):
            part = getattr(pipeline, name, None)
            if part is not None:
                out = loaded(folder, name, type(part))(tokens, output_hidden_states=True)
                found[name], found[f"{name}, penultimate"] = out[0], out.hidden_states[-2]
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [sd1, sd2, sdxl])
def test_a_pipeline_as_one_file_and_as_a_folder_again(
    tmp_path: Path, make: Callable[[], Any]
) -> None:
    torch.manual_seed(1)
    pipeline = make()
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        for weight in getattr(pipeline, name, torch.nn.Module()).parameters():
            torch.nn.init.normal_(weight, std=0.05)
    first = tmp_path / "first"
    pipeline.to(dtype=torch.float16).save_pretrained(first)
    expected = answers(first, pipeline)
    assert main(["convert", str(first), "--to", "single", "--verify"]) == 0
    single = tmp_path / "first.safetensors"
    assert main(["verify", str(single), "--against", str(first)]) == 0
    assert main(["verify", str(first), "--against", str(single)]) == 0
    assert main(["convert", str(single), "--to", "diffusers", "--verify"]) == 0
    again = tmp_path / "first-diffusers"
    for name, tensor in answers(again, pipeline).items():
        assert torch.equal(tensor, expected[name]), name
    for name in ("unet", "vae"):
        ours, theirs = (
            load_file(f / name / "diffusion_pytorch_model.safetensors") for f in (again, first)
        )
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    back = tmp_path / "back.safetensors"
    assert main(["convert", str(again), "--to", "single", "-o", str(back)]) == 0
    assert back.read_bytes() == single.read_bytes()
    absent = {key: None for key in ("tokenizer", "tokenizer_2") if hasattr(pipeline, key)}
    whole = type(pipeline).from_pretrained(again, **absent)
    for key in ("prediction_type", "num_train_timesteps"):
        assert whole.scheduler.config[key] == pipeline.scheduler.config[key]
    assert whole.vae.config.scaling_factor == pipeline.vae.config.scaling_factor
    saved = json.loads((first / "unet" / "config.json").read_text("utf-8"))
    for key in ("attention_head_dim", "transformer_layers_per_block", "use_linear_projection",
                "upcast_attention", "projection_class_embeddings_input_dim"):  # fmt: skip
        assert whole.unet.config[key] == saved[key]
