"""One part of many: so that several machines share a folder and need not know of one another."""

from __future__ import annotations

import hashlib
import os

from sdtool.batch.items import Item
from sdtool.checkpoint import UsageError, dataclass

_MOST_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Part:
    """Part `number` of `of`; the first is 1.

    Which part a file belongs to hangs on its name alone (from the folder that was named, so that
    mounts may differ), never on what else there is: a file that comes or goes while the parts are
    at work moves no other. The parts are equal but for chance: 1 % for 10,000 files in each.
    """

    number: int
    of: int

    def has(self, item: Item) -> bool:
        """Whether a file belongs to this part."""
        name = os.path.relpath(item.path, item.root) if item.root is not None else item.path
        digest = hashlib.sha256(os.fsencode(name.replace(os.sep, "/"))).digest()
        return int.from_bytes(digest[:8], "big") % self.of == self.number - 1


def part_of(text: str) -> Part:
    """Return the part that `I/N` names.

    Raises:
        UsageError: it names none.
    """
    number, slash, of = text.partition("/")
    digits = number.isascii() and of.isascii() and number.isdigit() and of.isdigit()
    is_short = max(len(number), len(of)) <= _MOST_DIGITS
    if not slash or not digits or not is_short or not 1 <= int(number) <= int(of):
        raise UsageError(
            f"--shard expects I/N with I from 1 to N, such as 3/16, and not {text!a}",
            hint="where a scheduler counts from 0, add 1",
        )
    return Part(int(number), int(of))
