"""The hostile files: each fails for one reason, which is its name.

A vector without loaders is a structure that no loader runs but no real serializer writes, or costs
memory instead of running code. What a scan must say of each, verdict and rules, is in ledger.txt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.scan.vectors.alone import alone
from tests.scan.vectors.array_damage import array_damage
from tests.scan.vectors.arrays import arrays
from tests.scan.vectors.calls import extension_codes, without_reduce
from tests.scan.vectors.denial import denial
from tests.scan.vectors.disagreements import disagreements
from tests.scan.vectors.foreign_programs import foreign_programs
from tests.scan.vectors.fuzzed import fuzzed
from tests.scan.vectors.gadgets import chains, gadgets
from tests.scan.vectors.gguf_damage import gguf_damage
from tests.scan.vectors.hidden import hidden
from tests.scan.vectors.memo import memo
from tests.scan.vectors.names import computed_names, dotted_names, odd_names, python2_names
from tests.scan.vectors.nested import nested
from tests.scan.vectors.programs import programs
from tests.scan.vectors.recognition import recognition
from tests.scan.vectors.stream_damage import stream_damage
from tests.scan.vectors.streams import broken, streams
from tests.scan.vectors.tars import tars
from tests.scan.vectors.tensor_files import tensor_files
from tests.scan.vectors.tensorflow_damage import tensorflow_damage
from tests.scan.vectors.torch_damage import torch_damage
from tests.scan.vectors.values import values
from tests.scan.vectors.vector import Vector
from tests.scan.vectors.wrappers import wrappers
from tests.scan.vectors.zip_damage import zip_damage
from tests.scan.vectors.zips import empty_directories, zip_disagreements, zip_names

__all__ = ["VECTORS", "Vector"]

_FAMILIES: tuple[tuple[int, Callable[[], Iterator[Vector]]], ...] = (
    (1, gadgets),
    (2, chains),
    (3, dotted_names),
    (4, python2_names),
    (5, odd_names),
    (6, memo),
    (7, extension_codes),
    (8, without_reduce),
    (9, computed_names),
    (10, broken),
    (11, streams),
    (12, zip_names),
    (13, zip_disagreements),
    (14, hidden),
    (15, wrappers),
    (16, nested),
    (17, denial),
    (18, disagreements),
    (17, tensor_files),
    (0, alone),
    (0, programs),
    (11, recognition),
    (13, tars),
    (13, empty_directories),
    (15, arrays),
    (0, values),
    (0, fuzzed),
    (13, zip_damage),
    (15, array_damage),
    (0, torch_damage),
    (0, stream_damage),
    (17, gguf_damage),
    (17, tensorflow_damage),
    (16, foreign_programs),
)
"""The class of attack of docs/threat-model.md, and its files; 0 where each has its own."""

VECTORS: tuple[Vector, ...] = tuple(
    replace(vector, threat=threat or vector.threat)
    for threat, family in _FAMILIES
    for vector in family()
)
