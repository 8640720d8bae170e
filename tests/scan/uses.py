"""What each allowlisted name takes, to the last neighbour: uses.txt.

`SAMPLES` are arguments and states as honest writers leave them. Each part of each is exchanged
for what else may stand there (`OTHERS`), left out or doubled. What a check of the allowlist takes
of all that is one group of uses.txt, and every name says which group its calls, objects, states,
items and pairs belong to. All else is a finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sdtool.checkpoint.values import (
    DICT,
    LIST,
    SET,
    Ext,
    Extent,
    Global,
    Instance,
    Persistent,
    Value,
)
from sdtool.scan.allowlist import ALLOWLIST
from sdtool.scan.allowlist.values import Check

PATH = Path(__file__).with_name("uses.txt")
KINDS = ("call", "new", "state", "items", "pairs")


def _called(target: Global, *args: Value) -> Instance:
    return Instance(target, args, "REDUCE", 0)


def _filled(made: Instance, *pairs: tuple[Value, Value], items: Sequence[Value] = ()) -> Instance:
    made.content().pairs = list(pairs)
    made.content().items = list(items)
    return made


def _dict(**pairs: Value) -> Instance:
    return _filled(Instance(DICT, (), "EMPTY_DICT", 0), *pairs.items())


def _list(*items: Value) -> Instance:
    return _filled(Instance(LIST, (), "EMPTY_LIST", 0), items=items)


ORDERED_DICT = Global("collections", "OrderedDict")
NAMESPACE = Global("argparse", "Namespace")
OBJECT = Global("builtins", "object")
REBUILD = Global("torch._utils", "_rebuild_tensor_v2")
TENSOR = Global("torch", "Tensor")
FLOAT = Global("torch", "float32")
DTYPE = Global("numpy", "dtype")
NDARRAY = Global("numpy", "ndarray")
CTOR = Global("numpy.random._pickle", "__bit_generator_ctor")
SEED = Global("numpy.random.bit_generator", "SeedSequence")
STORAGE = Persistent(("storage", Global("torch", "FloatStorage"), "0", "cpu", 4), 0)
SIZE = _called(Global("torch", "Size"), (2, 3))
HOOKS = _called(ORDERED_DICT)
PARTS = (STORAGE, 0, (2, 3), (3, 1), False, HOOKS)
REBUILT = _called(REBUILD, *PARTS)
F4, O8, V8 = (_called(DTYPE, code, False, True) for code in ("f4", "O8", "V8"))
DELTA = _called(Global("datetime", "timedelta"), 0, 3600, 0)
ZONE = _called(Global("datetime", "timezone"), DELTA)

OTHERS: dict[str, Value] = {
    "None": None,
    "True": True,
    "0": 0,
    "1": 1,
    "-1": -1,
    "huge": 1 << 70_000,
    "1.5": 1.5,
    "text": "a",
    "no-text": "",
    "digits": "12",
    "exponent": "1e9",
    "huge-exponent": "1e9999999999",
    "long-text": "a" * 5_000,
    "longer-text": "a" * 80,
    "method": "append",
    "dunder": "__setstate__",
    "hook": "_backward_hooks",
    "conj": "conj",
    "offsets": "offsets",
    "type-code": "d",
    "latin1": "latin1",
    "idna": "idna",
    "PCG64": "PCG64",
    "O8": "O8",
    "U4": "U4",
    "bytes": b"ab",
    "extent": Extent(0, 100_000, False),
    "text-extent": Extent(0, 100_000, True),
    "()": (),
    "(0,)": (0,),
    "(1, 2)": (1, 2),
    "(text,)": ("a",),
    "(call,)": (_called(NAMESPACE),),
    "65 numbers": (1,) * 65,
    "300 texts": ("a",) * 300,
    "{}": _dict(),
    "{a: 1}": _dict(a=1),
    "{a: call}": _dict(a=_called(NAMESPACE)),
    "{conj: True}": _dict(conj=True),
    "{conj: 1}": _dict(conj=1),
    "{append: call}": _dict(append=_called(NAMESPACE)),
    "{append: 1}": _dict(append=1),
    "{__x__: 1}": _dict(__x__=1),
    "{__x: 1}": _dict(__x=1),
    "{x__: 1}": _dict(x__=1),
    "{1: 1}": _filled(_dict(), (1, 1)),
    "{hook: 1}": _dict(_forward_hooks=1),
    "{hook: True}": _dict(_forward_hooks=True),
    "{hook: {}}": _dict(_forward_hooks=_dict()),
    "{hook: {a: 1}}": _dict(_forward_hooks=_dict(a=1)),
    "[]": _list(),
    "[1]": _list(1),
    "[text]": _list("a"),
    "set": Instance(SET, (), "EMPTY_SET", 0),
    "bytearray": Instance(Global("builtins", "bytearray"), (b"ab",), "BYTEARRAY8", 0),
    "encoded": _called(Global("_codecs", "encode"), "a", "latin1"),
    "empty-bytes": _called(Global("builtins", "bytes")),
    "OrderedDict()": HOOKS,
    "OrderedDict([])": _called(ORDERED_DICT, _list()),
    "OrderedDict([1])": _called(ORDERED_DICT, _list(1)),
    "OrderedDict([], [])": _called(ORDERED_DICT, _list(), _list()),
    "OrderedDict(call)": _called(ORDERED_DICT, _called(NAMESPACE)),
    "OrderedDict(*call)": Instance(ORDERED_DICT, _called(NAMESPACE), "REDUCE", 0),
    "filled OrderedDict": _filled(_called(ORDERED_DICT), (1, 2)),
    "OrderedDict with items": _filled(_called(ORDERED_DICT), items=[1]),
    "Namespace()": _called(NAMESPACE),
    "call of a call": Instance(_called(NAMESPACE), (), "REDUCE", 0),
    "storage": STORAGE,
    "loaded storage": _called(Global("torch.storage", "_load_from_bytes"), b"a"),
    "tensor": REBUILT,
    "size": SIZE,
    "no-size": _called(Global("torch", "Size")),
    "size-of-text": _called(Global("torch", "Size"), ("a",)),
    "size(*call)": Instance(Global("torch", "Size"), _called(NAMESPACE), "REDUCE", 0),
    "device": _called(Global("torch", "device"), "cpu"),
    "f4": F4,
    "objects": O8,
    "void": V8,
    "dtype()": _called(DTYPE),
    "dtype(*call)": Instance(DTYPE, _called(NAMESPACE), "REDUCE", 0),
    "dtype(odd)": _called(DTYPE, "f4,O8"),
    "delta": DELTA,
    "zone": ZONE,
    "generator": _called(CTOR, "PCG64"),
    "a name": Global("module", "thing"),
    "a class": NAMESPACE,
    "a rebuilder": REBUILD,
    "a type of tensor": TENSOR,
    "a type of element": FLOAT,
    "a scheme": Global("torch", "per_tensor_affine"),
    "Ellipsis": Global("builtins", "Ellipsis"),
    "utc": Global("datetime", "timezone.utc"),
    "dict": DICT,
    "object": OBJECT,
    "OrderedDict": ORDERED_DICT,
    "ndarray": NDARRAY,
    "ctor": CTOR,
    "MT19937": Global("numpy.random._mt19937", "MT19937"),
    "extension": Ext(1),
}
"""What may stand somewhere else: of each type, small and large, inert and not."""

SAMPLES: dict[str, Value] = {
    "nothing": (),
    "tensor v1": (STORAGE, 0, (2, 3), (3, 1)),
    "tensor v2": PARTS,
    "tensor v2 with bits": (*PARTS, _dict(conj=True, neg=False)),
    "tensor v3": (*PARTS, FLOAT),
    "tensor v3 with bits": (*PARTS, FLOAT, _dict(conj=False)),
    "parameter": (REBUILT, True, HOOKS),
    "parameter with state": (REBUILT, True, HOOKS, _dict(note="x")),
    "parameter and slots": (REBUILT, True, HOOKS, (_dict(note="x"), None)),
    "parameter class": (REBUILT, True),
    "from type": (REBUILD, TENSOR, PARTS, _dict(note="x")),
    "from parameter": (
        Global("torch._utils", "_rebuild_parameter"),
        TENSOR,
        (REBUILT, True, HOOKS),
        None,
    ),
    "from class": (Global("torch.nn.parameter", "Parameter"), TENSOR, (REBUILT,), None),
    "from itself": (
        Global("torch._tensor", "_rebuild_from_type_v2"),
        TENSOR,
        (REBUILD, TENSOR, PARTS, None),
        None,
    ),
    "sparse": (Global("torch", "sparse_coo"), (REBUILT, REBUILT, (2, 3), True)),
    "quantized": (
        STORAGE,
        0,
        (2,),
        (1,),
        (Global("torch", "per_tensor_affine"), 0.5, 0),
        True,
        HOOKS,
    ),
    "sixteen": (1,) * 16,
    "seventeen": (1,) * 17,
    "many parts": (((1,) * 100), ((1,) * 100)),
    "most parts": ((1,) * 255,),
    "too many parts": ((1,) * 256,),
    "subclass": (
        TENSOR,
        FLOAT,
        (2, 3),
        (3, 1),
        0,
        Global("torch", "strided"),
        _called(Global("torch", "device"), "cpu"),
        True,
    ),
    "texts": ("a", "b"),
    "256 texts": ("a",) * 256,
    "257 texts": ("a",) * 257,
    "text of 4096": ("a" * 4096,),
    "text of 4097": ("a" * 4097,),
    "text of 64": ("a" * 64,),
    "text of 65": ("a" * 65,),
    "64 numbers": ((1,) * 64,),
    "device": ("cuda", 0),
    "bytes": (b"ab",),
    "container": (_list(_list("a", 1)),),
    "deque": (_list(1), 3),
    "defaultdict": (Global("builtins", "list"), _dict(a=1)),
    "encode": ("ab", "latin1"),
    "encode latin-1": ("ab", "latin-1"),
    "number": (5,),
    "largest number": ((1 << 65_536) - 1,),
    "number too large": (1 << 65_536,),
    "numbers": (1, 2, 3),
    "eight numbers": (1,) * 8,
    "nine numbers": (1,) * 9,
    "moment": (b"\x07\xe4\x01\x01\0\0\0\0\0\0", ZONE),
    "moment of ten": ("a" * 10,),
    "moment of eleven": ("a" * 11,),
    "zone": (DELTA, "name"),
    "decimal": ("-1.5E-20",),
    "decimal nan": ("sNaN",),
    "decimal inf": ("Infinity",),
    "fraction": (3, 4),
    "fraction in text": ("3/4",),
    "reconstructor": (NAMESPACE, OBJECT, None),
    "reconstructor of a dict": (
        Global("pytorch_lightning.utilities.parsing", "AttributeDict"),
        DICT,
        _dict(a=1),
    ),
    "array": ("d", _list(1.5)),
    "array of bytes": ("d", b"12345678"),
    "array of protocol 3": (Global("array", "array"), "d", 18, b"12345678"),
    "dtype": ("<f4", False, True),
    "dtype of objects": ("|O8", False, True),
    "dtype of times": ("<m8", False, True),
    "dtype state": (3, "<", None, None, None, -1, -1, 0),
    "dtype state of times": (4, "<", None, None, None, -1, -1, 0, (_dict(), ("s", 1, 1, 1))),
    "dtype with fields": (
        3,
        "|",
        None,
        ("a", "b"),
        _dict(a=(F4, 0), b=(_called(DTYPE, "U1", False, True), 4)),
        8,
        1,
        16,
    ),
    "dtype with a time": (
        3,
        "|",
        None,
        ("a",),
        _dict(a=(_called(DTYPE, "M8", False, True), 0)),
        8,
        1,
        0,
    ),
    "dtype with bytes": (
        3,
        "|",
        None,
        ("a",),
        _dict(a=(_called(DTYPE, "S", False, True), 7)),
        8,
        1,
        0,
    ),
    "large dtype": (3, "|", None, None, None, (1 << 31) - 1, 1, 0),
    "too large dtype": (3, "|", None, None, None, 1 << 31, 1, 0),
    "empty array": (NDARRAY, (0,), b"b"),
    "array state": (1, (2, 3), F4, False, b"\0" * 24),
    "object array state": (1, (2,), O8, False, _list(1, 2)),
    "object array with a size": (1, SIZE, O8, False, _list(*range(6))),
    "scalar": (F4, b"\0\0\0\0"),
    "frombuffer": (b"\0\0\0\0", F4, (1,), "C"),
    "generator": ("PCG64", CTOR),
    "seed sequence": (SEED, 1, None),
    "attributes": _dict(a=1, b=_called(NAMESPACE)),
    "module attributes": _dict(training=True, _forward_hooks=_called(ORDERED_DICT)),
    "no attributes": _dict(),
    "nested tensor": (
        _dict(values=REBUILT, offsets=REBUILT, _metadata_cache=_dict(max_seqlen=REBUILT)),
    ),
    "numbers of a list": _list(None, 1),
    "tensor properties": (FLOAT, Global("torch", "strided"), False, None, False),
    "one of an enumeration": (1,),
    "a list with a type": (_list(1), "List[int]"),
    "array wrapper": _dict(subclass=NDARRAY, shape=(2, 3), order="C", dtype=F4, allow_mmap=True),
    "random state": (_dict(bit_generator="PCG64"), 1),
}
"""Arguments and states of honest files, and the last one within each bound with the next."""


def _changed(value: Value) -> Iterator[tuple[str, Value]]:
    """Every value with one part exchanged, left out or doubled, and where."""
    for label, other in OTHERS.items():
        yield f"={label}", other
    if type(value) is tuple:
        yield "!", value[:-1]
        yield "+", (*value, None)
        for i, part in enumerate(value[:8]):
            for where, new in _changed(part):
                yield f"[{i}]{where}", (*value[:i], new, *value[i + 1 :])
    elif type(value) is Instance and value.opcode in ("EMPTY_DICT", "EMPTY_LIST"):
        for i, (key, part) in enumerate(value.pairs):
            for where, new in _changed(part):
                yield f"[{key!r}]{where}", _with(value, i, (key, new))
            for label, other in OTHERS.items():
                yield f"[{key!r} as a key]={label}", _with(value, i, (other, part))
        for i, _ in enumerate(value.items):
            for label, other in OTHERS.items():
                items = [*value.items]
                items[i] = other
                yield f"[{i}]={label}", _list(*items)


def _with(made: Instance, i: int, pair: tuple[Value, Value]) -> Instance:
    pairs = [*made.pairs]
    pairs[i] = pair
    return _filled(Instance(DICT, (), "EMPTY_DICT", 0), *pairs)


@cache
def _neighbours(sample: str) -> tuple[tuple[str, Value], ...]:
    return tuple(_changed(SAMPLES[sample]))


@cache
def _taken(check: Check, *, in_pairs: bool) -> tuple[str, ...]:
    """What a check lets pass of the others, of the samples, and of those samples changed."""
    tried = {f"={label}": value for label, value in OTHERS.items()}
    whole = _outcomes(check, tried, in_pairs=in_pairs)
    found = [line.strip() for line in _shortened(whole)]
    for label, sample in SAMPLES.items():
        result = _outcomes(check, {label: sample}, in_pairs=in_pairs)
        if result.get(label) != "":
            found += [f"{name}: {slug}" for name, slug in result.items() if slug not in _USUAL]
            continue
        found.append(label)
        parts = {where: value for where, value in _neighbours(label) if where[:1] != "="}
        outcomes = _outcomes(check, parts, in_pairs=in_pairs)
        free = bool(outcomes) and not any(outcomes.values())
        found += ["  anything in it"] if free else [f"  {x}" for x in _shortened(outcomes)]
    return tuple(found)


_USUAL = ("unknown-call", "unknown-state")


def _outcomes(check: Check, tried: dict[str, Value], *, in_pairs: bool) -> dict[str, str]:
    """The rule that each value falls under; empty where it passes."""
    found: dict[str, str] = {}
    for label, value in tried.items():
        if in_pairs:
            if type(value) is not Instance or not value.pairs:
                continue
            value = value.pairs
        problem = check(value)
        found[label] = "" if problem is None else problem.rule
    return found


def _shortened(outcomes: dict[str, str]) -> Iterator[str]:
    """One line a place: what may stand there, or what may not where that is less."""
    places: dict[str, dict[str, str]] = {}
    for label, slug in outcomes.items():
        place, _, what = label.partition("=")
        places.setdefault(place, {})[what] = slug
    for place, whats in places.items():
        passes = [what for what, slug in whats.items() if not slug]
        fails = [what for what, slug in whats.items() if slug]
        if passes == [""]:
            yield f"{place} passes"
        elif not fails:
            yield f"{place} anything"
        elif passes:
            most = len(passes) > len(fails)
            yield f"{place} {'not ' if most else ''}{' | '.join(fails if most else passes)}"
        for slug in sorted({slug for slug in whats.values() if slug and slug not in _USUAL}):
            yield f"{place} {slug}: {' | '.join(w for w, s in whats.items() if s == slug)}"


@dataclass(frozen=True)
class Use:
    """What may happen to one name: for each kind of use what is taken, and the flags of its row."""

    taken: dict[str, tuple[str, ...]]
    flags: tuple[str, ...]


def use_of(target: Global) -> Use:
    """What the row of a name lets pass."""
    row = ALLOWLIST[target]
    checks: dict[str, Check | None] = {kind: getattr(row, kind) for kind in KINDS}
    taken = {k: _taken(c, in_pairs=k == "pairs") for k, c in checks.items() if c is not None}
    return Use(taken, ("loads-pickle",) * row.loads_pickle + ("sealed",) * row.is_sealed)


def written() -> dict[str, Use]:
    """What uses.txt says of each name."""
    text = PATH.read_text("utf-8") if PATH.exists() else ""
    rows, *blocks = text.split("\n\n")
    groups: dict[str, tuple[str, ...]] = {}
    for block in blocks:
        number, *lines = block.splitlines()
        groups[number.removeprefix("# ")] = tuple(lines)
    found: dict[str, Use] = {}
    for row in rows.splitlines():
        name, *words = row.split()
        kinds = dict(word.split(":") for word in words if ":" in word)
        flags = tuple(word for word in words if ":" not in word)
        found[name] = Use({kind: groups[number] for kind, number in kinds.items()}, flags)
    return found


def write() -> None:
    """Write uses.txt: a line for each name, then the groups."""
    groups: dict[tuple[str, ...], str] = {}
    rows: list[str] = []
    for target in sorted(ALLOWLIST, key=str):
        use = use_of(target)
        words = [
            f"{kind}:{groups.setdefault(taken, str(len(groups) + 1))}"
            for kind, taken in use.taken.items()
        ]
        rows.append(" ".join([str(target), *words, *use.flags]))
    blocks = ["\n".join(rows)]
    blocks += ["\n".join([f"# {number}", *taken]) for taken, number in groups.items()]
    PATH.write_text("\n\n".join(blocks) + "\n", "utf-8", newline="\n")
