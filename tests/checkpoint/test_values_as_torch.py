"""Containers, keys and tensors in every spelling of a pickle: what torch.load gives, or a refusal.

The files are built here, opcode by opcode, and torch.load runs them: none of them calls anything
but containers, torch's rebuild functions and numpy's. What it returns is flattened by the few lines
of `flattened`, which know Python's objects and nothing of sdtool's.
"""

from __future__ import annotations

import argparse
import io
import random
import struct
import types
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tests.forge import (
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_TUPLE,
    MARK,
    Ops,
    additems,
    append,
    appends,
    build,
    call,
    dict_of,
    get,
    inst,
    legacy_storage,
    list_of,
    name,
    newobj,
    newobj_ex,
    obj,
    ops,
    persistent,
    pickled,
    put,
    py2_string,
    setitem,
    setitems,
    short_bytes,
    storage,
    tensor,
    text,
    torch_legacy,
    torch_zip,
    tuple_of,
    value,
)
from tests.tensor_values import raw_bytes, values_of

from sdtool.checkpoint import open_checkpoint, readings
from sdtool.checkpoint.errors import InputError
from sdtool.checkpoint.source import Memory

COUNT = 64
RECORD = struct.pack(f"<{COUNT}f", *range(1, COUNT + 1))

ODICT = name("collections", "OrderedDict")
DDICT = name("collections", "defaultdict")
COUNTER = name("collections", "Counter")
DEQUE = name("collections", "deque")
DICT = name("__builtin__", "dict")
LIST = name("__builtin__", "list")
TUPLE = name("__builtin__", "tuple")
SET = name("__builtin__", "set")
FROZENSET = name("__builtin__", "frozenset")
OBJECT = name("__builtin__", "object")
RECONSTRUCTOR = name("copy_reg", "_reconstructor")
NAMESPACE = name("argparse", "Namespace")


def t(number: int) -> Ops:
    """A tensor of one element, `number` + 1."""
    return tensor(storage("0", numel=COUNT), (1,), (1,), number)


def flattened(found: Any, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors of what torch.load returned, by the documented rule: keys and dots."""
    if isinstance(found, torch.Tensor):
        yield prefix[:-1] or "tensor", found
    elif isinstance(found, torch.nn.Module):
        yield from ((prefix + key, child) for key, child in found.state_dict().items())
    elif isinstance(found, dict):
        for key, child in found.items():
            assert isinstance(key, (str, int)) and not isinstance(key, bool), "no name"
            yield from flattened(child, f"{prefix}{key}.")
    elif isinstance(found, (list, tuple, deque)):
        for number, child in enumerate(found):
            yield from flattened(child, f"{prefix}{number}.")
    elif isinstance(found, (argparse.Namespace, types.SimpleNamespace)):
        yield from flattened(vars(found), prefix)


def written(data: bytes) -> list[tuple[str, str, tuple[int, ...], bytes]] | None:
    """Names, types, shapes and bytes of what sdtool would write, None where it refuses."""
    try:
        checkpoint = open_checkpoint(Memory(data, "test"))
    except InputError:
        return None
    if not checkpoint.tensors or any(entry.unsupported for entry in checkpoint.tensors):
        return None
    return [
        (e.name, f"torch.{e.dtype.name}", e.shape, raw_bytes(values_of(e)))
        for e in checkpoint.tensors
    ]


def loaded(data: bytes) -> list[tuple[str, str, tuple[int, ...], bytes]]:
    """The same of what torch.load gives."""
    found = torch.load(io.BytesIO(data), weights_only=False)
    return [
        (key, str(child.dtype), tuple(child.shape), raw_bytes(child))
        for key, child in flattened(found)
    ]


def zipped(content: Ops, protocol: int = 2) -> bytes:
    """A torch file that holds `content`."""
    return torch_zip(pickled(content, protocol=protocol), {"0": RECORD})


def pairs(*numbers: int) -> Ops:
    """A list of lists of two: what Python 2's OrderedDict.__reduce__ gives to REDUCE."""
    return list_of(*(list_of(f"k{n}", t(n)) for n in numbers))


READ: dict[str, Ops] = {
    "py2-ordered-dict": call(ODICT, pairs(0, 1, 2)),
    "ordered-dict-of-tuples": call(ODICT, tuple_of(tuple_of("a", t(0)), tuple_of("b", t(1)))),
    "ordered-dict-of-a-dict": call(ODICT, dict_of({"a": t(0), "b": t(1)})),
    "ordered-dict-then-setitems": setitems(call(ODICT, pairs(0, 1)), "k0", t(5), "z", t(6)),
    "ordered-dict-twice": call(ODICT, call(ODICT, pairs(3, 1))),
    "ordered-dict-given-twice": call(ODICT, pairs(0, 1, 0)),
    "ordered-dict-inst": inst("collections", "OrderedDict", pairs(0, 1)),
    "ordered-dict-obj": obj(ODICT, pairs(0, 1)),
    "ordered-dict-newobj-ignores": setitem(newobj(ODICT, pairs(0, 1)), "b", t(2)),
    "ordered-dict-attribute": build(call(ODICT, pairs(0, 1)), {"_metadata": call(ODICT)}),
    "ordered-dict-reconstructor-itself": call(RECONSTRUCTOR, ODICT, ODICT, dict_of({"a": t(0)})),
    "dict-of-a-dict": call(DICT, dict_of({"a": t(0), "b": t(1)})),
    "dict-of-pairs": call(DICT, pairs(2, 1)),
    "dict-of-a-deque": call(DICT, call(DEQUE, pairs(2, 1))),
    "dict-newobj-ignores": setitem(newobj(DICT, pairs(0)), "a", t(1)),
    "dict-newobj-ex": setitem(newobj_ex(DICT, (), {}), "a", t(1)),
    "dict-reconstructor": call(RECONSTRUCTOR, DICT, DICT, dict_of({"a": t(0)})),
    "newobj-function": setitem(call(name("copy_reg", "__newobj__"), DICT), "a", t(1)),
    "defaultdict": setitem(call(DDICT, DICT), "a", t(0)),
    "defaultdict-of-a-dict": setitem(call(DDICT, LIST, dict_of({"a": t(0)})), "b", t(1)),
    "defaultdict-of-pairs": call(DDICT, None, pairs(4, 5)),
    "counter-of-a-dict": call(COUNTER, dict_of({"a": t(0), "b": t(1)})),
    "counter-reconstructor": call(RECONSTRUCTOR, COUNTER, DICT, dict_of({"a": t(0)})),
    "list-of-a-list": append(call(LIST, list_of(t(0), t(1))), t(2)),
    "list-of-a-tuple": call(LIST, tuple_of(t(0), t(1))),
    "list-newobj-ignores": append(newobj(LIST, list_of(t(0))), t(1)),
    "list-reconstructor": append(call(RECONSTRUCTOR, LIST, LIST, list_of(t(0))), t(1)),
    "tuple-of-a-list": call(TUPLE, list_of(t(0), t(1))),
    "tuple-newobj": newobj(TUPLE, list_of(t(0), t(1))),
    "tuple-of-keys": dict_of({"x": call(TUPLE, dict_of({"a": t(0)})), "y": t(1)}),
    "deque": appends(call(DEQUE, EMPTY_TUPLE), t(0), t(1)),
    "deque-of-a-list": append(call(DEQUE, list_of(t(0), t(1))), t(2)),
    "deque-with-a-length": appends(call(DEQUE, list_of(t(0), t(1)), 2), t(2)),
    "deque-of-nothing": dict_of({"d": call(DEQUE, list_of(t(0)), 0), "w": t(1)}),
    "nested": dict_of({"a": call(DICT, list_of(list_of("b", call(LIST, tuple_of(t(0), t(1))))))}),
    "a-namespace": build(newobj(NAMESPACE), {"w": t(0), "b": t(1)}),
    "a-namespace-that-looks-like-a-module": build(
        newobj(NAMESPACE), {"_parameters": {"w": t(0)}, "_buffers": {}, "_modules": {}}
    ),
    "built-twice": build(build(newobj(NAMESPACE), {"w": t(0), "b": t(1)}), {"w": t(2)}),
    "built-with-slots": build(
        newobj(NAMESPACE), tuple_of(dict_of({"w": t(0)}), dict_of({"s": t(1)}))
    ),
    "older-than-the-copy": ops(
        append(EMPTY_LIST, list_of("a", t(0))), put(9), ODICT, get(9), b"\x85R",
    ),
    "py2-key": setitems(EMPTY_DICT, py2_string("gewicht-ä".encode()), t(0)),
    "py2-key-beside-text": setitems(EMPTY_DICT, "ä", t(0), py2_string("ä".encode()), t(1)),
    "integers": dict_of({7: t(0), -1: t(1)}),
    "one-key-to-python": setitems(EMPTY_DICT, 1, t(0), 1.0, t(1), True, t(2)),
    "neg": tensor(storage("0", numel=COUNT), (2,), (1,), 0, metadata={"neg": True}),
    "neg-that-says-no": tensor(storage("0", numel=COUNT), (2,), (1,), 0, metadata={"neg": False}),
    "neg-twice": tensor(
        storage("0", numel=COUNT), (2,), (1,), 0,
        metadata=setitems(EMPTY_DICT, "neg", True, "neg", False),
    ),
    "neg-by-call": tensor(
        storage("0", numel=COUNT), (2,), (1,), 0,
        metadata=call(ODICT, list_of(list_of("neg", True))),
    ),
    "a-parameter": call(name("torch._utils", "_rebuild_parameter"), t(0), True, call(ODICT)),
    "a-parameter-with-state": call(
        name("torch._utils", "_rebuild_parameter_with_state"), t(0), True, call(ODICT), {"tag": "x"}
    ),
    "a-parameter-of-torch-0.1": build(
        call(name("torch.nn.parameter", "Parameter"), t(0)), tuple_of(True, False, call(ODICT))
    ),
    "a-parameter-called-scaler": dict_of({"w": t(0), "scaler": t(1), "optimizer": t(2)}),
}  # fmt: skip
"""What sdtool reads as torch does."""

REBUILD = name("torch._utils", "_rebuild_tensor_v2")
ARRAY = name("numpy.core.multiarray", "_reconstruct")
NDARRAY = name("numpy", "ndarray")
DTYPE = name("numpy", "dtype")


def array(dtype: Ops, raw: bytes = bytes(range(16))) -> Ops:
    """A numpy array of two numbers of eight bytes."""
    empty = call(ARRAY, NDARRAY, tuple_of(0), short_bytes(b"b"))
    return build(empty, tuple_of(1, tuple_of(2), dtype, False, short_bytes(raw)))


def dtype_state(order: str) -> Ops:
    """What numpy writes behind a dtype."""
    return tuple_of(3, order, None, None, None, -1, -1, 0)


F8 = build(call(DTYPE, "f8", False, True), dtype_state("<"))

REFUSED: dict[str, Ops] = {
    "a-list-changed-after-the-copy": ops(
        append(EMPTY_LIST, list_of("a", t(0))), put(9), ODICT, get(9), b"\x85R", put(10), b"0",
        get(9), list_of("b", t(1)), b"a0", get(10),
    ),
    "a-pair-changed-after-the-copy": ops(
        list_of("a", t(0)), put(9), ODICT, list_of(get(9)), b"\x85R", put(10), b"0",
        get(9), value(0), text("b"), b"s0", get(10),
    ),
    "ordered-dict-reconstructor": call(RECONSTRUCTOR, ODICT, DICT, dict_of({"a": t(0)})),
    "counter-of-pairs": call(COUNTER, list_of(tuple_of("a", t(0)))),
    "a-tuple-appended-to": append(tuple_of(t(0), t(1)), t(2)),
    "a-set-appended-to": dict_of({"w": t(0), "s": append(call(SET), 1)}),
    "a-list-added-to": additems(list_of(t(0)), t(1)),
    "a-dict-appended-to": append(dict_of({"w": t(0)}), t(1)),
    "a-dict-built": build(dict_of({"w": t(0)}), {"a": 1}),
    "a-set": call(SET, list_of(t(0))),
    "a-set-beside-weights": dict_of({"w": t(0), "s": call(SET, list_of(t(1)))}),
    "a-set-literal": dict_of({"w": t(0), "s": additems(Ops(b"\x8f"), t(1))}),
    "a-frozenset": dict_of({"w": t(0), "s": call(FROZENSET, tuple_of(t(1)))}),
    "a-list-with-items-set": setitem(list_of(t(0), t(1)), 0, t(2)),
    "an-attribute-of-a-dict": build(call(ODICT, pairs(0)), {"other": t(1)}),
    "a-dict-that-looks-like-a-module": build(
        call(ODICT, pairs(0)), {"_parameters": {"w": t(1)}, "_buffers": {}, "_modules": {}}
    ),
    "a-dict-built-twice": build(
        build(call(ODICT, pairs(0)), {"_parameters": {"w": t(1)}}), {"_modules": {}}
    ),
    "a-key-that-holds-a-tensor": dict_of({"w": t(0), tuple_of("k", t(1)): 3}),
    "arguments-of-a-class": dict_of({"w": t(0), "e": call(name("builtins", "ValueError"), t(1))}),
    "state-data": call(
        name("torch._utils", "_rebuild_parameter_with_state"), t(0), True, call(ODICT),
        {"data": t(1)},
    ),
    "state-data-in-slots": call(
        name("torch._utils", "_rebuild_parameter_with_state"), t(0), True, call(ODICT),
        tuple_of(None, dict_of({"data": t(1)})),
    ),
    "type-state-data": call(
        name("torch._tensor", "_rebuild_from_type_v2"), REBUILD, name("torch", "Tensor"),
        tuple_of(storage("0", numel=COUNT), 0, tuple_of(1), tuple_of(1), False, call(ODICT)),
        {"data": t(1)},
    ),
    "a-tensor-attribute": call(
        name("torch._utils", "_rebuild_parameter_with_state"), t(0), True, call(ODICT),
        {"scales": t(1)},
    ),
    "a-parameter-built-anew": build(
        call(name("torch._utils", "_rebuild_parameter"), t(0), False, call(ODICT)),
        tuple_of(t(1), None, call(ODICT), False, None),
    ),
    "a-tensor-written-to": setitem(t(0), 0, 99.5),
    "a-parameter-written-to": setitem(
        call(name("torch._utils", "_rebuild_parameter"), t(0), False, call(ODICT)), 0, 99.5
    ),
    "a-storage-written-to": tensor(setitem(storage("0", numel=COUNT), 0, 99.5), (1,)),
    "storage-types-that-disagree": dict_of(
        {"a": t(0), "b": tensor(storage("0", "IntStorage", COUNT), (1,), (1,), 1)}
    ),
    "storage-sizes-that-disagree": dict_of(
        {"a": t(0), "b": tensor(storage("0", numel=COUNT // 2), (1,), (1,), 1)}
    ),
    "storage-keys-that-are-one": dict_of(
        {"a": t(0), "b": tensor(
            persistent(("storage", name("torch", "IntStorage"), 0, "cpu", COUNT)), (1,))}
    ),
    "storage-of-another-size": tensor(storage("0", numel=COUNT - 1), (1,)),
    "meta": tensor(
        persistent(("storage", name("torch", "FloatStorage"), "0", "meta", COUNT)), (1,)
    ),
    "a-storage-alone": dict_of({"w": t(0), "s": storage("0", numel=COUNT)}),
    "conj-of-a-float": tensor(storage("0", numel=COUNT), (2,), (1,), 0, metadata={"conj": True}),
    "conj-that-says-no": tensor(storage("0", numel=COUNT), (2,), (1,), 0, metadata={"conj": False}),
    "unknown-metadata": tensor(storage("0", numel=COUNT), (2,), (1,), 0, metadata={"x": True}),
    "dtype-changed-after-use": ops(
        build(call(DTYPE, "f8", False, True), dtype_state("<")), put(9), b"0",
        dict_of({"a": array(get(9)), "w": t(0)}), put(10), b"0",
        build(get(9), dtype_state(">")), b"0", get(10),
    ),
    "dtype-built-twice": array(
        build(build(call(DTYPE, "f8", False, True), dtype_state("<")), dtype_state(">"))
    ),
    "array-written-to": setitem(array(F8), 0, 1),
    "array-too-long": array(F8, bytes(24)),
    "array-of-long-doubles": dict_of({"w": t(0), "a": array(call(DTYPE, "f16", False, True))}),
    "key-None": dict_of({"w": t(0), None: t(1)}),
    "key-bool": dict_of({"w": t(0), True: t(1)}),
    "key-float": dict_of({"w": t(0), 0.5: t(1)}),
    "key-bytes": setitems(EMPTY_DICT, "w", t(0), short_bytes(b"b"), t(1)),
    "key-tuple": dict_of({"w": t(0), ("a", "b"): t(1)}),
    "key-class": dict_of({"w": t(0), name("torch.nn", "Linear"): t(1)}),
    "key-str-call": dict_of({"w": t(0), call(name("__builtin__", "str"), "b"): t(1)}),
    "key-py2-not-utf8": setitems(EMPTY_DICT, py2_string(b"\xff\xfe"), t(0)),
    "key-of-70000-characters": dict_of({"w": t(0), "n" * 70_000: t(1)}),
    "keys-of-one-name": dict_of({"a": {"b": t(0)}, "a.b": t(1)}),
    "keys-of-one-number": dict_of({1: t(0), "1": t(1)}),
}  # fmt: skip
"""What sdtool does not read as torch does, and therefore not at all."""


@pytest.mark.parametrize("case", READ)
def test_what_is_read_is_what_torch_gives(case: str) -> None:
    data = zipped(READ[case])
    assert written(data) == loaded(data)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_so_is_refused(case: str) -> None:
    assert written(zipped(REFUSED[case])) is None


def test_a_scan_of_what_cannot_be_built_goes_on() -> None:
    """The indices of sparse tensors are looked at while a file is scanned."""
    sparse = call(name("torch._utils", "_rebuild_sparse_tensor"), 1, tuple_of(t(0), t(1), 2))
    data = zipped(dict_of({"s": sparse, "x": append(tuple_of(1, 2), 3)}))
    (reading,) = readings(Memory(data, "test"))
    assert reading.error is None
    assert written(data) is None


def view(key: str, root: str, offset: int, numel: int, kind: str = "FloatStorage") -> Ops:
    """The persistent id of a view of a storage in a legacy file."""
    whole = (root, "cpu", COUNT, (key, offset, numel))
    return persistent(("storage", name("torch", kind), *whole))


LEGACY: dict[str, Ops] = {
    "views": dict_of({"a": tensor(view("9", "0", 2, 4)), "b": tensor(view("8", "0", 3, 4))}),
    "one-view-twice": dict_of(
        {"a": tensor(view("9", "0", 2, 4)), "b": tensor(view("9", "0", 2, 4), (2,), (1,), 2)}
    ),
}
"""Views of a legacy file that sdtool reads as torch does."""

LEGACY_REFUSED: dict[str, Ops] = {
    "view-same-key": dict_of(
        {"a": tensor(view("9", "0", 2, 4)), "b": tensor(view("9", "0", 3, 4))}
    ),
    "view-key-is-root": dict_of(
        {"a": tensor(legacy_storage("0", numel=COUNT)), "b": tensor(view("0", "0", 3, 4))}
    ),
    "view-too-small": dict_of({"a": tensor(view("9", "0", 2, 3))}),
    "view-too-small-by-its-offset": dict_of({"a": tensor(view("9", "0", 2, 5), (4,), (1,), 2)}),
    "view-beyond-its-storage": dict_of({"a": tensor(view("9", "0", COUNT - 2, 4))}),
    "view-of-another-type": dict_of(
        {"a": tensor(legacy_storage("0", numel=COUNT)),
         "b": tensor(view("9", "0", 2, 4, "IntStorage"))}
    ),
}  # fmt: skip
"""Those that torch refuses, or reads by the order that it meets them in."""


@pytest.mark.parametrize("case", LEGACY)
def test_views_of_a_legacy_file(case: str) -> None:
    data = torch_legacy(pickled(LEGACY[case]), {"0": RECORD})
    assert written(data) == loaded(data)


@pytest.mark.parametrize("case", LEGACY_REFUSED)
def test_views_of_a_legacy_file_that_contradict_each_other(case: str) -> None:
    assert written(torch_legacy(pickled(LEGACY_REFUSED[case]), {"0": RECORD})) is None


def test_a_checkpoint_of_python_2() -> None:
    """The layout of pytorch/examples imagenet; Python 2.7 fills an OrderedDict in the call."""
    optimizer = dict_of({"state": dict_of({0: dict_of({"m": t(9)})}), "param_groups": list_of()})
    data = zipped(
        dict_of(
            {"epoch": 90, "arch": "resnet18", "state_dict": call(ODICT, pairs(0, 1, 2)),
             "best_prec1": 69.5, "optimizer": optimizer}
        )
    )  # fmt: skip
    found = torch.load(io.BytesIO(data), weights_only=False)
    assert list(found) == ["epoch", "arch", "state_dict", "best_prec1", "optimizer"]
    assert written(data) == [
        (key, "torch.float32", (1,), raw_bytes(child)) for key, child in found["state_dict"].items()
    ]
    checkpoint = open_checkpoint(Memory(data, "test"))
    assert [entry.name for entry in checkpoint.training] == ["optimizer.state.0.m"]
    assert checkpoint.leaves == {"epoch": 90, "arch": "resnet18", "best_prec1": 69.5}
    assert checkpoint.notes == ()


def some_container(rng: random.Random, depth: int, numbers: Iterator[int]) -> Ops:
    """A container of some spelling, with tensors and containers in it."""

    def item() -> Ops:
        if depth and rng.random() < 0.4:
            return some_container(rng, depth - 1, numbers)
        return t(next(numbers))

    def key() -> Any:
        return rng.choice(["a", "b", "c", 1, 2, "1x", py2_string(b"b"), py2_string("ä".encode())])

    count = rng.randrange(4)
    items = [item() for _ in range(count)]
    keyed = [(key(), child) for child in items]
    flat = [x for pair in keyed for x in pair]
    listed = rng.choice([list_of, tuple_of])
    as_pairs = rng.choice([list_of, tuple_of])(*(listed(*pair) for pair in keyed))
    spellings: list[Callable[[], Ops]] = [
            lambda: setitems(EMPTY_DICT, *flat),
            lambda: ops(MARK, *map(value, flat), b"d"),
            lambda: call(rng.choice([ODICT, DICT]), as_pairs),
            lambda: call(rng.choice([ODICT, DICT, COUNTER]), setitems(EMPTY_DICT, *flat)),
            lambda: call(DDICT, rng.choice([None, LIST]), as_pairs),
            lambda: setitems(rng.choice([newobj, call])(rng.choice([ODICT, DICT])), *flat),
            lambda: newobj(rng.choice([ODICT, DICT, LIST, DEQUE]), as_pairs),
            lambda: call(RECONSTRUCTOR, rng.choice([DICT, COUNTER, ODICT]), DICT,
                         setitems(EMPTY_DICT, *flat)),
            lambda: list_of(*items),
            lambda: tuple_of(*items),
            lambda: call(rng.choice([LIST, TUPLE, DEQUE]), listed(*items)),
            lambda: call(DEQUE, listed(*items), rng.choice([None, 1, 2])),
            lambda: newobj(TUPLE, listed(*items)),
            lambda: inst("collections", rng.choice(["OrderedDict", "deque"]), as_pairs),
            lambda: build(newobj(NAMESPACE), setitems(EMPTY_DICT, "w", *items[:1] or [value(1)])),
            lambda: call(rng.choice([SET, FROZENSET]), listed(*items)),
    ]  # fmt: skip
    made = rng.choice(spellings)()
    changes: list[Callable[[], Ops]] = [
        lambda: setitem(made, key(), item()),
        lambda: append(made, item()),
        lambda: call(rng.choice([ODICT, DICT, LIST, TUPLE]), made),
        lambda: build(made, setitems(EMPTY_DICT, key(), item())),
        lambda: additems(made, item()),
    ]
    return rng.choice(changes)() if rng.random() < 0.3 else made


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("seed", range(20))
def test_some_containers(seed: int) -> None:
    """What is written is what torch gives, if torch can load it at all."""
    rng = random.Random(seed)
    read = 0
    for _ in range(50):
        numbers = iter(range(COUNT))
        try:
            data = zipped(dict_of({"w": some_container(rng, 3, numbers)}))
        except StopIteration:
            continue
        found = written(data)
        if found is None:
            continue
        try:
            expected = loaded(data)
        except (TypeError, ValueError):  # such as dict() of what is no list of pairs
            continue
        read += 1
        assert found == expected
    assert read > 10
