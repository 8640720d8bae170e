"""The names that may stand in a file, and exactly how: anything else is a finding.

A row says what may happen to one name: nothing but being named, a call (REDUCE), a new object
(NEWOBJ), a state (BUILD), items (APPEND(S), ADDITEMS) and pairs (SETITEM(S)). Each of these is a
check of the arguments that returns None for what serializers write, or an Anomaly. Every check
was thought through against what CPython, torch and numpy do with what it lets pass: no import, no
call of anything that is not a row here itself, no work or memory out of proportion to the file.

Why the arguments matter, by example: `bytearray(x, "idna")` imports a codec; `list(range(10**12))`
fills the memory; `Fraction("1e999999999")` computes for hours; an object with a `__setstate__` in
its own state calls it at the next BUILD; `_rebuild_from_type_v2` calls its first argument.

Source: CPython Modules/_pickle.c (`load_build`, `do_append`); the modules say what else.
"""

from __future__ import annotations

from sdtool.checkpoint.trace import Anomaly
from sdtool.checkpoint.values import DICT, Global, Value
from sdtool.scan.allowlist import lightning, numpy, standard, torch
from sdtool.scan.allowlist.standard import OBJECT
from sdtool.scan.allowlist.values import Allowed, is_literal, odd

RECONSTRUCTOR = Global("copyreg", "_reconstructor")


def _reconstructor(args: Value) -> Anomaly | None:
    """`copyreg._reconstructor(class, base, state)`: how protocols 0 and 1 make an object."""
    if type(args) is not tuple or len(args) != 3 or type(args[0]) is not Global:
        return odd("not the arguments of an object")
    row = ALLOWLIST.get(args[0])
    if row is None or row.new is None:
        return odd(f"an object of {args[0].module}.{args[0].name}")
    plain = args[1] == OBJECT and args[2] is None
    if plain:
        return None
    base, content = args[1:]
    if row.pairs is not None and base == DICT and is_literal(content, DICT):
        return row.pairs(content.pairs)
    return odd("an object made of something else")


ALLOWLIST: dict[Global, Allowed] = {
    **torch.ROWS,
    **standard.ROWS,
    **numpy.ROWS,
    **lightning.ROWS,
    RECONSTRUCTOR: Allowed(call=_reconstructor),
}
"""What may happen to each name; a name that is not here is a finding."""
