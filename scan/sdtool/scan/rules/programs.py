"""Rules for what models of other programs carry beside their weights."""

from __future__ import annotations

from sdtool.checkpoint.rule_ids import RuleId
from sdtool.scan.findings import Rule, Severity
from sdtool.scan.rules.hints import DO_NOT_LOAD, DOWNLOAD_AGAIN

_SAFE_MODE = (
    "Load it with the newest Keras and `safe_mode=True`, and only if you trust its publisher; or "
    "look for a safetensors version."
)

RULES: dict[RuleId, Rule] = {
    RuleId.CHAT_TEMPLATE: Rule(
        Severity.INFO,
        title="a chat template",
        why=(
            "A Jinja program that comes with a language model. llama.cpp interprets it by itself; "
            "Python programs render it, today in a sandbox."
        ),
        hint="Nothing, if there are no other findings. `--explain` shows it as text.",
    ),
    RuleId.CUSTOM_OPERATOR: Rule(
        Severity.INFO,
        title="operators that are not part of ONNX",
        why="They run in a library that the program has to load. The file does not contain it.",
        hint="Get that library only from its publisher, or do not use the model.",
    ),
    RuleId.EXTERNAL_PATH: Rule(
        Severity.LOW,
        title="values in a file outside the model's folder",
        why=(
            "A program that follows the path reads whatever file is there on your disk, and takes "
            "it for weights (CVE-2022-25882, CVE-2024-27318)."
        ),
        hint=DOWNLOAD_AGAIN,
    ),
    RuleId.KERAS_CALLABLE: Rule(
        Severity.HIGH,
        title="a Keras configuration that names a function which loads or runs something",
        why=(
            "Keras looks the name up while it loads the model, and calls it; until 3.9 it imported "
            "any module for that (CVE-2025-1550, CVE-2025-8747, CVE-2025-9906)."
        ),
        hint=DO_NOT_LOAD,
    ),
    RuleId.KERAS_CUSTOM_OBJECT: Rule(
        Severity.INFO,
        title="a Keras configuration that names a custom class",
        why="The model loads only in a program that has registered this class.",
        hint="Nothing; get the source of the class from its publisher.",
    ),
    RuleId.KERAS_LAMBDA: Rule(
        Severity.LOW,
        title="a Keras layer that is Python code",
        why=(
            "A Lambda layer carries compiled Python. Keras 3 runs it with `safe_mode=False` only; "
            "older versions, and those that load .h5 files, run it in any case (CVE-2024-3660, "
            "CVE-2025-9905)."
        ),
        hint=_SAFE_MODE,
    ),
    RuleId.KERAS_MODULE: Rule(
        Severity.LOW,
        title="a Keras configuration that names a module of other packages",
        why="Keras imports the module to load the model, and importing runs its code.",
        hint=_SAFE_MODE,
    ),
    RuleId.TEMPLATE_CODE: Rule(
        Severity.HIGH,
        title="a chat template that reaches for Python's internals",
        why=(
            "No prompt needs that. A program that renders templates without a sandbox "
            "(llama-cpp-python before 0.2.72, CVE-2024-34359) runs what the template says."
        ),
        hint=DO_NOT_LOAD,
    ),
}
