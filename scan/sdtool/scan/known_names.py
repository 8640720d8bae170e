"""One name that a pickle refers to: allowlisted, dangerous, unknown, or a class of a model."""

from __future__ import annotations

from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.trace import Anomaly
from sdtool.checkpoint.values import Global
from sdtool.scan.allowlist import ALLOWLIST
from sdtool.scan.allowlist.values import Allowed
from sdtool.scan.dangerous import Danger, danger_of

# What whole pickled models are made of: the root of the module, or torch's own layers.
_MODEL_PACKAGES = frozenset(
    {
        "ultralytics", "yolov5", "models", "torchvision", "timm", "segment_anything", "diffusers",
        "transformers", "ldm", "sgm", "basicsr", "realesrgan", "gfpgan", "facexlib", "insightface",
        "open_clip", "clip", "k_diffusion", "spandrel", "peft", "super_gradients", "mmdet",
        "mmengine", "mmcv", "detectron2",
    }
)  # fmt: skip
_MODEL_MODULES = ("torch.nn", "torch.fx", "torch.jit", "torch.optim")


class Known:
    """What is known of one name in one stream."""

    __slots__ = ("called", "danger", "kind", "problem", "row")

    def __init__(
        self,
        kind: str,
        row: Allowed | None = None,
        danger: Danger | None = None,
        problem: Anomaly | None = None,
    ) -> None:
        self.kind = kind
        """allowlisted, dangerous, unknown, allowed, or model (a class of a whole pickled model)."""
        self.row = row
        self.danger = danger
        self.problem = problem
        """The rule that the name itself falls under; None for one on the allowlist."""
        self.called = False

    def copy(self) -> Known:
        """The same of another stream that calls what this one calls."""
        made = Known(self.kind, self.row, self.danger, self.problem)
        made.called = self.called
        return made


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text and bool(text)


def judge_name(target: Global, *, walks_dots: bool = True) -> Known:
    """What is known of a name, and the rule that it falls under."""
    row = ALLOWLIST.get(target)
    if row is not None:
        return Known("allowlisted", row)
    danger = danger_of(target.module, target.name)
    if danger is not None:
        return Known("dangerous", None, danger, Anomaly(RuleId.DANGEROUS_GLOBAL, danger.why))
    if not (_is_plain(target.module) and _is_plain(target.name)):
        return Known("unknown", problem=Anomaly(RuleId.ODD_NAME))
    if "." in target.name and walks_dots:
        return Known("unknown", problem=Anomaly(RuleId.DOTTED_NAME))
    if package_of(target) is not None:
        return Known("model")
    return Known("unknown", problem=Anomaly(RuleId.UNKNOWN_GLOBAL))


def package_of(target: Global) -> str | None:
    """The package of models that a class belongs to."""
    root = target.module.partition(".")[0]
    if root in _MODEL_PACKAGES:
        return root
    inside = any(f"{target.module}.".startswith(f"{module}.") for module in _MODEL_MODULES)
    return "torch.nn" if inside else None
