"""What the operating system refused, in words."""

from __future__ import annotations

import errno

from sdtool.checkpoint.errors import OutputError
from sdtool.checkpoint.wording import os_reason

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.ENOENT: "no such folder",
    errno.EFBIG: "larger than this disk or this process may write",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "its link leads in a circle",
}

NOTHING_LEFT = "; nothing was left behind"


def output_error(e: OSError, where: str) -> OutputError:
    """Say in a person's words why a file could not be written."""
    reason = _REASONS.get(e.errno or 0) or os_reason(e)
    return OutputError(f"cannot be written ({reason}){NOTHING_LEFT}", where=where)
