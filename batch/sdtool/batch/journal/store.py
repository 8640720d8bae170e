"""The journal's file: an SQLite database that several runs may use at once.

It is a cache: everything in it could be computed again. A file that is not a journal, or a damaged
one, is refused and not changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple
from datetime import UTC, datetime
from typing import Any, Concatenate, ParamSpec, TypeVar

from sdtool.batch.items import MODEL_SUFFIXES, is_remote, whole_path
from sdtool.batch.journal.place import Place
from sdtool.batch.journal.stamp import AnyStamp, Stamp, Stamps, Tag, still_hold
from sdtool.batch.journal.task import is_current
from sdtool.checkpoint import OutputError, UsageError, dataclass

P = ParamSpec("P")
R = TypeVar("R")

_APPLICATION = 0x7364746A
"""`sdtj`, in the header of the database."""
_FORMAT = 1
_PATIENCE_SECONDS = 20.0
"""How long to wait for another run, which holds the database for milliseconds."""
_ASK_AGAIN_SECONDS = 0.02
_PENDING = 256
_PENDING_SECONDS = 1.0
"""The most results, and their greatest age, before a transaction: what a kill can lose."""
_MOST_NBYTES = 64 << 20
"""The largest row."""
_YEAR_10000 = 253_402_300_800
"""In seconds since 1970: a time from then on has no date."""
_SCHEMA = (
    "CREATE TABLE task (id INTEGER PRIMARY KEY, asked TEXT NOT NULL UNIQUE)",
    "CREATE TABLE result (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE,"
    " content TEXT NOT NULL)",
    "CREATE TABLE entry (task INTEGER NOT NULL, path BLOB NOT NULL, stamps TEXT NOT NULL,"
    " result INTEGER NOT NULL, noted REAL NOT NULL, PRIMARY KEY (task, path)) WITHOUT ROWID",
)
"""`path` is what `key_of` gives. Most results are alike, and kept once."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What was done with one input, and the files that it was done with."""

    stamps: Stamps
    content: str
    """The result as JSON."""
    noted: float
    """When, in seconds since 1970."""

    @property
    def since(self) -> str:
        """When it was recorded, in ISO 8601."""
        return f"{datetime.fromtimestamp(self.noted, UTC):%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True, slots=True)
class Row:
    """An entry with its place in the journal."""

    task: int
    key: bytes
    asked: Mapping[str, Any]
    """What the task is: see `task_of`."""
    entry: Entry
    result: Any
    """The content of the entry."""

    @property
    def path(self) -> str:
        """The input."""
        return input_of(self.key)

    @property
    def is_current(self) -> bool:
        """Whether it was recorded by the version that reads it."""
        return is_current(self.asked)

    @property
    def is_believed(self) -> bool:
        """Whether a run with the same options would use it: reads the ends of its files.

        Servers are not contacted: an entry for a remote file is valid until a run has asked.
        """
        here = {path: stamp for path, stamp in self.entry.stamps.items() if not is_remote(path)}
        return self.is_current and still_hold(here)


def key_of(path: str, *asked: str) -> bytes:
    """Return the key of an entry: an input, and the options for it alone."""
    return b"\0".join(map(os.fsencode, (whole_path(path), *asked)))


def input_of(key: bytes) -> str:
    """Return the input in a key."""
    return os.fsdecode(key.split(b"\0")[0])


def _with_errors(
    method: Callable[Concatenate[Journal, P], R],
) -> Callable[Concatenate[Journal, P], R]:
    """Convert SQLite's exceptions to sdtool's errors."""

    def call(self: Journal, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with _errors(self.path):
            return method(self, *args, **kwargs)

    return call


class Journal:
    """An open journal. One thread uses it.

    Raises:
        UsageError: `path` is something else, damaged, or not there and not to be made.
        OutputError: it cannot be read or written, another program keeps it locked, or has moved it.
    """

    def __init__(self, path: str, *, create: bool = True) -> None:
        self.path = path
        self._pending: dict[tuple[int, bytes], Entry] = {}
        self._since = 0.0
        _check_file(path, create=create)
        with _errors(path):
            # no transaction is begun behind our back
            # whatever it is called: `:memory:` is a file, too
            self._database = sqlite3.connect(
                os.path.abspath(path), timeout=_PATIENCE_SECONDS, isolation_level=None
            )
            try:
                self._prepare()
                self._place = Place.of(path)
            except BaseException:
                self._database.close()
                raise

    def _prepare(self) -> None:
        run = self._database.execute
        self._database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_NBYTES)
        run("PRAGMA trusted_schema = OFF")
        run("PRAGMA cell_size_check = ON")
        with self._writing():
            if not run("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _SCHEMA:
                    run(statement)
                run(f"PRAGMA application_id = {_APPLICATION}")
                run(f"PRAGMA user_version = {_FORMAT}")
        found = {sql for (sql,) in run("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
        if found != set(_SCHEMA):
            raise _no_journal(self.path)
        self._share()
        run("PRAGMA synchronous = NORMAL")  # a cut of the power may cost the last results

    def _share(self) -> None:
        """Switch a new journal to WAL, for which SQLite does not wait where another run has it."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as e:
                if not _is_locked(e) or time.monotonic() > end:
                    raise
            time.sleep(_ASK_AGAIN_SECONDS)

    @_with_errors
    def task(self, asked: str) -> int:
        """Return the number of a task, new or known."""
        with self._writing():
            run = self._database.execute
            run("INSERT OR IGNORE INTO task (asked) VALUES (?)", (asked,))
            row = run("SELECT id FROM task WHERE asked = ?", (asked,)).fetchone()
            if row is None:  # the index says that it is there
                raise damaged(self.path)
        return int(row[0])

    @_with_errors
    def look_up(self, task: int, key: bytes) -> Entry | None:
        """Return the entry of an input."""
        if (task, key) in self._pending:
            return self._pending[task, key]
        row = self._database.execute(
            "SELECT stamps, content, noted FROM entry JOIN result ON result.id = entry.result"
            " WHERE task = ? AND path = ?",
            (task, key),
        ).fetchone()
        return None if row is None else _entry(self.path, key, *row)

    def note(self, task: int, key: bytes, entry: Entry) -> None:
        """Record an entry; it is on disk after a second, or after `flush`."""
        if not self._pending:
            self._since = time.monotonic()
        self._pending[task, key] = entry
        is_old = time.monotonic() - self._since > _PENDING_SECONDS
        if len(self._pending) >= _PENDING or is_old:
            self.flush()

    @_with_errors
    def flush(self) -> None:
        """Write the pending entries; find out whether the next run will see them."""
        self._place.check()
        if not self._pending:
            return
        with self._writing():
            for (task, key), entry in self._pending.items():
                self._write(task, key, entry)
        self._pending.clear()

    def rows(self) -> Iterator[Row]:
        """Give every entry, by its path."""
        with _errors(self.path):
            cursor = self._database.execute(
                "SELECT task, path, asked, stamps, content, noted FROM entry"
                " JOIN task ON task.id = entry.task JOIN result ON result.id = entry.result"
                " ORDER BY path, task"
            )
            for task, key, asked, stamps, content, noted in cursor:
                entry = _entry(self.path, key, stamps, content, noted)
                work, result = _read(self.path, asked), _read(self.path, content)
                if not isinstance(work, dict):
                    raise damaged(self.path)
                yield Row(task, key, work, entry, result)

    @_with_errors
    def drop(self, entries: Iterable[tuple[int, bytes]]) -> None:
        """Remove entries, by task and key, and the tasks and results that no other entry has."""
        run = self._database.execute
        with self._writing():
            self._database.executemany("DELETE FROM entry WHERE task = ? AND path = ?", entries)
            run("DELETE FROM task WHERE id NOT IN (SELECT task FROM entry)")
            run("DELETE FROM result WHERE id NOT IN (SELECT result FROM entry)")
        run("VACUUM")

    def close(self) -> None:
        """Write the pending entries, and close the file."""
        try:
            self.flush()
        finally:
            self._database.close()

    def _write(self, task: int, key: bytes, entry: Entry) -> None:
        run = self._database.execute
        digest = hashlib.sha256(entry.content.encode()).digest()[:20]
        run("INSERT OR IGNORE INTO result (digest, content) VALUES (?, ?)", (digest, entry.content))
        run(
            "INSERT OR REPLACE INTO entry SELECT ?, ?, ?, id, ? FROM result WHERE digest = ?",
            (task, key, _stamps_as_text(entry.stamps, input_of(key)), entry.noted, digest),
        )

    @contextmanager
    def _writing(self) -> Generator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")


@contextmanager
def open_journal(path: str, *, create: bool = True) -> Generator[Journal]:
    """Open a journal, and close it at the end. See `Journal`."""
    journal = Journal(path, create=create)
    try:
        yield journal
    finally:
        journal.close()


def _check_file(path: str, *, create: bool) -> None:
    """Refuse a file that is not a journal before SQLite opens it."""
    if os.path.splitext(path)[1].lower() in MODEL_SUFFIXES:
        raise UsageError(
            "--journal expects a journal, and this is the name of a model",
            where=path,
            hint="give it a name of its own, such as models.journal",
        )
    try:
        if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
            raise _no_journal(path)  # a pipe would be waited for
        with open(path, "rb") as file:
            head = file.read(72)
    except FileNotFoundError as e:
        if create and path:
            return
        raise UsageError("no such journal", where=path) from e
    except (OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or "no file can have this name"
        raise OutputError(f"cannot be read ({reason.lower()})", where=path) from e
    if not head and create:
        return
    if head[:16] != b"SQLite format 3\0" or head[68:72] != _APPLICATION.to_bytes(4, "big"):
        raise _no_journal(path)
    if head[60:64] != _FORMAT.to_bytes(4, "big"):
        raise UsageError("is a journal of another version of sdtool", where=path, hint=_HINT)


_HINT = "it was not changed; name another file, which will be created"


def _no_journal(path: str) -> UsageError:
    return UsageError("is not a journal of sdtool", where=path, hint=_HINT)


def _is_locked(e: sqlite3.Error) -> bool:
    return "locked" in str(e) or "busy" in str(e)


@contextmanager
def _errors(path: str) -> Generator[None]:
    try:
        yield
    except sqlite3.OperationalError as e:
        if _is_locked(e):
            raise OutputError(
                f"is in use by another program (waited {_PATIENCE_SECONDS:.0f} s)",
                where=path,
                hint="on a network disk, give each run a journal of its own",
            ) from e
        if "UTF-8" in str(e):  # it quotes all of the text
            raise damaged(path) from e
        raise OutputError(f"cannot be used ({e})", where=path) from e
    except (sqlite3.Error, UnicodeDecodeError) as e:
        raise damaged(path) from e


def damaged(path: str) -> UsageError:
    """Return the error for a journal with content that cannot be understood."""
    return UsageError("the journal is damaged", where=path, hint=_HINT)


_OWN = ""
"""Stands for the path of the input itself, which its key has already."""
_TYPES: Mapping[tuple[type, ...], type[AnyStamp]] = {
    (int, int, int, int, str, bool): Stamp,
    (int, str): Tag,
}
"""The stamps by the types of their fields."""


def _stamps_as_text(stamps: Stamps, own: str) -> str:
    named = {_OWN if path == own else path: astuple(stamp) for path, stamp in stamps.items()}
    return json.dumps(named, separators=(",", ":"))


def _entry(journal: str, key: bytes, stamps: Any, content: Any, noted: Any) -> Entry:
    try:
        found = json.loads(stamps).items()
        own = input_of(key)
        held = {own if path == _OWN else path: _stamp(values) for path, values in found}
        if not 0 <= float(noted) < _YEAR_10000:
            raise ValueError
        return Entry(held, str(content), float(noted))
    except (ValueError, TypeError, AttributeError, RecursionError) as e:
        raise damaged(journal) from e


def _read(journal: str, text: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as e:
        raise damaged(journal) from e


def _stamp(values: list[Any]) -> AnyStamp:
    kind = _TYPES.get(tuple(map(type, values)))
    if kind is None:
        raise ValueError
    return kind(*values)
