"""The loop of the machine: the opcodes that state dicts are made of; the rest is in `opcodes.py`.

It runs over a window of the source with local variables, and an opcode costs no object. Which
opcodes stand here was decided by counting those of real files: of the 62,373 in the data.pkl of an
SD 1.x training checkpoint, all but a few hundred.
"""

from __future__ import annotations

from struct import Struct
from struct import error as struct_error

from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed
from sdtool.checkpoint.joblib_arrays import array_of, joblib_class
from sdtool.checkpoint.limits import DEFAULT_LIMITS, Limits
from sdtool.checkpoint.machine.mutations import set_items
from sdtool.checkpoint.machine.opcodes import LOAD, check_arguments
from sdtool.checkpoint.machine.state import (
    ABSENT,
    NO_FRAME,
    Bounds,
    Machine,
    Stop,
    extent,
    truncated,
)
from sdtool.checkpoint.machine.tensor_calls import CALL_OBJECTS, follow_call
from sdtool.checkpoint.machine.ways import follow_ways
from sdtool.checkpoint.reading import PICKLE, LoaderProfile, Stream
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Source
from sdtool.checkpoint.strides import are_sizes
from sdtool.checkpoint.trace import Mutation, Trace
from sdtool.checkpoint.values import DICT, NEAR, Instance, Persistent, Value

_WINDOW_NBYTES = 1 << 18
_FIRST_WINDOW_NBYTES = 1 << 17

_ONES = tuple((number,) for number in range(256))
"""Shapes and strides of one dimension, each once for all tensors that have it."""

_u2 = Struct("<H").unpack_from
_i4 = Struct("<i").unpack_from
_u4 = Struct("<I").unpack_from


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
    bounds = bounds or (limits.opcodes, limits.objects)
    machine = Machine(source, source.nbytes, Trace(), profile, limits, bounds)
    value, error = run(machine, offset)
    if machine.crossings:
        value, error = None, follow_ways(machine, offset, error, run)
    return Stream(member, offset, profile, source, machine.trace, value, error)


def run(m: Machine, offset: int) -> tuple[Value, InputError | None]:
    """Fill the Trace; return the value, or the error that the C unpickler would raise."""
    end, trace, limits = m.end, m.trace, m.limits
    inline = limits.inline_nbytes
    margin = inline + 64  # so that a fixed or inline argument never crosses the window
    window = max(_WINDOW_NBYTES, 2 * margin)
    record = trace.events.append
    stack, metastack, memo, far = m.stack, m.metastack, m.memo, m.far
    most_opcodes = m.bounds[0]

    m.base = base = near = offset
    m.buf = buf = m.source.read_at(base, max(_FIRST_WINDOW_NBYTES, 2 * margin))
    pos = at = 0
    low = len(buf) if base + len(buf) >= end else len(buf) - margin
    watch = max(0, low)
    count = 0
    made_here = 0
    has_calls = m.profile is not PICKLE

    try:
        while count < most_opcodes:
            count += 1
            if pos >= watch:
                here = base + pos
                if here >= m.frame_end:
                    m.leave_frame(here, base + at)
                if here >= end:
                    raise truncated(here, "an opcode")
                m.check_objects(made_here)
                if pos >= low:
                    m.base, pos = here, 0
                    base = here
                    m.buf = buf = m.source.read_at(base, window)
                    if not buf:
                        raise truncated(here, "an opcode")
                    low = len(buf) if base + len(buf) >= end else len(buf) - margin
                watch = min(low, m.frame_end - base)
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
                    m.put(index, stack[-1])
            elif op == 0x4B:  # BININT1
                stack.append(buf[pos])
                pos += 1
            elif op == 0x68:  # BINGET
                index = buf[pos]
                pos += 1
                item = memo[index] if index < len(memo) else far[index]
                if item is ABSENT:
                    raise KeyError(index)
                stack.append(item)
            elif op == 0x72:  # LONG_BINPUT
                (index,) = _u4(buf, pos)
                pos += 4
                if index > limits.memo_index:
                    m.at = base + at
                    m.check_memo_index(index)
                if index == len(memo) and not far:
                    memo.append(stack[-1])
                else:
                    m.put(index, stack[-1])
            elif op == 0x94:  # MEMOIZE
                if m.holes or far:
                    m.put(len(memo) - m.holes + len(far), stack[-1])
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
                    stack.append(extent(base + pos, n, end, is_text=True))
                else:
                    raw = buf[pos : pos + n]
                    if len(raw) != n:
                        raise truncated(base + at, "a string")
                    stack.append(str(raw, "utf-8", "surrogatepass"))
                pos += n
            elif op == 0x28:  # MARK
                if has_calls and buf[pos : pos + 1] == b"(":  # none where the file ends
                    followed = follow_call(m, stack, at, watch, near, most_opcodes - count)
                    if followed is not None:
                        pos, behind, near = followed
                        made_here += CALL_OBJECTS
                        count += behind
                        continue
                metastack.append(stack)
                stack = []
            elif op == 0x74:  # TUPLE
                items = stack
                stack = metastack.pop()
                row = tuple(items)
                stack.append(
                    m.shared(row) if row and type(row[0]) is int and are_sizes(row) else row
                )
                made_here += 1
            elif op == 0x52:  # REDUCE
                args = stack.pop()
                if not near <= base + at <= near + NEAR:
                    near = base + at
                made = Instance(stack[-1], args, "REDUCE", near, None, base + at - near)
                stack[-1] = made
                record(made)
                made_here += 2
                if type(args) is not tuple:
                    m.at = base + at
                    check_arguments(m, "REDUCE", args)
            elif op == 0x51:  # BINPERSID
                if not near <= base + at <= near + NEAR:
                    near = base + at
                persistent = Persistent(stack[-1], near, base + at - near)
                stack[-1] = persistent
                record(persistent)
                made_here += 1
                if m.profile is PICKLE:
                    m.at = base + at
                    m.refuse_persistent_id()
            elif op == 0x6A:  # LONG_BINGET
                (index,) = _u4(buf, pos)
                pos += 4
                stack.append(m.get(index))
            elif op == 0x4D:  # BININT2
                stack.append(_u2(buf, pos)[0])
                pos += 2
            elif op == 0x4A:  # BININT
                stack.append(_i4(buf, pos)[0])
                pos += 4
            elif op == 0x89:  # NEWFALSE
                stack.append(False)
            elif op == 0x29:  # EMPTY_TUPLE
                stack.append(())
            elif op == 0x85:  # TUPLE1
                item = stack[-1]
                stack[-1] = _ONES[item] if type(item) is int and 0 <= item < 256 else (item,)
                made_here += 1
            elif op == 0x86:  # TUPLE2
                pair = (stack[-2], stack[-1])
                stack.pop()
                stack[-1] = m.shared(pair) if type(pair[0]) is type(pair[1]) is int else pair
                made_here += 1
            elif op == 0x87:  # TUPLE3
                triple = (stack[-3], stack[-2], stack[-1])
                del stack[-2:]
                stack[-1] = m.shared(triple) if are_sizes(triple) else triple
                made_here += 1
            elif op == 0x7D:  # EMPTY_DICT
                stack.append(Instance(DICT, (), "EMPTY_DICT", base + at))
                made_here += 2
            elif op == 0x73:  # SETITEM
                item = stack.pop()
                key = stack.pop()
                set_items(m, stack[-1], [key, item], "SETITEM", base + at)
            else:
                load = _LOAD.get(op)
                if load is None:
                    raise Malformed(
                        f"byte 0x{op:02x} at offset {base + at:,} is not a valid pickle opcode"
                    )
                frame_end = m.frame_end
                m.stack, m.pos, m.at = stack, pos, base + at
                load(m)
                stack, pos = m.stack, m.pos
                if m.frame_end != frame_end or pos > len(buf):
                    watch = min(low, m.frame_end - base)
        raise LimitExceeded(f"more than {most_opcodes:,} opcodes")
    except Stop as stop:
        pos = m.pos
        m.frame_end = NO_FRAME
        return (None, m.broken) if m.broken else (stop.value, None)
    except InputError as e:
        # its frames hold all that the machine has, and it is kept in the Stream
        return None, (m.broken or e).with_traceback(None)
    except KeyError:
        error: InputError = Malformed(
            f"a memo entry that was never put, before offset {base + pos:,}"
        )
    except (IndexError, struct_error):
        if base + pos >= end:
            error = truncated(base + pos, "an opcode")
        else:
            error = Malformed(f"the stack is empty or has no mark, before offset {base + pos:,}")
    except (ValueError, OverflowError) as e:  # bad digits, bad UTF-8, bad escapes
        error = Malformed(f"a bad argument before offset {base + pos:,} ({type(e).__name__})")
    finally:
        m.may_cross(base + at)
        trace.opcodes += count
        trace.objects += made_here + m.objects + len(far)
        trace.nbytes = min(base + pos, end) - offset
    return None, m.broken or error


def load_build(m: Machine) -> None:
    """BUILD: set the state of an object."""
    content = m.stack.pop()
    target = m.stack[-1]
    m.trace.events.append(Mutation("BUILD", target, content, m.at))
    if type(target) is not Instance:
        return
    into = target.content()
    if isinstance(into.states, list):
        into.states.append(content)
    else:
        into.states = [content]
    into.mutated = m.at
    if joblib_class(target) is not None:
        _load_array_behind(m, target)


def _load_array_behind(m: Machine, target: Instance) -> None:
    """Take up the array behind the BUILD of a joblib file: its bytes, or the pickle of its objects.

    joblib reads them there and goes on behind them; any other unpickler takes them for opcodes,
    and what it would do with those is in the Trace as well. The wrapper on the stack becomes the
    array.

    Raises:
        InputError: there is no such array.
    """
    here = m.base + m.pos
    opcodes, objects = m.bounds
    if m.frame_end not in (here, NO_FRAME):
        m.note(RuleId.LOADER_DISAGREEMENT, "an array behind the middle of a frame", here)
        raise Malformed(f"an array inside a frame at offset {here:,}")
    array = array_of(target, m.source, here)
    m.objects += len(m.memo) + len(m.stack)
    if m.objects > objects:
        raise LimitExceeded(f"more than {objects:,} objects in one file")
    bounds = (opcodes // 16, objects - m.objects)
    end = array.offset + array.nbytes
    broken = None
    if array.holds_objects:
        fresh = Machine(m.source, m.end, Trace(), m.profile, m.limits, bounds)
        fresh.ways = m.ways
        _, broken = run(fresh, array.offset)
        m.take_over(fresh.trace)
        m.crossings += fresh.crossings  # each is another way to read all that follows
        end = array.offset + fresh.trace.nbytes
    error = _take_as_opcodes(m, here, bounds, is_pickle=array.holds_objects) or broken
    if error is not None:
        raise error
    if end > m.end:
        raise truncated(here, f"an array of {array.nbytes:,} bytes")
    m.stack[-1] = array.value
    m.pos = end - m.base
    m.frame_end = NO_FRAME


def _take_as_opcodes(
    m: Machine, here: int, bounds: Bounds, *, is_pickle: bool
) -> LimitExceeded | None:
    """Take up what any other unpickler does that goes on where an array begins.

    It has the memo and the stack of the pickle around the array, so what `is_pickle` is another one
    to it. Return an error where it does too much to be followed.
    """
    other = m.beside(Trace(), PICKLE, bounds)
    _, error = run(other, here)
    if other.crossings:
        error = follow_ways(other, here, error, run, before=m)
    found = other.trace
    if is_pickle:
        m.trace.plain += found.events + found.plain
    elif found.events or found.goes_on or error is None:
        m.note(RuleId.LOADER_DISAGREEMENT, "the bytes of an array that run as opcodes", here)
        m.take_over(found)
    return error if isinstance(error, LimitExceeded) else None


_LOAD = {**LOAD, 0x62: load_build}
