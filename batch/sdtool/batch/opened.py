"""Files that are one input together: each opened and judged, the gravest verdict noted."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from sdtool.batch.draft import Draft
from sdtool.batch.options import Options
from sdtool.checkpoint import Checkpoint
from sdtool.convert import prepared
from sdtool.scan import Verdict, admit, judged, worst_message

_GRAVEST = tuple(Verdict)


def open_part(path: Path, *, draft: Draft, options: Options, stack: ExitStack) -> Checkpoint:
    """Open one of the files of an input; it stays open with the stack.

    Raises:
        UnsafeError: it would do harm when loaded, and `options.disarm` is false.
        InputError: it cannot be read or decided.
    """
    taken, report = stack.enter_context(judged(os.fspath(path), options.allow))
    draft.allowed.extend(name for name in report.allowed if name not in draft.allowed)
    draft.verdict = max(draft.verdict or Verdict.CLEAN, report.verdict, key=_GRAVEST.index)
    checkpoint = admit(taken, report, disarm=options.disarm)
    if report.verdict is Verdict.SUSPICIOUS:
        draft.warnings.append(f"suspicious ({worst_message(report)}): {path.name}")
    elif report.verdict is Verdict.UNSAFE:
        draft.warnings.append(f"disarmed: {worst_message(report)}; no code was run: {path.name}")
    return prepared(checkpoint)
