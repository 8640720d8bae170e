"""An installation without torch, and one without numpy, does all that a full one does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.tensor_values import raw_bytes

from sdtool.convert.plan.casts import CASTABLE, DTYPES

WITHOUT = {"torch": {"torch"}, "torch, numpy": {"torch", "numpy", "isal", "send2trash"}}
CODE = """
import sys
for name in {missing!r}:
    sys.modules[name] = None  # importing it is an ImportError
import importlib.util as util
found = util.find_spec
util.find_spec = lambda name, *more: None if name in {missing!r} else found(name, *more)
from sdtool.cli.entry import main
sys.exit(main())
"""


@pytest.fixture(params=WITHOUT)
def missing(request: pytest.FixtureRequest) -> set[str]:
    return WITHOUT[request.param]


def run(missing: set[str], folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run the command in a process that cannot import `missing`."""
    code = CODE.format(missing=sorted(missing))
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def weights() -> dict[str, torch.Tensor]:
    """Weights of every type that is cast, one not contiguous; NaN where it is one in every type."""
    torch.manual_seed(1)
    state = {
        f"model.diffusion_model.{name}.weight": torch.randn(33, 5).to(getattr(torch, name))
        for name in sorted(CASTABLE)
    }
    state["model.diffusion_model.turned.weight"] = torch.randn(5, 7, 2).permute(2, 0, 1)
    state["model.diffusion_model.wide.weight"] = torch.ones(1, 3).expand(4, 3)
    state["model.diffusion_model.count"] = torch.arange(3)
    return state


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    raw = weights()
    ema = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): tensor.clone()
        for name, tensor in raw.items()
        if tensor.is_floating_point()
    }
    torch.save(
        {"state_dict": raw | ema, "optimizer_states": [{"x": torch.ones(9)}]}, tmp_path / "x.ckpt"
    )
    return tmp_path


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_cast(missing: set[str], folder: Path, dtype: str) -> None:
    code, out, _ = run(
        missing,
        folder,
        "convert",
        "--verify",
        "--json",
        "--dtype",
        dtype,
        "x.ckpt",
        "-o",
        "y.safetensors",
    )
    (file,) = json.loads(out)["files"]
    assert (code, file["status"], file["verified"]) == (0, "written", True)
    target = getattr(torch, DTYPES[dtype].name)
    found = load_file(folder / "y.safetensors")
    for name, tensor in weights().items():
        expected = tensor.to(target) if tensor.is_floating_point() else tensor
        assert raw_bytes(found[name]) == raw_bytes(expected.contiguous()), name


def test_every_verb(missing: set[str], folder: Path) -> None:
    def done(*arguments: str) -> str:
        code, out, err = run(missing, folder, *arguments)
        assert code == 0, err
        return out

    assert "CLEAN" in done("scan", "--deep", "x.ckpt")
    done("convert", "x.ckpt")
    found = load_file(folder / "x.safetensors")
    assert raw_bytes(found["model.diffusion_model.turned.weight"]) == raw_bytes(
        weights()["model.diffusion_model.turned.weight"].contiguous()
    )
    done("prune", "--all-variants", "--fill-from-raw", "--dtype", "fp16", "--verify", "x.ckpt")
    assert torch.equal(
        load_file(folder / "x-pruned-emaonly-fp16.safetensors")[
            "model.diffusion_model.float32.weight"
        ],
        weights()["model.diffusion_model.float32.weight"].half(),
    )
    assert done("verify", "x.safetensors")
    assert "holds the values" in done("verify", "x-pruned-fp16.safetensors", "--against", "x.ckpt")
    assert "float32" in done("info", "--tensors", "--tree", "--hash", "x.ckpt")
    assert done("info", "--duplicates", "x.ckpt", "x.safetensors")


def test_what_needs_numpy_says_so(folder: Path) -> None:
    code, _, err = run(WITHOUT["torch, numpy"], folder, "info", "--compare", "x.ckpt", "x.ckpt")
    assert code == 2
    assert "values are compared by numpy, which is not installed" in err
    assert "-m pip install numpy" in err
    code, out, _ = run(WITHOUT["torch"], folder, "info", "--compare", "x.ckpt", "x.ckpt")
    assert code == 0 and out


@pytest.mark.parametrize(
    "arguments",
    [
        ("scan", "--deep"), ("info", "--hash"), ("convert", "--verify", "--hash", "--force"),
        ("prune", "--raw-only", "--force"),
    ],
)  # fmt: skip
def test_what_moves_bytes_imports_no_numpy(arguments: tuple[str, ...], tmp_path: Path) -> None:
    torch.save({"w": torch.randn(9)}, tmp_path / "x.ckpt")
    code = (
        "import sys; from sdtool.cli.main import main; main(sys.argv[1:]);"
        "print({'torch', 'numpy', 'safetensors'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "x.ckpt"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "set()"
