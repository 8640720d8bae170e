"""GLOBAL, INST and STACK_GLOBAL: names that a loader would import."""

from __future__ import annotations

from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING

from sdtool.checkpoint.machine.lines import line
from sdtool.checkpoint.machine.state import Machine, truncated
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.trace import Resolve
from sdtool.checkpoint.values import Global, Instance

COMPUTED = Global("<computed>", "<computed>")
"""The target of a STACK_GLOBAL whose module or name is not a string of the stream."""


def load_global(m: Machine) -> None:
    """GLOBAL: a name, of two lines."""
    m.stack.append(_written(m, "GLOBAL", b"c", "utf-8"))


def load_inst(m: Machine) -> None:
    """INST: an instance of a name; its arguments are above the mark."""
    found = _written(m, "INST", b"i", "ascii")
    made = Instance(found, tuple(m.pop_mark()), "INST", m.at)
    m.stack.append(made)
    m.objects += 2
    m.trace.events.append(made)


def load_stack_global(m: Machine) -> None:
    """STACK_GLOBAL: a name, of two strings on the stack."""
    name, module = m.stack.pop(), m.stack.pop()
    if type(name) is str and type(module) is str:
        m.stack.append(_resolved(m, Global(module, name), "STACK_GLOBAL"))
    else:
        event = Resolve(COMPUTED, COMPUTED, "STACK_GLOBAL", m.at, m.protocol >= 4, True)
        m.trace.events.append(event)
        m.stack.append(COMPUTED)


def _written(m: Machine, opcode: str, code: bytes, encoding: str) -> Global:
    """The name of the next two lines."""
    module = line(m, code)
    name = line(m, code)
    # The Python unpickler cuts the last character of a line that the file's end cut.
    written = Global(str(module[:-1], encoding), str(name[:-1], encoding))
    found = _resolved(m, written, opcode)
    if name[-1:] != b"\n":
        whole = Global(written.module, str(name, encoding))
        _resolved(m, whole, opcode)
        m.disagree(
            RuleId.TRUNCATED_NAME, f"the file ends in a name: {whole}", truncated(m.at, "a name")
        )
    return found


def _resolved(m: Machine, written: Global, opcode: str) -> Global:
    """Record that a name is looked up, and return it as `find_class` maps it below protocol 3.

    One Global object a name.
    """
    key = (written.module, written.name, m.protocol < 3)
    found = m.names.get(key)
    if found is None:
        found = written
        if m.protocol < 3:
            pair = (written.module, written.name)
            if pair in NAME_MAPPING:
                found = Global(*NAME_MAPPING[pair])
            elif written.module in IMPORT_MAPPING:
                found = Global(IMPORT_MAPPING[written.module], written.name)
        m.names[key] = found
    m.trace.events.append(Resolve(found, written, opcode, m.at, m.protocol >= 4, False))
    return found
