"""What a loader would do while it reads a pickle, in order: the Trace that scan judges."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.values import Global, Instance, Persistent, Value

if TYPE_CHECKING:
    from sdtool.checkpoint.key_hashes import KeyHashes


class Resolve(NamedTuple):
    """A name looked up: `target` after python 2 names are mapped, `written` as the file has it."""

    target: Global
    written: Global
    opcode: str
    offset: int
    walks_dots: bool
    """Whether this loader state (PROTO >= 4) walks the dots of the name."""
    computed: bool
    """Whether STACK_GLOBAL took a string that is not a plain string of the stream."""


class Mutation(NamedTuple):
    """BUILD, APPEND(S), ADDITEMS or SETITEM(S) on what is not a plain container of that kind."""

    opcode: str
    target: Value
    value: Value
    """The state of BUILD; a list of items; `Pairs` for SETITEM(S)."""
    offset: int


class Anomaly(NamedTuple):
    """A fact that no serializer produces, or a use that none makes: see the rule."""

    rule: RuleId
    detail: str = ""
    offset: int | None = None
    member: str | None = None


Event: TypeAlias = Resolve | Instance | Mutation | Persistent
"""An Instance stands for the call that built it (REDUCE, NEWOBJ, NEWOBJ_EX, OBJ, INST)."""


class Trace:
    """The union of what any loader would run. Kept, up to the bad byte, when the stream breaks."""

    __slots__ = (
        "anomalies", "events", "goes_on", "hashes", "nbytes", "noted", "objects", "opcodes",
        "plain", "protocol",
    )  # fmt: skip

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.plain: list[Event] = []
        """What a plain unpickler would do where joblib reads the pickle of an array: it has another
        memo there, so with most honest files it gets lost."""
        self.anomalies: list[Anomaly] = []
        self.noted: dict[RuleId, int] = {}
        """How often each rule came up; `anomalies` keeps the first few of each."""
        self.opcodes = 0
        self.objects = 0
        """What was built, as `Limits.objects` counts it."""
        self.nbytes = 0
        """Length of the pickle, STOP included."""
        self.protocol = 0
        """The highest PROTO seen."""
        self.goes_on = False
        """Whether a loader that reads another way gets to the end: see `frame_cuts`."""
        self.hashes: KeyHashes | None = None
        """The keys of dicts and sets that are not text, if there are any."""
