"""What a row of the allowlist is made of: checks of values that several packages need.

Every check returns None for what well-formed files hold, or an Anomaly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.strides import are_sizes
from sdtool.checkpoint.trace import Anomaly
from sdtool.checkpoint.values import DICT, LIST, LITERAL_OPCODES, Extent, Global, Instance, Value

Check: TypeAlias = Callable[[Value], Anomaly | None]


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may happen to a name; None means that it never does in a well-formed file."""

    call: Check | None = None
    new: Check | None = None
    state: Check | None = None
    items: Check | None = None
    pairs: Check | None = None
    loads_pickle: bool = False
    """Whether its argument is a pickle that is loaded in turn."""
    is_sealed: bool = False
    """Whether the call's check leaves no room for an argument that changes afterwards."""


_TEXT_NBYTES = 4096

_INT_BITS = 1 << 16


def odd(what: str) -> Anomaly:
    """Return the finding of a call whose arguments are not those of a well-formed file."""
    return Anomaly(RuleId.UNKNOWN_CALL, what)


def state_problem(what: str) -> Anomaly:
    """Return the finding of a state that no well-formed file sets."""
    return Anomaly(RuleId.UNKNOWN_STATE, what)


def is_literal(value: Value, kind: Global) -> bool:
    """Whether `value` is a plain dict, list or set of the pickle, built without a call."""
    return type(value) is Instance and value.opcode in LITERAL_OPCODES and value.target is kind


def is_int(value: Value) -> bool:
    """Whether it is an integer of a size that costs nothing."""
    return type(value) is int and value.bit_length() <= _INT_BITS


def is_text(value: Value, nbytes: int = _TEXT_NBYTES) -> bool:
    """Whether it is a string of at most so many characters."""
    return type(value) is str and len(value) <= nbytes


def is_bytes(value: Value) -> bool:
    """Bytes, as protocol 3 writes them, or as `_codecs.encode` for the protocols below."""
    if isinstance(value, bytes) or (type(value) is Extent and not value.is_text):
        return True
    return type(value) is Instance and (value.target == ENCODE or value.target == BYTES)


def is_sizes(value: Value) -> bool:
    """A shape or strides: a tuple of integers, or a torch.Size."""
    if type(value) is Instance:
        if value.target != SIZE or type(value.args) is not tuple:
            return False
        value = value.args[0] if value.args else ()
    return are_sizes(value) and len(value) <= 64


def is_no_hooks(value: Value) -> bool:
    """What stands for the backward hooks of a tensor: None, or an empty OrderedDict."""
    if value is None:
        return True
    if type(value) is not Instance:
        return False
    if not value.is_untouched and (value.pairs or value.states or value.items):
        return False
    if value.opcode == "EMPTY_DICT":
        return True
    if value.target != ORDERED_DICT or type(value.args) is not tuple:
        return False
    # Python 2 hands it a list of pairs, of which there are none.
    return not value.args or (len(value.args) == 1 and _is_empty_list(value.args[0]))


def _is_empty_list(value: Value) -> bool:
    return is_literal(value, LIST) and not value.items


def nothing(args: Value) -> Anomaly | None:
    """Check a call that takes no arguments."""
    return None if args == () else odd("called with arguments")


def texts(args: Value) -> Anomaly | None:
    """Check arguments that are strings."""
    if type(args) is tuple and len(args) <= 256 and all(is_text(part) for part in args):
        return None
    return odd("arguments other than strings")


METHODS = frozenset({"append", "extend", "add", "update", "setdefault"})


def attributes(state: Value) -> Anomaly | None:
    """Attributes of an object: names that no opcode would look up and call afterwards."""
    if not is_literal(state, DICT):
        return state_problem("a state that is not a plain dict")
    for key, value in state.pairs:
        if type(key) is not str or (key[:2] == "__" and key[-2:] == "__"):
            return state_problem("a state that sets a method")
        if key in METHODS and type(value) in (Global, Instance):
            return state_problem("a state that sets a method")
    return None


def one_int(args: Value) -> Anomaly | None:
    """Check the number of an enumeration."""
    if type(args) is tuple and len(args) == 1 and is_int(args[0]):
        return None
    return odd("not the number of an enumeration")


def one_word(args: Value) -> Anomaly | None:
    """Check the word of an enumeration."""
    if type(args) is tuple and len(args) == 1 and is_text(args[0], 64):
        return None
    return odd("not the word of an enumeration")


ORDERED_DICT = Global("collections", "OrderedDict")

ENCODE = Global("_codecs", "encode")

BYTES = Global("builtins", "bytes")

SIZE = Global("torch", "Size")


def rows(module: str, names: Iterable[str], row: Allowed) -> dict[Global, Allowed]:
    """Return the same row for several names of a module."""
    return {Global(module, name): row for name in names}


REFERENCE = Allowed()

DATA_OBJECT = Allowed(call=nothing, new=nothing, state=attributes)
