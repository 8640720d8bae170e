"""The standard library: containers, numbers, text, dates, paths.

Source: CPython Lib/datetime.py, Lib/decimal.py, Lib/fractions.py, Modules/arraymodule.c.
"""

from __future__ import annotations

import re

from sdtool.checkpoint.key_hashes import KeyHashes
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.trace import Anomaly
from sdtool.checkpoint.values import DICT, LIST, LITERAL_OPCODES, Extent, Global, Instance, Value
from sdtool.scan.allowlist.values import (
    BYTES,
    DATA_OBJECT,
    ENCODE,
    ORDERED_DICT,
    REFERENCE,
    Allowed,
    attributes,
    is_bytes,
    is_int,
    is_literal,
    is_text,
    nothing,
    odd,
    rows,
    texts,
)

_DIGITS = 4096  # CPython itself refuses to read more than 4,300 digits


def _is_container(value: Value) -> bool:
    """Something whose iteration runs no code and ends: a tuple, or a literal of the pickle."""
    return type(value) is tuple or (type(value) is Instance and value.opcode in LITERAL_OPCODES)


def _container(args: Value) -> Anomaly | None:
    """`list(x)`, `set(x)`, `OrderedDict(x)`: only of what already stands in the file."""
    if args == ():
        return None
    if type(args) is tuple and len(args) == 1 and _is_container(args[0]):
        return _colliding(args[0])
    return odd("made of something other than a plain container")


def _colliding(content: Value) -> Anomaly | None:
    """Whether a set or dict of `content`, or of pairs in it, would have colliding keys."""
    items = content if type(content) is tuple else content.items
    hashes, of_pairs = KeyHashes(), KeyHashes()
    hashes.add(items)
    of_pairs.add(_first_of(item) for item in items)
    found = hashes.found or of_pairs.found
    return None if found is None else Anomaly(RuleId.HASH_COLLISION, found)


def _first_of(item: Value) -> Value:
    """The key of a pair: a tuple or a literal list."""
    parts = item if type(item) is tuple else item.items if type(item) is Instance else ()
    return parts[0] if parts else None


def _deque(args: Value) -> Anomaly | None:
    if type(args) is tuple and len(args) == 2 and (args[1] is None or is_int(args[1])):
        args = args[:1]
    return _container(args)


def _defaultdict(args: Value) -> Anomaly | None:
    if args == () or (type(args) is tuple and len(args) == 1 and args[0] is None):
        return None
    if type(args) is tuple and args and type(args[0]) is Global and args[0] in _FACTORIES:
        return _container(args[1:])
    return odd("a default that is not a plain container")


def _bytes(args: Value) -> Anomaly | None:
    if args == () or (type(args) is tuple and len(args) == 1 and is_bytes(args[0])):
        return None
    return _encode(args)


def _encode(args: Value) -> Anomaly | None:
    """`_codecs.encode(text, "latin1")`: any other encoding is a module that gets imported."""
    if type(args) is not tuple or len(args) != 2:
        return _size_problem(args)
    text, encoding = args
    is_text = type(text) is str or (type(text) is Extent and text.is_text)
    if is_text and type(encoding) is str and encoding in ("latin1", "latin-1"):
        return None
    return odd("an encoding other than latin-1, which is a module that gets imported")


def _size_problem(args: Value) -> Anomaly:
    if type(args) is tuple and len(args) == 1 and type(args[0]) is int:
        return Anomaly(RuleId.OVERSIZED_ARGUMENT, "a number where bytes belong: so many zeros")
    return odd("arguments other than text and encoding")


def _number(args: Value) -> Anomaly | None:
    """`int`, `float`, `bool`: of a number or of a few digits."""
    if args == () or (type(args) is tuple and len(args) == 1 and _is_scalar(args[0])):
        return None
    return odd("made of something other than a number")


def _is_scalar(value: Value) -> bool:
    return type(value) in (bool, float) or is_int(value) or is_text(value, _DIGITS)


def _numbers(args: Value) -> Anomaly | None:
    """`complex`, `slice`, `range`, `timedelta`: a few numbers, or None."""
    if type(args) is tuple and len(args) <= 8:
        if all(part is None or type(part) in (bool, float) or is_int(part) for part in args):
            return None
    return odd("arguments other than numbers")


def _text(args: Value) -> Anomaly | None:
    if args == ():
        return None
    if type(args) is tuple and len(args) == 1:
        if type(args[0]) is str or (type(args[0]) is Extent and args[0].is_text):
            return None
    return odd("made of something other than a string")


def _type_of_none(args: Value) -> Anomaly | None:
    if type(args) is tuple and len(args) == 1 and (args[0] is None or args[0] == _ELLIPSIS):
        return None  # how picklers write the class of None
    return Anomaly(RuleId.DANGEROUS_CALL, "looks up or makes a class")


def _moment(args: Value) -> Anomaly | None:
    """`datetime`, `date`, `time`: the packed bytes, with a time zone that is one."""
    if type(args) is tuple and 1 <= len(args) <= 2:
        packed = is_bytes(args[0]) or is_text(args[0], 10)
        if packed and (len(args) == 1 or _is_zone(args[1])):
            return None
    return odd("not the packed bytes of a date")


def _is_zone(value: Value) -> bool:
    if value is None or value == Global("datetime", "timezone.utc"):
        return True
    return type(value) is Instance and value.target == _TIMEZONE


def _timezone(args: Value) -> Anomaly | None:
    if type(args) is tuple and 1 <= len(args) <= 2:
        delta = args[0]
        if type(delta) is Instance and delta.target == _TIMEDELTA:
            if len(args) == 1 or is_text(args[1]):
                return None
    return odd("not the arguments of a time zone")


_DECIMAL = r"(?i:[+-]?(?:[0-9]*\.?[0-9]*(?:[eE][+-]?[0-9]{1,9})?|inf(inity)?|s?nan)\Z)"

_FRACTION = r"-?[0-9]+(?:/[0-9]+)?\Z"


def _decimal(args: Value) -> Anomaly | None:
    if type(args) is tuple and len(args) == 1 and is_text(args[0], _DIGITS):
        if re.match(_DECIMAL, args[0]):
            return None
    return odd("not the digits of a number")


def _fraction(args: Value) -> Anomaly | None:
    """Whole numbers only: a decimal exponent is computed out when the fraction is made."""
    if type(args) is tuple and 1 <= len(args) <= 2 and all(is_int(part) for part in args):
        return None
    if type(args) is tuple and len(args) == 1 and is_text(args[0], _DIGITS):
        if re.match(_FRACTION, args[0]):
            return None
        if "e" in args[0].lower():
            return Anomaly(RuleId.OVERSIZED_ARGUMENT, "an exponent that is computed out")
    return odd("not a fraction of whole numbers")


def _array(args: Value) -> Anomaly | None:
    if type(args) is tuple and 1 <= len(args) <= 2 and _is_type_code(args[0]):
        if len(args) == 1 or is_bytes(args[1]) or is_literal(args[1], LIST):
            return None
    return odd("not the arguments of an array")


def _array_reconstructor(args: Value) -> Anomaly | None:
    if type(args) is tuple and len(args) == 4 and args[0] == Global("array", "array"):
        if _is_type_code(args[1]) and type(args[2]) is int and is_bytes(args[3]):
            return None
    return odd("not the arguments of an array")


def _is_type_code(value: Value) -> bool:
    return type(value) is str and len(value) == 1 and value in "bBuwhHiIlLqQfd"


def _anything(value: Value) -> Anomaly | None:
    return None  # each value in it is judged where it is made


OBJECT = Global("builtins", "object")

_ELLIPSIS = Global("builtins", "Ellipsis")

_TIMEDELTA = Global("datetime", "timedelta")

_TIMEZONE = Global("datetime", "timezone")

_FACTORIES = frozenset(
    Global("builtins", name)
    for name in ("dict", "list", "set", "int", "float", "str", "tuple", "bool")
) | {ORDERED_DICT}

ROWS: dict[Global, Allowed] = {
    # collections and builtins
    ORDERED_DICT: Allowed(call=_container, new=nothing, state=attributes, pairs=_anything),
    **rows("collections", ("Counter",), Allowed(call=_container, pairs=_anything)),
    **rows("collections", ("defaultdict",), Allowed(call=_defaultdict, pairs=_anything)),
    **rows("collections", ("deque",), Allowed(call=_deque, items=_anything)),
    **rows("builtins", ("set", "frozenset", "tuple"), Allowed(call=_container)),
    LIST: Allowed(call=_container, items=_anything),
    DICT: Allowed(call=_container, pairs=_anything),
    BYTES: Allowed(call=_bytes),
    **rows("builtins", ("bytearray",), Allowed(call=_bytes)),
    ENCODE: Allowed(call=_encode),
    **rows("builtins", ("int", "float", "bool"), Allowed(call=_number)),
    **rows("builtins", ("complex", "slice", "range"), Allowed(call=_numbers)),
    **rows("builtins", ("str",), Allowed(call=_text)),
    **rows("builtins", ("type",), Allowed(call=_type_of_none)),
    **rows("builtins", ("Ellipsis", "NotImplemented"), REFERENCE),
    OBJECT: Allowed(call=nothing, new=nothing),
    # the standard library's values
    **rows("datetime", ("datetime", "date", "time"), Allowed(call=_moment)),
    _TIMEDELTA: Allowed(call=_numbers),
    _TIMEZONE: Allowed(call=_timezone),
    **rows("decimal", ("Decimal",), Allowed(call=_decimal)),
    **rows("fractions", ("Fraction",), Allowed(call=_fraction)),
    **rows("uuid", ("UUID",), Allowed(new=nothing, state=attributes)),
    **rows(
        "pathlib",
        (
            "Path",
            "PosixPath",
            "WindowsPath",
            "PurePath",
            "PurePosixPath",
            "PureWindowsPath",
        ),
        Allowed(call=texts),
    ),
    **rows(
        "pathlib._local",
        ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath"),
        Allowed(call=texts),
    ),
    **rows("argparse", ("Namespace",), DATA_OBJECT),
    **rows("types", ("SimpleNamespace",), DATA_OBJECT),
    **rows("array", ("array",), Allowed(call=_array)),
    **rows("array", ("_array_reconstructor",), Allowed(call=_array_reconstructor)),
    **rows("typing", ("Any",), REFERENCE),
}
