"""Where the outputs of a run go: on this machine, or, made here first, to a bucket."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

from sdtool.batch.items import is_remote
from sdtool.checkpoint import File, UsageError, dataclass, local_file
from sdtool.convert import check_output, clear_away

Progress = Callable[[int], object]


class Outputs(Protocol):
    """The places of outputs. A path is that of the file that is made on this machine."""

    @property
    def is_elsewhere(self) -> bool:
        """Whether they are sent on."""
        ...

    @property
    def out(self) -> str | None:
        """The one output that a person named, as a path on this machine."""
        ...

    @property
    def out_dir(self) -> str | None:
        """The folder that a person named, as a path on this machine."""
        ...

    def called(self, out: Path) -> str:
        """Return what a person calls an output."""
        ...

    def there(self, out: Path) -> AbstractContextManager[File | None]:
        """Open what an output would replace; None where nothing is there.

        Raises:
            InputError: it cannot be read.
        """
        ...

    def check(self, out: Path, nbytes: int, *, force: bool) -> None:
        """Check that an output of this size may be made.

        Raises:
            OutputError: it is there and `force` is false, or the place cannot take it.
        """
        ...

    def take(self, outs: Sequence[Path], *, force: bool, verify: bool, progress: Progress) -> None:
        """Take files that were made, and belong together; the last is the one that names them.

        `progress` is called with 0 now and then, and raises what stops the run.

        Raises:
            OutputError: they cannot be taken; then none of them is there.
        """
        ...

    def clear_away(self, outs: Sequence[Path], pid: int) -> None:
        """Remove what a process that was killed has left of outputs that it had not finished."""
        ...


@dataclass(frozen=True, slots=True)
class OnThisMachine:
    """Outputs are made where they go."""

    out: str | None = None
    out_dir: str | None = None

    @property
    def is_elsewhere(self) -> bool:
        """See `Outputs`."""
        return False

    def called(self, out: Path) -> str:
        """See `Outputs`."""
        return os.fspath(out)

    def there(self, out: Path) -> AbstractContextManager[File | None]:
        """See `Outputs`."""
        return local_file(out) if os.path.isfile(out) else nullcontext()

    def check(self, out: Path, nbytes: int, *, force: bool) -> None:
        """See `Outputs`."""
        check_output(out, force=force)

    def take(self, outs: Sequence[Path], *, force: bool, verify: bool, progress: Progress) -> None:
        """See `Outputs`: they are where they go."""

    def clear_away(self, outs: Sequence[Path], pid: int) -> None:
        """See `Outputs`."""
        for out in outs:
            clear_away(out, pid)


@contextmanager
def outputs_for(
    out: str | os.PathLike[str] | None, out_dir: str | os.PathLike[str] | None
) -> Generator[Outputs]:
    """Give the places that `-o` or `--out-dir` name, a path or the URL of a bucket.

    What goes to a bucket is made in a temporary folder, which is removed in the end.

    Raises:
        UsageError: both are given, or a URL is that of a server that takes no files.
        InputError: a URL is not understood.
    """
    file = None if out is None else os.fspath(out)
    folder = None if out_dir is None else os.fspath(out_dir)
    if file is not None and folder is not None:
        raise UsageError("-o and --out-dir cannot be used together")
    named = file or folder
    if named is None or not is_remote(named):
        yield OnThisMachine(file, folder)
        return
    from sdtool.batch.remote.sending import InBucket, place_of  # what stays here needs none of it

    location, name = place_of(named, is_folder=folder is not None)
    with tempfile.TemporaryDirectory(prefix="sdtool-") as root:
        yield InBucket(root, location, name)
