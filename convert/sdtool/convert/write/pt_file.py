"""Write a torch file (zip) for programs that cannot read safetensors: inert, whole or not at all.

Records are stored, begin at multiples of 64 bytes and carry their size and CRC-32 in their own
header, so that every zip reader can take them. Source: caffe2/serialize/inline_container.cc.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from sdtool.checkpoint.contents import class_of, sequence
from sdtool.checkpoint.crc32 import crc32_of
from sdtool.checkpoint.errors import Unsupported
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.modules import children
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.values import Global, Instance, Value
from sdtool.convert.copy.buffered import Progress, fill
from sdtool.convert.copy.jobs import Filling
from sdtool.convert.copy.new_file import OPEN_TO_ALL
from sdtool.convert.plan.metadata import PICKLED, pickled_metadata
from sdtool.convert.plan.partial import root_of
from sdtool.convert.plan.plan import Placed
from sdtool.convert.plan.selecting import supported
from sdtool.convert.plan.selection import LeftOut, Selected, Selection, check_names
from sdtool.convert.plan.target import Target
from sdtool.convert.write.hashes import Following, Hashes, autov1
from sdtool.convert.write.pickle_writer import Plain, TensorRecord, pickle_of
from sdtool.convert.write.safetensors_file import (
    Written,
    by_component,
    mode_of,
    nonfinite_in,
    refuse_input,
    refuse_overflow,
)
from sdtool.convert.write.staging import new_file

_ROOT = "archive"
_ALIGNMENT = 64
_ZIP64 = 0xFFFFFFFF
_LDM = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.")


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of the archive: `nbytes` bytes from `offset`; `content` is None for a tensor."""

    name: str
    header_offset: int
    offset: int
    nbytes: int
    content: bytes | None = None
    tensor: str | None = None


@dataclass(frozen=True, slots=True)
class PtPlan:
    """A torch file to come; sizes are bytes."""

    tensors: tuple[Placed, ...]
    """In file order."""
    records: tuple[Record, ...]
    directory_offset: int
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Size of the file."""
        return self.directory_offset + len(directory_bytes(self, {}))

    @property
    def casts(self) -> tuple[Placed, ...]:
        """The tensors whose values are rounded to another type."""
        return tuple(t for t in self.tensors if t.scale or t.dtype is not t.entry.dtype)


def plan_pt(checkpoint: Checkpoint, selection: Selection) -> PtPlan:
    """Lay out a torch zip that holds what `selection` took of `checkpoint`.

    Embeddings and hypernetworks keep their structure (ints as keys, tuples, settings); other
    weights become one dict under the wrapper they had, with the counters that stood beside it.

    Raises:
        Malformed: two tensors want one name.
        Unsupported: a tensor that has no values.
    """
    supported((s.entry for s in selection.entries), to=Target.PT)
    entries = selection.entries
    structured = checkpoint.kind in ("embedding", "hypernetwork") and checkpoint.reading.streams
    if structured:  # the ids of the tokens may be tensors
        tokens, _ = supported(checkpoint.training, to=Target.PT, skip=True)
        entries += tuple(Selected(e.name, e, e.dtype) for e in tokens)
    check_names(entries)
    keyed = [
        (TensorRecord(str(k), s.dtype, s.entry.shape, s.entry.numel), s)
        for k, s in enumerate(entries)
    ]
    value: Plain
    beside: Mapping[str | int, Plain] = {}
    if structured:
        by_path: dict[object, Plain] = {s.entry.path: record for record, s in keyed}
        value = _structure(root_of(checkpoint), (), by_path)
    else:
        beside = pickled_metadata(selection.metadata)
        value = _wrapped(checkpoint, {s.name: record for record, s in keyed}, beside)
    plan = _laid_out(pickle_of(value), [s for _, s in keyed], selection)
    if beside:
        kept = f"what describes the quantized weights stands beside them, as {PICKLED}"
        plan = replace(plan, notes=(*plan.notes, kept))
    elif checkpoint.metadata.keys() - {"format"}:
        lost = "a .pt file cannot hold the metadata of the safetensors file"
        plan = replace(plan, notes=(*plan.notes, lost))
    return plan


def write_pt(
    plan: PtPlan,
    out: str | os.PathLike[str],
    *,
    force: bool = False,
    progress: Progress | None = None,
    hashes: bool = False,
    allow_overflow: bool = False,
    check: Callable[[Path], object] | None = None,
    mode: int = OPEN_TO_ALL,
) -> Written:
    """Write the file that `plan` describes to `out`; nothing is left behind when that fails.

    `check` is called with where the complete file is before it has its name. It is not more open
    to others than `mode` and the files that the tensors are read from.

    Raises:
        SdtoolError: as `write_safetensors` does.
    """
    path = Path(out)
    nbytes = plan.nbytes
    refuse_input(path, plan.tensors)
    mode &= mode_of(plan.tensors)
    with new_file(path, nbytes, force=force, mode=mode) as file:
        filling = Filling(plan.tensors, file, with_crc32=True)
        fill([filling], progress)
        copied = filling.copied
        refuse_overflow(copied, allow_overflow=allow_overflow)
        checksums: dict[str, int] = {}
        for record in plan.records:
            if record.content is not None:
                file.write_at(record.content, record.offset)
                checksums[record.name] = crc32_of(record.content)
            elif record.tensor is not None:
                checksums[record.name] = copied.crc32.get(record.tensor, 0)
            file.write_at(local_header(record, checksums[record.name]), record.header_offset)
        file.write_at(directory_bytes(plan, checksums), plan.directory_offset)
        found = None
        if hashes:
            following = Following(file.read_at, 0, nbytes, None)
            following.written(0, nbytes)
            found = Hashes(following.finish()[0], autov1(file.read_at))
        file.finish(check)
    census = by_component(copied, (tensor.name for tensor in plan.tensors))
    strange = nonfinite_in(copied)
    return Written(path, nbytes, len(plan.tensors), found, census, plan.notes, strange)


def _structure(value: Value, path: tuple[Value, ...], tensors: Mapping[object, Plain]) -> Plain:
    """Rebuild dicts, lists and tuples around tensors and plain values; the rest becomes None."""
    if path in tensors:
        return tensors[path]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if len(path) > 8:
        raise Unsupported("settings nested too deeply", where=ascii(path))
    below = [(key, _structure(item, (*path, key), tensors)) for key, item in children(value)]
    if type(value) is tuple:
        return tuple(item for _, item in below)
    if type(value) is Instance and sequence(value):
        made = [item for _, item in below]
        return tuple(made) if class_of(value) == Global("builtins", "tuple") else made
    if not below:
        return {} if type(value) is Instance and value.opcode == "EMPTY_DICT" else None
    return {key: item for key, item in below if type(key) in (str, int)}


def _wrapped(
    checkpoint: Checkpoint,
    weights: Mapping[str | int, Plain],
    metadata: Mapping[str | int, Plain],
) -> Plain:
    wrapper = checkpoint.wrappers[-1] if checkpoint.wrappers else None
    if wrapper is None and (metadata or any(str(name).startswith(_LDM) for name in weights)):
        wrapper = "state_dict"  # the scripts of old insist on it, everything else unwraps it
    if wrapper is None:
        return weights
    counters: dict[str | int, Plain] = {
        key: value
        for key, value in checkpoint.leaves.items()
        if "." not in key and value is not None
    }
    if metadata:
        counters[PICKLED] = metadata
    return {**counters, wrapper: weights}


def _laid_out(pickled: bytes, entries: list[Selected], selection: Selection) -> PtPlan:
    records: list[Record] = []
    placed: list[Placed] = []
    end = 0

    def add(name: str, nbytes: int, content: bytes | None, tensor: str | None) -> int:
        nonlocal end
        header = end
        fixed = 30 + len(f"{_ROOT}/{name}") + 4 + (20 if nbytes >= _ZIP64 else 0)
        offset = header + fixed + -(header + fixed) % _ALIGNMENT
        records.append(Record(f"{_ROOT}/{name}", header, offset, nbytes, content, tensor))
        end = offset + nbytes
        return offset

    add("data.pkl", len(pickled), pickled, None)
    add("byteorder", 6, b"little", None)
    for key, s in enumerate(entries):
        nbytes = s.entry.numel * s.dtype.itemsize
        offset = add(f"data/{key}", nbytes, None, s.name)
        placed.append(Placed(s.name, s.entry, s.dtype, offset, s.scale))
    add("version", 2, b"3\n", None)
    return PtPlan(tuple(placed), tuple(records), end, selection.left_out, selection.notes)


def local_header(record: Record, crc32: int) -> bytes:
    """Return what stands before a record: its header, its name and the padding up to its bytes."""
    name = record.name.encode()
    large = record.nbytes >= _ZIP64
    extra = struct.pack("<HHQQ", 1, 16, record.nbytes, record.nbytes) if large else b""
    size = _ZIP64 if large else record.nbytes
    padding = record.offset - record.header_offset - 30 - len(name) - len(extra) - 4
    extra += struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    fixed = (20 if not large else 45, 0, 0, 0, 0x21, crc32, size, size, len(name), len(extra))
    return struct.pack("<4s5H3I2H", b"PK\x03\x04", *fixed) + name + extra


def directory_bytes(plan: PtPlan, checksums: Mapping[str, int]) -> bytes:
    """Return the central directory and the end of the archive."""
    out = bytearray()
    for record in plan.records:
        name = record.name.encode()
        sizes = [record.nbytes, record.nbytes] if record.nbytes >= _ZIP64 else []
        at = [record.header_offset] if record.header_offset >= _ZIP64 else []
        large = [*sizes, *at]
        extra = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) if large else b""
        size = _ZIP64 if sizes else record.nbytes
        version = 45 if large else 20
        at_most = _ZIP64 if at else record.header_offset
        fixed = (version, version, 0, 0, 0, 0x21, checksums.get(record.name, 0), size, size)
        rest = (len(name), len(extra), 0, 0, 0, 0, at_most)
        out += struct.pack("<4s6H3I5H2I", b"PK\x01\x02", *fixed, *rest)
        out += name + extra
    nbytes, count, start = len(out), len(plan.records), plan.directory_offset
    if start >= _ZIP64 or count >= 0xFFFF:
        out += struct.pack(
            "<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, nbytes, start
        )
        out += struct.pack("<4sIQI", b"PK\x06\x07", 0, start + nbytes, 1)
    short = min(count, 0xFFFF)
    out += struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, short, short, nbytes, min(start, _ZIP64), 0)
    return bytes(out)
