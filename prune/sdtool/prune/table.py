"""The table of a plan: what the tensors are for, how many, and where they go."""

from __future__ import annotations

from collections.abc import Iterable

from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.training_state import holds_training
from sdtool.convert.plan.selection import LeftOut
from sdtool.prune.choice import DROPPED, KEPT, Choice
from sdtool.prune.roles import COMPONENTS, Role, training_role

_IDLE_KINDS = {"embedding": "an embedding", "hypernetwork": "a hypernetwork"}


@dataclass(frozen=True, slots=True)
class Row:
    """The tensors of one role that go one way; sizes are bytes of tensor data."""

    role: Role
    goes_to: str
    tensors: int
    nbytes_before: int
    nbytes_after: int
    values: int = 0
    """Numbers and strings that are no tensors, of training state."""


def table_of(
    checkpoint: Checkpoint, choices: Iterable[Choice], rest: Iterable[LeftOut] = ()
) -> tuple[Row, ...]:
    """Sum up by role and destination, in the order of the roles; `rest` is left out as well."""
    groups: dict[tuple[Role, str], list[int]] = {}

    def add(role: Role, goes_to: str, *, tensors: int = 0, before: int = 0, after: int = 0) -> None:
        sums = groups.setdefault((role, goes_to), [0, 0, 0, 0])
        sums[0] += tensors
        sums[1] += before
        sums[2] += after
        sums[3] += not tensors

    for c in choices:
        add(c.role, c.goes_to, tensors=1, before=c.nbytes_before, after=c.nbytes_after)
    for left in rest:
        add(Role.AGAIN, DROPPED, tensors=1, before=left.nbytes)
    for entry in checkpoint.training:
        add(training_role(entry.path), DROPPED, tensors=1, before=entry.nbytes)
    for path in checkpoint.leaves:
        state = holds_training(path.partition(".")[0])
        if state is not None:
            add(Role(state.value), DROPPED)
    order = list(Role)
    return tuple(
        Row(role, goes_to, *sums)
        for (role, goes_to), sums in sorted(
            groups.items(), key=lambda item: order.index(item[0][0])
        )
    )


def idle(checkpoint: Checkpoint, choices: Iterable[Choice], table: Iterable[Row]) -> str | None:
    """Why the file is as it should be already, or None."""
    if checkpoint.kind in _IDLE_KINDS:
        return f"{_IDLE_KINDS[checkpoint.kind]} has nothing to prune"
    if any(row.goes_to != KEPT and row.role is not Role.EMA_SCALAR for row in table):
        return None
    if any(choice.dtype is not choice.entry.dtype for choice in choices):
        return None
    is_model = not COMPONENTS.isdisjoint(row.role for row in table)
    if (is_model or checkpoint.others) and checkpoint.format is not Format.SAFETENSORS:
        return None  # it becomes a safetensors file
    return "it holds nothing that only training needs"
