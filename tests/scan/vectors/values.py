"""Values of allowlisted types that are no values: methods, addresses, positions, collisions."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace

from tests.forge import (
    EMPTY_DICT,
    EMPTY_SET,
    MARK,
    POP,
    Ops,
    build,
    call,
    dict_of,
    get,
    list_of,
    name,
    newobj,
    ops,
    pickled,
    put,
    setitem,
    storage,
    tensor,
    torch_zip,
    tuple_of,
    value,
)
from tests.scan.gadgets import MARKER, MKDIR
from tests.scan.vectors.vector import Vector, silent, zipped

PRIME = (1 << 61) - 1
"""Python's numbers have the same hash when they differ by it."""
NDARRAY = call(name("numpy._core.multiarray", "_reconstruct"), name("numpy", "ndarray"), (0,), b"b")
MODULUS = 1 << 64


def values() -> Iterator[Vector]:
    """Of several classes."""
    yield from (replace(vector, threat=16) for vector in _methods())
    yield from (replace(vector, threat=17) for vector in (*_indices(), *_arrays(), *_keys()))
    yield from (replace(vector, threat=1) for vector in _scanners())


def _methods() -> Iterator[Vector]:
    """A dict whose items are attributes, with a key that only becomes text when it runs."""
    text = name("builtins", "str")
    scalar = call(
        name("numpy._core.multiarray", "scalar"),
        call(name("numpy", "dtype"), "U12", False, True),
        "__setstate__".encode("utf-32-le"),
    )
    for label, key in {
        "text": value("__setstate__"),
        "str": call(text, "__setstate__"),
        "str-of-bytes": call(text, b"__setstate__", "ascii"),
        "numpy-str": scalar,
        "py2": Ops(b"U\x0c__setstate__"),
    }.items():
        made = newobj(name("pytorch_lightning.utilities.parsing", "AttributeDict"))
        yield zipped(
            f"attribute-dict-{label}",
            f"an AttributeDict whose __setstate__ is an item ({label}); BUILD calls it",
            torch_zip(pickled(build(setitem(made, key, MKDIR), MARKER), protocol=3)),
            (),  # it runs in torch.load, once Lightning is imported: that takes too long here
        )


def _longs(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}q", *numbers)


def _of(key: str, numel: int) -> Ops:
    return tensor(storage(key, "LongStorage", numel), (numel,), (1,))


def _indices() -> Iterator[Vector]:
    """Sparse tensors whose indices lead out of them: the first use writes where they say."""
    rebuild = name("torch._utils", "_rebuild_sparse_tensor")
    entries = tensor(storage("1", numel=2), (2,))
    places = tensor(storage("0", "LongStorage", 4), (2, 2), (2, 1))
    layout = name("torch", "sparse_coo")
    body = call(rebuild, layout, tuple_of(places, entries, (2, 2), False))
    for label, numbers in {"beyond": (0, 1 << 40, 0, 1), "negative": (0, -1, 0, 1)}.items():
        yield silent(
            f"sparse-coo-{label}",
            f"an index that is {label} the size",
            torch_zip(pickled(dict_of({"w": body})), {"0": _longs(*numbers), "1": bytes(8)}),
            suffix=".pt",
        )
    for kind in ("csr", "csc"):
        parts = tuple_of(_of("0", 3), _of("2", 2), entries, (2, 2))
        body = call(rebuild, name("torch", f"sparse_{kind}"), parts)
        for label, pointers, plain in (
            ("rows", (0, 1 << 40, 2), (0, 1)),
            ("columns", (0, 1, 2), (0, 1 << 40)),
        ):
            records = {"0": _longs(*pointers), "1": bytes(8), "2": _longs(*plain)}
            yield silent(
                f"sparse-{kind}-{label}",
                f"{kind} whose {label} lead out of the tensor",
                torch_zip(pickled(dict_of({"w": body})), records),
                suffix=".pt",
            )


def _dtype(code: str, flags: int, names: object = None, fields: object = None) -> Ops:
    made = call(name("numpy", "dtype"), code, False, True)
    nbytes = 8 if fields is not None else -1
    return build(made, (3, "|", None, names, fields, nbytes, 1 if fields else -1, flags))


def _arrays() -> Iterator[Vector]:
    """Arrays whose bytes would be taken for addresses, or that have no elements."""
    address = b"A" * 8
    objects = call(name("numpy", "dtype"), "O8", False, True)
    field = _dtype("V8", 16, ("a",), dict_of({"a": tuple_of(_code("O4"), 0)}))
    states: dict[str, tuple[object, ...]] = {
        "field-o4": (1, (1,), field, False, address),
        "code-o4": (1, (1,), _code("O4"), False, address),
        "no-flags": (1, (1,), _dtype("O", 0), False, address),
        "few-objects": (1, (200_000_000,), objects, False, [1]),
        "no-objects": (1, (20_000, 10_000), objects, False, []),
    }
    for label, state in states.items():
        yield silent(
            f"numpy-array-{label}",
            f"an array whose elements are addresses, or missing ({label})",
            pickled(build(NDARRAY, state), protocol=3),
        )
    yield silent(
        "numpy-frombuffer-o4",
        "bytes taken for an array of objects",
        pickled(
            call(name("numpy._core.numeric", "_frombuffer"), address, _code("O4"), (1,), "C"),
            protocol=3,
        ),
    )
    generator = call(name("numpy.random._pickle", "__randomstate_ctor"), "MT19937")
    for label, position in {"position": 1 << 30, "negative-position": -1}.items():
        inner = dict_of({"key": None, "pos": position})
        yield silent(
            f"numpy-random-{label}",
            "a generator that draws its next number from other memory",
            pickled(build(generator, dict_of({"bit_generator": "MT19937", "state": inner}))),
        )
    yield silent(
        "numpy-random-tuple",
        "the same in the older form",
        pickled(build(generator, ("MT19937", None, 1 << 30, 0, 0.0))),
    )


def _code(code: str) -> Ops:
    return call(name("numpy", "dtype"), code, False, True)


def _pairs(numbers: int) -> list[Ops]:
    """Tuples of two numbers whose hashes are one and the same (`tuplehash`, solved for b)."""
    one, two, five = 11400714785074694791, 14029467366897019727, 2870177450012600261
    inverse, found, first = pow(two, -1, MODULUS), list[Ops](), 0
    while len(found) < numbers:
        first += 1
        lane = (five + first * two) % MODULUS
        lane = (lane << 31 | lane >> 33) * one % MODULUS
        second = -lane * inverse % MODULUS
        if second < PRIME:
            found.append(value((first, second)))
    return found


def _keys() -> Iterator[Vector]:
    """Keys that Python compares with each other for hours."""
    numbers = [value(i * PRIME) for i in range(1, 300)]
    pairs = _pairs(300)
    none = Ops(b"N")
    same = [i * PRIME + 1 for i in range(1001)]

    def in_a_set(keys: Iterable[Ops]) -> Ops:
        return ops(EMPTY_SET, MARK, *keys, b"\x90")

    keyed = ops(*(ops(key, none) for key in numbers))
    bodies = {
        "dict": ops(EMPTY_DICT, MARK, keyed, b"u"),
        "dict-one-by-one": ops(EMPTY_DICT, *(ops(key, none, b"s") for key in numbers)),
        "dict-opcode": ops(MARK, keyed, b"d"),
        "dict-dropped": ops(EMPTY_DICT, MARK, keyed, b"u", POP, none),
        "set": ops(EMPTY_SET, MARK, *numbers, b"\x90"),
        "frozenset": ops(MARK, *numbers, b"\x91"),
        "set-of-a-list": call(name("builtins", "set"), list_of(*numbers)),
        "pairs": call(name("collections", "OrderedDict"), list_of(*([n, 1] for n in numbers))),
        "tuples": ops(EMPTY_SET, MARK, *pairs, b"\x90"),
        "fractions": in_a_set(call(name("fractions", "Fraction"), n, 1) for n in same),
        "decimals": in_a_set(call(name("decimal", "Decimal"), str(n)) for n in same),
        "uuids": in_a_set(build(newobj(name("uuid", "UUID")), {"int": n}) for n in same),
        "frozensets": in_a_set(ops(MARK, value(n), b"\x91") for n in same),
        "nested": ops(
            value(()), put(0), POP,
            *(ops(tuple_of(get(i), get(i)), put(i + 1), POP) for i in range(40)),
            setitem(EMPTY_DICT, get(40), 1),
        ),
    }  # fmt: skip
    for label, body in bodies.items():
        yield silent(f"hash-{label}", f"keys of one hash ({label})", pickled(body, protocol=4))


def _scanners() -> Iterator[Vector]:
    """What turns a scanner off, or is one."""
    for module, attribute in (
        ("fickling.hook", "remove_hook"),
        ("fickling.hook", "deactivate_safe_ml_environment"),
        ("fickling", "always_check_safety"),
        ("picklescan.scanner", "some_func"),
        ("modelscan.modelscan", "some_func"),
        ("modelaudit.core", "some_func"),
        ("sdtool.scan", "some_func"),
        ("modules.safe", "unsafe_torch_load"),
    ):
        yield silent(
            f"scanner-{module}.{attribute}",
            "it turns off what looks at the files that come after it",
            pickled(call(name(module, attribute))),
        )
