"""Pruned files in the programs that load them: diffusers, transformers, Lightning's own files."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tests.prune.layouts import State, lightning, open_bytes, opened, written

from sdtool.checkpoint.identify import architecture as known
from sdtool.prune import plan_prune

WIDTHS = (32, 64, 128, 128)
UNET = replace(known.UNET_V1, channels=32, context=32)
VAE = {
    name: tuple(size // 4 if size >= 128 else size for size in shape)
    for name, shape in known.vae().items()
}


def compvis_ema(state: State) -> State:
    """What `ema_scope` puts into the model: the rule of ldm/modules/ema.py, `copy_to`."""
    result = dict(state)
    for name in state:
        if name.startswith("model.diffusion_model."):
            buffer = "diffusion_model" + "".join(name.split(".")[2:])
            result[name] = state[f"model_ema.{buffer}"]
    return result


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small SD v1 in the original layout, its raw and EMA weights different."""
    random = torch.Generator().manual_seed(1)
    unet = {name: torch.randn(shape, generator=random) for name, shape in known.unet(UNET).items()}
    vae = {name: torch.randn(shape, generator=random) for name, shape in VAE.items()}
    ema = {
        "model_ema.diffusion_model" + name.replace(".", ""): torch.randn(
            value.shape, generator=random
        )
        for name, value in unet.items()
    }
    state = {
        **{f"model.diffusion_model.{name}": value for name, value in unet.items()},
        **{f"first_stage_model.{name}": value for name, value in vae.items()},
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.num_updates": torch.tensor(9, dtype=torch.int32),
        **ema,
    }
    folder = tmp_path_factory.mktemp("source")
    return state, opened(folder, lightning(state))


def same(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_diffusers_loads_the_unet_of_either_variant(source: Any, tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    files = pytest.importorskip("diffusers.loaders.single_file_utils")
    state, checkpoint = source
    model = diffusers.UNet2DConditionModel(
        block_out_channels=WIDTHS, cross_attention_dim=32, attention_head_dim=8
    )
    model.save_pretrained(tmp_path / "unet")
    for variant, weights in (("raw-only", state), ("ema-only", compvis_ema(state))):
        written(plan_prune(checkpoint, variant=variant), tmp_path)  # type: ignore[arg-type]
        loaded = diffusers.UNet2DConditionModel.from_single_file(
            str(tmp_path / "out.safetensors"),
            config=str(tmp_path),
            subfolder="unet",
            local_files_only=True,
        )
        expected = files.convert_ldm_unet_checkpoint(dict(weights), dict(model.config))
        same(loaded.state_dict(), expected)


def saved_vae(diffusers: Any, folder: Path) -> Any:
    """A small VAE that diffusers has made and saved."""
    model = diffusers.AutoencoderKL(
        block_out_channels=WIDTHS,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
    )
    model.save_pretrained(folder)
    return model


def test_diffusers_loads_the_vae_inside_and_taken_out(source: Any, tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    files = pytest.importorskip("diffusers.loaders.single_file_utils")
    state, checkpoint = source
    model = saved_vae(diffusers, tmp_path / "vae")
    expected = files.convert_ldm_vae_checkpoint(dict(state), dict(model.config))
    for only in (None, "vae"):
        plan = plan_prune(checkpoint, only=only, variant="ema-only")
        written(plan, tmp_path)
        loaded = diffusers.AutoencoderKL.from_single_file(
            str(tmp_path / "out.safetensors"),
            config=str(tmp_path),
            subfolder="vae",
            local_files_only=True,
        )
        same(loaded.state_dict(), expected)


@pytest.mark.parametrize("generation", ["to_q", "query"])
def test_a_vae_saved_by_diffusers_can_be_baked_in(
    generation: str, source: Any, tmp_path: Path
) -> None:
    diffusers = pytest.importorskip("diffusers")
    _, checkpoint = source
    model = saved_vae(diffusers, tmp_path / "vae")
    saved = safetensors.torch.load_file(tmp_path / "vae" / "diffusion_pytorch_model.safetensors")
    if generation == "query":  # as diffusers saved it until 0.17
        old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        for new, name in old.items():
            saved = {key.replace(f".{new}.", f".{name}."): value for key, value in saved.items()}
    vae = opened(tmp_path, saved, "new.vae.pt")
    out = written(plan_prune(checkpoint, bake=vae), tmp_path)
    assert {n.removeprefix("first_stage_model.") for n in out if n.startswith("first_")} == set(VAE)
    loaded = diffusers.AutoencoderKL.from_single_file(
        str(tmp_path / "out.safetensors"),
        config=str(tmp_path),
        subfolder="vae",
        local_files_only=True,
    )
    same(loaded.state_dict(), model.state_dict())


def test_transformers_loads_the_text_encoder_taken_out(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPTextConfig(
        vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, projection_dim=32, eos_token_id=99, bos_token_id=98,
    )  # fmt: skip
    torch.manual_seed(3)
    model = transformers.CLIPTextModel(config).eval()
    names = {
        name if name.startswith("text_model.") else f"text_model.{name}": value
        for name, value in model.state_dict().items()
    }
    state = {
        "model.diffusion_model.out.0.bias": torch.ones(2),
        **{f"cond_stage_model.transformer.{name}": value for name, value in names.items()},
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77.0)[None],
    }
    folder = tmp_path / "text_encoder"
    config.save_pretrained(folder)
    plan = plan_prune(opened(tmp_path, lightning(state)), only="text", fix=["position-ids"])
    written(plan, tmp_path)
    (tmp_path / "out.safetensors").rename(folder / "model.safetensors")
    loaded, report = transformers.CLIPTextModel.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    tokens = torch.tensor([[98, 5, 17, 99]])
    with torch.no_grad():
        found = loaded.eval()(tokens).last_hidden_state
        assert torch.equal(found, model(tokens).last_hidden_state)


def test_a_checkpoint_of_lightnings_own_trainer(tmp_path: Path) -> None:
    """Trained with an EMA as LitEma keeps it; the Trainer saves AdamW and ModelCheckpoint too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightning_module = pytest.importorskip("pytorch_lightning")
        path = _train(lightning_module, tmp_path)
    reference = torch.load(path, weights_only=False)
    state = reference["state_dict"]
    assert reference["optimizer_states"]
    checkpoint = open_bytes(path)
    assert len(checkpoint.tensors) == len(state)
    plan = plan_prune(checkpoint, variant="ema-only")
    assert plan.ema.state == "full" and plan.num_updates == 4
    assert {"optimizer", "training loop", "callback"} <= {row.role.value for row in plan.table}
    out = written(plan, tmp_path)
    expected = {n: v for n, v in compvis_ema(state).items() if not n.startswith("model_ema.diff")}
    same(out, expected)
    raw = written(plan_prune(checkpoint), tmp_path)
    same(raw, {n: v for n, v in state.items() if not n.startswith("model_ema.")})
    weight = "model.diffusion_model.time_embed.0.weight"
    assert not torch.equal(out[weight], raw[weight])


def _train(pl: Any, folder: Path) -> Path:
    class Wrapper(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.diffusion_model = torch.nn.Module()
            self.diffusion_model.time_embed = torch.nn.Sequential(torch.nn.Linear(4, 4))

    class Average(torch.nn.Module):
        """The buffers and the update of LitEma."""

        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.register_buffer("decay", torch.tensor(0.5))
            self.register_buffer("num_updates", torch.tensor(0, dtype=torch.int))
            for name, value in model.named_parameters():
                self.register_buffer(name.replace(".", ""), value.clone().detach())

        def update(self, model: torch.nn.Module) -> None:
            mine = dict(self.named_buffers())
            mine["num_updates"].add_(1)
            for name, value in model.named_parameters():
                mean = mine[name.replace(".", "")]
                mean.sub_((1 - mine["decay"]) * (mean - value.detach()))

    class Module(pl.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("betas", torch.linspace(0.1, 0.2, 10))
            self.model = Wrapper()
            self.model_ema = Average(self.model)

        def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
            embed: Any = self.model.diffusion_model.time_embed
            return embed(batch).square().mean()  # type: ignore[no-any-return]

        def on_train_batch_end(self, *_: Any) -> None:
            self.model_ema.update(self.model)

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=0.1)

    torch.manual_seed(5)
    data: Any = torch.utils.data.DataLoader(list(torch.randn(8, 4)), batch_size=2)  # type: ignore[arg-type]
    keeper = pl.callbacks.ModelCheckpoint(dirpath=folder / "kept")
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, callbacks=[keeper],
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Module(), data)
    path = folder / "last.ckpt"
    trainer.save_checkpoint(path)
    return path
