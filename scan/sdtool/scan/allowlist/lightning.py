"""Lightning and OmegaConf: hyper-parameters, callbacks and the state of a trainer.

Source: omegaconf/basecontainer.py, base.py; pytorch_lightning callbacks, trainer/states.py.
"""

from __future__ import annotations

from sdtool.checkpoint.trace import Anomaly
from sdtool.checkpoint.values import DICT, Global, Value
from sdtool.scan.allowlist.values import (
    DATA_OBJECT,
    METHODS,
    REFERENCE,
    Allowed,
    is_literal,
    nothing,
    one_int,
    one_word,
    rows,
    state_problem,
)


def _no_attributes(state: Value) -> Anomaly | None:
    if is_literal(state, DICT) and not state.pairs:
        return None
    return state_problem("a state where no serializer writes one")


def _no_methods(pairs: Value) -> Anomaly | None:
    """Items of a dict whose items are its attributes too; a key that a call makes may be any."""
    for key, _ in pairs:
        if type(key) not in (str, int) or (
            type(key) is str and (key in METHODS or (key[:2] == "__" and key[-2:] == "__"))
        ):
            return state_problem("an item that is a method")
    return None


_ATTRIBUTE_DICT = Allowed(call=nothing, new=nothing, state=_no_attributes, pairs=_no_methods)

_CALLBACKS = (
    ("model_checkpoint", "ModelCheckpoint"),
    ("early_stopping", "EarlyStopping"),
    ("lr_monitor", "LearningRateMonitor"),
    ("timer", "Timer"),
    ("stochastic_weight_avg", "StochasticWeightAveraging"),
    ("gradient_accumulation_scheduler", "GradientAccumulationScheduler"),
)

_LIGHTNING_STATES = (
    ("trainer.states", "TrainerFn", Allowed(call=one_word)),
    ("trainer.states", "TrainerStatus", Allowed(call=one_word)),
    ("trainer.states", "RunningStage", Allowed(call=one_word)),
    ("trainer.states", "TrainerState", DATA_OBJECT),
    ("callbacks.early_stopping", "EarlyStoppingReason", Allowed(call=one_int)),
    ("callbacks.timer", "Interval", Allowed(call=one_word)),
    ("utilities.enums", "GradClipAlgorithmType", Allowed(call=one_word)),
)

ROWS: dict[Global, Allowed] = {
    # hyper-parameters and callbacks of Lightning
    **{
        Global(f"{package}.callbacks.{module}", name): REFERENCE
        for package in ("pytorch_lightning", "lightning.pytorch")
        for module, name in _CALLBACKS
    },
    **{
        Global(f"{package}.{module}", name): row
        for package in ("pytorch_lightning", "lightning.pytorch")
        for module, name, row in _LIGHTNING_STATES
    },
    **rows("pytorch_lightning.callbacks", ("model_checkpoint",), REFERENCE),
    **rows("pytorch_lightning.utilities.parsing", ("AttributeDict",), _ATTRIBUTE_DICT),
    **rows("lightning.pytorch.utilities.parsing", ("AttributeDict",), _ATTRIBUTE_DICT),
    **rows("lightning_fabric.utilities.data", ("AttributeDict",), _ATTRIBUTE_DICT),
    **rows("lightning.fabric.utilities.data", ("AttributeDict",), _ATTRIBUTE_DICT),
    **rows("omegaconf.dictconfig", ("DictConfig",), DATA_OBJECT),
    **rows("omegaconf.listconfig", ("ListConfig",), DATA_OBJECT),
    **rows("omegaconf.base", ("ContainerMetadata", "Metadata"), DATA_OBJECT),
    **rows(
        "omegaconf.nodes",
        (
            "AnyNode",
            "StringNode",
            "IntegerNode",
            "FloatNode",
            "BooleanNode",
            "BytesNode",
            "PathNode",
            "UnionNode",
        ),
        DATA_OBJECT,
    ),
}
