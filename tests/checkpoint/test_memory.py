"""What a tensor of a large file costs in memory: what is allocated, not the pages of a process."""

from __future__ import annotations

import gc
import pickletools
import tracemalloc

import pytest
from tests.forge import (
    POP,
    Member,
    Ops,
    list_of,
    name,
    ops,
    persistent,
    pickled,
    put,
    text,
    torch_zip,
    value,
    zip_file,
)

from sdtool.checkpoint import DEFAULT_LIMITS, checkpoint_of, readings
from sdtool.checkpoint.containers import zip_entries
from sdtool.checkpoint.containers.zip_archive import find_end, read_directory
from sdtool.checkpoint.machine import repeats
from sdtool.checkpoint.source import Memory
from sdtool.checkpoint.values import Instance, Pairs

COUNT = 6_000


def file_of(*, own: bool) -> bytes:
    """Tensors as torch.save writes them, with a record each or all of one record."""
    kind, rebuild, hooks = Ops(b"h\x00"), Ops(b"h\x01"), Ops(b"h\x02")
    ordered = name("collections", "OrderedDict")
    out = [name("torch", "FloatStorage"), put(0), POP]
    out += [
        name("torch._utils", "_rebuild_tensor_v2"),
        put(1),
        POP,
        ordered,
        put(2),
        POP,
        Ops(b"}("),
    ]
    for i in range(COUNT):
        key = text(str(i if own else 0))
        held = persistent(ops(b"(", text("storage"), kind, key, text("cpu"), b"K\x04t"))
        args = ops(b"(", held, b"K\x00", value((2, 2)), value((2, 1)), b"\x89", hooks, b")Rt")
        out.append(ops(text(f"layer.{i}.weight"), rebuild, args, b"R"))
    records = {str(i): bytes(16) for i in range(COUNT if own else 1)}
    return torch_zip(pickled(ops(*out, b"u")), records)


@pytest.mark.parametrize(("own", "scanned", "opened"), [(True, 830, 985), (False, 680, 760)])
def test_a_tensor_of_a_large_file_costs_little_memory(own: bool, scanned: int, opened: int) -> None:
    source = Memory(file_of(own=own), "x")
    repeats.met.clear()  # of a pickle that comes again its bytes are held too, up to 1 MiB
    gc.collect()  # what Python keeps of freed objects to make others of is not counted
    tracemalloc.start()
    try:
        found = readings(source)
        read = tracemalloc.get_traced_memory()[1] / COUNT
        assert len(checkpoint_of(found).tensors) == COUNT
        flat = tracemalloc.get_traced_memory()[1] / COUNT
    finally:
        tracemalloc.stop()
    assert (read < scanned, flat < opened) == (True, True), (read, flat)


def test_equal_shapes_are_one_object_and_equal_numbers_of_other_types_are_not() -> None:
    rows = [(2, 3), (2, 3), (2.0, 3), (True, 3), (2, 3, 4), (2, 3, 4), (2, 3, 4, 5), (2, 3, 4, 5)]
    (reading,) = readings(Memory(pickled(list_of(*map(value, rows))), "x"))
    a, b, c, d, e, f, g, h = reading.streams[0].value.items
    assert a is b and e is f and g is h
    assert [type(row[0]) for row in (a, c, d)] == [int, float, bool]


def test_many_entries_are_read_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    members = [Member(f"archive/data/{i}", bytes(i)) for i in range(40)]
    members += [Member("archive/é.pkl", b"N."), Member("archive/folder/")]
    source = Memory(zip_file(members), "x")
    end = find_end(source)
    assert end is not None
    few = read_directory(source, end, DEFAULT_LIMITS).members
    monkeypatch.setattr(zip_entries, "_FEW", 10)
    many = read_directory(source, end, DEFAULT_LIMITS).members
    assert list(many) == list(few) == [few[i] for i in range(len(few))]
    assert list(many.names()) == [member.name for member in few]
    assert (many[3], many[-1], many[2:4]) == (few[3], few[-1], list(few[2:4]))
    found = zip_entries.ByName(many, "archive/data/")
    assert [found.get(f"archive/data/{i}") for i in range(41)] == [*few[:40], None]
    assert sorted(member.name for member in found) == sorted(m.name for m in few[:40])
    assert [found.find(m.name) for m in few[:40]] == [(i, m.nbytes) for i, m in enumerate(few[:40])]
    every = zip_entries.ByName(many, "archive/")
    assert every.find("archive/folder/") is None  # it is no file
    assert every.find("archive/é.pkl") == (40, 2)
    assert [many.compression(place) for place in range(40)] == [m.compression for m in few[:40]]


def test_pairs_of_one_opcode_stay_its_own_when_others_follow() -> None:
    flat: list[object] = ["a", 1, "b", 2]
    first = Pairs(flat, 0, 4)
    flat.extend(["c", 3, "d", 4])
    every, last = Pairs(flat), Pairs(flat, 4, 8)
    assert (list(first), len(first)) == ([("a", 1), ("b", 2)], 2)
    assert (list(last), len(last)) == ([("c", 3), ("d", 4)], 2)
    assert (list(every), len(every)) == ([*first, *last], 4)
    assert (first[-1], last[0], last[1:], every[3]) == (("b", 2), ("c", 3), [("d", 4)], ("d", 4))
    with pytest.raises(IndexError):
        first[2]


def test_what_is_built_far_apart_knows_where_it_is() -> None:
    """Places near each other share a number."""
    calls = [
        ops(name("collections", "OrderedDict"), b")R", text("x" * gap), b"0")
        for gap in (0, 100, 130, 300, 1, 70_000, 2)
    ]
    pickle = pickled(ops(*calls, b"N"))
    (reading,) = readings(Memory(pickle, "x"))
    built = [e.offset for e in reading.streams[0].trace.events if isinstance(e, Instance)]
    reduces = [at for op, _, at in pickletools.genops(pickle) if op.name == "REDUCE"]
    assert built == reduces
    assert len(built) == len(calls)


def test_the_last_of_two_entries_of_one_name_counts() -> None:
    members = [Member("archive/data/0", b"a"), Member("archive/data/0", b"bb")]
    source = Memory(zip_file(members), "x")
    end = find_end(source)
    assert end is not None
    entries = read_directory(source, end, DEFAULT_LIMITS).members
    found = zip_entries.ByName(entries, "archive/data/").get("archive/data/0")
    assert found == entries[1]
