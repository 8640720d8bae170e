"""Files compared with their digests in a list or a statement."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from sdtool.batch.failures import as_error
from sdtool.batch.items import Item, is_remote
from sdtool.batch.progress import Progress
from sdtool.batch.release.statement import Statement, read_statement
from sdtool.batch.release.sums import NAME, is_sums, read_sums
from sdtool.checkpoint import SdtoolError, UsageError, dataclass, local_file
from sdtool.convert import Difference, Verification, hash_file, verify_file

_Path: TypeAlias = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Expected:
    """A file and the SHA-256 that it should have."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Checked:
    """The result for one file, or why it could not be read."""

    path: str
    nbytes: int
    found: Verification | None = None
    error: SdtoolError | None = None
    seconds: float = 0.0


def expected_of(path: _Path, statement: _Path | None = None) -> list[Expected]:
    """Return the files that have digests: those in a list, in the list of a folder, and those in a
    statement. The result is empty for a file or folder without a list.

    With a statement a single file is recognised by its content, whatever its name.

    Raises:
        UsageError: the file is not in the statement, or not on this machine.
        InputError: the list or the statement cannot be read, or is not valid.
    """
    where = os.fspath(path)
    if is_remote(where):
        if statement is not None:
            raise UsageError("--statement requires local files", where=where)
        return []
    found: dict[tuple[str, str], Expected] = {}
    is_folder = os.path.isdir(where)
    listing = os.path.join(where, NAME) if is_folder else where
    if os.path.isfile(listing) and (is_folder or is_sums(where)):
        for file, digest in read_sums(listing).items():
            found[file, digest] = Expected(file, digest)
    if statement is not None:
        stated = read_statement(statement)
        several = is_folder or bool(found)
        folder = where if is_folder else os.path.dirname(where)
        for one in _of_statement(stated, folder) if several else [_named(stated, where)]:
            found[one.path, one.sha256] = one
    return list(found.values())


def verify_listed(
    expected: Sequence[Expected],
    *,
    report: Callable[[Checked], object] | None = None,
    progress: Progress | None = None,
) -> list[Checked]:
    """Check each file: its digest and, if it is a model, that it is whole.

    `report` is called with each result, `progress` with the number of bytes read.
    """
    done: list[Checked] = []
    for one in each_listed(expected, progress=progress):
        done.append(one)
        if report is not None:
            report(one)
    return done


def each_listed(
    expected: Iterable[Expected], *, progress: Progress | None = None
) -> Iterator[Checked]:
    """Check each file as `verify_listed` does, give its result, and keep nothing of it."""
    for one in expected:
        begun = time.monotonic()
        nbytes, found, error = 0, None, None
        try:
            nbytes = os.path.getsize(one.path)
            found = _checked(one, progress)
        except Exception as e:
            error = as_error(e, one.path)
        yield Checked(one.path, nbytes, found, error, time.monotonic() - begun)


def _checked(one: Expected, progress: Progress | None) -> Verification:
    if Item(one.path).looks_like_model:
        return verify_file(one.path, sha256=one.sha256, progress=progress)
    with local_file(one.path) as file:
        hashes = hash_file(file, progress)
        is_right = hashes.sha256 == one.sha256
        wrong = Difference("SHA-256", f"is {hashes.sha256}, should be {one.sha256}")
        return Verification(
            tensors=0,
            nbytes=file.nbytes,
            differences=() if is_right else (wrong,),
            failures=int(not is_right),
            hashes=hashes,
            wrong_hashes=int(not is_right),
        )


def _of_statement(statement: Statement, folder: str) -> list[Expected]:
    return [
        Expected(os.path.join(folder, name), sha256) for name, sha256 in statement.outputs.items()
    ]


def _named(statement: Statement, path: str) -> Expected:
    """Return the entry of a statement for one file: by its content, else by its name."""
    known = {**statement.outputs, statement.input_name: statement.input_sha256}
    with local_file(path) as file:
        digest = hash_file(file).sha256
    wanted = digest if digest in known.values() else known.get(Path(path).name)
    if wanted is None:
        raise UsageError(
            "is not listed in the statement",
            where=path,
            hint=f"it lists {', '.join(known)}",
        )
    return Expected(path, wanted)
