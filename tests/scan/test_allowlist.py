"""Each allowlisted name: the use that honest writers make of it, and its hostile neighbour."""

from __future__ import annotations

import pytest
from tests.forge import (
    Ops,
    additems,
    appends,
    build,
    call,
    dict_of,
    inst,
    list_of,
    name,
    newobj,
    obj,
    ops,
    pickled,
    setitems,
    storage,
    tensor,
    torch_zip,
    tuple_of,
)

from sdtool.checkpoint import readings
from sdtool.checkpoint.source import Memory
from sdtool.checkpoint.values import Global
from sdtool.scan import Report, judge
from sdtool.scan.allowlist import ALLOWLIST
from sdtool.scan.dangerous import danger_of

LATIN = call(name("_codecs", "encode"), "b", "latin1")
ORDERED = name("collections", "OrderedDict")
DTYPE = call(name("numpy", "dtype"), "f4", False, True)
OBJECTS = call(name("numpy", "dtype"), "O8", False, True)
RECONSTRUCT = name("numpy.core.multiarray", "_reconstruct")
ARRAY = call(RECONSTRUCT, name("numpy", "ndarray"), tuple_of(0), b"b")
REBUILD = name("torch._utils", "_rebuild_tensor_v2")
NONE = None


def scan(data: bytes) -> Report:
    """The report on bytes in memory."""
    return judge(readings(Memory(data, "test")), path="test")


def rules_of(body: Ops, protocol: int = 3) -> set[str]:
    """The rules that a pickle of `body` breaks."""
    return {finding.rule for finding in scan(pickled(body, protocol=protocol)).findings}


def in_torch(body: Ops) -> set[str]:
    """The same inside a torch zip, where persistent ids are storages."""
    return {finding.rule for finding in scan(torch_zip(pickled(dict_of({"w": body})))).findings}


HONEST = {
    "ordered-dict": setitems(call(ORDERED), "a", 1),
    "ordered-dict-state": build(call(ORDERED), dict_of({"_metadata": 1})),
    "ordered-dict-py2": call(ORDERED, list_of(list_of("a", 1))),
    "counter": call(name("collections", "Counter"), dict_of({"a": 2})),
    "defaultdict": call(name("collections", "defaultdict"), name("builtins", "list")),
    "deque": appends(call(name("collections", "deque"), tuple_of(), 3), 1, 2),
    "set": call(name("builtins", "set"), list_of(1, 2)),
    "bytearray": call(name("builtins", "bytearray"), b"abc"),
    "bytes-empty": call(name("builtins", "bytes")),
    "encode": LATIN,
    "none-type": call(name("builtins", "type"), NONE),
    "datetime": call(name("datetime", "datetime"), b"\x07\xe4\x01\x01\0\0\0\0\0\0"),
    "decimal": call(name("decimal", "Decimal"), "1.5E-20"),
    "fraction": call(name("fractions", "Fraction"), "3/4"),
    "path": call(name("pathlib", "PosixPath"), "/", "a"),
    "namespace": build(newobj(name("argparse", "Namespace")), dict_of({"append": True})),
    "reconstructor": call(
        name("copyreg", "_reconstructor"),
        name("argparse", "Namespace"),
        name("builtins", "object"),
        NONE,
    ),
    "attribute-dict": setitems(
        newobj(name("pytorch_lightning.utilities.parsing", "AttributeDict")), "a", 1
    ),
    "class-as-key": dict_of({"a": name("pytorch_lightning.callbacks", "model_checkpoint")}),
    "array": build(ARRAY, tuple_of(1, tuple_of(1), DTYPE, False, b"\0\0\0\0")),
    "object-array": build(ARRAY, tuple_of(1, tuple_of(1), OBJECTS, False, list_of(1))),
    "dtype": build(DTYPE, tuple_of(3, "<", NONE, NONE, NONE, -1, -1, 0)),
    "scalar": call(name("numpy.core.multiarray", "scalar"), DTYPE, b"\0\0\0\0"),
    "range": call(name("builtins", "range"), 0, 10**12, 1),
}


@pytest.mark.parametrize("label", sorted(HONEST))
def test_honest_uses_are_clean(label: str) -> None:
    report = scan(pickled(HONEST[label], protocol=3))
    assert (report.verdict.value, report.findings) == ("clean", ())


HOSTILE = {
    "encode-idna": (call(name("_codecs", "encode"), "b", "idna"), "unknown-call"),
    "bytearray-codec": (call(name("builtins", "bytearray"), "x", "idna"), "unknown-call"),
    "bytes-huge": (call(name("builtins", "bytes"), 10**12), "oversized-argument"),
    "list-of-range": (
        call(name("builtins", "list"), call(name("builtins", "range"), 10**12)),
        "unknown-call",
    ),
    "set-of-range": (
        call(name("builtins", "set"), call(name("builtins", "range"), 10**12)),
        "unknown-call",
    ),
    "fraction-exponent": (
        call(name("fractions", "Fraction"), "1e999999999"),
        "oversized-argument",
    ),
    "defaultdict-factory": (
        call(name("collections", "defaultdict"), name("argparse", "Namespace")),
        "unknown-call",
    ),
    "type-three": (
        call(name("builtins", "type"), "X", tuple_of(), dict_of({})),
        "dangerous-call",
    ),
    "array-of-size": (
        call(RECONSTRUCT, name("numpy", "ndarray"), tuple_of(10**12), b"b"),
        "unknown-call",
    ),
    "array-subclass": (
        call(RECONSTRUCT, name("numpy", "dtype"), tuple_of(0), b"b"),
        "unknown-call",
    ),
    "objects-from-bytes": (
        build(ARRAY, tuple_of(1, tuple_of(1), OBJECTS, False, b"\0" * 8)),
        "unknown-state",
    ),
    "lying-dtype": (
        build(OBJECTS, tuple_of(3, "|", NONE, NONE, NONE, -1, -1, 0)),
        "dangerous-call",
    ),
    "scalar-object": (
        call(name("numpy.core.multiarray", "scalar"), OBJECTS, b"\0" * 8),
        "unknown-call",
    ),
    "reconstructor-unknown": (
        call(
            name("copyreg", "_reconstructor"),
            name("collections", "deque"),
            name("builtins", "object"),
            NONE,
        ),
        "unknown-call",
    ),
    "setstate-in-state": (
        build(newobj(name("argparse", "Namespace")), dict_of({"__setstate__": ORDERED})),
        "unknown-state",
    ),
    "append-in-state": (
        build(newobj(name("argparse", "Namespace")), dict_of({"append": ORDERED})),
        "unknown-state",
    ),
    "state-of-slots": (
        build(newobj(name("argparse", "Namespace")), tuple_of(NONE, dict_of({"a": 1}))),
        "unknown-state",
    ),
    "attribute-dict-method": (
        setitems(
            newobj(name("pytorch_lightning.utilities.parsing", "AttributeDict")),
            "__setstate__",
            ORDERED,
        ),
        "unknown-state",
    ),
    "class-changed": (build(ORDERED, dict_of({"a": 1})), "odd-target"),
    "call-of-a-call": (call(call(ORDERED), 1), "odd-target"),
    "inst": (inst("collections", "OrderedDict"), "unknown-call"),
    "obj": (obj(ORDERED), "unknown-call"),
    "newobj-of-function": (newobj(name("_codecs", "encode"), "a", "latin1"), "unknown-call"),
    "additems-on-list": (additems(list_of(), 1), "unknown-state"),
    "callback-called": (
        call(name("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")),
        "unknown-call",
    ),
}


@pytest.mark.parametrize("label", sorted(HOSTILE))
def test_hostile_uses_are_findings(label: str) -> None:
    body, rule = HOSTILE[label]
    assert rules_of(body) == {rule}


def test_tensors_are_allowlisted_with_their_own_arguments_only() -> None:
    hooks = setitems(call(ORDERED), 1, 2)
    parts = (storage(), 0, tuple_of(4), tuple_of(1), False)
    assert in_torch(tensor()) == set()
    assert in_torch(call(REBUILD, *parts, hooks)) == {"unknown-call"}
    assert in_torch(call(REBUILD, *parts, call(ORDERED), dict_of({"conj": True}))) == set()
    assert in_torch(call(REBUILD, *parts, call(ORDERED), dict_of({"x": ORDERED}))) == {
        "unknown-call"
    }
    assert in_torch(call(name("torch._utils", "_rebuild_parameter"), tensor(), True, hooks)) == {
        "unknown-call"
    }


def test_a_rebuilt_type_calls_allowlisted_functions_only() -> None:
    def rebuilt(function: Ops, state: Ops) -> Ops:
        parts = tuple_of(storage(), 0, tuple_of(4), tuple_of(1), False, call(ORDERED))
        cls = name("torch", "Tensor")
        return call(name("torch._tensor", "_rebuild_from_type_v2"), function, cls, parts, state)

    assert in_torch(rebuilt(REBUILD, dict_of({"note": "x"}))) == set()
    assert in_torch(rebuilt(ORDERED, dict_of({}))) == {"dangerous-call"}
    assert in_torch(rebuilt(REBUILD, dict_of({"__class__": ORDERED}))) == {"unknown-state"}
    hooked = dict_of({"_backward_hooks": setitems(call(ORDERED), 1, ORDERED)})
    assert in_torch(rebuilt(REBUILD, hooked)) == {"unknown-state"}


@pytest.mark.parametrize("target", sorted(ALLOWLIST, key=str), ids=str)
def test_no_allowlisted_name_is_odd(target: Global) -> None:
    for part in (target.module, target.name):
        assert part.isascii() and part.isprintable() and " " not in part
    assert "." not in target.name


def test_what_runs_code_is_not_allowlisted() -> None:
    for module, attribute in (
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("os", "system"),
        ("torch", "load"),
        ("functools", "partial"),
        ("numpy", "load"),
    ):
        assert Global(module, attribute) not in ALLOWLIST
    assert danger_of("builtins", "eval") is not None


def test_a_use_inside_unreached_values_is_judged_too() -> None:
    dropped = ops(call(name("builtins", "bytes"), 10**12), b"0", list_of())
    assert rules_of(dropped) == {"oversized-argument"}
