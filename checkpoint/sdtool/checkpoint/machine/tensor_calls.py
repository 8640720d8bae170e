"""The call behind a tensor of a state dict, followed in one step.

torch writes the arguments of `_rebuild_tensor_v2` as some thirty opcodes, always the same ones in
the same order:

    ((  h. h. X key q. h. K. t q. Q    MARK, MARK; "storage", class, key, location, elements; the id
                                       (h. for a key that was there before; in legacy files N in
                                       front of t, for no view)
    K.  (K.K.K.K.t q.  (K.K.K.K.t q.   offset, size, stride
    89  h. ) R q.                      requires_grad, OrderedDict()
    t q. R q.                          the call

One pattern takes them all. What comes of it is what the loop would have made: the same events,
stack, memo and counts; whatever differs in one byte is left to the loop. Most of a checkpoint's
pickle are such calls: that of a full SD 1.x takes some two thirds of the time.

Source: torch/_tensor.py (`_reduce_ex_internal`), torch/serialization.py (`persistent_id`), and
Lib/pickle.py (`save_tuple`, `save_reduce`) at protocol 2.
"""

from __future__ import annotations

import re

from sdtool.checkpoint.machine.state import Machine
from sdtool.checkpoint.values import NEAR, Instance, Persistent, Value

_PUT = rb"(r....|q.)"
_GET = rb"(?:h.|j....)"
_NUMBER = rb"K.|M..|J...."
_ROW = rb"((?:" + _NUMBER + rb"){1,3}[\x85-\x87]|\((?:" + _NUMBER + rb"){4,8}t)"
_CALL = re.compile(
    rb"(?s:\(\((" + _GET + rb")(" + _GET + rb")(?:X(.)\0\0\0([0-9]{1,20})" + _PUT + rb"|(" + _GET
    + rb"))(" + _GET + rb")(" + _NUMBER + rb")(N?)t" + _PUT + rb"Q(" + _NUMBER + rb")"
    + _ROW + _PUT + _ROW + _PUT + rb"([\x88\x89])(" + _GET + rb")\)R" + _PUT
    + rb"t" + _PUT + rb"R" + _PUT + rb")"
)  # fmt: skip
_PID, _HOOKS, _MADE = 10, 18, 20
"""The groups of `_CALL` in front of which, or behind which, the three events stand."""
_NUMBERS = re.compile(rb"(?s:" + _NUMBER + rb")")

_PUTS = 7
"""Values that a call puts into the memo, with the key of a storage that was not named before."""


def _puts(count: int, code: int, nbits: int) -> tuple[int, int]:
    """`count` opcodes of `nbits` bits that put values into the memo, read as one number: for the
    entries from 0 on, and what is added for those from 1 on.
    """
    places = [nbits * k for k in range(count)]
    return (
        sum(code + (k << 8) << place for k, place in enumerate(places)),
        sum(1 << 8 + place for place in places),
    )


_SHORT = {count: _puts(count, 0x71, 16) for count in (_PUTS - 1, _PUTS)}
_LONG = {count: _puts(count, 0x72, 40) for count in (_PUTS - 1, _PUTS)}
_OPCODES = 21
"""Those behind the first MARK, without the two rows, where the key is got from the memo."""
CALL_OBJECTS = 9
"""What such a call makes, as `Limits.objects` counts it: four tuples, an id, two a call."""
_KNOWN = 1024


def follow_call(
    m: Machine, stack: list[Value], pos: int, end: int, near: int, opcodes: int
) -> tuple[int, int, int] | None:
    """Follow the call whose first MARK is at `pos` of the window.

    It must end by `end`, and have fewer than `opcodes` opcodes. Returns where it ends, the opcodes
    behind its first MARK, and the place that its events stand near (see `Instance`). None leaves it
    to the loop, and nothing has changed.
    """
    call = _CALL.match(m.buf, pos, end)
    if call is None or not stack or m.holes or m.far:
        return None
    (
        word, kind, length, key, put_key, known, place, numel, no_view, put_pid, offset, size,
        put_size, stride, put_stride, grad, hooks, put_hooks, put_args, put_call,
    ) = call.groups()  # fmt: skip
    memo, base = m.memo, m.base
    first = len(memo)
    if known is None:
        puts = put_key + put_pid + put_size + put_stride + put_hooks + put_args + put_call
        known, count = word, _PUTS  # the key is new: there is nothing more to get
    else:
        puts = put_pid + put_size + put_stride + put_hooks + put_args + put_call
        count = _PUTS - 1
    begin, step = (_LONG if first > 0xFF else _SHORT)[count]
    if int.from_bytes(puts, "little") != begin + first * step:
        return None
    entries, rows = m.entries, m.rows
    try:
        storage_word, storage_class, text, location, no_hooks = (
            entries[word], entries[kind], entries[known], entries[place], entries[hooks],
        )  # fmt: skip
    except KeyError:
        if not _have(m, {word, kind, known, place, hooks}):
            return None
        return follow_call(m, stack, pos, end, near, opcodes)
    shape, shape_opcodes = rows.get(size) or _row(m, size)
    strides, stride_opcodes = rows.get(stride) or _row(m, stride)
    behind = _OPCODES + (key is not None) + len(no_view) + shape_opcodes + stride_opcodes
    if (
        not shape
        or not strides
        or behind >= opcodes
        or (key is not None and length[0] != len(key))
        or type(storage_word) is not str
        or not 0 < first < m.limits.memo_index - _PUTS
        or 0x100 - _PUTS < first < 0x100  # with both kinds of opcode
    ):
        return None

    at, last = base + call.end(_PID), base + call.start(_MADE) - 1
    if not near <= at <= last <= near + NEAR:
        near = at
    if key is not None:
        text = str(key, "ascii")
        memo.append(text)
    pid: tuple[Value, ...] = storage_word, storage_class, text, location, _number(numel)
    if no_view:
        pid += (None,)
    storage = Persistent(pid, near, at - near)
    none = Instance(no_hooks, (), "REDUCE", near, None, base + call.start(_HOOKS) - 1 - near)
    args = (storage, _number(offset), shape, strides, grad == b"\x88", none)
    made = Instance(stack[-1], args, "REDUCE", near, None, last - near)
    stack[-1] = made
    memo += (pid, shape, strides, none, args, made)
    m.trace.events += (storage, none, made)
    return call.end(), behind, near


def _have(m: Machine, gets: set[bytes]) -> bool:
    """Whether these opcodes get something from the memo, which is kept then."""
    if len(m.entries) > _KNOWN:
        m.entries.clear()
    for get in gets:
        index = int.from_bytes(get[1:], "little")
        if index >= len(m.memo):
            return False
        m.entries[get] = m.memo[index]
    return True


def _number(written: bytes) -> int:
    return int.from_bytes(written[1:], "little", signed=len(written) == 5)


def _row(m: Machine, written: bytes) -> tuple[tuple[int, ...], int]:
    """A size or a stride, and its opcodes; nothing where it is not of as many as TUPLEn takes."""
    is_marked = written[0] == 0x28
    numbers = tuple(map(_number, _NUMBERS.findall(written, is_marked, len(written) - 1)))
    if not is_marked and written[-1] - 0x84 != len(numbers):
        return (), 0
    if len(m.rows) >= _KNOWN:
        m.rows.clear()
    row = m.rows[written] = m.shared(numbers), len(numbers) + 1 + is_marked
    return row
