"""Simulate scans of millions of files with measured costs: how long, how much, what saturates.

    python benchmarks/plan.py [--files 10000000] [--sample 100000]

Events of a sample are played in time: the scheduler gives out tasks one after another, each worker
takes one task at a time and keeps several files of it waiting for storage, its core computes one at
a time, a rate limit of the storage lets requests through, and one process takes the results in. The
sample is scaled to all files. What a file costs is measured elsewhere (docs/scale.md); prices are
arguments, for they change.
"""

from __future__ import annotations

import argparse
import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass

TASK_FILES = 64


@dataclass(frozen=True)
class Costs:
    """What one file costs. Seconds are of one core, or of waiting."""

    requests: int
    nbytes: int
    cpu: float


@dataclass(frozen=True)
class Place:
    """Where the files and the workers are."""

    name: str
    workers: int
    waiting: int
    """Files that a worker has under way while they wait for storage."""
    latency: float
    """Seconds for one request, in the middle; they spread log-normally by a factor of 2."""
    per_second: float
    """Files that the storage lets through; infinite where it has no limit."""
    request_price: float
    """For a million requests."""
    is_sharded: bool = True
    """Whether each worker is a run of its own; else one scheduler and one client serve all."""


TINY = Costs(requests=24, nbytes=1_600, cpu=0.00062)
HEADER = Costs(requests=35, nbytes=529_968, cpu=0.042)
REMOTE = Costs(requests=7, nbytes=535_325, cpu=0.042)
UNLIMITED = float("inf")
PLANS = (
    (Place("one machine, 2 cores, own disk", 2, 1, 0.00001, UNLIMITED, 0), TINY),
    (Place("one machine, 2 cores, own disk", 2, 1, 0.0001, UNLIMITED, 0), HEADER),
    (Place("64 shards, shared file system", 64, 1, 0.001, UNLIMITED, 0), HEADER),
    (Place("50 workers, object store", 50, 8, 0.05, UNLIMITED, 0.40, is_sharded=False), REMOTE),
    (Place("200 workers, object store", 200, 8, 0.05, UNLIMITED, 0.40, is_sharded=False), REMOTE),
    (Place("1,000 shards, object store", 1000, 8, 0.05, UNLIMITED, 0.40), REMOTE),
    (Place("8 shards, hub, 5,000 files in 5 minutes", 8, 8, 0.05, 5000 / 300, 0), REMOTE),
)
SCHEDULER_SECONDS = 1 / 240
"""To give out one task; Dask's, measured."""
TAKING_SECONDS = 0.00026
"""To take one result in and note it in a journal."""
JOURNAL_NBYTES = 195


@dataclass(frozen=True)
class Outcome:
    """What the sample took, and how long each part of it was busy."""

    seconds: float
    busy: dict[str, float]


def simulate(place: Place, costs: Costs, files: int) -> Outcome:
    """Play the scan of `files` files."""
    chance = random.Random(1)
    free = [0.0] * place.workers
    heapq.heapify(free)
    given = taken = let_through = last = 0.0
    busy = {"scheduler": 0.0, "cores": 0.0, "rate limit": 0.0, "client": 0.0}
    results: list[tuple[float, int]] = []
    for begin in range(0, files, TASK_FILES):
        count = min(TASK_FILES, files - begin)
        if not place.is_sharded:
            given += SCHEDULER_SECONDS
            busy["scheduler"] += SCHEDULER_SECONDS
        start = max(heapq.heappop(free), given)
        end = start
        for ready in _arrivals(place, costs, count, start, chance):
            if place.per_second != UNLIMITED:
                let_through += 1 / place.per_second
                busy["rate limit"] += 1 / place.per_second
            end = max(end, ready, let_through) + costs.cpu
            busy["cores"] += costs.cpu
        heapq.heappush(free, end)
        results.append((end, count))
    for end, count in sorted(results):
        taking = 0.0 if place.is_sharded else count * TAKING_SECONDS
        taken = max(taken, end) + taking
        busy["client"] += taking
        last = max(last, taken)
    busy["cores"] /= place.workers
    return Outcome(last, busy)


def _arrivals(
    place: Place, costs: Costs, count: int, start: float, chance: random.Random
) -> Iterator[float]:
    """Give when the bytes of each file are there: `waiting` of them are under way at once."""
    lanes = [start] * place.waiting
    for _ in range(count):
        waited = costs.requests * place.latency * chance.lognormvariate(0, 0.7)
        ready = heapq.heappop(lanes) + waited
        heapq.heappush(lanes, ready)
        yield ready


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000_000)
    parser.add_argument("--sample", type=int, default=100_000)
    parser.add_argument("--core-price", type=float, default=0.04, help="for a core and an hour")
    options = parser.parse_args()
    times = options.files / options.sample
    print("| | hours | core hours | requests | read | money | busiest |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    for place, costs in PLANS:
        found = simulate(place, costs, options.sample)
        hours = found.seconds * times / 3600
        cores = costs.cpu * options.files / 3600
        requests = costs.requests * options.files
        paid = hours * place.workers * options.core_price + requests / 1e6 * place.request_price
        busiest, seconds = max(found.busy.items(), key=lambda item: item[1])
        share = seconds / found.seconds
        name = f"{busiest}, {share:.0%}" if share > 0.7 else f"waiting ({busiest} {share:.0%})"
        print(
            f"| {place.name}, {costs.nbytes / 1000:,.0f} KB a file | {hours:,.1f} | {cores:,.0f}"
            f" | {requests / 1e6:,.0f} M | {costs.nbytes * options.files / 1e12:,.2f} TB"
            f" | {paid:,.0f} | {name} |"
        )
    print(f"\nA journal of all: {options.files * JOURNAL_NBYTES / 1e9:.1f} GB.")


if __name__ == "__main__":
    main()
