"""What the configuration of a Keras model has Keras build: code, functions, classes of others.

    {"module": "keras.layers", "class_name": "Dense", "config": {...}, "registered_name": null}
    {"module": "os", "class_name": "function", "config": "system"}
    {"class_name": "__lambda__", "config": {"code": <marshalled Python, base64>}}

Keras looks such names up while it reads the model, and imported any module until 3.9
(CVE-2025-1550); of `.h5` files it reads the same configuration without `module`, and runs a Lambda
in any case (CVE-2024-3660, CVE-2025-9905).

Source: keras/src/saving/serialization_lib.py (`deserialize_keras_object`,
`_retrieve_class_or_fn`); keras/src/layers/core/lambda_layer.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.trace import Anomaly

_OWN = ("keras", "tf_keras", "keras_core", "keras_hub", "keras_nlp", "keras_cv")
_TENSORFLOW = ("tensorflow.keras", "tensorflow.python.keras")
_CODE = frozenset({"Lambda", "__lambda__"})
_HARMFUL = frozenset(
    {
        "enable_unsafe_deserialization", "get_file", "load_model", "load_weights", "eval", "exec",
        "compile", "open", "getattr", "setattr", "__import__", "input", "breakpoint",
    }
)  # fmt: skip
"""Functions of Keras and of Python that no layer, loss or metric is: they load, fetch or run."""
_MOST_NBYTES = 8 << 20
_SHOWN = 120


def config_anomalies(config: bytes, member: str | None) -> Iterator[Anomaly]:
    """Note, once for each rule, what a configuration names beside Keras's own classes.

    Raises:
        ValueError: it is not JSON, or larger or nested more deeply than any.
    """
    if len(config) > _MOST_NBYTES:
        raise ValueError("too large")
    try:
        parsed: Any = json.loads(config)
    except RecursionError as e:
        raise ValueError("nested too deeply") from e
    seen: set[RuleId] = set()
    for rule, detail in _named(parsed):
        if rule not in seen:
            seen.add(rule)
            yield Anomaly(rule, detail[:_SHOWN], None, member)


def _named(parsed: Any) -> Iterator[tuple[RuleId, str]]:
    pending = [parsed]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, dict):
            pending.extend(value.values())
            found = _judged(value)
            if found is not None:
                yield found


def _judged(value: dict[str, Any]) -> tuple[RuleId, str] | None:
    """The rule that one object of the configuration falls under, and what it names."""
    cls, module = value.get("class_name"), value.get("module")
    if not isinstance(cls, str):
        return None
    if cls in _CODE:
        return RuleId.KERAS_LAMBDA, cls
    config = value.get("config")
    name = config if cls == "function" and isinstance(config, str) else cls
    if not isinstance(module, str):
        registered = value.get("registered_name")
        is_custom = isinstance(registered, str) and ">" in registered
        return (RuleId.KERAS_CUSTOM_OBJECT, str(registered)) if is_custom else None
    top = module.partition(".")[0]
    whole = f"{module}.{name}"
    if name.rpartition(".")[2] in _HARMFUL:
        return RuleId.KERAS_CALLABLE, whole
    if top in _OWN or module.startswith(_TENSORFLOW):
        return None
    if module == "builtins":  # how Keras writes a function of the program that saved the model
        return RuleId.KERAS_CUSTOM_OBJECT, whole
    if top in sys.stdlib_module_names:
        return RuleId.KERAS_CALLABLE, whole
    return RuleId.KERAS_MODULE, whole
