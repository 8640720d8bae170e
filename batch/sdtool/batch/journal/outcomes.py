"""What a journal records of inputs that were converted or pruned: their outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sdtool.batch.engines import Engine
from sdtool.batch.items import Item, whole_path
from sdtool.batch.journal.remembering import Remembering
from sdtool.batch.journal.store import Entry, Journal, key_of
from sdtool.batch.journal.task import task_of
from sdtool.batch.making import Recipe
from sdtool.batch.options import Options
from sdtool.batch.outcome import Failed, Outcome, Planned, Remarks, Skipped, Written
from sdtool.batch.outputs import Outputs
from sdtool.batch.place import AnyJob, PartsJob, SetJob
from sdtool.checkpoint import dataclass


def remembering(
    engine: Engine, journal: Journal, recipe: Recipe, options: Options, outputs: Outputs
) -> Engine:
    """Return an engine that does jobs as `engine` does, except those that are done.

    Raises:
        UsageError: the recipe holds more than options.
    """
    task = task_of("make", recipe=recipe, options=options)
    return Remembering(engine, journal, task, _Outcomes(outputs))


@dataclass(frozen=True, slots=True)
class _Outcomes:
    """See `Kind`. The items are jobs, and each has a list of outcomes."""

    places: Outputs

    def inputs(self, item: AnyJob) -> Sequence[Item] | None:
        if isinstance(item, PartsJob):  # more is read of such a model than its weights
            return None
        return (item.item, *item.shards) if isinstance(item, SetJob) else (item.item,)

    def key(self, item: AnyJob) -> bytes:
        outs = (whole_path(self.places.called(out)) for out in item.outs)
        alone = "alone" if item.item.alone else "among others"
        return key_of(item.item.path, *outs, alone, item.passed_over or "")

    def outputs(self, result: list[Outcome]) -> Sequence[str]:
        outs = [one.output for one in result if isinstance(one, (Written, Skipped))]
        copies = (to for out in outs for to in out.sidecars.values() if to is not None)
        named = (path for out in outs for path in (out.path, *out.shards))
        return tuple(map(whole_path, (*named, *copies)))

    def is_final(self, result: list[Outcome]) -> bool:
        return not any(isinstance(one, (Failed, Planned)) for one in result)

    def kept(self, result: list[Outcome]) -> list[Outcome]:
        return result

    def recalled(self, result: list[Outcome], item: AnyJob, entry: Entry) -> list[Outcome]:
        return [_recalled(one, item.item.path, entry.since) for one in result]


def _recalled(outcome: Outcome, path: str, since: str) -> Outcome:
    source = replace(outcome.input, path=path)
    note = f"unchanged since {since}, according to the journal"
    if isinstance(outcome, (Written, Skipped)):
        remarks = Remarks((note,), outcome.remarks.warnings)
        return Skipped(input=source, output=outcome.output, remarks=remarks)
    remarks = replace(outcome.remarks, notes=(*outcome.remarks.notes, note), announced=())
    return replace(outcome, input=source, remarks=remarks, seconds=0.0)
