"""The one place that decides which part of a file is the weights, and what each tensor is called.

A training checkpoint is a dict of many things: the state dict, and beside it optimizer state,
schedulers, callbacks, counters. What loaders unwrap is unwrapped here, once for all verbs.

Source: pytorch_lightning `checkpoint_connector.dump_checkpoint`; ComfyUI `utils.load_torch_file`;
diffusers `single_file_utils.load_single_file_checkpoint`; spandrel `canonicalize_state_dict`;
A1111 `textual_inversion.py`, `hypernetwork.py`; torch `nn.Module.__setstate__`, `ParameterDict`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from struct import Struct
from struct import error as struct_error

from sdtool.checkpoint.errors import (
    InputError,
    LimitExceeded,
    Malformed,
    NotACheckpoint,
    Unsupported,
)
from sdtool.checkpoint.limits import DEFAULT_LIMITS, Limits
from sdtool.checkpoint.reading import TORCH, Checkpoint, Reading, Stream, TensorEntry
from sdtool.checkpoint.rebuild import INLINE, Rebuilder, Tensor, as_bytes, numpy_dtype
from sdtool.checkpoint.values import Global, Instance, Persistent, Value

Leaf = None | bool | int | float | str
Path = tuple[Value, ...]

WRAPPERS = ("state_dict", "model_state_dict", "params_ema", "params", "model", "module", "net")
"""Keys that hold the weights when their value is a dict with tensors, the first one present."""

TRAINING = frozenset(
    {
        # Lightning
        "optimizer_states", "lr_schedulers", "callbacks", "loops", "native_amp_scaling_state",
        "amp_scaling_state", "NativeMixedPrecisionPlugin", "MixedPrecision",
        "MixedPrecisionPlugin", "hyper_parameters", "hparams_name", "hparams_type",
        "datamodule_hyper_parameters", "datamodule_hparams_name", "datamodule_hparams_type",
        # everyone else
        "optimizer", "optimizer_state_dict", "optimizers", "scheduler", "schedulers",
        "lr_scheduler", "scheduler_state_dict", "scaler", "grad_scaler", "rng_state",
        "cuda_rng_state", "param_groups",
        # accelerate's random states
        "random_state", "numpy_random_seed", "torch_manual_seed", "torch_cuda_manual_seed",
    }
)  # fmt: skip
"""Keys of a checkpoint whose values only training needs, with every tensor below them."""


@dataclass(slots=True)
class _Found:
    """What a walk has come by so far."""

    tensors: list[TensorEntry]
    leaves: dict[str, Leaf]


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
            hint="an honest file is one thing only; see `sdtool scan`",
        )
    reading = next(iter(several))
    if reading.error is not None:
        raise reading.error
    if reading.format == "safetensors":
        # its reader has seen to it that no name is there twice
        return Checkpoint(reading, "safetensors", reading.tensors, (), {}, reading.metadata)
    if reading.unread or (reading.inner and reading.format != "torch-zip"):
        raise Unsupported(
            f"a {reading.format} archive, not a checkpoint itself",
            where=reading.source.name,
            hint="unpack it first, then give sdtool the file inside",
        )
    if not reading.streams:
        if reading.tensors:
            return Checkpoint(reading, "state-dict", reading.tensors, (), {}, {})
        raise NotACheckpoint("it holds nothing that could be weights", where=reading.source.name)
    checkpoint = _named(_flatten(reading, _root(reading), limits))
    if checkpoint.kind in ("embedding", "hypernetwork"):
        return checkpoint  # written again in the structure that it has
    # Of 200,000 tensors the values of the pickle and the members take more than the tensors.
    return replace(checkpoint, reading=replace(reading, streams=(), members=()))


def _root(reading: Reading) -> Stream:
    """The one stream that holds the object."""
    where = reading.source.name
    if reading.format == "pickle":
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


def _at(error: InputError | Exception, where: str, member: str | None) -> InputError:
    if not isinstance(error, InputError):
        raise error
    prefix = f"{member}: " if member else ""
    return type(error)(prefix + error.what, where=error.where or where, hint=error.hint)


def _named(checkpoint: Checkpoint) -> Checkpoint:
    """Refuse two tensors of one name, and names that no format can hold."""
    where = checkpoint.source.name
    seen: dict[str, TensorEntry] = {}
    for entry in checkpoint.tensors:
        other = seen.get(entry.name)
        if other is not None:
            raise Malformed(
                f"two tensors would be called {entry.name[:_SHOWN]!a}: {_shown(other.path)} and"
                f" {_shown(entry.path)}",
                where=where,
            )
        seen[entry.name] = entry
    return checkpoint


def _shown(path: Path) -> str:
    return "".join(
        f"[{key[:_SHOWN]!a}]" if type(key) is str else f"[{key_name(key)[:_SHOWN]}]"
        for key in path[:_SHOWN]
    )


def _flatten(reading: Reading, stream: Stream, limits: Limits) -> Checkpoint:
    fixed: Mapping[str, TensorEntry] = {entry.name: entry for entry in reading.tensors}
    rebuild = Rebuilder(stream, reading.storages, fixed, limits)
    walk = _Walker(rebuild, limits.for_file(reading.source.nbytes), reading.source.name)
    try:
        return _checkpoint(reading, stream.value, walk)
    except Malformed as e:
        raise _at(e, reading.source.name, None) from e


def _checkpoint(reading: Reading, root: Value, walk: _Walker) -> Checkpoint:
    training: list[TensorEntry] = []
    leaves: dict[str, Leaf] = {}
    wrappers: list[str] = []
    notes: list[str] = []
    kind = "state-dict"
    at: Path = ()
    value = root
    if walk.tensor(value, ()) is not None:
        value_children: list[tuple[Value, Value]] = [("tensor", value)]
    else:
        value_children = children(value)

    # Take off what is around the weights, one wrapper after the other.
    while True:
        walk.enclosing.add(id(value))
        chosen = _wrapper(value_children, walk)
        if chosen is None:
            break
        for key, child in value_children:
            if key == chosen:
                continue
            if key == "params" and chosen == "params_ema":
                skipped = walk.all_below(child, (*at, key))
                notes.append(f"params_ema taken, params ({len(skipped.tensors):,} tensors) left")
                training.extend(skipped.tensors)
                continue
            found = walk.all_below(child, (*at, key), once=True)
            training.extend(found.tensors)
            leaves.update(found.leaves)
        wrappers.append(chosen)
        at = (*at, chosen)
        value = next(child for key, child in value_children if key == chosen)
        value_children = children(value)

    if _is_module(value):
        kind = "module"
    keys = {key for key, _ in value_children if type(key) is str}
    weights: list[TensorEntry] = []
    if "string_to_param" in keys:
        kind = "embedding"
    elif _is_hypernetwork(value_children):
        kind = "hypernetwork"
    is_state = (bool(keys) and {"state", "param_groups"} <= keys) or "torch_manual_seed" in keys
    is_state = is_state or (bool(keys) and {"base_lrs", "last_epoch"} <= keys)
    for key, child in value_children:
        path = (*at, key)
        if kind == "embedding" and key != "string_to_param":
            found = walk.all_below(child, path, once=True)
            training.extend(found.tensors)
            leaves.update(found.leaves)
        elif is_state or (type(key) is str and key in TRAINING):
            found = walk.all_below(child, path, once=True)
            training.extend(found.tensors)
            leaves.update(found.leaves)
        else:
            skip = len(path) if kind == "embedding" else len(at)
            found = walk.all_below(child, path, skip=skip)
            weights.extend(found.tensors)
            leaves.update(found.leaves)
    return Checkpoint(
        reading, kind, tuple(weights), tuple(training), leaves, {}, tuple(wrappers), tuple(notes)
    )


def _wrapper(pairs: list[tuple[Value, Value]], walk: _Walker) -> str | None:
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
        if walk.holds_tensors(child):
            return key
    return None


def _is_module(value: Value) -> bool:
    return _module_parts(value) is not None and not _is_parameter_dict(value)


def _is_parameter_dict(value: Value) -> bool:
    made = class_of(value)
    return made is not None and made.name in ("ParameterDict", "ParameterList")


def _is_hypernetwork(pairs: list[tuple[Value, Value]]) -> bool:
    """Whether ints (the width of a layer) lead to pairs of state dicts, as A1111 saves them."""
    layers = [child for key, child in pairs if type(key) is int]
    return bool(layers) and all(
        type(child) is tuple and len(child) == 2 and all(type(x) is Instance for x in child)
        for child in layers
    )


def class_of(value: Value) -> Global | None:
    """The class that `value` is made of, through copyreg's and NEWOBJ's ways of making it."""
    if type(value) is not Instance or type(value.target) is not Global:
        return None
    target = value.target
    if target.module in ("copyreg", "copy_reg") and type(value.args) is tuple and value.args:
        first = value.args[0]
        return first if type(first) is Global else None
    return target


def _module_parts(value: Value) -> dict[str, Value] | None:
    """`_parameters`, `_buffers` and `_modules` of a pickled torch module, or None."""
    if type(value) is not Instance or not value.states:
        return None
    state = value.states[-1]
    if type(state) is tuple and len(state) == 2:
        state = state[0] if type(state[0]) is Instance else state[1]
    if type(state) is not Instance:
        return None
    parts = {key: child for key, child in state.pairs if type(key) is str}
    return parts if "_parameters" in parts else None


def children(value: Value) -> list[tuple[Value, Value]]:
    """Keys and values of what can hold weights: dicts, sequences, pickled modules.

    As in Python, a key given twice keeps its first place and takes the last value; 1, 1.0 and
    True are one key, `"1"` is another.
    """
    if type(value) is tuple:
        return list(enumerate(value))
    if type(value) is not Instance:
        return []
    parts = _module_parts(value)
    if parts is not None:
        found: list[tuple[Value, Value]] = []
        for part in ("_parameters", "_buffers", "_modules"):
            inner = parts.get(part)
            if type(inner) is Instance:
                found.extend((k, v) for k, v in children(inner) if v is not None)
        return found
    if value.pairs:
        return _last_wins(value.pairs)
    if value.items:
        return list(enumerate(value.items))
    if value.states:
        state = value.states[-1]
        if type(state) is Instance and state.pairs:
            return _last_wins(state.pairs)
    return []


def _last_wins(pairs: Iterable[tuple[Value, Value]]) -> list[tuple[Value, Value]]:
    merged: dict[object, tuple[Value, Value]] = {}
    for key, child in pairs:
        kind = type(key)
        same: object = key if kind in (str, int, bool, float, bytes, Global) else id(key)
        if kind in (str, bytes, Global):
            same = (kind, key)
        known = merged.get(same)
        merged[same] = (known[0] if known else key, child)
    return list(merged.values())


def key_name(key: Value) -> str:
    """What a key is called inside a flat name."""
    if type(key) is str:
        return key
    if key is None or type(key) in (bool, float):
        return str(key)
    if type(key) is int:
        return str(key) if key.bit_length() < 1024 else "a huge number"
    if type(key) is Global:
        return str(key)
    if type(key) is tuple:
        return "(" + ", ".join(key_name(part) for part in key if type(part) is not tuple) + ")"
    if type(key) is bytes:
        return str(key, "utf-8", "replace")
    return type(key).__name__


_SHOWN = 200
"""Characters of a name, and keys of a path, that a message shows."""
_LEAVES_PER_TENSOR = 4
_LONG_LIST = 1_000


def _is_long_list(value: Value) -> bool:
    """Whether it is a long row of numbers or strings: there is no tensor in it, and no setting."""
    if type(value) is tuple:
        row: Sequence[Value] = value
    elif type(value) is Instance and not (value.pairs or value.states):
        row = value.items
    else:
        return False
    return len(row) > _LONG_LIST and _PLAIN.issuperset(map(type, row))


_PLAIN = frozenset({bool, int, float, str, type(None)})


class _Walker:
    """Walks values without recursion, with bounds on how much and how deep."""

    def __init__(self, rebuild: Rebuilder, limits: Limits, where: str) -> None:
        self._rebuild = rebuild
        self._limits = limits
        self._where = where
        self._visited = 0
        self._named_nbytes = 0
        self.enclosing: set[int] = set()
        """What is around all that is walked: meeting it again is a cycle."""
        self._known: dict[int, Tensor | None] = {}

    def tensor(self, value: Value, path: Path) -> Tensor | None:
        """The tensor that `value` is, or None; its errors name the path."""
        if type(value) is not Instance and type(value) is not Persistent:
            return None
        key = id(value)  # the stream's value keeps every object alive
        if key not in self._known:
            try:
                self._known[key] = self._rebuild.tensor(value)
            except Malformed as e:
                name = ".".join(key_name(key)[:_SHOWN] for key in path[:_SHOWN]) or "tensor"
                raise Malformed(f"{name[:_SHOWN]!a}: {e.what}", where=self._where) from e
        return self._known[key]

    def holds_tensors(self, value: Value) -> bool:
        """Whether any tensor is at or below `value`."""
        return any(True for _ in self._steps(value, (), once=True, only_tensors=True))

    def all_below(self, value: Value, path: Path, *, skip: int = 0, once: bool = False) -> _Found:
        """Tensors and scalars at and below `value`; names leave out the first `skip` keys.

        With `once` an object that is met again by another way is left out.
        """
        found = _Found([], {})
        for at, item in self._steps(value, path, once=once):
            if isinstance(item, Tensor):
                found.tensors.append(item.entry(at, self._name(at[skip:])))
            else:
                found.leaves[self._name(at)] = item
        return found

    def _name(self, path: Path) -> str:
        """The flat name, paid for from what all names of a file may take together."""
        parts = [key_name(key) for key in path]
        self._named_nbytes += sum(map(len, parts))
        if self._named_nbytes > self._limits.names_nbytes:
            raise LimitExceeded(
                f"names of more than {self._limits.names_nbytes:,} bytes", where=self._where
            )
        return ".".join(parts)

    def _steps(
        self, value: Value, path: Path, *, once: bool, only_tensors: bool = False
    ) -> Iterator[tuple[Path, Tensor | Leaf]]:
        limits = self._limits
        on_path: set[int] = set()
        seen: set[int] = set()
        # A frame is an open container: its id, its path, and what is left of its children.
        frames: list[tuple[int, Path, Iterator[tuple[Value, Value]]]] = []
        pending: list[tuple[Path, Value]] = [(path, value)]
        while pending or frames:
            if pending:
                at, item = pending.pop()
                self._visited += 1
                if self._visited > limits.leaves:
                    raise LimitExceeded(f"more than {limits.leaves:,} leaves", where=self._where)
                tensor = self.tensor(item, at)
                if tensor is not None:
                    self._visited += _LEAVES_PER_TENSOR - 1
                    yield at, tensor
                    if tensor.storage.key != INLINE:
                        self._known.pop(id(item), None)  # it is made anew, should it come again
                    continue
                scalar, is_leaf = _scalar(item)
                if is_leaf:
                    if not only_tensors:
                        yield at, scalar
                    continue
                key = id(item)
                if key in on_path or key in self.enclosing or (once and key in seen):
                    continue
                if _is_long_list(item):
                    continue
                below = children(item)
                if below:
                    if len(frames) >= limits.depth:
                        raise LimitExceeded(f"more than {limits.depth} levels", where=self._where)
                    on_path.add(key)
                    seen.add(key)
                    frames.append((key, at, iter(below)))
            else:
                key, at, rest = frames[-1]
                step = next(rest, None)
                if step is None:
                    frames.pop()
                    on_path.discard(key)
                else:
                    pending.append(((*at, step[0]), step[1]))


_SCALARS = {
    "float64": "d", "float32": "f", "float16": "e", "int64": "q", "int32": "i", "int16": "h",
    "int8": "b", "uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q", "bool": "?",
}  # fmt: skip


def _scalar(value: Value) -> tuple[Leaf, bool]:
    """A plain value, or a numpy scalar as the number it is; the second says whether it is one."""
    if value is None or type(value) in (bool, int, float, str):
        return value, True
    if (
        type(value) is Instance
        and type(value.target) is Global
        and value.target.name == "scalar"
        and value.target.module in ("numpy.core.multiarray", "numpy._core.multiarray")
        and type(value.args) is tuple
        and len(value.args) == 2
    ):
        kind = numpy_dtype(value.args[0])
        raw = as_bytes(value.args[1])
        if kind is not None and raw is not None and kind[0].name in _SCALARS:
            code = (">" if kind[1] == "big" else "<") + _SCALARS[kind[0].name]
            try:
                return Struct(code).unpack(raw)[0], True
            except struct_error:
                return None, False
    return None, False
