"""What one pickle would do, judged: every name, call and change of a Trace against the rules.

The work is one pass over the events. A name is judged once per stream, a call where it stands,
with the arguments it was given; what most files consist of, a tensor rebuilt from a storage, is
one look at the table and one check.
"""

from __future__ import annotations

from sdtool.checkpoint.limits import DEFAULT_LIMITS, Limits
from sdtool.checkpoint.machine import COMPUTED
from sdtool.checkpoint.reading import PICKLE, SCRIPT, LoaderProfile, Stream
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.trace import Anomaly, Mutation, Resolve
from sdtool.checkpoint.values import (
    LITERAL_OPCODES,
    Ext,
    Extent,
    Global,
    Instance,
    Persistent,
    Value,
)
from sdtool.scan.allowlist import RECONSTRUCTOR
from sdtool.scan.allowlist.numpy import dtype_state_problem
from sdtool.scan.allowlist.values import Allowed
from sdtool.scan.collecting import Collector
from sdtool.scan.known_names import Known, judge_name, package_of
from sdtool.scan.later_changes import Arguments, follow, follow_state, size_of
from sdtool.scan.unfolding import CONTAINERS, unfolds

_WORK = 4_000_000


def judge_stream(stream: Stream, found: Collector, limits: Limits = DEFAULT_LIMITS) -> list[Value]:
    """Judge every event of one pickle; return the arguments that are pickles in turn."""
    repeat = stream.repeat
    if repeat is None or found.known or limits is not DEFAULT_LIMITS:
        return _judged(stream, found, limits)
    names: dict[Global, Known] | None = repeat.judged
    if names is not None:  # there was nothing to be said but these
        found.known.update((target, known.copy()) for target, known in names.items())
        return []
    nested = _judged(stream, found, limits)
    if not nested and found.is_empty:
        repeat.judged = {target: known.copy() for target, known in found.known.items()}
    return nested


def _judged(stream: Stream, found: Collector, limits: Limits) -> list[Value]:
    member = stream.member
    nested: list[Value] = []
    rows: dict[int, Known] = {}  # by identity: the machine has one Global a name
    arguments = Arguments()
    work = _WORK + 8 * stream.trace.opcodes
    _noted(stream, found)
    for event in stream.trace.events:
        if type(event) is Instance:
            known = rows.get(id(event.target))
            if known is None:
                known = _target(event.target, found, event.offset, member)
                if known is None:
                    continue
                rows[id(event.target)] = known
            known.called = True
            if work < 0:
                continue
            row = known.row
            if row is None:
                if known.danger is not None and _is_pickle_bytes(event.args):
                    nested.append(event.args[0])
                continue
            problem = _call_problem(row, event)
            if problem:
                found.add(
                    problem,
                    about=_shown_target(event),
                    offset=event.offset,
                    member=member,
                    evidence=f"{event.opcode} {_shown_args(event.args)}",
                )
            elif row.loads_pickle:
                nested.append(event.args[0])
            elif row.is_sealed:
                continue
            work -= follow(event, arguments)
        elif type(event) is Resolve:
            _name(event, found, member, stream.profile)
        elif type(event) is Mutation:
            # One state may be set a million times: each time it would be looked at again.
            work -= size_of(event.value)
            if work < 0:
                continue
            problem = _mutation_problem(event, found)
            if problem:
                found.add(
                    problem,
                    about=_shown_target(event.target),
                    offset=event.offset,
                    member=member,
                    evidence=event.opcode,
                )
            if event.opcode == "BUILD":
                follow_state(event, arguments)
        elif type(event) is Persistent and not _is_storage_id(event.pid, stream):
            found.add(Anomaly(RuleId.ODD_PERSISTENT_ID), offset=event.offset, member=member)
    nested += _plain(stream, found)
    if work < 0:
        found.unjudged = "sets the same large states repeatedly"
    for container, used in arguments.containers.values():
        if container.mutated > used:
            problem = Anomaly(RuleId.ESCAPED_MUTATION)
            found.add(problem, offset=container.mutated, member=member)
    _unfolded(stream, found, limits)
    return nested


def _plain(stream: Stream, found: Collector) -> list[Value]:
    """Judge what a plain unpickler does where joblib reads another pickle; return the pickles that
    it loads.

    It has another memo there, so with an honest file it is lost: where joblib looks up `scalar` of
    numpy, it looks for `scalar` in whatever stands at that place of its memo. What is allowlisted
    is no less harmless for another module in front of it; any other name is one.
    """
    nested: list[Value] = []
    if not stream.trace.plain:
        return nested
    meant = {
        event.offset: event.target.name
        for event in stream.trace.events
        if type(event) is Resolve
        and (known := found.known.get(event.target)) is not None
        and known.kind == "allowlisted"
    }
    for event in stream.trace.plain:
        if type(event) is Resolve:
            called = meant.get(event.offset)
            if called is None or not (event.computed or event.target.name == called):
                _name(event, found, stream.member, stream.profile)
        elif type(event) is Instance and type(event.target) is Global:
            row = judge_name(event.target).row
            if row is not None and row.loads_pickle and _is_pickle_bytes(event.args):
                nested.append(event.args[0])
    return nested


def _noted(stream: Stream, found: Collector) -> None:
    """Take up what the machine has noted: of each rule the first place, and how many there are."""
    trace = stream.trace
    first = {anomaly.rule: anomaly for anomaly in reversed(trace.anomalies)}
    for rule, anomaly in first.items():
        found.add(
            anomaly,
            offset=anomaly.offset,
            member=anomaly.member or stream.member,
            count=trace.noted.get(rule, 1),
        )


def _unfolded(stream: Stream, found: Collector, limits: Limits) -> None:
    """Judge what the value of a stream becomes for whoever goes through it."""
    is_bomb = unfolds(stream.value, limits)
    if is_bomb is None:
        found.unjudged = f"more than {CONTAINERS:,} containers"
    elif is_bomb:
        found.add(
            Anomaly(RuleId.ALIAS_BOMB, f"more than {limits.leaves:,} leaves"),
            offset=stream.offset,
            member=stream.member,
        )


def class_of(value: Value) -> Value:
    """The class or function that made an object: for `copyreg._reconstructor`, its argument."""
    if type(value) is not Instance:
        return value
    if type(value.target) is Persistent:
        return _container_class(value.target.pid)
    if value.target == RECONSTRUCTOR and type(value.args) is tuple and value.args:
        return value.args[0]
    return value.target


def _container_class(pid: Value) -> Value:
    """The class that torch's legacy loader returns for ("module", class, file, source)."""
    if type(pid) is tuple and len(pid) == 4 and pid[0] == "module" and type(pid[1]) is Global:
        return pid[1]
    return None


def _shown(target: Global) -> str:
    return f"{target.module}.{target.name}"


def _shown_target(value: Value) -> str:
    cls = class_of(value)
    return _shown(cls) if type(cls) is Global else ""


def _shown_args(args: Value) -> str:
    """The first few plain arguments of a call, for a person."""
    if type(args) is not tuple:
        return "with arguments that are not a tuple"
    shown: list[str] = []
    for part in args[:4]:
        if type(part) is str or isinstance(part, bytes):
            shown.append(ascii(part[:60]))
        elif type(part) is int:
            shown.append(str(part) if part.bit_length() < 256 else "a huge number")
        elif type(part) is Global:
            shown.append(_shown(part))
        elif type(part) is Instance and type(part.target) is Global:
            shown.append(f"<{part.target.name}>")
        else:
            shown.append(f"<{type(part).__name__.lower()}>")
    return f"({', '.join(shown)}{', …' if len(args) > 4 else ''})"


# --- names --------------------------------------------------------------------------------------


def _is_script(target: Global) -> bool:
    return target.module == "__torch__" or target.module.startswith("__torch__.")


def _name(event: Resolve, found: Collector, member: str | None, profile: LoaderProfile) -> None:
    if event.computed:
        found.add(Anomaly(RuleId.COMPUTED_NAME), offset=event.offset, member=member)
        return
    target = event.target
    known = found.known.get(target)
    if known is None:
        known = judge_name(target, walks_dots=event.walks_dots)
        reason = found.allow.get(target, found.allow.get(event.written))
        # What is known needs no leave: what is dangerous gets none, and of what is allowlisted the
        # use is judged as ever (it may load a pickle of its own).
        if reason is not None and known.kind in ("unknown", "model"):
            known = Known("allowed", problem=Anomaly(RuleId.ALLOWED_GLOBAL, reason))
        if profile is SCRIPT and known.kind == "unknown" and _is_script(target):
            known = Known("unknown")  # a class of the archive's own code, which is a finding itself
        found.known[target] = known
        if known.kind == "model":
            found.models.setdefault(package_of(target) or "", (event.offset, member))
    if known.problem:
        found.add(
            known.problem,
            about=_shown(target),
            offset=event.offset,
            member=member,
            evidence=f"{event.opcode} {event.written.module} {event.written.name}",
        )


def _target(target: Value, found: Collector, offset: int, member: str | None) -> Known | None:
    """What is known of what a call calls; anything but a name is a finding."""
    if type(target) is Persistent:
        target = _container_class(target.pid)
    if type(target) is Global:
        known = found.known.get(target)
        if known is None and target is not COMPUTED:
            known = judge_name(target)
            found.known[target] = known
        return known
    if type(target) is Ext:
        return None  # the extension code is an anomaly of the stream already
    found.add(Anomaly(RuleId.ODD_TARGET, "it calls a value"), offset=offset, member=member)
    return None


# --- calls --------------------------------------------------------------------------------------


def _call_problem(row: Allowed, call: Instance) -> Anomaly | None:
    opcode = call.opcode
    if opcode == "REDUCE":
        check = row.call
    elif opcode == "NEWOBJ":
        check = row.new
    else:
        check = None  # NEWOBJ_EX, OBJ, INST: no serializer uses them for allowlisted names
    if check is None:
        return Anomaly(RuleId.UNKNOWN_CALL, f"{opcode} where no serializer writes one")
    return check(call.args)


def _is_pickle_bytes(args: Value) -> bool:
    if type(args) is not tuple or not args:
        return False
    first = args[0]
    return isinstance(first, bytes) or (type(first) is Extent and not first.is_text)


def _mutation_problem(event: Mutation, found: Collector) -> Anomaly | None:
    target = event.target
    cls = class_of(target)
    if type(target) is Instance and target.opcode in LITERAL_OPCODES:
        return Anomaly(RuleId.UNKNOWN_STATE, f"{event.opcode} on a plain container of another kind")
    if type(target) is not Instance or type(cls) is not Global:
        if type(cls) is Ext or cls is COMPUTED:
            return None
        return Anomaly(
            RuleId.ODD_TARGET,
            f"{event.opcode} modifies something that is not an object of the file",
        )
    known = found.known.get(cls)
    if known is None or known.row is None:
        return None  # the name itself is the finding, or it is allowed
    row = known.row
    if event.opcode == "BUILD":
        if row.state is None:
            return Anomaly(RuleId.UNKNOWN_STATE, "BUILD where no serializer writes one")
        return row.state(event.value) or dtype_state_problem(target, event.value)
    check = row.pairs if event.opcode in ("SETITEM", "SETITEMS") else row.items
    if check is None:
        return Anomaly(RuleId.UNKNOWN_STATE, f"{event.opcode} where no serializer writes one")
    return check(event.value)


def _is_storage_id(pid: Value, stream: Stream) -> bool:
    """("storage", class, key, location, elements[, view]); the tar format has bare numbers."""
    if type(pid) is tuple and 5 <= len(pid) <= 6 and pid[0] == "storage":
        return (
            type(pid[1]) is Global
            and (type(pid[2]) is str or (stream.profile is SCRIPT and type(pid[2]) is int))
            and type(pid[3]) is str
            and type(pid[4]) is int
        )
    if stream.profile is PICKLE:
        return False
    if _container_class(pid) is not None:
        return all(part is None or type(part) is str or type(part) is Extent for part in pid[2:])
    return type(pid) is int or (type(pid) is str and pid.isdecimal())
