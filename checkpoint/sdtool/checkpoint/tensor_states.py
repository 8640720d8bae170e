"""What a pickle sets on a tensor once it is built: harmless, or another tensor than before.

Source: torch/_utils.py (`_set_obj_state`), torch/_tensor.py (`_rebuild_from_type_v2`,
`Tensor.__setstate__`); torch/csrc/Module.cpp (`THPModule_set_tensor_metadata`).
"""

from __future__ import annotations

from sdtool.checkpoint.contents import mapping
from sdtool.checkpoint.errors import Malformed
from sdtool.checkpoint.keys import key_name
from sdtool.checkpoint.values import Instance, Value

WITH_STATE = frozenset({"_rebuild_parameter_with_state", "_rebuild_from_type_v2"})
_CHANGES = frozenset(
    {"data", "real", "imag", "grad", "_grad", "grad_dtype", "requires_grad", "names", "is_leaf"}
)
"""Attributes of a tensor that change it when they are set, or cannot be set."""


def check_state(args: tuple[Value, ...]) -> None:
    """Refuse a state whose attributes change the tensor itself.

    Source: torch/_utils.py (`_set_obj_state`), torch/_tensor.py (`_rebuild_from_type_v2`).
    """
    state = args[3] if len(args) == 4 else None
    if len(args) != 4 or (type(state) is tuple and len(state) not in (0, 2)):
        raise Malformed("a tensor with a state that sdtool does not read")
    for part in state if type(state) is tuple else (state,):
        pairs = () if part is None else mapping(part)
        if pairs is None:
            raise Malformed("a tensor with a state that sdtool does not read")
        for key, _ in pairs:
            if type(key) is not str or key in _CHANGES or key.startswith("__"):
                raise Malformed(f"a tensor whose state sets {key_name(key)!a} of it")


def is_harmless(value: Instance) -> bool:
    """Whether the states of an old Parameter only say how it was trained.

    torch up to 0.3 wrote `Parameter(data)` and BUILD with `(requires_grad, volatile, hooks)`.
    """
    return value.target.name in ("Parameter", "Variable") and all(
        type(state) is tuple and len(state) == 3 and type(state[0]) is bool
        for state in value.states
    )


def lazy_bits(metadata: Value) -> tuple[bool, bool]:
    """The conj and neg bits: the optional last argument is a dict of them.

    torch sets a bit that is named, whatever the dict says of it.

    Raises:
        Malformed: it is anything else.

    Source: torch/csrc/Module.cpp (`THPModule_set_tensor_metadata`), ATen `_set_neg`.
    """
    if metadata is None:
        return False, False
    pairs = mapping(metadata)
    if pairs is None or any(k not in ("conj", "neg") or type(v) is not bool for k, v in pairs):
        raise Malformed("a tensor with metadata that sdtool does not know")
    named = {key for key, _ in pairs}
    return "conj" in named, "neg" in named
