"""What outputs are called."""

from __future__ import annotations

import pytest

from sdtool.convert.plan.names import output_name, split_name, token_name
from sdtool.convert.plan.target import Target


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("model.ckpt", "model.safetensors"),
        ("folder.v2/model.v1.5.ckpt", "model.v1.5.safetensors"),
        ("model.v1.5", "model.v1.5.safetensors"),
        ("MODEL.CKPT", "MODEL.safetensors"),
        ("foo.vae.pt", "foo.vae.safetensors"),
        ("foo.VAE.pt", "foo.VAE.safetensors"),
        ("model.pth.tar", "model.safetensors"),
        ("pytorch_model.bin", "model.safetensors"),
        ("pytorch_model-00001-of-00002.bin", "model-00001-of-00002.safetensors"),
        ("pytorch_model.fp16.bin", "model.fp16.safetensors"),
        ("pytorch_model_v2.bin", "pytorch_model_v2.safetensors"),
        ("diffusion_pytorch_model.fp16.bin", "diffusion_pytorch_model.fp16.safetensors"),
        ("pytorch_lora_weights.bin", "pytorch_lora_weights.safetensors"),
        ("v1-5-pruned-emaonly.ckpt", "v1-5-pruned-emaonly.safetensors"),
        ("a.safetensors", "a.safetensors"),
        (".ckpt", ".ckpt.safetensors"),
    ],
)
def test_plain(path: str, expected: str) -> None:
    assert output_name(path) == expected


@pytest.mark.parametrize(
    ("path", "variant", "dtype", "expected"),
    [
        ("foo.ckpt", None, "fp16", "foo-fp16.safetensors"),
        ("foo.ckpt", None, "keep", "foo.safetensors"),
        ("foo-fp16.ckpt", None, "fp16", "foo-fp16.safetensors"),
        ("foo_fp16.ckpt", None, "fp16", "foo_fp16.safetensors"),
        ("foo-fp32.ckpt", None, "fp16", "foo-fp16.safetensors"),
        ("foo-fp16.ckpt", None, "fp8_e4m3fn", "foo-fp8_e4m3fn.safetensors"),
        ("foo-fp8_e4m3fn.ckpt", None, "fp32", "foo-fp32.safetensors"),
        ("foo.vae.pt", None, "bf16", "foo-bf16.vae.safetensors"),
        ("foo.ckpt", "raw-only", None, "foo-pruned.safetensors"),
        ("foo.ckpt", "ema-only", None, "foo-pruned-emaonly.safetensors"),
        ("foo.ckpt", "keep-both", None, "foo-pruned-full.safetensors"),
        ("v1-5-pruned.ckpt", "ema-only", None, "v1-5-pruned-emaonly.safetensors"),
        ("v1-5-pruned.ckpt", "raw-only", None, "v1-5-pruned.safetensors"),
        ("v1-5-pruned-emaonly.ckpt", "ema-only", None, "v1-5-pruned-emaonly.safetensors"),
        ("foo.vae.pt", "raw-only", None, "foo-pruned.vae.safetensors"),
        ("foo-fp16.ckpt", "raw-only", None, "foo-fp16-pruned.safetensors"),
        ("foo-fp32.ckpt", "raw-only", "fp16", "foo-pruned-fp16.safetensors"),
        ("foo-pruned-fp16.ckpt", "ema-only", "fp16", "foo-pruned-emaonly-fp16.safetensors"),
        ("pytorch_model.bin", "raw-only", "fp16", "model-pruned-fp16.safetensors"),
        ("foo.unet.safetensors", None, "fp16", "foo-fp16.unet.safetensors"),
        ("foo-pruned.text.safetensors", "raw-only", "bf16", "foo-pruned-bf16.text.safetensors"),
        ("foo-pruned.UNet.pt", "ema-only", None, "foo-pruned-emaonly.UNet.safetensors"),
    ],
)
def test_variants_and_casts(
    path: str, variant: str | None, dtype: str | None, expected: str
) -> None:
    assert output_name(path, variant=variant, dtype=dtype) == expected
    again = output_name(expected, variant=variant, dtype=dtype)
    assert again == expected, "suffixes never stack"


def test_an_inert_pt_is_never_called_like_its_input() -> None:
    assert output_name("style.pt", to=Target.PT) == "style-inert.pt"
    assert output_name("my.vae.pt", to=Target.PT) == "my-inert.vae.pt"
    assert output_name("model.safetensors", to=Target.PT) == "model.pt"
    assert output_name("pytorch_model.bin", to=Target.PT) == "pytorch_model.pt"


def test_split() -> None:
    assert split_name("a.b.vae.ckpt") == ("a.b", ".vae")
    assert split_name("a.text.safetensors") == ("a", ".text")
    assert split_name("vae.ckpt") == ("vae", "")
    assert split_name("context.safetensors") == ("context", "")


def test_a_token_cannot_leave_the_folder() -> None:
    assert token_name("ti.safetensors", "<cat-toy>") == "ti-cat-toy.safetensors"
    assert token_name("ti.safetensors", "../../x") == "ti-x.safetensors"
    assert token_name("ti.safetensors", "*") == "ti-token.safetensors"
