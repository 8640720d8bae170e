"""Archives that carry a program: formats that are made to run one, and members that are one.

    code/**/*.py, constants.pkl              TorchScript
    .data/extern_modules, pkg/**/*.py        torch.package: imports the sources it holds
    archive_format = pt2, models/*.json      torch.export: interprets a graph, loads libraries
    MAR-INF/MANIFEST.json, handler.py        TorchServe: runs the handler
    config.json, model.weights.h5            Keras 3: a Lambda layer is Python

Names are those below the archive's root.

Source: torch/package/package_importer.py; torch/export/pt2_archive/constants.py;
torch/csrc/jit/serialization/export_module.cpp; pytorch/serve model-archiver; keras/src/saving.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator

from sdtool.checkpoint.errors import Unsupported
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.trace import Anomaly

_PYTHON = frozenset({".py", ".pyc", ".pyo", ".pyw", ".pyx"})
_NATIVE = frozenset({".so", ".dll", ".dylib", ".pyd", ".exe", ".o", ".a", ".cubin", ".hsaco"})


@dataclass(frozen=True, slots=True)
class ProgramFormat:
    """A kind of archive that runs something when it is loaded as what it is."""

    format: Format
    rule: RuleId | None
    label: str
    hint: str
    detail: str = ""
    """What the finding says beside the rule's title."""

    def error(self, where: str) -> Unsupported:
        """Why no weights can be taken of it."""
        return Unsupported(f"{self.label}, not a state dict", where=where, hint=self.hint)


_STATE_DICT = "ask its publisher for the weights, saved from `module.state_dict()`"

TORCHSCRIPT = ProgramFormat(
    Format.TORCHSCRIPT, RuleId.TORCHSCRIPT, "a TorchScript program", _STATE_DICT
)
PACKAGE = ProgramFormat(
    Format.TORCH_PACKAGE,
    RuleId.PACKAGED_CODE,
    "a torch.package archive with its own sources",
    _STATE_DICT,
    "a torch.package archive with its own sources",
)
EXPORTED = ProgramFormat(
    Format.TORCH_EXPORT,
    RuleId.EXPORTED_PROGRAM,
    "an exported program of torch.export",
    _STATE_DICT,
    "torch.export.load runs its graph",
)
SERVED = ProgramFormat(
    Format.TORCHSERVE,
    RuleId.PACKAGED_CODE,
    "a TorchServe archive with its own handler",
    "unpack it, then give sdtool the model inside",
    "a TorchServe archive with its own handler",
)
KERAS = ProgramFormat(
    Format.KERAS,
    None,
    "a Keras model",
    "open it with Keras in safe mode, or look for a safetensors version",
)


def program_format(names: Collection[str]) -> ProgramFormat | None:
    """What kind of program an archive with members `names` is, or None.

    torch looks its records up without regard to case.
    """
    folded = {name.lower() for name in names}
    if ".data/extern_modules" in folded:
        return PACKAGE
    if "archive_format" in folded or "serialized_exported_program.json" in folded:
        return EXPORTED
    if any(name.startswith("data/aotinductor/") for name in folded):
        return EXPORTED
    if "mar-inf/manifest.json" in folded:
        return SERVED
    if {"config.json", "metadata.json", "model.weights.h5"} <= folded:
        return KERAS
    if "constants.pkl" in folded:
        return TORCHSCRIPT
    return None


def code_anomalies(names: Iterable[str]) -> Iterator[Anomaly]:
    """The members that are sources or libraries by their name: one anomaly for all of a kind."""
    found: dict[str, list[str]] = {}
    for name in names:
        suffix = os.path.splitext(name)[1].lower()
        if suffix in _PYTHON:
            found.setdefault("Python", []).append(name)
        elif suffix in _NATIVE or ".so." in name:
            found.setdefault("native code", []).append(name)
    for what, members in found.items():
        many = f" and {len(members) - 1:,} more" if len(members) > 1 else ""
        yield Anomaly(RuleId.PACKAGED_CODE, f"{what} in {members[0]}{many}", None, members[0])
