"""Networks that enlarge or restore pictures."""

from __future__ import annotations

from sdtool.checkpoint.identify.signs import Signature

_RESTORE = ("", "params_ema.", "params.")

UPSCALERS: tuple[Signature, ...] = (
    Signature("upscaler", "GFPGAN", "face restoration", ("stylegan_decoder.style_mlp.1.weight",),
              "TencentARC/GFPGAN gfpganv1_clean_arch.py", _RESTORE),
    Signature("upscaler", "CodeFormer", "face restoration", ("fuse_convs_dict.32.scale.0.weight",),
              "sczhou/CodeFormer codeformer_arch.py", _RESTORE),
    *(
        Signature("upscaler", "Real-ESRGAN", f"x{scale}",
                  (("conv_first.weight", 1, channels), "body.0.rdb1.conv1.weight"),
                  "xinntao/Real-ESRGAN; basicsr rrdbnet_arch.py", _RESTORE)
        for scale, channels in ((4, 3), (2, 12), (1, 48))
    ),
    Signature("upscaler", "ESRGAN", None, ("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"),
              "xinntao/ESRGAN (old names)", _RESTORE),
    Signature("upscaler", "ESRGAN", None, ("conv_first.weight", "RRDB_trunk.0.RDB1.conv1.weight"),
              "xinntao/ESRGAN RRDBNet_arch.py", _RESTORE),
    Signature("upscaler", "HAT", None, ("layers.0.residual_group.overlap_attn.qkv.weight",),
              "XPixelGroup/HAT hat_arch.py", _RESTORE),
    Signature("upscaler", "DAT", None, ("layers.0.blocks.0.attn.attns.0.rpe_biases",
              "conv_first.weight"),
              "zhengchen1999/DAT dat_arch.py", _RESTORE),
    Signature("upscaler", "SwinIR", None,
              ("conv_first.weight", "layers.0.residual_group.blocks.0.attn.qkv.weight"),
              "JingyunLiang/SwinIR network_swinir.py", _RESTORE),
    Signature("upscaler", "Real-ESRGAN", "compact",
              (("body.0.weight", 1, 3), ("body.0.weight", 2, 3), "body.1.weight", "body.2.weight"),
              "basicsr srvgg_arch.py", _RESTORE),
)  # fmt: skip
