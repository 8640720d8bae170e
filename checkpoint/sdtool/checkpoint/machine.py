"""The inert pickle machine: what any loader would do with a stream, as data.

It keeps the real stack, marks and memo, imports nothing and calls nothing. Where CPython's C
unpickler, its Python unpickler and torch disagree, the Trace holds the union of what any of them
would run, an Anomaly says so, and the value is the C unpickler's (none, if that one fails).

An opcode costs no object: the loop runs over a window of the source with local variables, and
only names, calls, mutations and persistent ids are recorded.

    80 02             PROTO 2
    63 ... 0a ... 0a  GLOBAL 'collections OrderedDict'   -> Resolve
    29 52             EMPTY_TUPLE, REDUCE                -> Instance(OrderedDict, ())
    28 58 ... 75      MARK, keys and values, SETITEMS    -> Mutation, pairs of the Instance
    62                BUILD                              -> Mutation, states of the Instance
    2e                STOP

Source: CPython 3.11, Modules/_pickle.c (`load_*`, `_Unpickler_Read*`, `find_class`) and
Lib/pickle.py (`_Unpickler`, `_Unframer`); the opcodes in Lib/pickletools.py.
"""

from __future__ import annotations

import codecs
import re
import warnings
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from struct import Struct
from struct import error as struct_error
from typing import TypeAlias

from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed, Truncated
from sdtool.checkpoint.joblib_arrays import array_of, joblib_class
from sdtool.checkpoint.key_hashes import KeyHashes
from sdtool.checkpoint.limits import DEFAULT_LIMITS, Limits
from sdtool.checkpoint.reading import PICKLE, LoaderProfile, Stream
from sdtool.checkpoint.source import Source
from sdtool.checkpoint.trace import Anomaly, Mutation, Resolve, Trace
from sdtool.checkpoint.values import (
    BYTEARRAY,
    DICT,
    FROZENSET,
    LIST,
    LITERAL_OPCODES,
    SET,
    Ext,
    Extent,
    Global,
    Instance,
    Persistent,
    Py2Bytes,
    Value,
)

COMPUTED = Global("<computed>", "<computed>")
"""The target of a STACK_GLOBAL whose module or name is not a string of the stream."""

HIGHEST_PROTOCOL = 5

Bounds: TypeAlias = tuple[int, int]
"""The opcodes and the objects (as `Limits.objects` counts them) that one run may cost."""

_WINDOW_NBYTES = 1 << 18
_FIRST_WINDOW_NBYTES = 1 << 17
_LINE_NBYTES = 1 << 20
_LINE_CHUNK_NBYTES = 1 << 20
_NO_FRAME = 1 << 63
_ABSENT = object()
_HOLES = 4096
_ANOMALIES_PER_SLUG = 20

# What picklers write for INT, LONG and FLOAT. Anything else is read in different ways: `010` is 8
# to strtol and an error to int(x, 0), `1_0` is a float to Python and not to C.
_PLAIN_INT = re.compile(rb"(?:0|-?[1-9][0-9]*)\Z")
_PLAIN_FLOAT = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|inf|nan)\Z")
_OCTAL = re.compile(rb"(-?)0+([0-7]+)\Z")

_u2 = Struct("<H").unpack_from
_i4 = Struct("<i").unpack_from
_u4 = Struct("<I").unpack_from
_u8 = Struct("<Q").unpack_from
_f8 = Struct(">d").unpack_from


def run_pickle(
    source: Source,
    offset: int = 0,
    *,
    profile: LoaderProfile = PICKLE,
    limits: Limits = DEFAULT_LIMITS,
    bounds: Bounds | None = None,
    member: str | None = None,
) -> Stream:
    """Follow the pickle at `offset` of `source` to its STOP, or to the first bad byte.

    `bounds` are the opcodes and objects that it may cost; without them those of `limits`.

    Positions in the Trace are bytes from the start of `source`. `Trace.nbytes` is the length of
    the pickle, so that the next one begins at `offset + trace.nbytes`.

    Raises:
        Unreadable: the operating system refused a read. Bad content never raises: the error is in
            the Stream, and the Trace holds all that ran before it.
    """
    trace = Trace()
    bounds = bounds or (limits.opcodes, limits.objects)
    value, error = _run(source, offset, trace, profile, limits, bounds)
    return Stream(member, offset, profile, source, trace, value, error)


@dataclass(slots=True)
class _State:
    """What the loop shares with the handlers of the rarer opcodes."""

    source: Source
    end: int
    trace: Trace
    profile: LoaderProfile
    limits: Limits
    bounds: Bounds
    memo: list[Value]
    """Entry by entry, as picklers put them; `_ABSENT` where one was left out."""
    far: dict[int, Value]
    """Entries beyond the end of the list: no pickler has any. All later ones go here too."""
    metastack: list[list[Value]]
    names: dict[tuple[str, str, bool], Global] = field(
        default_factory=dict[tuple[str, str, bool], Global]
    )
    broken: InputError | None = None
    """The first thing that stops the C unpickler, where others may go on."""
    protocol: int = 0
    base: int = 0
    buf: bytes = b""
    frame_end: int = _NO_FRAME
    objects: int = 0
    """Objects that the handlers made; see `Limits.objects`."""

    holes: int = 0

    def put(self, index: int, value: Value) -> None:
        """Put a memo entry that is not simply the next one."""
        memo = self.memo
        if index < len(memo):
            self.holes -= memo[index] is _ABSENT
            memo[index] = value
        elif not self.far and self.holes + index - len(memo) <= _HOLES:
            self.holes += index - len(memo)
            memo.extend([_ABSENT] * (index - len(memo)))
            memo.append(value)
        else:
            self.far[index] = value

    def got(self, index: int) -> Value:
        """The memo entry `index`.

        Raises:
            KeyError: it was never put.
        """
        value = self.memo[index] if 0 <= index < len(self.memo) else self.far[index]
        if value is _ABSENT:
            raise KeyError(index)
        return value

    def fail(self, error: InputError) -> None:
        """Note that the C unpickler has stopped; the Trace goes on for the others."""
        self.broken = self.broken or error


def _run(
    source: Source,
    offset: int,
    trace: Trace,
    profile: LoaderProfile,
    limits: Limits,
    bounds: Bounds,
    going_on: _State | None = None,
    given: Sequence[Value] = (),
) -> tuple[Value, InputError | None]:
    """Fill `trace`; return the value, or the error that the C unpickler would raise.

    `going_on` and `given` are the memo, the marks and the stack of a run that is taken up where
    another one stands.
    """
    end = source.nbytes
    inline = limits.inline_nbytes
    margin = inline + 64  # so that a fixed or inline argument never crosses the window
    window = max(_WINDOW_NBYTES, 2 * margin)
    events = trace.events
    record = events.append
    stack: list[Value] = list(given)
    metastack: list[list[Value]] = []
    memo: list[Value] = []
    far: dict[int, Value] = {}
    state = _State(source, end, trace, profile, limits, bounds, memo, far, metastack)
    most_opcodes, most_objects = bounds
    if going_on is not None:
        memo.extend(going_on.memo)
        far.update(going_on.far)
        state.holes = going_on.holes
        metastack.extend(list(below) for below in going_on.metastack)
        state.protocol = going_on.protocol
    frame_end = _NO_FRAME

    base = offset
    buf = source.read_at(base, max(_FIRST_WINDOW_NBYTES, 2 * margin))
    pos = 0
    low = len(buf) if base + len(buf) >= end else len(buf) - margin
    watch = low if low > 0 else 0
    count = 0
    made_here = 0
    here = offset

    try:
        for count in range(most_opcodes):  # noqa: B007 - the number of opcodes run
            if pos >= watch:
                here = base + pos
                if here >= frame_end:
                    if here > frame_end:
                        _note(
                            trace, "opcode-crosses-frame", "an opcode ends behind its frame", here
                        )
                        state.fail(
                            Malformed(
                                f"an opcode crosses the end of its frame at offset {frame_end:,}"
                            )
                        )
                    frame_end = _NO_FRAME
                if here >= end:
                    raise _truncated(here, "an opcode")
                total = made_here + state.objects + len(far) + len(metastack)
                if total > most_objects:
                    raise LimitExceeded(f"more than {most_objects:,} objects in one file")
                if pos >= low:
                    base, pos = here, 0
                    buf = source.read_at(base, window)
                    if not buf:
                        raise _truncated(here, "an opcode")
                    low = len(buf) if base + len(buf) >= end else len(buf) - margin
                watch = min(low, frame_end - base)
            op = buf[pos]
            at = pos
            pos += 1

            # The order follows the frequency in state dicts, most frequent first.
            if op == 0x71:  # BINPUT
                index = buf[pos]
                pos += 1
                if index == len(memo) and not far:
                    memo.append(stack[-1])
                else:
                    state.put(index, stack[-1])
            elif op == 0x4B:  # BININT1
                stack.append(buf[pos])
                pos += 1
            elif op == 0x68:  # BINGET
                index = buf[pos]
                pos += 1
                item = memo[index] if index < len(memo) else far[index]
                if item is _ABSENT:
                    raise KeyError(index)
                stack.append(item)
            elif op == 0x72:  # LONG_BINPUT
                (index,) = _u4(buf, pos)
                pos += 4
                if index > limits.memo_index:
                    _memo_index(state, index, base + at)
                if index == len(memo) and not far:
                    memo.append(stack[-1])
                else:
                    state.put(index, stack[-1])
            elif op == 0x94:  # MEMOIZE
                if state.holes or far:
                    state.put(len(memo) - state.holes + len(far), stack[-1])
                else:
                    memo.append(stack[-1])
            elif op == 0x58 or op == 0x8C:  # BINUNICODE, SHORT_BINUNICODE
                if op == 0x58:
                    (n,) = _u4(buf, pos)
                    pos += 4
                else:
                    n = buf[pos]
                    pos += 1
                if n > inline:
                    stack.append(_extent(base + pos, n, end, is_text=True))
                else:
                    raw = buf[pos : pos + n]
                    if len(raw) != n:
                        raise _truncated(base + at, "a string")
                    stack.append(str(raw, "utf-8", "surrogatepass"))
                pos += n
            elif op == 0x28:  # MARK
                metastack.append(stack)
                stack = []
            elif op == 0x74:  # TUPLE
                items = stack
                stack = metastack.pop()
                stack.append(tuple(items))
                made_here += 1
            elif op == 0x52:  # REDUCE
                args = stack.pop()
                made = Instance(stack[-1], args, "REDUCE", base + at)
                stack[-1] = made
                record(made)
                made_here += 2
                if type(args) is not tuple:
                    _odd_arguments(state, "REDUCE", args, base + at)
            elif op == 0x51:  # BINPERSID
                persistent = Persistent(stack[-1], base + at)
                stack[-1] = persistent
                record(persistent)
                made_here += 1
                if profile is PICKLE:
                    state.fail(
                        Malformed(
                            f"a persistent id at offset {base + at:,}, which a plain pickle has not"
                        )
                    )
            elif op == 0x6A:  # LONG_BINGET
                (index,) = _u4(buf, pos)
                pos += 4
                stack.append(state.got(index))
            elif op == 0x4D:  # BININT2
                stack.append(_u2(buf, pos)[0])
                pos += 2
            elif op == 0x4A:  # BININT
                stack.append(_i4(buf, pos)[0])
                pos += 4
            elif op == 0x89:  # NEWFALSE
                stack.append(False)
            elif op == 0x88:  # NEWTRUE
                stack.append(True)
            elif op == 0x29:  # EMPTY_TUPLE
                stack.append(())
            elif op == 0x85:  # TUPLE1
                stack[-1] = (stack[-1],)
                made_here += 1
            elif op == 0x86:  # TUPLE2
                pair = (stack[-2], stack[-1])
                stack.pop()
                stack[-1] = pair
                made_here += 1
            elif op == 0x87:  # TUPLE3
                triple = (stack[-3], stack[-2], stack[-1])
                del stack[-2:]
                stack[-1] = triple
                made_here += 1
            elif op == 0x4E:  # NONE
                stack.append(None)
            elif op == 0x47:  # BINFLOAT
                stack.append(_f8(buf, pos)[0])
                pos += 8
            elif op == 0x7D:  # EMPTY_DICT
                stack.append(Instance(DICT, (), "EMPTY_DICT", base + at))
                made_here += 2
            elif op == 0x5D:  # EMPTY_LIST
                stack.append(Instance(LIST, (), "EMPTY_LIST", base + at))
                made_here += 2
            elif op == 0x75:  # SETITEMS
                items = stack
                stack = metastack.pop()
                if len(items) % 2:
                    _set_items(stack[-1], _pairs(items), "SETITEMS", base + at, trace)
                    raise Malformed(f"SETITEMS with a key and no value at offset {base + at:,}")
                _set_items(stack[-1], _pairs(items), "SETITEMS", base + at, trace)
            elif op == 0x73:  # SETITEM
                item = stack.pop()
                key = stack.pop()
                _set_items(stack[-1], [(key, item)], "SETITEM", base + at, trace)
            elif op == 0x65:  # APPENDS
                items = stack
                stack = metastack.pop()
                _append(stack[-1], items, "APPENDS", base + at, trace)
            elif op == 0x61:  # APPEND
                item = stack.pop()
                _append(stack[-1], [item], "APPEND", base + at, trace)
            elif op == 0x62:  # BUILD
                content = stack.pop()
                target = stack[-1]
                record(Mutation("BUILD", target, content, base + at))
                if type(target) is Instance:
                    if isinstance(target.states, list):
                        target.states.append(content)
                    else:
                        target.states = [content]
                    target.mutated = base + at
                    if joblib_class(target) is not None:
                        state.base, state.buf, state.frame_end = base, buf, frame_end
                        pos = _array_behind(state, target, pos, stack)
                        frame_end = _NO_FRAME
                        watch = 0  # the array may end far beyond the window
            elif op == 0x2E:  # STOP
                here = base + pos
                if here > end:
                    raise _truncated(base + at, "an opcode")
                value = stack.pop()
                if here > frame_end:
                    _note(trace, "opcode-crosses-frame", "an opcode ends behind its frame", here)
                    state.fail(
                        Malformed(f"an opcode crosses the end of its frame at offset {frame_end:,}")
                    )
                elif frame_end not in (here, _NO_FRAME):
                    _note(
                        trace,
                        "frame-past-stop",
                        f"the frame goes on for {frame_end - here:,} bytes behind STOP",
                        base + at,
                    )
                return (None, state.broken) if state.broken else (value, None)
            else:
                handler = _HANDLERS.get(op)
                if handler is None:
                    raise Malformed(f"byte 0x{op:02x} at offset {base + at:,} is no pickle opcode")
                state.base, state.buf, state.frame_end = base, buf, frame_end
                stack, pos = handler(state, op, pos, stack)
                if state.frame_end != frame_end:
                    frame_end = state.frame_end
                    watch = min(low, frame_end - base)
        raise LimitExceeded(f"more than {most_opcodes:,} opcodes")
    except InputError as e:
        return None, state.broken or e
    except KeyError:
        error: InputError = Malformed(
            f"a memo entry that was never put, before offset {base + pos:,}"
        )
    except (IndexError, struct_error):
        if base + pos >= end:
            error = _truncated(base + pos, "an opcode")
        else:
            error = Malformed(f"the stack is empty or has no mark, before offset {base + pos:,}")
    except (ValueError, OverflowError) as e:  # bad digits, bad UTF-8, bad escapes
        error = Malformed(f"a bad argument before offset {base + pos:,} ({type(e).__name__})")
    finally:
        trace.opcodes += count + 1
        trace.objects += made_here + state.objects + len(far)
        trace.nbytes = min(base + pos, end) - offset
    return None, state.broken or error


def _array_behind(state: _State, target: Instance, pos: int, stack: list[Value]) -> int:
    """A joblib array: its bytes, or the pickle of its objects, stand behind the BUILD opcode.

    joblib reads them there and goes on behind them; any other unpickler takes them for opcodes,
    and what it would do with those is in the Trace as well. The wrapper on the stack becomes the
    array. Returns the position behind it.
    """
    here = state.base + pos
    trace, limits = state.trace, state.limits
    opcodes, objects = state.bounds
    if state.frame_end not in (here, _NO_FRAME):
        _note(trace, "loader-disagreement", "an array behind the middle of a frame", here)
        raise Malformed(f"an array inside a frame at offset {here:,}")
    array = array_of(target, state.source, here)
    state.objects += len(state.memo) + len(stack)
    if state.objects > objects:
        raise LimitExceeded(f"more than {objects:,} objects in one file")
    less = (opcodes // 16, objects - state.objects)
    if array.holds_objects:
        inner = Trace()
        _, error = _run(state.source, array.offset, inner, state.profile, limits, less)
        _take_over(trace, inner)
        if error is not None:
            raise error
        end = array.offset + inner.nbytes
    else:
        other = Trace()
        _, error = _run(state.source, here, other, PICKLE, limits, less, state, stack)
        if other.events or error is None:
            _note(trace, "loader-disagreement", "the bytes of an array that run as opcodes", here)
            _take_over(trace, other)
        end = array.offset + array.nbytes
        if end > state.end:
            raise _truncated(here, f"an array of {array.nbytes:,} bytes")
    stack[-1] = array.value
    return end - state.base


def _take_over(trace: Trace, other: Trace) -> None:
    """Add what another run over the same bytes has found."""
    trace.events.extend(other.events)
    for anomaly in other.anomalies:
        _note(trace, anomaly.slug, anomaly.detail, anomaly.offset or 0)
    trace.opcodes += other.opcodes
    trace.objects += other.objects


def _name(state: _State, op: int, pos: int, stack: list[Value]) -> tuple[list[Value], int]:
    """GLOBAL, INST and STACK_GLOBAL: a name that a loader would import."""
    at = state.base + pos - 1
    if op == 0x63 or op == 0x69:  # GLOBAL, INST
        module, pos = _line(state, op, pos)
        name, pos = _line(state, op, pos)
        name_at_end = name[-1:] != b"\n"
        encoding = "utf-8" if op == 0x63 else "ascii"
        # The Python unpickler cuts the last character of a line that the file's end cut.
        written = Global(str(module[:-1], encoding), str(name[:-1], encoding))
        opcode = "GLOBAL" if op == 0x63 else "INST"
        found = _resolve(written, state.protocol, state.names)
        state.trace.events.append(Resolve(found, written, opcode, at, state.protocol >= 4, False))
        if name_at_end:
            whole = Global(written.module, str(name, encoding))
            there = _resolve(whole, state.protocol, state.names)
            state.trace.events.append(Resolve(there, whole, opcode, at, state.protocol >= 4, False))
            _note(state.trace, "truncated-name", f"the file ends in a name: {whole}", at)
            state.fail(_truncated(at, "a name"))
        if op == 0x63:
            stack.append(found)
        else:
            items = stack
            stack = state.metastack.pop()
            made = Instance(found, tuple(items), "INST", at)
            stack.append(made)
            state.objects += 2
            state.trace.events.append(made)
    elif op == 0x93:  # STACK_GLOBAL
        name_value = stack.pop()
        module_value = stack.pop()
        if type(name_value) is str and type(module_value) is str:
            written = Global(module_value, name_value)
            found = _resolve(written, state.protocol, state.names)
            state.trace.events.append(
                Resolve(found, written, "STACK_GLOBAL", at, state.protocol >= 4, False)
            )
        else:
            found = COMPUTED
            state.trace.events.append(
                Resolve(found, found, "STACK_GLOBAL", at, state.protocol >= 4, True)
            )
        stack.append(found)
    return stack, pos


def _object(state: _State, op: int, pos: int, stack: list[Value]) -> tuple[list[Value], int]:
    """NEWOBJ, NEWOBJ_EX and OBJ: an instance of a class."""
    at = state.base + pos - 1
    state.objects += 2
    if op == 0x81:  # NEWOBJ
        args = stack.pop()
        made = Instance(stack.pop(), args, "NEWOBJ", at)
        stack.append(made)
        state.trace.events.append(made)
        if type(args) is not tuple:
            _odd_arguments(state, "NEWOBJ", args, at)
    elif op == 0x92:  # NEWOBJ_EX
        kwargs = stack.pop()
        args = stack.pop()
        made = Instance(stack.pop(), args, "NEWOBJ_EX", at, kwargs)
        stack.append(made)
        state.trace.events.append(made)
        if type(args) is not tuple:
            _odd_arguments(state, "NEWOBJ_EX", args, at)
    elif op == 0x6F:  # OBJ
        items = stack
        stack = state.metastack.pop()
        made = Instance(items[0], tuple(items[1:]), "OBJ", at)
        stack.append(made)
        state.trace.events.append(made)
    return stack, pos


def _taken(state: _State, pos: int, nbytes: int, *, is_text: bool) -> bytes | Extent:
    """The next `nbytes` bytes at `pos` of the window, or where they are when they are many."""
    at = state.base + pos
    if nbytes > state.limits.inline_nbytes:
        return _extent(at, nbytes, state.end, is_text=is_text)
    raw = state.buf[pos : pos + nbytes]
    if len(raw) != nbytes:
        raise _truncated(at, "a string")
    return raw


def _bytes(state: _State, op: int, pos: int, stack: list[Value]) -> tuple[list[Value], int]:
    """SHORT_BINBYTES, BINBYTES, BINBYTES8 and BYTEARRAY8."""
    at = state.base + pos - 1
    state.objects += 2 * (op == 0x96)
    if op == 0x43:
        n, width = state.buf[pos], 1
    elif op == 0x42:
        n, width = _u4(state.buf, pos)[0], 4
    else:
        n, width = _u8(state.buf, pos)[0], 8
    pos += width
    taken = _taken(state, pos, n, is_text=False)
    stack.append(Instance(BYTEARRAY, (taken,), "BYTEARRAY8", at) if op == 0x96 else taken)
    return stack, pos + n


def _string(state: _State, op: int, pos: int, stack: list[Value]) -> tuple[list[Value], int]:
    """BINUNICODE8, SHORT_BINSTRING and BINSTRING."""
    at = state.base + pos - 1
    if op == 0x8D:
        n, width = _u8(state.buf, pos)[0], 8
    elif op == 0x55:
        n, width = state.buf[pos], 1
    else:
        n, width = _i4(state.buf, pos)[0], 4
        if n < 0:
            raise Malformed(f"BINSTRING with a negative length at offset {at:,}")
    pos += width
    taken = _taken(state, pos, n, is_text=op == 0x8D)
    if isinstance(taken, Extent):
        stack.append(taken)
    elif op == 0x8D:
        stack.append(str(taken, "utf-8", "surrogatepass"))
    else:
        stack.append(_python2_string(taken))
    return stack, pos + n


def _long(state: _State, op: int, pos: int, stack: list[Value]) -> tuple[list[Value], int]:
    """LONG1 and LONG4."""
    at = state.base + pos - 1
    buf = state.buf
    if op == 0x8A:
        n = buf[pos]
        pos += 1
    else:
        (n,) = _i4(buf, pos)
        pos += 4
        if n < 0:
            raise Malformed(f"LONG4 with a negative length at offset {at:,}")
    if n > state.limits.int_nbytes:
        stack.append(_extent(state.base + pos, n, state.end, is_text=False))
        state.fail(LimitExceeded(f"an integer of {n:,} bytes at offset {at:,}"))
        return stack, pos + n
    raw = buf[pos : pos + n]
    if len(raw) != n:
        raise _truncated(at, "an integer")
    stack.append(int.from_bytes(raw, "little", signed=True))
    pos += n
    return stack, pos


def _prologue(state: _State, op: int, pos: int, stack: list[Value]) -> tuple[list[Value], int]:
    """PROTO and FRAME."""
    at = state.base + pos - 1
    buf = state.buf
    if op == 0x80:  # PROTO
        state.protocol = buf[pos]
        pos += 1
        if state.protocol > HIGHEST_PROTOCOL:
            raise Malformed(f"pickle protocol {state.protocol} at offset {at:,}")
        state.trace.protocol = max(state.trace.protocol, state.protocol)
    elif op == 0x95:  # FRAME
        (n,) = _u8(buf, pos)
        pos += 8
        here = state.base + pos
        if state.frame_end != _NO_FRAME:
            _note(state.trace, "nested-frame", "a frame begins inside a frame", at)
            state.fail(Malformed(f"a frame inside a frame at offset {at:,}"))
        state.frame_end = here + n
        if state.frame_end > state.end:
            _note(
                state.trace,
                "frame-past-end",
                f"a frame of {n:,} bytes where {state.end - here:,} are left",
                at,
            )
            state.fail(_truncated(at, "a frame"))
            state.frame_end = _NO_FRAME
    return stack, pos


def _collection(state: _State, op: int, pos: int, stack: list[Value]) -> tuple[list[Value], int]:
    """EMPTY_SET, ADDITEMS, FROZENSET, DICT and LIST."""
    at = state.base + pos - 1
    state.objects += 2
    if op == 0x8F:  # EMPTY_SET
        stack.append(Instance(SET, (), "EMPTY_SET", at))
    elif op == 0x90:  # ADDITEMS
        items = stack
        stack = state.metastack.pop()
        _hashed(state.trace, items, at)
        _append(stack[-1], items, "ADDITEMS", at, state.trace)
    elif op == 0x91:  # FROZENSET
        items = stack
        stack = state.metastack.pop()
        _hashed(state.trace, items, at)
        made = Instance(FROZENSET, (), "FROZENSET", at)
        made.items = items
        stack.append(made)
    elif op == 0x64 or op == 0x6C:  # DICT, LIST
        items = stack
        stack = state.metastack.pop()
        if op == 0x6C:
            made = Instance(LIST, (), "LIST", at)
            made.items = items
        else:
            if len(items) % 2:
                raise Malformed(f"DICT with a key and no value at offset {at:,}")
            made = Instance(DICT, (), "DICT", at)
            made.pairs = _pairs(items)
            _hashed(state.trace, items[::2], at)
        stack.append(made)
    return stack, pos


def _stack(state: _State, op: int, pos: int, stack: list[Value]) -> tuple[list[Value], int]:
    """POP, POP_MARK and DUP."""
    if op == 0x30:  # POP
        if stack:
            stack.pop()
        else:
            stack = state.metastack.pop()
    elif op == 0x31:  # POP_MARK
        stack = state.metastack.pop()
    elif op == 0x32:  # DUP
        stack.append(stack[-1])
    return stack, pos


def _outside(state: _State, op: int, pos: int, stack: list[Value]) -> tuple[list[Value], int]:
    """EXT1, EXT2, EXT4, NEXT_BUFFER and READONLY_BUFFER: what is not in the file."""
    at = state.base + pos - 1
    buf = state.buf
    if op in (0x82, 0x83, 0x84):  # EXT1, EXT2, EXT4
        if op == 0x82:
            code = buf[pos]
            pos += 1
        elif op == 0x83:
            (code,) = _u2(buf, pos)
            pos += 2
        else:
            (code,) = _i4(buf, pos)
            pos += 4
        stack.append(Ext(code))
        _note(state.trace, "extension-code", f"copyreg extension code {code}", at)
    elif op in (0x97, 0x98):  # NEXT_BUFFER, READONLY_BUFFER
        _note(state.trace, "buffer-opcode", "bytes are expected from outside", at)
        state.fail(Malformed(f"an out-of-band buffer at offset {at:,}"))
        if op == 0x97:
            stack.append(Persistent("buffer", at))
        else:
            stack.append(stack.pop())
    return stack, pos


def _text(state: _State, op: int, pos: int, stack: list[Value]) -> tuple[list[Value], int]:
    """The text opcodes of protocol 0: GET, PUT, UNICODE, STRING, PERSID, FLOAT, INT and LONG."""
    at = state.base + pos - 1
    start = pos
    line, pos = _line(state, op, pos)
    if line[-1:] != b"\n":
        raise _truncated(at, "a line")
    if pos - start > _LINE_NBYTES and op in b"VS":
        stack.append(Extent(state.base + start, pos - start - 1, is_text=False))
        return stack, pos  # with its escapes: nobody takes it for a text
    line = line[:-1]
    if b"\0" in line and op in b"gpFIL":  # where C's number ends, and Python sees none
        _odd_number(state, line, at)
        line = line[: line.index(b"\0")]
    if op == 0x67:  # GET
        stack.append(state.got(int(line)))
    elif op == 0x70:  # PUT
        index = int(line)
        if index < 0:
            raise Malformed(f"PUT with a negative index at offset {at:,}")
        if index > state.limits.memo_index:
            _memo_index(state, index, at)
        state.put(index, stack[-1])
    elif op == 0x56:  # UNICODE
        stack.append(str(line, "raw-unicode-escape"))
    elif op == 0x53:  # STRING
        if len(line) < 2 or line[0] != line[-1] or line[0] not in b"\"'":
            raise Malformed(f"an unquoted STRING at offset {at:,}")
        stack.append(_python2_string(_unescape(line[1:-1])))
    elif op == 0x50:  # PERSID
        state.objects += 1
        persistent = Persistent(str(line, "ascii"), at)
        stack.append(persistent)
        state.trace.events.append(persistent)
        if state.profile is PICKLE:
            state.fail(Malformed(f"a persistent id at offset {at:,}, which a plain pickle has not"))
    elif op == 0x46:  # FLOAT
        if not _PLAIN_FLOAT.match(line):
            _odd_number(state, line, at)
        stack.append(float(line))
    elif op == 0x49 and line in (b"00", b"01"):  # INT, as picklers write a bool
        stack.append(line == b"01")
    else:  # INT, LONG
        digits = line[:-1] if op == 0x4C and line[-1:] == b"L" else line
        if _PLAIN_INT.match(digits):
            stack.append(int(digits))
        else:
            _odd_number(state, line, at)
            octal = _OCTAL.match(digits)
            stack.append(int(octal[1] + octal[2], 8) if octal else int(digits, 0))
    return stack, pos


_Handler = Callable[[_State, int, int, list[Value]], tuple[list[Value], int]]
_HANDLERS: dict[int, _Handler] = {
    op: handler
    for ops, handler in (
        (b"\x63\x69\x93", _name),
        (b"\x81\x92\x6f", _object),
        (b"\x43\x42\x8e\x96", _bytes),
        (b"\x8d\x55\x54", _string),
        (b"\x8a\x8b", _long),
        (b"\x80\x95", _prologue),
        (b"\x8f\x90\x91\x64\x6c", _collection),
        (b"\x30\x31\x32", _stack),
        (b"\x82\x83\x84\x97\x98", _outside),
        (b"gpVSPFIL", _text),
    )
    for op in ops
}


_LITERALS = {
    "SETITEMS": ("EMPTY_DICT", "DICT"),
    "APPEND": ("EMPTY_LIST", "LIST"),
    "APPENDS": ("EMPTY_LIST", "LIST"),
    "ADDITEMS": ("EMPTY_SET",),
}
"""What an opcode changes without any method that could be someone's own."""


def _note(trace: Trace, slug: str, detail: str, offset: int) -> None:
    """Add an anomaly, unless the stream has plenty of that kind already."""
    seen = trace.noted.get(slug, 0)
    trace.noted[slug] = seen + 1
    if seen < _ANOMALIES_PER_SLUG:
        trace.anomalies.append(Anomaly(slug, detail, offset))


def _truncated(offset: int, what: str) -> Truncated:
    return Truncated(f"the pickle ends in the middle of {what} at offset {offset:,}")


def _extent(offset: int, nbytes: int, end: int, *, is_text: bool) -> Extent:
    if offset + nbytes > end:
        raise _truncated(offset, f"a string of {nbytes:,} bytes")
    return Extent(offset, nbytes, is_text)


def _line(state: _State, op: int, pos: int) -> tuple[bytes, int]:
    """The line at `pos` of the window, newline included if there is one, and what follows it.

    Of a long one the first `_LINE_NBYTES` bytes.
    """
    stop = state.buf.find(b"\n", pos) + 1
    if stop:
        return state.buf[pos:stop], stop
    at = state.base + pos
    line = b""
    offset, most = at, at + state.limits.line_nbytes
    while offset < most:
        chunk = state.source.read_at(offset, min(_LINE_CHUNK_NBYTES, most - offset))
        if not chunk:
            return line, pos + offset - at
        stop = chunk.find(b"\n") + 1
        part = chunk[:stop] if stop else chunk
        offset += len(part)
        # Of a long line its beginning is kept: Python's import of a name ends at a NUL as well.
        line += part[: max(0, _LINE_NBYTES - len(line))]
        if len(line) == _LINE_NBYTES and not _may_be_long(op, line):
            raise Malformed(f"a line of more than {_LINE_NBYTES:,} bytes at {at:,}")
        if stop:
            return line if line[-1:] == b"\n" else line + b"\n", pos + offset - at
    raise LimitExceeded(f"a line of more than {state.limits.line_nbytes:,} bytes at {at:,}")


def _may_be_long(op: int, begin: bytes) -> bool:
    """Whether an unpickler would go on behind a line of more than a megabyte that begins so."""
    if op in b"ci":  # no module has such a name, but for one that a NUL ends
        name, nul, _ = begin.partition(b"\0")
        return bool(nul) and name.decode("utf-8", "replace").isprintable()
    return op in b"VSP" or not begin.strip(b"0123456789")


def _resolve(written: Global, protocol: int, names: dict[tuple[str, str, bool], Global]) -> Global:
    """Map a python 2 name as `find_class` does below protocol 3; one Global object a name."""
    key = (written.module, written.name, protocol < 3)
    found = names.get(key)
    if found is None:
        found = written
        if protocol < 3:
            pair = (written.module, written.name)
            if pair in NAME_MAPPING:
                found = Global(*NAME_MAPPING[pair])
            elif written.module in IMPORT_MAPPING:
                found = Global(IMPORT_MAPPING[written.module], written.name)
        names[key] = found
    return found


def _unescape(quoted: bytes) -> bytes:
    if b"\\" not in quoted:
        return quoted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unknown escape is kept as it stands, with a warning
        return codecs.escape_decode(quoted)[0]


def _python2_string(raw: bytes) -> str | Py2Bytes:
    return str(raw, "ascii") if raw.isascii() else Py2Bytes(raw)


def _pairs(items: list[Value]) -> list[tuple[Value, Value]]:
    return list(zip(items[::2], items[1::2], strict=False))


def _set_items(
    target: Value, pairs: list[tuple[Value, Value]], opcode: str, offset: int, trace: Trace
) -> None:
    """SETITEM(S): in place, so that every alias sees it."""
    _hashed(trace, [key for key, _ in pairs if type(key) is not str], offset)
    if type(target) is Instance:
        if target.opcode not in _LITERALS["SETITEMS"]:
            trace.events.append(Mutation(opcode, target, list(pairs), offset))
        if isinstance(target.pairs, list):
            target.pairs.extend(pairs)
        else:
            target.pairs = pairs
        target.mutated = offset
    else:
        trace.events.append(Mutation(opcode, target, pairs, offset))


def _hashed(trace: Trace, keys: list[Value], offset: int) -> None:
    """Note keys that are looked up for hours."""
    if keys:
        trace.hashes = trace.hashes or KeyHashes()
        if trace.hashes.add(keys):
            _note(trace, "hash-collision", trace.hashes.found or "", offset)


def _append(target: Value, items: list[Value], opcode: str, offset: int, trace: Trace) -> None:
    """APPEND(S) and ADDITEMS: in place, so that every alias sees it."""
    if type(target) is Instance:
        if target.opcode not in _LITERALS[opcode]:
            trace.events.append(Mutation(opcode, target, list(items), offset))
        if isinstance(target.items, list):
            target.items.extend(items)
        else:
            target.items = items
        target.mutated = offset
    else:
        trace.events.append(Mutation(opcode, target, items, offset))


def _odd_arguments(state: _State, opcode: str, args: Value, offset: int) -> None:
    """Arguments that are no tuple: the C unpickler refuses a literal, the Python one runs it."""
    if type(args) is Instance and args.opcode not in LITERAL_OPCODES:
        return  # may well be a tuple when it runs; whoever judges the call sees that
    _note(state.trace, "loader-disagreement", f"{opcode} whose arguments are no tuple", offset)
    state.fail(Malformed(f"{opcode} whose arguments are no tuple at offset {offset:,}"))


def _odd_number(state: _State, line: bytes, offset: int) -> None:
    detail = f"a number that loaders read differently: {ascii(line[:40])[1:]}"
    _note(state.trace, "loader-disagreement", detail, offset)
    state.fail(Malformed(f"a number that loaders read differently at offset {offset:,}"))


def _memo_index(state: _State, index: int, offset: int) -> None:
    shown = f"{index:,}" if index < 1 << 64 else "an enormous number"
    _note(state.trace, "memo-index", f"a memo index of {shown}", offset)
    state.fail(Malformed(f"a memo index that exhausts memory at offset {offset:,}"))
