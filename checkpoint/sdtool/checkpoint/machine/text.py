"""The text opcodes of protocol 0: GET, PUT, UNICODE, STRING, PERSID, FLOAT, INT and LONG."""

from __future__ import annotations

import codecs
import re
import warnings

from sdtool.checkpoint.errors import Malformed
from sdtool.checkpoint.machine.lines import LINE_NBYTES, line
from sdtool.checkpoint.machine.state import Machine, truncated
from sdtool.checkpoint.reading import PICKLE
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.values import Extent, Persistent, Py2Bytes, Value

# What picklers write for INT, LONG and FLOAT. Anything else is read in different ways: `010` is 8
# to strtol and an error to int(x, 0), `1_0` is a float to Python and not to C.
_PLAIN_INT = rb"(?:0|-?[1-9][0-9]*)\Z"
_PLAIN_FLOAT = rb"[+-]?(?:[0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|inf|nan)\Z"
_OCTAL = rb"(-?)0+([0-7]+)\Z"


def load_get(m: Machine) -> None:
    """GET: the memo entry of a decimal index."""
    m.stack.append(m.get(int(_digits(m, b"g"))))


def load_put(m: Machine) -> None:
    """PUT: the top of the stack into the memo."""
    index = int(_digits(m, b"p"))
    if index < 0:
        raise Malformed(f"PUT with a negative index at offset {m.at:,}")
    m.check_memo_index(index)
    m.put(index, m.stack[-1])


def load_float(m: Machine) -> None:
    """FLOAT: a decimal number."""
    written = _digits(m, b"F")
    if not re.match(_PLAIN_FLOAT, written):
        _odd_number(m, written)
    m.stack.append(float(written))


def load_int(m: Machine) -> None:
    """INT: a decimal integer, or a bool."""
    written = _digits(m, b"I")
    if written in (b"00", b"01"):  # as picklers write a bool
        m.stack.append(written == b"01")
    elif not written and m.base + m.pos > m.at + 2:
        m.stack.append(0)  # a NUL and no digit before it: to strtol, a number that has ended
    else:
        m.stack.append(_integer(m, written, written))


def load_long(m: Machine) -> None:
    """LONG: a decimal integer with an L behind it."""
    written = _digits(m, b"L")
    m.stack.append(_integer(m, written, written.removesuffix(b"L")))


def load_unicode(m: Machine) -> None:
    """UNICODE: text with its escapes."""
    written = _text(m, b"V")
    m.stack.append(written if isinstance(written, Extent) else str(written, "raw-unicode-escape"))


def load_string(m: Machine) -> None:
    """STRING: a quoted string of python 2."""
    written = _text(m, b"S")
    if isinstance(written, Extent):
        m.stack.append(written)
        return
    if len(written) < 2 or written[0] != written[-1] or written[0] not in b"\"'":
        raise Malformed(f"an unquoted STRING at offset {m.at:,}")
    m.stack.append(python2_string(_unescaped(written[1:-1])))


def load_persid(m: Machine) -> None:
    """PERSID: an id of what is outside of the pickle."""
    m.objects += 1
    persistent = Persistent(str(_whole_line(m, b"P"), "ascii"), m.at)
    m.stack.append(persistent)
    m.trace.events.append(persistent)
    if m.profile is PICKLE:
        m.refuse_persistent_id()


def python2_string(raw: bytes) -> Value:
    """What a string of python 2 becomes: text where it is ASCII."""
    return str(raw, "ascii") if raw.isascii() else Py2Bytes(raw)


def _whole_line(m: Machine, code: bytes) -> bytes:
    """The next line, without its newline."""
    found = line(m, code)
    if found[-1:] != b"\n":
        raise truncated(m.at, "a line")
    return found[:-1]


def _digits(m: Machine, code: bytes) -> bytes:
    """The next line, up to a NUL, where C's number ends and Python sees none."""
    written = _whole_line(m, code)
    if b"\0" in written:
        _odd_number(m, written)
        written = written[: written.index(b"\0")]
    return written


def _text(m: Machine, code: bytes) -> bytes | Extent:
    """The next line; a long one by its place, with its escapes: nobody takes it for a text."""
    start = m.pos
    written = _whole_line(m, code)
    if m.pos - start > LINE_NBYTES:
        return Extent(m.base + start, m.pos - start - 1, is_text=False)
    return written


def _integer(m: Machine, written: bytes, digits: bytes) -> int:
    if re.match(_PLAIN_INT, digits):
        return int(digits)
    _odd_number(m, written)
    octal = re.match(_OCTAL, digits)
    return int(octal[1] + octal[2], 8) if octal else int(digits, 0)


def _odd_number(m: Machine, written: bytes) -> None:
    m.disagree(
        RuleId.LOADER_DISAGREEMENT,
        f"a number that loaders read differently: {ascii(written[:40])[1:]}",
        f"a number that loaders read differently at offset {m.at:,}",
    )


def _unescaped(quoted: bytes) -> bytes:
    if b"\\" not in quoted:
        return quoted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unknown escape is kept as it stands, with a warning
        return codecs.escape_decode(quoted)[0]
