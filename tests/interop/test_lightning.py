"""Files that Lightning's own trainer saves, read without Lightning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tensor_values import assert_same_tensor, assert_same_weights

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.reading import Checkpoint

pl = pytest.importorskip("pytorch_lightning")
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{message}")
    for message in (
        ".*does not have many workers",  # advice on speed, where there are many cores
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # Lightning's use of torch
    )
]


def module_class() -> type[Any]:
    """A small model with the parts of a diffusion trainer: raw, EMA, buffers, schedule."""

    class Model(pl.LightningModule):  # type: ignore[name-defined,misc]
        """Named after what LatentDiffusion holds."""

        def __init__(self, width: int = 6, *, betas: tuple[float, float] = (0.9, 0.99)) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.model = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Linear(width, 1))
            self.model_ema = torch.nn.Module()
            self.model_ema.register_buffer("decay", torch.tensor(0.9999))
            self.model_ema.register_buffer("num_updates", torch.tensor(3, dtype=torch.int))
            self.register_buffer("betas", torch.linspace(0, 1, 1000))

        def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
            """One step."""
            loss: torch.Tensor = self.model(batch[0]).square().mean()
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            """AdamW and a schedule, as LatentDiffusion has."""
            optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
            return [optimizer], [schedule]

    return Model


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of ModelCheckpoint after two epochs."""
    folder = tmp_path_factory.mktemp("lightning")
    checkpoints = pl.callbacks.ModelCheckpoint(dirpath=folder, monitor="loss", save_last=True)
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[checkpoints], default_root_dir=folder,
        log_every_n_steps=1,
    )  # fmt: skip
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.rand(8, 4)), 4)
    trainer.fit(module_class()(), data)
    path = folder / "by-hand.ckpt"
    trainer.save_checkpoint(path)
    assert (folder / "last.ckpt").exists()
    return path


def assert_training_state(checkpoint: Checkpoint, loaded: dict[str, Any]) -> None:
    """Every tensor of the optimizer is in `training`, with its values, under its path."""
    entries = {entry.name: entry for entry in checkpoint.training}
    state = loaded["optimizer_states"][0]["state"]
    assert state
    for index, values in state.items():
        for key in ("exp_avg", "exp_avg_sq"):
            entry = entries[f"optimizer_states.0.state.{index}.{key}"]
            assert_same_tensor(entry, values[key])


@pytest.mark.parametrize("name", ["by-hand.ckpt", "last.ckpt"])
def test_trainer_checkpoints(trained: Path, name: str) -> None:
    path = trained.with_name(name)
    loaded = torch.load(path, weights_only=False)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.wrappers == ("state_dict",)
        assert_same_weights(checkpoint, loaded["state_dict"])
        assert_training_state(checkpoint, loaded)
        assert checkpoint.leaves["epoch"] == loaded["epoch"]
        assert checkpoint.leaves["global_step"] == loaded["global_step"] == 4
        assert checkpoint.leaves["pytorch-lightning_version"] == pl.__version__


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_the_layout_of_lightning_1_4(trained: Path, tmp_path: Path, options: Any) -> None:
    """Lightning 1.4 keyed `callbacks` by the class itself; SD v1 was trained with it."""
    loaded = torch.load(trained, weights_only=False)
    old = {
        "epoch": 6,
        "global_step": 470_000,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": loaded["state_dict"],
        "callbacks": {pl.callbacks.ModelCheckpoint: next(iter(loaded["callbacks"].values()))},
        "optimizer_states": loaded["optimizer_states"],
        "lr_schedulers": loaded["lr_schedulers"],
    }
    path = tmp_path / "model.ckpt"
    torch.save(old, path, **options)
    with open_checkpoint(path) as checkpoint:
        assert_same_weights(checkpoint, loaded["state_dict"])
        assert_training_state(checkpoint, loaded)
        assert checkpoint.leaves["global_step"] == 470_000


def test_omegaconf_hyper_parameters(trained: Path, tmp_path: Path) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    loaded = torch.load(trained, weights_only=False)
    loaded["hyper_parameters"] = omegaconf.OmegaConf.create(
        {"unet": {"channels": [4, 8], "target": "${name}"}, "name": "sd"}
    )
    path = tmp_path / "model.ckpt"
    torch.save(loaded, path)
    with open_checkpoint(path) as checkpoint:
        assert_same_weights(checkpoint, loaded["state_dict"])


def test_reading_imports_nothing_of_lightning(trained: Path) -> None:
    program = (
        "import sys; from sdtool.checkpoint import open_checkpoint; "
        "print(len(open_checkpoint(sys.argv[1]).tensors)); "
        "assert not {'torch', 'numpy', 'pytorch_lightning'} & set(sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(trained)], capture_output=True, text=True, check=True
    )
    assert result.stdout == "7\n"
