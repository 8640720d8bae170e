"""Files that are one model: an index with its shards, or a folder of diffusers.

Such a model goes to quarantine whole, is converted whole, or stays whole.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from sdtool.batch.converting import Converting
from sdtool.batch.failures import as_error
from sdtool.batch.files import convert_file
from sdtool.batch.items import Item
from sdtool.batch.looking import looked_at
from sdtool.batch.options import Options
from sdtool.batch.originals import lost_for_good
from sdtool.batch.outcome import NothingToDo, Planned
from sdtool.batch.scanning import scan_one
from sdtool.batch.sets import as_one, files_of
from sdtool.batch.tidy.look import Change, Facts, placed
from sdtool.checkpoint import Format, InputError, SdtoolError, dataclass, local_file
from sdtool.convert import is_index
from sdtool.scan import Report, Verdict, worst_message

_INDEX_OF_FOLDER = "model_index.json"
_MOST_NBYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Group:
    """The files of one model, the one that names the others first. `path` is what it is called."""

    path: str
    kind: Literal["set", "folder"]
    items: tuple[Item, ...]


def grouped(items: Sequence[Item]) -> list[Group | Item]:
    """Return models of several files, and the files that are in none of them, in their order.

    Where two name the same file neither counts: each file is looked at by itself.
    """
    groups = _folders(items)
    taken = {item.path for group in groups for item in group.items}
    sets = list(_sets([item for item in items if item.path not in taken]))
    claims = Counter(item.path for one in sets for item in one.items)
    groups += [one for one in sets if all(claims[item.path] == 1 for item in one.items)]
    first = {group.items[0].path: group for group in groups}
    taken = {item.path for group in groups for item in group.items[1:]}
    return [first.get(item.path, item) for item in items if item.path not in taken]


def _folders(items: Sequence[Item]) -> list[Group]:
    """Return the folders of diffusers: their index, and all files in the folders of its parts.

    A single file beside the index is no part: other programs load it by its own name.
    """
    groups: list[Group] = []
    ordered = sorted(items, key=lambda item: item.path)
    paths = [item.path for item in ordered]

    def below(folder: str) -> Iterator[Item]:
        at = bisect_left(paths, folder)
        while at < len(paths) and paths[at].startswith(folder):
            yield ordered[at]
            at += 1

    for index in items:
        folder, name = os.path.split(index.path)
        if name != _INDEX_OF_FOLDER:
            continue
        parts = (os.path.join(folder, part, "") for part in _parts_of(index.path))
        found = [item for part in parts for item in below(part)]
        if any(item.looks_like_model for item in found):
            groups.append(Group(folder, "folder", (index, *found)))
    claims = Counter(item.path for group in groups for item in group.items)
    return [one for one in groups if all(claims[item.path] == 1 for item in one.items)]


def _parts_of(path: str) -> list[str]:
    """Return the components that a `model_index.json` names; none where it is no such index."""
    try:
        with local_file(path) as file:
            data: Any = json.loads(file.read_at(0, _MOST_NBYTES))
    except (InputError, ValueError, RecursionError):
        return []
    if not isinstance(data, dict) or "_class_name" not in data:
        return []
    return [
        name
        for name, loaded_by in data.items()
        if isinstance(loaded_by, list) and name not in ("", ".", "..") and not set(name) & {*"/\\"}
    ]


def _sets(items: Sequence[Item]) -> Iterable[Group]:
    """Yield the indexes with the shards of them that are there."""
    by_path = {item.path: item for item in items}
    for index in items:
        if not is_index(index.path):
            continue
        try:
            shards = [shard.path for shard in files_of(index)]
        except InputError:  # no index, whatever it is called
            continue
        found = tuple(by_path[shard] for shard in shards if shard in by_path)
        if found:
            yield Group(index.path, "set", (index, *found))


def look_at_group(group: Group, folder: str, *, allow: Mapping[str, str]) -> Facts:
    """Say what is known of a model of several files; the worst of them is what it is."""
    path = os.path.relpath(group.path, folder)
    try:
        members = tuple(placed(item.path, folder) for item in group.items)
    except OSError as e:
        return Facts(path, 0, 0, (0, 0), reason=as_error(e, group.path).what)
    facts = replace(
        members[0],
        path=path,
        nbytes=sum(member.nbytes for member in members),
        is_link=any(member.is_link for member in members),
        is_outside=any(member.is_outside for member in members),
        part_of=None,
        members=members,
        sidecars=(),
    )
    report = _judged(group, allow)
    facts = replace(facts, verdict=report.verdict)
    if report.verdict in (Verdict.UNSAFE, Verdict.SUSPICIOUS):
        return replace(facts, reason=worst_message(report))
    if report.verdict is not Verdict.CLEAN:
        return replace(facts, reason=report.error or "could not be read")
    is_safetensors = report.format == str(Format.SAFETENSORS)
    if group.kind == "folder":
        why = None if is_safetensors else "diffusers loads it by the names in it"
        return replace(facts, why_not=why, is_safetensors=is_safetensors)
    try:
        with looked_at(group.items[0], allow=allow) as seen:
            facts = replace(facts, kind=seen.identity.kind)
        return _with_change(facts, group.path, folder, allow)
    except SdtoolError as e:
        why = e.what if e.where in (None, group.path) else str(e)
        return replace(facts, why_not=why)


def _judged(group: Group, allow: Mapping[str, str]) -> Report:
    """Return the report on all files of a model that are models; in a set all have to be."""
    if group.kind == "set":
        return scan_one(group.items[0], allow=allow, deep=False)
    reports = [scan_one(item, allow=allow, deep=False) for item in group.items]
    models = [
        report
        for item, report in zip(group.items, reports, strict=True)
        if item.looks_like_model or report.verdict is not Verdict.NOT_A_CHECKPOINT
    ]
    whole = as_one(group.path, models)
    formats = {report.format for report in models}
    return replace(whole, format=formats.pop() if len(formats) == 1 else "several")


def _with_change(facts: Facts, index: str, folder: str, allow: Mapping[str, str]) -> Facts:
    """Lay out the set that it becomes, beside it.

    Raises:
        SdtoolError: it cannot be written, or something has one of the names.
    """
    options = Options(allow=allow, dry_run=True)
    (outcome,) = convert_file(index, to="safetensors", options=options)
    if isinstance(outcome, NothingToDo):
        return replace(facts, is_safetensors=True)
    if not isinstance(outcome, Planned):
        return replace(facts, why_not=f"{outcome.output.path} is already there")
    output = outcome.output
    change = Change(
        Converting(), output.nbytes, output.left_out, tuple(lost_for_good(output.left_out))
    )
    return replace(facts, change=change, out=os.path.relpath(output.path, folder))
