"""Models in several files: an index and its shards, and what else their folders hold.

Source: transformers/modeling_utils.py (`load_sharded_checkpoint`, `save_pretrained`),
transformers/trainer.py (`*_NAME`), diffusers/utils/hub_utils.py (`_add_variant`),
accelerate/utils/constants.py.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sdtool.checkpoint.errors import Malformed
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.source import local_file
from sdtool.convert.copy.buffered import Progress
from sdtool.convert.plan.dequantize import treatment_of
from sdtool.convert.plan.names import output_name
from sdtool.convert.plan.plan import ConvertPlan, plan_safetensors, select_all
from sdtool.convert.plan.selection import Selection
from sdtool.convert.write.safetensors_file import Written, mode_of, refuse_input, write_safetensors
from sdtool.convert.write.staging import staged

_INDEX = re.compile(r".+\.(bin|safetensors)\.index(\.[\w-]+)?\.json", re.DOTALL)
_INDEX_NBYTES = 100_000_000
_TRAINING_STATE = re.compile(
    r"(training_args|optimizer|scheduler|scaler|sampler|dl_state_dict|rng_state|random_states)"
    r"(_\d+)*\.(bin|pt|pth|pkl)"
)


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """An index file: which tensor is in which of the files beside it."""

    path: Path
    weight_map: Mapping[str, str]
    metadata: Mapping[str, Any]

    @property
    def shards(self) -> tuple[Path, ...]:
        """The files that hold the tensors, in order of their names."""
        return tuple(self.path.parent / name for name in sorted(set(self.weight_map.values())))


def read_index(path: str | os.PathLike[str]) -> ShardIndex:
    """Read a `*.bin.index.json`, or that of a safetensors set.

    Raises:
        Malformed: it is no index, or names a file outside of its own folder.
        Unreadable: the operating system refused.
    """
    path = Path(path)
    try:
        with local_file(path) as file:
            index: Any = json.loads(file.read_at(0, _INDEX_NBYTES))
        weight_map = index["weight_map"]
        metadata = index.get("metadata") or {}
        shards = set(weight_map.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise Malformed("is not an index of shards", where=os.fspath(path)) from e
    for shard in shards:
        if not isinstance(shard, str) or re.search(r"[/\\:\x00]|^\.*$", shard):
            raise Malformed(f"names a file outside its folder: {shard!a}", where=os.fspath(path))
    if not shards:
        raise Malformed("lists no tensors", where=os.fspath(path))
    if not isinstance(metadata, dict):
        raise Malformed("its metadata is not a table", where=os.fspath(path))
    return ShardIndex(path, weight_map, metadata)


@dataclass(frozen=True, slots=True)
class PlannedShard:
    """One file of a set to come: what it is made of, and where it goes."""

    checkpoint: Checkpoint
    selection: Selection
    plan: ConvertPlan
    out: Path


@dataclass(frozen=True, slots=True)
class SetPlan:
    """Files to come that are one model: those that hold its tensors, and what is said of them."""

    shards: tuple[PlannedShard, ...]
    texts: Mapping[Path, bytes]
    """Small files beside them; the last is the one that loaders look for first."""

    @property
    def index(self) -> Path:
        """The file that loaders look for first: it takes its name when all others have theirs."""
        return list(self.texts)[-1]

    @property
    def nbytes(self) -> dict[Path, int]:
        """The size of each file, in the order in which they take their names: the index is last."""
        shards = {shard.out: shard.plan.nbytes for shard in self.shards}
        return {**shards, **{out: len(content) for out, content in self.texts.items()}}


def is_index(path: str | os.PathLike[str]) -> bool:
    """Whether a file is called as an index is: `X.bin.index.json`, `X.bin.index.fp16.json`, ..."""
    return _INDEX.fullmatch(Path(path).name) is not None


def is_training_state(path: str | os.PathLike[str]) -> bool:
    """Whether a file is called as what trainers leave beside a model: `optimizer.bin`, ..."""
    return _TRAINING_STATE.fullmatch(Path(path).name) is not None


def index_name(path: str | os.PathLike[str]) -> str:
    """Return what the index of a converted set is called."""
    single = set_name(path)
    return output_name(single) + Path(path).name[len(single) :]


def set_name(path: str | os.PathLike[str]) -> str:
    """Return what a set would be called if it were one file; `path` is its index."""
    return re.sub(r"\.index(\.[\w-]+)?\.json$", "", Path(path).name)


def plan_shards(
    index: ShardIndex,
    folder: str | os.PathLike[str],
    open_one: Callable[[Path], Checkpoint],
    *,
    dtype: str = "keep",
    skip_unsupported: bool = False,
    dequantize: bool = False,
    metadata: Callable[[Checkpoint], Mapping[str, str]] | None = None,
) -> SetPlan:
    """Lay out the files that a set becomes in `folder`; nothing is written.

    `open_one` opens a shard, and is where a caller refuses what it judges unsafe; what it opens has
    to stay open until the set is written. `metadata` gives what to add to that of a shard. A shard
    without tensors gives no file. Quantized weights are looked for in all shards together.

    Raises:
        Malformed: the shards do not hold what the index says.
        InputError: one of them cannot be read, or holds what no output can.
    """
    folder = Path(folder)
    shards: list[PlannedShard] = []
    opened = {path: open_one(path) for path in index.shards}
    treatment = treatment_of(tuple(opened.values()), dequantize=dequantize)
    for path, checkpoint in opened.items():
        if all(entry.name in treatment.dropped for entry in checkpoint.tensors):
            continue
        selection = select_all(
            checkpoint, dtype=dtype, skip_unsupported=skip_unsupported, treatment=treatment
        )
        if metadata is not None:
            known = {**selection.metadata, **metadata(checkpoint)}
            selection = replace(selection, metadata=known)
        _check(index, path, checkpoint)
        out = folder / output_name(path)  # loaders look for these names, cast or not
        if any(out == shard.out for shard in shards):
            raise Malformed(f"has two shards that would become {out.name}", where=str(index.path))
        shards.append(PlannedShard(checkpoint, selection, plan_safetensors(selection), out))
    weight_map = {t.name: shard.out.name for shard in shards for t in shard.plan.tensors}
    left_out = {left.name for shard in shards for left in shard.plan.left_out}
    left_out |= treatment.dropped
    if absent := sorted(set(index.weight_map) - left_out - weight_map.keys()):
        raise Malformed(
            f"lists {len(absent)} tensors that its shards do not hold, first {absent[0]!a}",
            where=os.fspath(index.path),
        )
    total = sum(t.nbytes for shard in shards for t in shard.plan.tensors)
    content = {"metadata": {**index.metadata, "total_size": total}, "weight_map": weight_map}
    return SetPlan(tuple(shards), {folder / index_name(index.path): json_text(content)})


def json_text(content: Mapping[str, Any]) -> bytes:
    """Return what a JSON file beside weights holds, laid out as diffusers and transformers do."""
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def write_shards(
    plan: SetPlan,
    *,
    force: bool = False,
    progress: Progress | None = None,
    hashes: bool = False,
    allow_overflow: bool = False,
    check: Callable[[PlannedShard, Path], object] | None = None,
) -> tuple[Written, ...]:
    """Write a set: all files are complete before the first takes its name; the index is the last.

    When anything goes wrong before that, nothing is left behind and what was there is as it was.
    `check` is called with each shard and where it is until then, and raises what is wrong with it.

    Raises:
        SdtoolError: as `write_safetensors` does, for any of the shards.
    """
    for shard in plan.shards:
        refuse_input(shard.out, shard.plan.tensors)
    mode = mode_of(tensor for shard in plan.shards for tensor in shard.plan.tensors)
    with staged(plan.nbytes, force=force, mode=mode) as stage:
        done = tuple(
            write_safetensors(
                shard.plan,
                shard.out,
                progress=progress,
                hashes=hashes,
                allow_overflow=allow_overflow,
                check=None if check is None else partial(check, shard),
                stage=stage,
            )
            for shard in plan.shards
        )
        for out, content in plan.texts.items():
            stage.open(out).write_at(content, 0)
    return done


def _check(index: ShardIndex, shard: Path, checkpoint: Checkpoint) -> None:
    for entry in checkpoint.tensors:
        if index.weight_map.get(entry.name) != shard.name:
            raise Malformed(
                f"holds {entry.name!a}, which the index says is in"
                f" {index.weight_map.get(entry.name, 'no shard')}",
                where=os.fspath(shard),
            )
