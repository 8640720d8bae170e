"""What `--replace` removes, what it leaves alone and why: nothing that could not be had back."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Literal, TypeAlias

from sdtool.batch.draft import Draft, State
from sdtool.batch.file_keys import same_file
from sdtool.batch.kinds import called_by_name, unpickled_only
from sdtool.batch.making import Shared
from sdtool.batch.outcome import Original
from sdtool.checkpoint import Checkpoint, OutputError, UsageError, counted, os_reason, size
from sdtool.convert import LeftOut, signals_held, split_name
from sdtool.scan import Verdict

How: TypeAlias = Literal["trash", "delete"]
Originals: TypeAlias = Mapping[str, tuple[int, int, int, int] | None]
"""Files as they were before anything was read: disk, number, size and time."""

_WORDS: Mapping[How, tuple[Original, Original]] = {
    "trash": ("trashed", "link-trashed"),
    "delete": ("deleted", "link-deleted"),
}
"""What became of originals, and of links to them."""
_UNPICKLED = (".pt", ".pth")
_HINT = "nothing was written; remove --replace, or add --replace-anyway"


def seen(paths: Iterable[str]) -> Originals:
    """Note what files are before they are read."""
    found: dict[str, tuple[int, int, int, int] | None] = {}
    for path in paths:
        try:
            there = os.stat(path)
            found[path] = there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns
        except OSError:
            found[path] = None
    return found


def check_trash() -> None:
    """Check that files can be moved to the trash, before anything is written.

    Raises:
        UsageError: the package that does it is not there.
    """
    from importlib.util import find_spec

    if find_spec("send2trash") is None:
        raise UsageError(
            "--replace requires the package send2trash",
            hint=f"{sys.executable} -m pip install send2trash,"
            " or --replace=delete to delete originals for good",
        )


def mind_losses(
    made: Sequence[Draft],
    left_out: Sequence[Sequence[LeftOut]],
    originals: Originals,
    shared: Shared,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Refuse what would lose something with the originals, or report it before it is done.

    `made` are the outputs of one input, `left_out` what each of them does not hold. `checkpoint` is
    the input, where it is one file.

    Raises:
        OutputError: something would be lost, or be found no more.
    """
    reasons = _losses(made, left_out, originals, shared, checkpoint)
    if not reasons:
        return
    path, why = made[0].path, "; ".join(reasons)
    if not shared.options.replace_anyway:
        raise OutputError(f"--replace is refused: {why}", where=path, hint=_HINT)
    what = f"--replace-anyway: {why}"
    shared.warn(what, path)
    made[0].announced.append(what)


def _losses(
    made: Sequence[Draft],
    left_out: Sequence[Sequence[LeftOut]],
    originals: Originals,
    shared: Shared,
    checkpoint: Checkpoint | None,
) -> list[str]:
    reasons: list[str] = []
    verdict = made[0].verdict
    if verdict in (Verdict.SUSPICIOUS, Verdict.UNSAFE):
        reasons.append(f"it is {verdict}, and everything in it that is not weights would be lost")
    elif checkpoint is not None and checkpoint.kind == "module":
        reasons.append("it is a whole pickled model, and the outputs contain only its weights")
    reasons.extend(lost_weights(left_out))
    for path in originals:
        link = shared.link_to(path)
        if link is not None:
            reasons.append(f"{link}, another input, is a link to it")
    outs = [one.output for one in made if one.output is not None]
    if checkpoint is not None:
        reasons.extend(_not_found(checkpoint, made[0].path, outs))
    return reasons


def foresee(made: Sequence[Draft], how: How) -> None:
    """Note what would become of the originals, of which nothing was written yet."""
    if all(one.state in (State.PLANNED, State.SKIPPED) for one in made):
        for one in made:
            one.original = "to-trash" if how == "trash" else "to-delete"


def give_way(made: Sequence[Draft], how: How, originals: Originals) -> None:
    """Trash or delete the originals if every output is there and was verified.

    One that was replaced meanwhile, as a trainer replaces its last state, is another and stays. Of
    a link the link goes, and what it leads to stays. Several go together: a signal waits.
    """
    done = (State.WRITTEN, State.SKIPPED)
    if not all(one.state in done and one.verified for one in made):
        for one in made:
            if one.state in done:
                one.notes.append("the original was kept: not all of its outputs exist")
        return
    if seen(originals) != originals or None in originals.values():
        made[-1].fail(
            OutputError(
                "the original was modified during the run and was not deleted", where=made[0].path
            )
        )
        return
    outs = {os.fspath(out) for one in made for out in (one.output, *one.shards) if out is not None}
    if any(same_file(path, out) for path in originals for out in outs):
        made[-1].fail(
            OutputError("the original is also an output and was not deleted", where=made[0].path)
        )
        return
    links = [path for path in originals if os.path.islink(path)]
    for path in links:
        made[-1].notes.append(
            f"{path} is a link: the link is removed, its target is kept: {os.path.realpath(path)}"
        )
    with signals_held():
        for path in originals:
            try:
                if how == "trash":
                    import_module("send2trash").send2trash(path)  # an optional package
                else:
                    os.unlink(path)
            except OSError as e:
                made[-1].fail(
                    OutputError(f"the original could not be removed ({os_reason(e)})", where=path)
                )
                return
        for one in made:
            one.original = _WORDS[how][bool(links)]


def lost_weights(outputs: Sequence[Sequence[LeftOut]], accepted: Collection[str] = ()) -> list[str]:
    """Name what no output holds and that is more than training needs, by its reason.

    `outputs` are what each output of one input leaves out; `accepted` are further reasons that
    count for nothing.
    """
    if not outputs:
        return []
    everywhere = set.intersection(*({left.name for left in lefts} for lefts in outputs))
    sums: dict[str, tuple[int, int]] = {}
    for left in outputs[0]:
        if left.name in everywhere:
            count, nbytes = sums.get(left.reason, (0, 0))
            sums[left.reason] = count + 1, nbytes + left.nbytes
    return lost_for_good(sums, accepted)


def lost_for_good(
    left_out: Mapping[str, tuple[int, int]], accepted: Collection[str] = ()
) -> list[str]:
    """Name what is more than training needs of what is left out, by reason: tensors and bytes."""
    harmless = _harmless().union(accepted)
    return [
        f"no output holds {reason} ({counted(count, 'tensor')}, {size(nbytes)})"
        for reason, (count, nbytes) in left_out.items()
        if reason not in harmless
    ]


def _harmless() -> frozenset[str]:
    """The reasons to leave out what inference never needs, and scales that were multiplied in."""
    from sdtool.convert import DEQUANTIZATION
    from sdtool.prune import TRAINING

    return frozenset({"training state", DEQUANTIZATION, *(role.value for role in TRAINING)})


def _not_found(checkpoint: Checkpoint, path: str, outs: Sequence[str]) -> list[str]:
    """Say why programs or prompts would not find, or not take, the outputs in its place."""
    reasons: list[str] = []
    stem = split_name(Path(path).name)[0]
    label = called_by_name(checkpoint)
    others = [out for out in outs if split_name(Path(out).name)[0] != stem]
    if label is not None and others:
        name = Path(others[0]).name
        reasons.append(f"prompts refer to a {label} by its file name, and {name} is another one")
    if os.path.splitext(path)[1].lower() in _UNPICKLED:
        other = [out for out in outs if os.path.splitext(out)[1].lower() not in _UNPICKLED]
        label = unpickled_only(checkpoint) if other else None
        if label is not None:
            reasons.append(f"A1111 and Forge load an {label} from .pt and .pth files only")
    if checkpoint.metadata.keys() - {"format"} and any(out.endswith(".pt") for out in outs):
        reasons.append("a .pt file cannot hold its metadata")
    return reasons
