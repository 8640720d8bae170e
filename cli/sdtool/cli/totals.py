"""What the files of one `info` come to: kinds, bytes, and what pruning would free."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from sdtool.batch import Item, Seen
from sdtool.checkpoint import LocalFile, escape, size
from sdtool.cli.exit_codes import DONE
from sdtool.cli.results import about

Alike: TypeAlias = tuple[str, int, int, tuple[tuple[str, int], ...]]
"""What equal components have in common: label, tensors, bytes, elements of each dtype."""

_LEAST_NBYTES = 1 << 16
"""Smaller components are not worth looking for twice."""


class Totals:
    """What the files of one run come to."""

    def __init__(self, excluded: int = 0) -> None:
        self.passed_over = 0
        self.failed = 0
        self.excluded = excluded
        self.parts: dict[Alike, list[tuple[Item, str]]] = {}
        """Components that could be equal -> the files they are in, and their prefix there."""
        self._kinds: dict[str, list[int]] = {}
        self._freed = 0
        self._freed_fp16 = 0
        self.wasted: int | None = None
        """Bytes of components that are there once more, where they were looked for."""
        self._files: dict[tuple[int, int], str] = {}
        self._again = 0

    @property
    def seen(self) -> int:
        """How many files were counted."""
        return sum(n for n, _ in self._kinds.values())

    def taken_up(self, seen: Seen, seconds: float) -> dict[str, Any]:
        """Count one file, and return it as JSON has it."""
        same = self._add(seen)
        file = about(seen.path, seen.nbytes, seconds, DONE) | seen.as_json()
        return file | {"same_file_as": same}

    def _add(self, seen: Seen) -> str | None:
        """Count one file; of several links to one file the first counts, and the others give it."""
        first = seen.sources[0]
        if isinstance(first, LocalFile) and first.stat.st_ino:
            inode = (first.stat.st_dev, first.stat.st_ino)
            if inode in self._files:
                self._again += 1
                return self._files[inode]
            self._files[inode] = seen.path
        self._remember(seen)
        held = self._kinds.setdefault(seen.identity.title, [0, 0])
        held[0] += 1
        held[1] += seen.nbytes
        self._freed += seen.freed
        if seen.pruned_fp16 is not None:
            self._freed_fp16 += max(0, seen.nbytes - seen.pruned_fp16)
        return None

    def _remember(self, seen: Seen) -> None:
        """Note the components of a file, should others like them be looked for."""
        for part in seen.identity.components:
            if part.nbytes >= _LEAST_NBYTES:
                elements = tuple(sorted(part.precision.items()))
                alike = (part.label, part.tensors, part.nbytes, elements)
                self.parts.setdefault(alike, []).append((seen.item, part.prefix))

    def as_json(self) -> dict[str, Any]:
        """The totals as JSON has them."""
        return {
            "files": self.seen,
            "failed": self.failed,
            "size_bytes": sum(nbytes for _, nbytes in self._kinds.values()),
            "kinds": {
                title: {"files": n, "size_bytes": nbytes}
                for title, (n, nbytes) in self._kinds.items()
            },
            "links_to_counted_files": self._again,
            "passed_over": self.passed_over,
            "excluded": self.excluded,
            "freed_by_pruning_bytes": self._freed,
            "freed_by_pruning_to_fp16_bytes": self._freed_fp16,
            **({} if self.wasted is None else {"wasted_by_duplicates_bytes": self.wasted}),
        }

    def lines(self) -> Iterator[str]:
        """The totals for people."""
        for title, (n, nbytes) in sorted(self._kinds.items(), key=lambda kv: -kv[1][1]):
            yield f"{n:>6,} {escape(title):<50.50} {size(nbytes):>10}"
        total = self.as_json()
        yield f"{total['files']:>6,} {'in all':<50} {size(total['size_bytes']):>10}"
        if self._again:
            yield f"{self._again:>6,} more that are links to files counted above"
        if self.wasted is not None:
            yield f"duplicates waste {size(self.wasted)}"
        if self.excluded:
            yield f"{self.excluded:>6,} excluded"
        if self._freed or self._freed_fp16:
            yield (
                f"pruning would free {size(self._freed)}, with fp16 {size(self._freed_fp16)}"
                " (sdtool prune)"
            )
