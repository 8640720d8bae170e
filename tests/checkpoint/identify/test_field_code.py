"""Files written by the field's own code, and what sdtool says of each.

Real sizes come from the libraries' own configurations on torch's meta device: names and shapes of
the real models without their memory, written as header-only files.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.checkpoint.identify.test_identify import header_only, identity_of

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """The libraries warn at import, which this project does not answer for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("diffusers")
        pytest.importorskip("transformers")
        yield


def library(name: str) -> Any:
    """A library of the field, none of which has types to hold on to."""
    return importlib.import_module(name)


def on_meta(make: Callable[[], Any]) -> Any:
    with torch.device("meta"):
        return make()


def shapes_of(module: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def unet(width: int, channels: int = 4, **more: Any) -> Any:
    UNet2DConditionModel = library("diffusers").UNet2DConditionModel
    return UNet2DConditionModel(in_channels=channels, cross_attention_dim=width, **more)


def unet_v1(channels: int = 4) -> Any:
    return unet(768, channels)


def unet_v2(channels: int = 4) -> Any:
    return unet(1024, channels, attention_head_dim=[5, 10, 20, 20], use_linear_projection=True)


def unet_xl(channels: int = 4, depths: tuple[int, ...] = (1, 2, 10)) -> Any:
    return unet(
        2048,
        channels,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=list(depths),
        attention_head_dim=[5, 10, 20],
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )


def refiner() -> Any:
    return unet(
        1280,
        block_out_channels=(384, 768, 1536, 1536),
        down_block_types=(
            "DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"
        ),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=4,
        attention_head_dim=[6, 12, 24, 24],
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2560,
    )  # fmt: skip


def flux(channels: int = 64, *, guided: bool = True) -> Any:
    FluxTransformer2DModel = library("diffusers").FluxTransformer2DModel
    return FluxTransformer2DModel(
        in_channels=channels, out_channels=64, guidance_embeds=guided, num_single_layers=38
    )


def sd3(depth: int, positions: int, dual: tuple[int, ...] = ()) -> Any:
    SD3Transformer2DModel = library("diffusers").SD3Transformer2DModel
    return SD3Transformer2DModel(
        num_layers=depth,
        num_attention_heads=depth,
        attention_head_dim=64,
        caption_projection_dim=64 * depth,
        pos_embed_max_size=positions,
        dual_attention_layers=dual,
    )


def autoencoder(latent: int = 4) -> Any:
    AutoencoderKL = library("diffusers").AutoencoderKL
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=latent,
    )


def clip_text(width: int, layers: int) -> Any:
    CLIPTextConfig = library("transformers").CLIPTextConfig
    CLIPTextModel = library("transformers").CLIPTextModel
    return CLIPTextModel(
        CLIPTextConfig(
            hidden_size=width, num_hidden_layers=layers, intermediate_size=4 * width,
            num_attention_heads=width // 64,
        )
    )  # fmt: skip


def clip_vision() -> Any:
    CLIPVisionConfig = library("transformers").CLIPVisionConfig
    CLIPVisionModelWithProjection = library("transformers").CLIPVisionModelWithProjection
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=1280, num_hidden_layers=2, intermediate_size=5120, num_attention_heads=16,
            projection_dim=1024,
        )
    )  # fmt: skip


def t5() -> Any:
    T5Config = library("transformers").T5Config
    T5EncoderModel = library("transformers").T5EncoderModel
    return T5EncoderModel(T5Config(d_model=4096, d_ff=10240, num_layers=2, num_heads=64))


def controlnet(width: int) -> Any:
    ControlNetModel = library("diffusers").ControlNetModel
    return ControlNetModel(cross_attention_dim=width)


def controlnet_xl() -> Any:
    ControlNetModel = library("diffusers").ControlNetModel
    return ControlNetModel.from_unet(unet_xl())


def t2i_adapter(kind: str, channels: int) -> Any:
    T2IAdapter = library("diffusers").T2IAdapter
    factor = 16 if kind == "full_adapter_xl" else 8
    return T2IAdapter(in_channels=channels, adapter_type=kind, downscale_factor=factor)


def motion() -> Any:
    MotionAdapter = library("diffusers").MotionAdapter
    return MotionAdapter()


MODELS: dict[str, tuple[Callable[[], Any], tuple[str, str | None, str | None]]] = {
    # who made it: what sdtool says
    "UNet v1": (unet_v1, ("unet", "SD 1.x", None)),
    "UNet v1 inpainting": (lambda: unet_v1(9), ("unet", "SD 1.x", "inpainting")),
    "UNet v2": (unet_v2, ("unet", "SD 2.x", None)),
    "UNet v2 inpainting": (lambda: unet_v2(9), ("unet", "SD 2.x", "inpainting")),
    "UNet v2 depth": (lambda: unet_v2(5), ("unet", "SD 2.x", "depth")),
    "UNet XL": (unet_xl, ("unet", "SDXL", "base")),
    "UNet XL inpainting": (lambda: unet_xl(9), ("unet", "SDXL", "inpainting")),
    "UNet SSD-1B": (lambda: unet_xl(depths=(0, 2, 4)), ("unet", "SSD-1B", None)),
    "UNet refiner": (refiner, ("unet", "SDXL", "refiner")),
    "Flux dev": (flux, ("transformer", "FLUX.1", "dev")),
    "Flux schnell": (lambda: flux(guided=False), ("transformer", "FLUX.1", "schnell")),
    "Flux Fill": (lambda: flux(384), ("transformer", "FLUX.1", "Fill dev")),
    "Flux Canny": (lambda: flux(128), ("transformer", "FLUX.1", "Depth or Canny dev")),
    "SD 3 medium": (lambda: sd3(24, 192), ("transformer", "SD 3", "medium")),
    "SD 3.5 medium": (
        lambda: sd3(24, 384, tuple(range(13))), ("transformer", "SD 3.5", "medium")
    ),
    "SD 3.5 large": (lambda: sd3(38, 192), ("transformer", "SD 3.5", "large")),
    "VAE": (autoencoder, ("vae", "SD 1.x, SD 2.x or SDXL", None)),
    "VAE of Flux": (lambda: autoencoder(16), ("vae", "SD 3 or FLUX.1", None)),
    "CLIP-L": (lambda: clip_text(768, 12), ("text-encoder", "CLIP-L", None)),
    "CLIP-G": (lambda: clip_text(1280, 2), ("text-encoder", "OpenCLIP ViT-bigG", None)),
    "CLIP vision": (clip_vision, ("clip-vision", "CLIP ViT-H", None)),
    "T5-XXL": (t5, ("text-encoder", "T5-XXL", None)),
    "ControlNet v1": (lambda: controlnet(768), ("controlnet", "SD 1.x", None)),
    "ControlNet v2": (lambda: controlnet(1024), ("controlnet", "SD 2.x", None)),
    "ControlNet XL": (controlnet_xl, ("controlnet", "SDXL", None)),
    "T2I-Adapter": (lambda: t2i_adapter("full_adapter", 3), ("t2i-adapter", "SD 1.x", None)),
    "T2I-Adapter XL": (lambda: t2i_adapter("full_adapter_xl", 3), ("t2i-adapter", "SDXL", None)),
    "motion module": (motion, ("motion-module", "AnimateDiff", None)),
}  # fmt: skip


@pytest.mark.parametrize("what", MODELS)
def test_models_of_diffusers_and_transformers(what: str, tmp_path: Path) -> None:
    make, expected = MODELS[what]
    shapes = shapes_of(on_meta(make))
    found = identity_of(header_only(tmp_path / "model.safetensors", shapes))
    assert (found.kind, found.family, found.version) == expected


def test_a_lora_of_peft(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    net = on_meta(unet_v1)
    net.add_adapter(peft.LoraConfig(r=8, lora_alpha=8, target_modules=["to_q", "to_k"]))
    shapes = {name: tuple(t.shape) for name, t in peft.get_peft_model_state_dict(net).items()}
    found = identity_of(header_only(tmp_path / "lora.safetensors", shapes))
    assert (found.kind, found.family) == ("lora", "SD 1.x")
    assert found.adapter is not None
    assert (found.adapter.ranks, found.adapter.naming) == ({8: 64}, "peft")


def test_a_dora_of_peft(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    with torch.device("meta"):
        layer = torch.nn.ModuleDict({"attn2": torch.nn.ModuleDict({"to_k": torch.nn.Linear(8, 8)})})
    layer = layer.to_empty(device="cpu")
    model = peft.get_peft_model(layer, peft.LoraConfig(r=2, use_dora=True, target_modules=["to_k"]))
    shapes = {name: tuple(t.shape) for name, t in peft.get_peft_model_state_dict(model).items()}
    found = identity_of(header_only(tmp_path / "dora.safetensors", shapes))
    assert found.kind == "dora"


def test_a_checkpoint_of_lightning_with_optimizer_state(tmp_path: Path) -> None:
    lightning = pytest.importorskip("pytorch_lightning")

    class Net(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 2)

        def training_step(self, batch: Any, index: int) -> Any:
            return self.layer(batch[0]).sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters())

    trainer = lightning.Trainer(
        max_steps=3, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, enable_checkpointing=False,
    )  # fmt: skip
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(3, 4)))
    trainer.fit(Net(), data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    found = identity_of(tmp_path / "last.ckpt")
    assert (found.kind, found.training.global_step) == ("unknown", 3)
    assert found.training.tensors == 6  # step, exp_avg and exp_avg_sq of weight and bias


def test_optimizer_and_scheduler_files(tmp_path: Path) -> None:
    layer = torch.nn.Linear(4, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    for name, state in (("optimizer.bin", optimizer), ("scheduler.bin", scheduler)):
        torch.save(state.state_dict(), tmp_path / name)
        assert identity_of(tmp_path / name).kind == "training-state", name


def test_an_embedding_of_a1111(tmp_path: Path) -> None:
    content = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": torch.zeros(8, 768)},
        "name": "style", "step": 4999, "sd_checkpoint": "4af45990", "sd_checkpoint_name": "v1",
    }  # fmt: skip
    torch.save(content, tmp_path / "style.pt")
    found = identity_of(tmp_path / "style.pt")
    assert (found.title, found.confidence) == ("SD 1.x textual inversion embedding", "certain")
    assert found.embedding is not None
    assert found.embedding.tokens == {"*": (8, 768)}
    assert found.training.global_step == 4999


def test_a_hypernetwork_of_a1111(tmp_path: Path) -> None:
    def half(width: int) -> dict[str, torch.Tensor]:
        wide, narrow = torch.nn.Linear(width, 2 * width), torch.nn.Linear(2 * width, width)
        layers = torch.nn.Sequential(wide, narrow)
        return {f"linear.{name}": value for name, value in layers.state_dict().items()}

    content: dict[Any, Any] = {width: (half(width), half(width)) for width in (320, 768)}
    content |= {"step": 7, "name": "h", "layer_structure": [1, 2, 1], "activation_func": "relu"}
    torch.save(content, tmp_path / "h.pt")
    found = identity_of(tmp_path / "h.pt")
    assert found.kind == "hypernetwork"
    assert found.hypernetwork is not None
    assert found.hypernetwork.widths == (320, 768)
    assert found.hypernetwork.layer_structure == (1.0, 2.0, 1.0)
    assert found.hypernetwork.activation == "relu"


@pytest.mark.parametrize("key", ["params_ema", "params"])
def test_an_upscaler_of_basicsr(tmp_path: Path, key: str) -> None:
    state = {
        "conv_first.weight": torch.zeros(8, 3, 3, 3),
        "body.0.rdb1.conv1.weight": torch.zeros(4, 8, 3, 3),
    }
    torch.save({key: state}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    assert identity_of(tmp_path / "x.pth").title == "Real-ESRGAN upscaler, x4"


def test_a_random_state_is_training_state(tmp_path: Path) -> None:
    state = {"torch_manual_seed": torch.get_rng_state(), "random_state": (3, (1, 2), None)}
    torch.save(state, tmp_path / "random_states_0.pkl")
    assert identity_of(tmp_path / "random_states_0.pkl").kind == "training-state"
