"""Models in several files: `*.bin.index.json` and its shards, and the folders they live in.

Source: transformers/modeling_utils.py (`load_sharded_checkpoint`, `save_pretrained`),
diffusers/utils/constants.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.errors import Malformed, Unreadable, UsageError
from sdtool.checkpoint.reading import Checkpoint
from sdtool.convert.copying import Progress
from sdtool.convert.names import output_name
from sdtool.convert.output import check_output, new_file, output_error
from sdtool.convert.plan import ConvertPlan, plan_safetensors, select_all
from sdtool.convert.writer import Written, refuse_input, write_safetensors

INDEX_SUFFIX = ".bin.index.json"
_INDEX_NBYTES = 100_000_000
_NOT_WEIGHTS = re.compile(r"(training_args|optimizer|scheduler|rng_state|random_states).*")


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
    """Read a `*.bin.index.json`.

    Raises:
        Malformed: it is no index, or names a file outside of its own folder.
        Unreadable: the operating system refused.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            index: Any = json.loads(file.read(_INDEX_NBYTES))
        weight_map = index["weight_map"]
        metadata = index.get("metadata") or {}
        shards = set(weight_map.values())
    except OSError as e:
        reason = (e.strerror or type(e).__name__).lower()
        raise Unreadable(f"cannot be read ({reason})", where=os.fspath(path)) from e
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise Malformed("is no index of shards", where=os.fspath(path)) from e
    for shard in shards:
        if not isinstance(shard, str) or re.search(r"[/\\:\x00]|^\.*$", shard):
            raise Malformed(f"names a file outside of its folder: {shard!a}", where=os.fspath(path))
    if not isinstance(metadata, dict):
        raise Malformed("its metadata is no table", where=os.fspath(path))
    return ShardIndex(path, weight_map, metadata)


def is_index(path: str | os.PathLike[str]) -> bool:
    """Whether a file is called as an index of shards is."""
    return os.fspath(path).endswith(INDEX_SUFFIX)


def index_name(path: str | os.PathLike[str]) -> str:
    """Return what the index of a converted set is called."""
    return output_name(Path(path).name.removesuffix(".index.json")) + ".index.json"


def convert_shards(
    index: ShardIndex,
    folder: str | os.PathLike[str],
    *,
    dtype: str = "keep",
    open_one: Callable[[Path], Checkpoint] = open_checkpoint,
    force: bool = False,
    skip_unsupported: bool = False,
    allow_overflow: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> tuple[Written, ...]:
    """Convert every shard into `folder` and write the index last; all of it or nothing.

    `open_one` opens a shard, and is where a caller refuses what it judges unsafe. A shard without
    tensors gives no file. With `dry_run` everything is checked and nothing written.

    Raises:
        Malformed: the shards do not hold what the index says.
        SdtoolError: as `write_safetensors` does, for any of the shards.
    """
    folder = Path(folder)
    done: list[Written] = []
    with ExitStack() as stack:
        plans: dict[Path, ConvertPlan] = {}
        for shard in index.shards:
            checkpoint = stack.enter_context(open_one(shard))
            if not checkpoint.tensors:
                continue
            selection = select_all(checkpoint, dtype=dtype, skip_unsupported=skip_unsupported)
            out = folder / output_name(shard)  # loaders look for these names, cast or not
            plans[out] = plan_safetensors(selection)
            _check(index, shard, checkpoint)
        weight_map = {t.name: out.name for out, plan in plans.items() for t in plan.tensors}
        listed = set(index.weight_map) - {
            left.name for plan in plans.values() for left in plan.left_out
        }
        if absent := sorted(listed - weight_map.keys()):
            raise Malformed(
                f"lists {len(absent)} tensors that its shards do not hold, first {absent[0]!a}",
                where=os.fspath(index.path),
            )
        index_out = folder / index_name(index.path)
        for out in (*plans, index_out):
            check_output(out, force=force)
        if dry_run:
            return tuple(
                Written(out, plan.nbytes, len(plan.tensors)) for out, plan in plans.items()
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise output_error(e, os.fspath(folder)) from e
        try:
            for out, plan in plans.items():
                refuse_input(out, plan.tensors)
                done.append(
                    write_safetensors(
                        plan, out, force=force, progress=progress, allow_overflow=allow_overflow
                    )
                )
            total = sum(t.nbytes for plan in plans.values() for t in plan.tensors)
            _write_index(index, index_out, weight_map, total, force=force)
        except BaseException:
            for written in done:
                with contextlib.suppress(OSError):
                    written.path.unlink()
            raise
    return tuple(done)


def weights_in(folder: str | os.PathLike[str]) -> tuple[Path, ...]:
    """List what there is to convert in a transformers or diffusers folder and the folders in it.

    Files that end in `.bin`; an index stands for its shards. What training leaves beside them
    (optimizer, scheduler, arguments) is not listed.

    Raises:
        UsageError: it is no folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError("is no folder", where=os.fspath(folder))
    indexes = sorted(folder.rglob(f"*{INDEX_SUFFIX}"))
    sharded = {shard for path in indexes for shard in read_index(path).shards}
    single = (
        path
        for path in folder.rglob("*.bin")
        if path not in sharded and not _NOT_WEIGHTS.match(path.name)
    )
    return tuple(sorted((*indexes, *single)))


def _check(index: ShardIndex, shard: Path, checkpoint: Checkpoint) -> None:
    for entry in checkpoint.tensors:
        if index.weight_map.get(entry.name) != shard.name:
            raise Malformed(
                f"holds {entry.name!a}, which the index says is in"
                f" {index.weight_map.get(entry.name, 'no shard')}",
                where=os.fspath(shard),
            )


def _write_index(
    index: ShardIndex, out: Path, weight_map: Mapping[str, str], total: int, *, force: bool
) -> None:
    content = {
        "metadata": {**index.metadata, "total_size": total},
        "weight_map": dict(weight_map),
    }
    text = (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
    with new_file(out, len(text), force=force) as file:
        file.write_at(text, 0)
