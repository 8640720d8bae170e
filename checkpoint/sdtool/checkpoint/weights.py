"""The one place that decides which part of a file is the weights, and what each tensor is called.

A training checkpoint is a dict of many things: the state dict, and beside it optimizer state,
schedulers, callbacks, counters. What loaders unwrap is unwrapped here, once for all verbs.

Source: pytorch_lightning `checkpoint_connector.dump_checkpoint`; ComfyUI `utils.load_torch_file`;
diffusers `single_file_utils.load_single_file_checkpoint`; spandrel `canonicalize_state_dict`;
A1111 `textual_inversion.py`, `hypernetwork.py`; torch `nn.Module.__setstate__`, `ParameterDict`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from operator import eq

from sdtool.checkpoint.contents import Items
from sdtool.checkpoint.errors import InputError, Malformed, NotACheckpoint, Unsupported
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.keys import key_name
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.limits import DEFAULT_LIMITS, Limits
from sdtool.checkpoint.modules import children, is_module, module_parts
from sdtool.checkpoint.reading import TORCH, Checkpoint, Reading, Stream, Unloaded
from sdtool.checkpoint.rebuild import Rebuilder
from sdtool.checkpoint.sets import matched_sets, may_be_set
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.checkpoint.training_state import BY_KEY, is_training
from sdtool.checkpoint.unreached import OF_A_MODULE, Unreached, unreached
from sdtool.checkpoint.values import Instance, Value
from sdtool.checkpoint.walk import SHOWN, Found, Leaf, Path, Walker

WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "params_ema",
    "params",
    "ema",
    "model",
    "module",
    "net",
)
"""Keys that hold the weights when their value is a dict with tensors, the first one present.

`ema` is one only beside `model`: see `_is_ema`.
"""

JOIN_DISTRIBUTED = (
    "`python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER OUTPUT` joins them"
)

_HEADERS = (Format.GGUF, Format.TENSORFLOW_V1, Format.TENSORFLOW_V2)
"""Formats that list their tensors, and may list none."""


def checkpoint_of(readings: Iterable[Reading], *, limits: Limits = DEFAULT_LIMITS) -> Checkpoint:
    """The Checkpoint of the one reading that a loader could take.

    Raises:
        InputError: there is none, there are two, or what is there cannot be read to the end.
    """
    several = tuple(readings)
    if len(several) > 1:
        names = " and as ".join(reading.format for reading in several)
        raise Malformed(
            f"it can be read as {names}",
            where=several[0].source.name,
            hint="a well-formed file has one format; see `sdtool scan`",
        )
    reading = next(iter(several))
    if reading.error is not None:
        raise reading.error
    if reading.format is Format.SAFETENSORS:
        # its reader has seen to it that no name is there twice
        return Checkpoint(reading, "safetensors", reading.tensors, (), {}, reading.metadata)
    if reading.format is Format.TORCH_DISTRIBUTED:
        raise Unsupported(
            "one part of a distributed checkpoint of torch, whose weights are spread over its"
            " .distcp files",
            where=reading.source.name,
            hint=JOIN_DISTRIBUTED,
        )
    if reading.unread or (reading.inner and reading.format is not Format.TORCH_ZIP):
        raise Unsupported(
            f"a {reading.format} archive, not a checkpoint itself",
            where=reading.source.name,
            hint="unpack it first, then give sdtool the file inside",
        )
    if not reading.streams:
        if reading.tensors or reading.format in _HEADERS:
            return Checkpoint(
                reading, "state-dict", reading.tensors, (), reading.leaves, reading.metadata,
                notes=reading.notes,
            )  # fmt: skip
        raise NotACheckpoint("it holds nothing that could be weights", where=reading.source.name)
    checkpoint = _named(_flatten(reading, _root(reading), limits))
    if checkpoint.kind in ("embedding", "hypernetwork") or not checkpoint.tensors:
        return checkpoint  # written again in the structure that it has, or looked at for what it is
    # Of 200,000 tensors the values of the pickle and the members take more than the tensors.
    return replace(checkpoint, reading=replace(reading, streams=(), members=()))


def _root(reading: Reading) -> Stream:
    """The one stream that holds the object."""
    where = reading.source.name
    if reading.format is Format.PICKLE:
        streams = list(reading.streams)
    else:
        streams = [stream for stream in reading.streams if stream.profile is TORCH]
    for stream in streams:
        if stream.error is not None:
            raise _at(stream.error, where, stream.member)
    if len(streams) != 1:
        what = "several pickles" if streams else "no pickle"
        raise Malformed(
            f"the file holds {what} where a checkpoint has one",
            where=where,
            hint="see `sdtool scan`",
        )
    return streams[0]


def _at(error: InputError, where: str, member: str | None) -> InputError:
    prefix = f"{member}: " if member else ""
    return type(error)(prefix + error.what, where=error.where or where, hint=error.hint)


def _named(checkpoint: Checkpoint) -> Checkpoint:
    """Refuse two tensors of one name, and names that no format can hold."""
    where = checkpoint.source.name
    names = sorted([entry.name for entry in checkpoint.tensors])  # of 200,000 a third of a dict
    if not any(map(eq, names, names[1:])):
        return checkpoint
    seen: dict[str, TensorEntry] = {}
    for entry in checkpoint.tensors:
        other = seen.get(entry.name)
        if other is not None:
            raise Malformed(
                f"two tensors would be called {entry.name[:SHOWN]!a}: {_shown(other.path)} and"
                f" {_shown(entry.path)}",
                where=where,
            )
        seen[entry.name] = entry
    raise AssertionError("two of the names are equal")


def _shown(path: Path) -> str:
    return "".join(
        f"[{key[:SHOWN]!a}]" if type(key) is str else f"[{key_name(key)[:SHOWN]}]"
        for key in path[:SHOWN]
    )


def _flatten(reading: Reading, stream: Stream, limits: Limits) -> Checkpoint:
    fixed: Mapping[str, TensorEntry] = {entry.name: entry for entry in reading.tensors}
    rebuild = Rebuilder(stream, reading.storages, fixed, limits)
    walk = Walker(rebuild, limits.for_file(reading.source.nbytes), reading.source.name)
    if rebuild.impossible is not None:
        raise Malformed(rebuild.impossible, where=reading.source.name)
    try:
        return _checkpoint(reading, stream.value, walk)
    except Malformed as e:
        raise _at(e, reading.source.name, None) from e


@dataclass(slots=True)
class _Parts:
    """What the tensors and plain values of an object are for."""

    weights: list[TensorEntry] = field(default_factory=list[TensorEntry])
    training: list[TensorEntry] = field(default_factory=list[TensorEntry])
    left_out: list[Unloaded] = field(default_factory=list[Unloaded])
    leaves: dict[str, Leaf] = field(default_factory=dict[str, Leaf])
    wrappers: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    sets: dict[str, list[TensorEntry]] = field(default_factory=dict[str, list[TensorEntry]])
    """What may be the same weights once more, by the key beside theirs."""
    aside: list[tuple[Path, Value]] = field(default_factory=list[tuple[Path, Value]])
    """What is no weight, with all below it."""


def _checkpoint(reading: Reading, root: Value, walk: Walker) -> Checkpoint:
    parts = _Parts()
    value, pairs = _unwrapped(root, walk, parts)
    at: Path = tuple(parts.wrappers)
    kind = _kind(value, pairs)
    is_state = _is_state(pairs)
    weights = Found(parts.weights, parts.leaves)
    for key, child in pairs:
        path = (*at, key)
        if kind == "embedding":
            is_weight = key == "string_to_param"
        else:
            is_weight = kind == "module" or not (is_state or _is_training(key, child, walk))
        if is_weight:
            skip = len(path) if kind == "embedding" else len(at)
            walk.weights(child, path, skip=skip, found=weights)
        else:
            found = walk.training(child, path)
            parts.training.extend(found.tensors)
            parts.aside.append((path, child))
            parts.leaves.update(found.leaves)
    others, rest = matched_sets(parts.weights, parts.sets)
    parts.training.extend(rest)
    if kind in ("state-dict", "module"):
        parts.notes.extend(_nameless(parts.weights))
    _account(parts, root, walk)
    return Checkpoint(
        reading, kind, tuple(parts.weights), tuple(parts.training), parts.leaves, {},
        tuple(parts.wrappers), tuple(parts.notes), tuple(parts.left_out), others,
    )  # fmt: skip


def _unwrapped(value: Value, walk: Walker, parts: _Parts) -> tuple[Value, Items]:
    """Take off what is around the weights, one wrapper after the other; what is beside them goes to
    `parts`.
    """
    at: Path = ()
    pairs: Items = [("tensor", value)] if walk.tensor(value, ()) is not None else children(value)
    while True:
        walk.enclosing.add(id(value))
        chosen = _wrapper(pairs, walk) if module_parts(value) is None else None
        if chosen is None:
            return value, pairs
        for key, child in pairs:
            if key != chosen:
                _put_aside(parts, walk, chosen, (*at, key), child)
        parts.wrappers.append(chosen)
        at = (*at, chosen)
        value = next(child for key, child in pairs if key == chosen)
        pairs = children(value)


def _nameless(weights: Iterable[TensorEntry]) -> tuple[str, ...]:
    """Return the note on tensors in a list, which have no names."""
    count = sum(type(path[-1]) is int for entry in weights if (path := entry.path))
    if not count:
        return ()
    tensors = "1 tensor is" if count == 1 else f"{count:,} tensors are"
    return (
        f"names are lost: {tensors} in a list and named by position; only the program that wrote"
        " the list knows what they are",
    )


def _put_aside(parts: _Parts, walk: Walker, chosen: str, path: Path, child: Value) -> None:
    """Take what stands beside the weights for what it is: no part of them."""
    key = path[-1]
    parts.aside.append((path, child))
    if type(key) is str and may_be_set(key, chosen):
        found = walk.weights(child, path, skip=len(path))
        parts.sets.setdefault(key, []).extend(found.tensors)
        parts.leaves.update(found.leaves)
        return
    found = walk.training(child, path)
    parts.training.extend(found.tensors)
    parts.leaves.update(found.leaves)
    if found.tensors and not is_training(key) and not _is_state(children(child)):
        count = f"{len(found.tensors):,} tensors"
        parts.notes.append(f"{key_name(key)} ({count}), beside {chosen}, left")


def _account(parts: _Parts, root: Value, walk: Walker) -> None:
    """Say of every tensor that the walk has not come by what becomes of it."""
    wanted = walk.rebuild.unasked()
    if not wanted:
        return
    is_tensor, most = walk.rebuild.is_tensor, walk.limits.objects
    beyond = {id(child) for _, child in parts.aside}
    names = {entry.name for entry in parts.weights}
    attributes = 0
    for lost in unreached([((), root)], wanted, is_tensor, beyond=beyond, most=most):
        entry = _entry(lost, walk)
        if entry is None:
            continue
        if lost.why == OF_A_MODULE:
            parts.left_out.append(Unloaded(entry, lost.why))
            attributes += 1
            continue
        name = entry.name if entry.name not in names else f"{entry.name} (unnamed {len(names)})"
        names.add(name)
        why = entry.unsupported or lost.why or "a tensor that no rule names"
        parts.weights.append(entry.changed(name=name, unsupported=why))
    if attributes:
        shown = ", ".join(left.entry.name for left in parts.left_out[:5])
        more = f" and {attributes - 5:,} more" if attributes > 5 else ""
        parts.notes.append(f"left as no part of a module's state_dict(): {shown}{more}")
    for lost in unreached(parts.aside, wanted, is_tensor, beyond=set(), most=most):
        entry = _entry(lost, walk)
        if entry is not None:
            parts.training.append(entry)


def _entry(lost: Unreached, walk: Walker) -> TensorEntry | None:
    tensor = walk.tensor(lost.value, lost.path)
    return (
        None
        if tensor is None
        else tensor.changed(path=lost.path, name=".".join(map(key_name, lost.path)))
    )


def _wrapper(pairs: Items, walk: Walker) -> str | None:
    """The key whose value is the weights, if the dict is a wrapper at all.

    A dict with tensors of its own is a state dict, whatever else its keys are called; only
    `state_dict` is so definite that it counts beside them.
    """
    named = {key: child for key, child in pairs if type(key) is str}
    own = any(walk.tensor(child, (key,)) is not None for key, child in named.items())
    for key in WRAPPERS:
        child = named.get(key)
        if child is None or (own and key != "state_dict"):
            continue
        if key == "ema" and "model" in named and not _is_ema(child, named["model"]):
            continue
        if key == "ema" and "model" not in named:
            continue
        if walk.holds_tensors(child):
            return key
    return None


def _is_ema(ema: Value, model: Value) -> bool:
    """Whether `ema` is what programs take where there is a `model` as well.

    Source: ultralytics `load_checkpoint`: `ckpt["ema"] or ckpt["model"]`, both pickled modules.
    """
    return model is None or (is_module(ema) and is_module(model))


def _kind(value: Value, pairs: Items) -> str:
    if is_module(value):
        return "module"
    if any(key == "string_to_param" for key, _ in pairs if type(key) is str):
        return "embedding"
    return "hypernetwork" if _is_hypernetwork(pairs) else "state-dict"


def _is_state(pairs: Items) -> bool:
    """Whether a dict is the state of an optimizer, a scheduler or accelerate's random numbers."""
    keys = {key for key, _ in pairs if type(key) is str}
    return (
        {"state", "param_groups"} <= keys
        or {"base_lrs", "last_epoch"} <= keys
        or "torch_manual_seed" in keys
    )


def _is_training(key: Value, child: Value, walk: Walker) -> bool:
    """Whether a key beside weights is one of training; a parameter may well be called `scaler`."""
    if not is_training(key):
        return False
    return BY_KEY[key].is_tensor or walk.tensor(child, (key,)) is None


def _is_hypernetwork(pairs: Items) -> bool:
    """Whether ints (the width of a layer) lead to pairs of state dicts, as A1111 saves them."""
    layers = [child for key, child in pairs if type(key) is int]
    return bool(layers) and all(
        type(child) is tuple and len(child) == 2 and all(type(x) is Instance for x in child)
        for child in layers
    )
