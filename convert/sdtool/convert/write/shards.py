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
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sdtool.checkpoint.errors import LimitExceeded, Malformed
from sdtool.checkpoint.gguf_parts import (
    check_parts,
    is_first_part,
    name_without_part,
    parts_of,
    without_part_note,
)
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.source import File, opened
from sdtool.convert.copy.buffered import Progress
from sdtool.convert.plan.dequantize import treatment_of
from sdtool.convert.plan.names import base_name, output_name
from sdtool.convert.plan.plan import ConvertPlan, plan_safetensors
from sdtool.convert.plan.selecting import select_all
from sdtool.convert.plan.selection import Selection
from sdtool.convert.write.safetensors_file import Written, mode_of, refuse_input, write_safetensors
from sdtool.convert.write.staging import staged

_INDEX = re.compile(r".+\.(bin|safetensors)\.index(\.[\w-]+)?\.json", re.DOTALL)
_INDEX_NBYTES = 100_000_000
_MOST_SHARDS = 10_000
"""Of the largest models there are a few hundred; each that an index names costs a look."""
_TRAINING_STATE = re.compile(
    r"(training_args|optimizer|scheduler|scaler|sampler|dl_state_dict|rng_state|random_states)"
    r"(_\d+)*\.(bin|pt|pth|pkl)"
)


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """An index file: which tensor is in which of the files beside it.

    The first of several GGUF files stands for all of them: there is no list of tensors.
    """

    path: str
    """What a person calls the index."""
    weight_map: Mapping[str, str]
    metadata: Mapping[str, Any]
    parts: tuple[str, ...] = ()

    @property
    def shards(self) -> tuple[str, ...]:
        """The names of the files that hold the tensors, in order: plain ones, of no folder."""
        return self.parts or tuple(sorted(set(self.weight_map.values())))

    def check(self, shards: Mapping[str, Checkpoint]) -> None:
        """Check that the shards, by their names, hold what the index says, and nothing else.

        Raises:
            Malformed: they do not; the first tensor, or part, is named.
        """
        if self.parts:
            check_parts({shard.source.name: shard for shard in shards.values()})
            return
        held = {entry.name: name for name, shard in shards.items() for entry in shard.tensors}
        for tensor, shard in self.weight_map.items():
            if held.get(tensor) != shard:
                raise Malformed(f"lists {tensor!a}, which {shard} does not hold", where=self.path)
        for tensor, shard in held.items():
            if tensor not in self.weight_map:
                raise Malformed(f"does not list {tensor!a}, which {shard} holds", where=self.path)


def index_of_parts(path: str, name: str) -> ShardIndex:
    """Return what the first of several GGUF files stands for, which is called `name`."""
    return ShardIndex(path, {}, {}, parts_of(name))


def read_index(index_file: str | os.PathLike[str] | File) -> ShardIndex:
    """Read a `*.bin.index.json`, or that of a safetensors set; by its path, or open.

    Raises:
        Malformed: it is no index, or names a file outside of its own folder.
        LimitExceeded: it names too many files.
        Unreadable: the operating system, or a server, refused.
    """
    with opened(index_file) as file:
        path, text = file.name, file.read_at(0, _INDEX_NBYTES)
    try:
        index: Any = json.loads(text)
        weight_map = index["weight_map"]
        metadata = index.get("metadata") or {}
        shards = set(weight_map.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise Malformed("is not an index of shards", where=path) from e
    for shard in shards:
        if not isinstance(shard, str) or re.search(r"[/\\:\x00]|^\.*$", shard):
            raise Malformed(f"names a file outside its folder: {shard!a}", where=path)
    if not shards:
        raise Malformed("lists no tensors", where=path)
    if len(shards) > _MOST_SHARDS:
        raise LimitExceeded(f"names more than {_MOST_SHARDS:,} files", where=path)
    if not isinstance(metadata, dict):
        raise Malformed("its metadata is not a table", where=path)
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
    """Whether a file is called as what stands for a set is.

    `X.bin.index.json`, `X.bin.index.fp16.json`, ..., or `X-00001-of-00003.gguf`.
    """
    return _INDEX.fullmatch(base_name(path)) is not None or is_first_part(path)


def is_training_state(path: str | os.PathLike[str]) -> bool:
    """Whether a file is called as what trainers leave beside a model: `optimizer.bin`, ..."""
    return _TRAINING_STATE.fullmatch(base_name(path)) is not None


def index_name(path: str | os.PathLike[str]) -> str:
    """Return what the index of a converted set is called."""
    single = set_name(path)
    if is_first_part(path):
        return f"{output_name(single)}.index.json"
    return output_name(single) + base_name(path)[len(single) :]


def set_name(path: str | os.PathLike[str]) -> str:
    """Return what a set would be called if it were one file; `path` is its index."""
    return re.sub(r"\.index(\.[\w-]+)?\.json$", "", name_without_part(base_name(path)))


def plan_shards(
    index: ShardIndex,
    folder: str | os.PathLike[str],
    open_one: Callable[[str], Checkpoint],
    *,
    dtype: str = "keep",
    skip_unsupported: bool = False,
    dequantize: bool = False,
    metadata: Callable[[Checkpoint], Mapping[str, str]] | None = None,
) -> SetPlan:
    """Lay out the files that a set becomes in `folder`; nothing is written.

    `open_one` opens a shard by its name, and is where a caller refuses what it judges unsafe; what
    it opens has to stay open until the set is written. `metadata` gives what to add to that of a
    shard. A shard without tensors gives no file. Quantized weights are looked for in all shards
    together.

    Raises:
        Malformed: the shards do not hold what the index says.
        InputError: one of them cannot be read, or holds what no output can.
    """
    folder = Path(folder)
    shards: list[PlannedShard] = []
    checkpoints = {
        name: without_part_note(open_one(name), len(index.shards)) for name in index.shards
    }
    if index.parts:
        index.check(checkpoints)
    treatment = treatment_of(tuple(checkpoints.values()), dequantize=dequantize)
    for name, checkpoint in checkpoints.items():
        if all(entry.name in treatment.dropped for entry in checkpoint.tensors):
            continue
        selection = select_all(
            checkpoint, dtype=dtype, skip_unsupported=skip_unsupported, treatment=treatment
        )
        if metadata is not None:
            known = {**selection.metadata, **metadata(checkpoint)}
            selection = replace(selection, metadata=known)
        if not index.parts:
            _check(index, name, checkpoint)
        out = folder / output_name(name)  # loaders look for these names, cast or not
        if any(out == shard.out for shard in shards):
            raise Malformed(f"has two shards that would become {out.name}", where=index.path)
        shards.append(PlannedShard(checkpoint, selection, plan_safetensors(selection), out))
    weight_map = {t.name: shard.out.name for shard in shards for t in shard.plan.tensors}
    left_out = {left.name for shard in shards for left in shard.plan.left_out}
    left_out |= treatment.dropped
    if absent := sorted(set(index.weight_map) - left_out - weight_map.keys()):
        raise Malformed(
            f"lists {len(absent)} tensors that its shards do not hold, first {absent[0]!a}",
            where=index.path,
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
    prepare: Callable[[PlannedShard], PlannedShard] | None = None,
    check: Callable[[PlannedShard, Path], object] | None = None,
) -> tuple[Written, ...]:
    """Write a set: all files are complete before the first takes its name; the index is the last.

    When anything goes wrong before that, nothing is left behind and what was there is as it was.
    `prepare` is called with each shard before it is written; it may give its tensors another order.
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
                (shard if prepare is None else prepare(shard)).plan,
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


def _check(index: ShardIndex, shard: str, checkpoint: Checkpoint) -> None:
    for entry in checkpoint.tensors:
        if index.weight_map.get(entry.name) != shard:
            raise Malformed(
                f"holds {entry.name!a}, which the index says is in"
                f" {index.weight_map.get(entry.name, 'no shard')}",
                where=checkpoint.source.name,
            )
