"""SETITEM(S), APPEND(S), ADDITEMS: in place, so that every alias sees it."""

from __future__ import annotations

from sdtool.checkpoint.machine.state import Machine
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.trace import Mutation
from sdtool.checkpoint.values import Instance, Pairs, Value

_LITERALS = {
    "SETITEM": ("EMPTY_DICT", "DICT"),
    "SETITEMS": ("EMPTY_DICT", "DICT"),
    "APPEND": ("EMPTY_LIST", "LIST"),
    "APPENDS": ("EMPTY_LIST", "LIST"),
    "ADDITEMS": ("EMPTY_SET",),
}
"""What an opcode changes without any method that could be someone's own."""


def check_hashes(m: Machine, keys: list[Value], offset: int) -> None:
    """Note keys that are looked up for hours."""
    if keys:
        from sdtool.checkpoint.key_hashes import KeyHashes  # keys of state dicts are text

        hashes = m.trace.hashes = m.trace.hashes or KeyHashes()
        if hashes.add(keys):
            m.note(RuleId.HASH_COLLISION, hashes.found or "", offset)


def set_items(m: Machine, target: Value, flat: list[Value], opcode: str, offset: int) -> None:
    """Set items of `target`, keys and values in turn, and record it unless that is a literal dict.

    A last key without a value is left out.
    """
    if len(flat) % 2:
        flat.pop()
    check_hashes(m, [key for key in flat[::2] if type(key) is not str], offset)
    if type(target) is Instance:
        content = target.content()
        begin = 0
        if isinstance(content.pairs, Pairs):
            begin = len(content.pairs.flat)
            content.pairs.flat.extend(flat)
            flat = content.pairs.flat
        else:
            content.pairs = Pairs(flat)
        content.mutated = offset
        if target.opcode not in _LITERALS[opcode]:
            these = Pairs(flat, begin, len(flat))
            m.trace.events.append(Mutation(opcode, target, these, offset))
    else:
        m.trace.events.append(Mutation(opcode, target, Pairs(flat), offset))


def append(m: Machine, target: Value, items: list[Value], opcode: str, offset: int) -> None:
    """Append to `target`, and record it unless that is a literal list or set."""
    if type(target) is Instance:
        if target.opcode not in _LITERALS[opcode]:
            m.trace.events.append(Mutation(opcode, target, list(items), offset))
        content = target.content()
        if isinstance(content.items, list):
            content.items.extend(items)
        else:
            content.items = items
        content.mutated = offset
    else:
        m.trace.events.append(Mutation(opcode, target, items, offset))
