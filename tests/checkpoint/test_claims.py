"""What a pickle claims of tensors that differ from one before in one number alone."""

from __future__ import annotations

import pytest
from tests.forge import (
    Ops,
    call,
    dict_of,
    name,
    persistent,
    pickled,
    storage,
    tensor,
    torch_legacy,
    torch_zip,
)

from sdtool.checkpoint import readings
from sdtool.checkpoint.source import Memory

BEYOND = "a tensor that reaches beyond its storage"


def details(data: bytes) -> list[tuple[str, str]]:
    (reading,) = readings(Memory(data, "x.pt"))
    return [(str(anomaly.rule), anomaly.detail) for anomaly in reading.anomalies]


def zipped(*tensors: Ops) -> bytes:
    weights = dict_of({f"w{number}": one for number, one in enumerate(tensors)})
    records = {"0": bytes(16), "1": bytes(8), "2": bytes(16)}
    return torch_zip(pickled(weights), records)


FIRST = tensor(storage("0"))


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (tensor(storage("2")), []),
        (tensor(storage("1", numel=2)), [("tensor-out-of-bounds", BEYOND)]),
        (tensor(storage("2"), offset=1), [("tensor-out-of-bounds", BEYOND)]),
        (tensor(storage("2"), size=(5,)), [("tensor-out-of-bounds", BEYOND)]),
        (tensor(storage("2"), stride=(2,)), [("tensor-out-of-bounds", BEYOND)]),
        (tensor(storage("2", "DoubleStorage", 2)), [("tensor-out-of-bounds", BEYOND)]),
    ],
)
def test_a_tensor_like_another_but_for_one_number(
    second: Ops, expected: list[tuple[str, str]]
) -> None:
    assert details(zipped(FIRST, second)) == expected
    assert details(zipped(second, FIRST)) == expected


def test_a_type_of_its_own() -> None:
    def typed(dtype: str) -> Ops:
        hooks = call(name("collections", "OrderedDict"))
        words = storage("0", "UntypedStorage", 16), 0, (4,), (1,), False, hooks
        return call(name("torch._utils", "_rebuild_tensor_v3"), *words, name("torch", dtype))

    assert details(zipped(typed("float32"), typed("int32"))) == []
    found = details(zipped(typed("float32"), typed("float64")))
    assert found == [("tensor-out-of-bounds", BEYOND)]


def test_tensors_that_are_alike_count_one_by_one() -> None:
    gibibyte = tensor(storage("0"), size=(1 << 14, 1 << 14), stride=(0, 0))
    assert details(zipped(gibibyte)) == []
    detail = "tensors of 2,147,483,648 bytes together out of 16"
    assert details(zipped(gibibyte, gibibyte)) == [("tensor-bomb", detail)]


def test_views_of_a_legacy_file_that_differ_in_their_offsets() -> None:
    def view(offset: int, numel: int) -> Ops:
        words = ("storage", name("torch", "FloatStorage"), "7", "cpu", 6)
        return persistent((*words, (f"view {offset}", offset, numel)))

    fitting = pickled(dict_of({"a": tensor(view(0, 4)), "b": tensor(view(2, 4))}))
    beyond = pickled(dict_of({"a": tensor(view(0, 4)), "b": tensor(view(3, 4))}))
    records = {"7": bytes(24)}
    assert details(torch_legacy(fitting, records)) == []
    assert details(torch_legacy(beyond, records)) == [("tensor-out-of-bounds", BEYOND)]
