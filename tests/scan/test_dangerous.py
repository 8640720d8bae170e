"""The names that are known to do harm: what they are found by, and whom they must not accuse."""

from __future__ import annotations

import pytest

from sdtool.checkpoint.values import Global
from sdtool.scan.allowlist import ALLOWLIST
from sdtool.scan.dangerous import danger_of


@pytest.mark.parametrize(
    ("module", "name", "kind"),
    [
        ("os", "system", "runs-program"),
        ("posix", "anything at all", "runs-program"),
        ("builtins", "eval", "runs-python"),
        ("__builtin__", "execfile", "runs-python"),
        ("functools", "reduce", "calls"),
        ("importlib.metadata", "EntryPoint.load", "imports"),
        ("operator", "attrgetter", "resolves"),
        ("torch.storage", "_load_from_bytes", "unpickles"),
        ("codecs", "open", "opens"),
        ("shutil", "rmtree", "changes"),
        ("urllib.request", "urlopen", "connects"),
        ("ctypes", "CDLL", "native"),
        ("pip._internal", "main", "debugs"),
        ("atexit", "register", "hooks"),
        # by what a dotted name passes through, or by what it ends in
        ("torch.serialization", "os.system", "runs-program"),
        ("argparse", "_os.system", "runs-program"),
        ("collections", "OrderedDict.__init__.__globals__", "resolves"),
        ("typing", "re.enum.sys.modules", "resolves"),
        ("torch.serialization", "os", "resolves"),
        ("os\0collections", "system", "runs-program"),
    ],
)
def test_known(module: str, name: str, kind: str) -> None:
    danger = danger_of(module, name)
    assert danger is not None and danger.kind == kind and danger.why


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("collections", "OrderedDict"),
        ("functools", "partial"),
        ("os.path", "join"),
        ("torch.cuda", "FloatStorage"),
        ("torch.nn.modules.linear", "Linear"),
        ("torch._C._nn", "gelu"),
        ("ultralytics.utils", "IterableSimpleNamespace"),
        ("transformers.training_args", "TrainingArguments"),
        ("somebody.models", "Unet"),
    ],
)
def test_not_known(module: str, name: str) -> None:
    assert danger_of(module, name) is None


def test_no_allowlisted_name_is_accused() -> None:
    accused = {name for name in ALLOWLIST if danger_of(name.module, name.name)}
    # It loads a pickle, which the scanner follows: on the allowlist only as long as that is clean.
    assert accused <= {Global("torch.storage", "_load_from_bytes")}
