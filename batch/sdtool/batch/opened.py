"""Files that are one input together: each opened and judged, the gravest verdict noted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import field

from sdtool.batch.draft import Draft
from sdtool.batch.items import Item
from sdtool.batch.options import Options
from sdtool.batch.sets import SetIndex
from sdtool.checkpoint import Checkpoint, File, counted, dataclass, size
from sdtool.convert import prepared
from sdtool.scan import Verdict, admit, judged, worst_message

_GRAVEST = tuple(Verdict)


@dataclass(slots=True)
class OpenedParts:
    """The files of one input that are open: they stay so with the stack."""

    draft: Draft
    options: Options
    stack: ExitStack
    files: list[File] = field(default_factory=list[File])

    def open(self, item: Item) -> Checkpoint:
        """Open one more.

        Raises:
            UnsafeError: it would do harm when loaded, and `options.disarm` is false.
            InputError: it cannot be read or decided.
        """
        draft, options = self.draft, self.options
        file = self.stack.enter_context(item.opened())
        self.files.append(file)
        taken, report = self.stack.enter_context(judged(file, options.allow))
        draft.allowed.extend(name for name in report.allowed if name not in draft.allowed)
        draft.verdict = max(draft.verdict or Verdict.CLEAN, report.verdict, key=_GRAVEST.index)
        checkpoint = admit(taken, report, disarm=options.disarm)
        if report.verdict is Verdict.SUSPICIOUS:
            draft.warnings.append(f"suspicious ({worst_message(report)}): {item.called}")
        elif report.verdict is Verdict.UNSAFE:
            what = f"disarmed: {worst_message(report)}; no code was run: {item.called}"
            draft.warnings.append(what)
        if item.remote is not None:  # its size was not known before
            draft.nbytes += file.nbytes
        return prepared(checkpoint)


def note_fetched(draft: Draft, files: Sequence[File], indexes: Sequence[SetIndex] = ()) -> None:
    """Note what of files elsewhere was fetched, and how often their servers were asked."""
    read: list[File | SetIndex] = [*files, *indexes]
    requests = sum(one.requests for one in read)
    if requests:
        nbytes = sum(one.nbytes_read for one in read)
        draft.notes.append(
            f"{size(nbytes)} of {size(sum(file.nbytes for file in files))} were fetched,"
            f" in {counted(requests, 'request')}"
        )
