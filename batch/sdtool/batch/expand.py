"""From what was typed to files: files, folders, patterns, or `-` for a list on standard input."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field, replace
from fnmatch import fnmatch
from typing import BinaryIO

from sdtool.batch.items import MODEL_SUFFIXES, Item, is_remote
from sdtool.checkpoint import InputError, Unreadable, UsageError, dataclass, os_reason

_SEPARATOR = r"[/\\]" if os.name == "nt" else "/"
_RECURSIVE = rf"(?:^|(?<={_SEPARATOR}))\*\*(?={_SEPARATOR}|$)"


@dataclass(slots=True)
class _Search:
    """What one search has seen, and what it leaves out."""

    exclude: Sequence[str]
    download: bool = False
    problems: list[InputError] = field(default_factory=list[InputError])
    excluded: int = 0
    _folders: dict[str, str] = field(default_factory=dict[str, str])
    _walked: set[str] = field(default_factory=set[str])

    def leaves_out(self, inside: str) -> bool:
        """Whether a pattern matches; `inside` is the path from the folder that was named."""
        if self.exclude and any(_matches(inside, pattern) for pattern in self.exclude):
            self.excluded += 1
            return True
        return False

    def enters(self, folder: str) -> bool:
        """Whether a folder was not searched before, by whatever name: links may run in circles."""
        real = self.real(folder)
        if real in self._walked:
            return False
        self._walked.add(real)
        return True

    def key(self, item: Item) -> str:
        """Return what two paths of one name in one folder share, through links to the folder."""
        if item.remote is not None:
            return item.path
        folder, name = os.path.split(item.path)
        return os.path.join(self.real(folder), os.path.normcase(name))

    def real(self, folder: str) -> str:
        found = self._folders.get(folder)
        if found is None:
            found = self._folders[folder] = os.path.normcase(os.path.realpath(folder or "."))
        return found


def expand_inputs(
    arguments: Sequence[str],
    stdin: BinaryIO | None = None,
    *,
    exclude: Sequence[str] = (),
    excluded: Callable[[int], object] | None = None,
    passed: Callable[[str], object] | None = None,
    with_partial: bool = False,
    download: bool = False,
) -> tuple[list[Item], list[InputError]]:
    """Return the files that the arguments name, each once, and what could not be found or read.

    Links to folders are followed, as the programs that load models follow them; each folder is
    searched once. What matches a pattern of `exclude` by its path or its name is left out, a folder
    with all it holds, and `excluded` is called with their number. In folders, `passed` is called
    with what has the name of a partial output; that is left out unless `with_partial`. `download`
    says whether files elsewhere may be fetched as a whole where their servers give no parts.

    Raises:
        UsageError: `-` is given and there is no standard input, or no list.
    """
    items: dict[str, Item] = {}
    search = _Search(exclude, download)
    alone = len(arguments) == 1 and arguments[0] != "-"
    for argument in arguments:
        if argument == "-":
            if stdin is None:
                raise UsageError("- expects a list of files on standard input")
            names = listed(stdin.read())
            found = [item for name in names for item in _named(name, False, search)]
        else:
            found = list(_argument(argument, alone, search))
        for item in found:
            if item.root is not None and _is_partial(os.path.basename(item.path)):
                if passed is not None:
                    passed(item.path)
                if not with_partial:
                    continue
            known = items.setdefault(search.key(item), item)
            if known.remote != item.remote:
                search.problems.append(_only_hidden(item))
    if excluded is not None:
        excluded(search.excluded)
    return list(items.values()), search.problems


def own_files(items: Sequence[Item]) -> tuple[list[Item], list[InputError]]:
    """Leave out names of files that some process has open (`/dev/stdin`), and say why.

    What is written beside such a name, or in its place, would be lost.
    """
    rest: list[Item] = []
    problems: list[InputError] = []
    for item in items:
        if _is_borrowed(item.path):
            hint = "give the file's own name"
            problems.append(
                Unreadable("is another name of an open file", where=item.path, hint=hint)
            )
        else:
            rest.append(item)
    return rest, problems


def _is_borrowed(path: str) -> bool:
    """Whether a path is but another name of a file that some process has open."""
    folder = os.path.realpath(os.path.dirname(path) or ".")
    return os.name == "posix" and (folder == "/dev" or folder.startswith("/proc/"))


def listed(data: bytes) -> list[str]:
    """Return the names in a list: one a line, or NUL between them (`find -print0`).

    UTF-8 with or without a byte order mark, UTF-16 as Windows shells write it, CR LF; names that
    are not UTF-8 keep their bytes, as in `os.fsdecode`.

    Raises:
        UsageError: it is no list of names but some other content.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", "surrogatepass")
    elif len(data) > 1 and not data[1::2].strip(b"\0"):
        text = data.decode("utf-16-le", "surrogatepass")
    elif b"\0\0" in data:  # a name that is empty: a model, say, where its name was meant
        raise UsageError("standard input is not a list of names", hint="name the file instead of -")
    else:
        text = os.fsdecode(data.removeprefix(b"\xef\xbb\xbf"))
    if "\0" in text:
        return [name for name in text.split("\0") if name]
    lines = text.replace("\r\n", "\n").split("\n")
    return [line for line in lines if line.strip()]


def _matches(inside: str, pattern: str) -> bool:
    """Whether a pattern matches a path, its last name, or (of a relative path) a folder on it.

    On Windows, either slash is the other and case does not count.
    """
    pattern = os.path.normpath(pattern)
    inside = os.path.normpath(inside)
    if os.path.isabs(inside):
        return any(fnmatch(one, pattern) for one in (inside, os.path.basename(inside)))
    # `.*` is for hidden files, not for whatever lies in the current folder or above
    parts = [part for part in inside.split(os.sep) if part not in (os.curdir, os.pardir)]
    folders = (os.sep.join(parts[: i + 1]) for i in range(len(parts)))
    anywhere = pattern.removeprefix(f"**{os.sep}")
    return any(fnmatch(one, p) for one in (*parts, *folders) for p in {pattern, anywhere})


def _argument(argument: str, alone: bool, search: _Search) -> Iterator[Item]:
    # A shell on Windows leaves patterns to the program; a file may be called so all the same.
    if os.path.lexists(argument) or not glob.has_magic(argument) or is_remote(argument):
        yield from _named(argument, alone, search)
        return
    found = len(search.problems)
    if (recursive := re.search(_RECURSIVE, argument)) is not None:
        matches = sorted(_deep(argument, recursive.start(), search))
    else:
        matches = sorted(glob.iglob(argument))
    if not matches and found == len(search.problems):
        search.problems.append(Unreadable("no file matches", where=argument))
    for match in matches:
        yield from _named(match, False, search)


def _deep(pattern: str, start: int, search: _Search) -> Iterator[str]:
    """Yield the files that fit a pattern with `**`, and those in folders that do.

    (`glob` follows links in circles: of two in one folder, up to 2 ** 40 times.)
    """
    beginning, parts = pattern[:start], re.split(_SEPARATOR, pattern[start:])
    for base in glob.iglob(beginning) if glob.has_magic(beginning) else [beginning]:
        walked = _Search(())
        root = base or os.curdir
        files = [item.path for item in _walk(root, walked)] if os.path.isdir(root) else []
        failed = {problem.where or "": problem for problem in walked.problems}
        for path in (*files, *failed):
            inside = path[len(os.path.join(root, "")) :]
            names = re.split(_SEPARATOR, inside)
            fits = any(_fits(names[: i + 1], parts) for i in range(len(names)))
            if path in failed and (fits or os.path.isdir(path)):  # who knows what is in there
                search.problems.append(failed[path])
            elif fits:
                yield os.path.join(base, inside)


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether the names of folders and a file fit a pattern; as in a shell, none that is hidden."""
    if not parts:
        return not names
    if parts[0] == "**":
        visible = next((i for i, n in enumerate(names) if n.startswith(".")), len(names))
        return any(_fits(names[i:], parts[1:]) for i in range(visible + 1))
    if not names or (names[0].startswith(".") and not parts[0].startswith(".")):
        return False
    return fnmatch(names[0], parts[0]) and _fits(names[1:], parts[1:])


def _named(path: str, alone: bool, search: _Search) -> Iterator[Item]:
    if is_remote(path) and not os.path.lexists(path):
        yield from _elsewhere(path, alone, search)
        return
    try:
        mode = os.stat(path).st_mode
    except OSError as e:
        search.problems.append(_no_access(e, path))
        return
    except ValueError:  # a NUL in the name, or one that the locale has no bytes for
        search.problems.append(Unreadable("no such file or folder", where=path))
        return
    if search.leaves_out(path):
        return
    if stat.S_ISDIR(mode):
        yield from _walk(path, search)
    elif stat.S_ISREG(mode):
        yield Item(path, alone=alone)
    else:
        search.problems.append(Unreadable("not a regular file", where=path))


def _elsewhere(url: str, alone: bool, search: _Search) -> Iterator[Item]:
    """Yield the file behind a URL, or those in a repository or bucket."""
    from sdtool.batch.remote.listing import is_several, listed_in, root_of
    from sdtool.batch.remote.location import parse

    try:
        location = replace(parse(url), download=search.download)
        if search.leaves_out(location.shown):
            return
        if not is_several(location):
            yield Item(location.shown, alone=alone, remote=location)
            return
        root = root_of(location)
        for found in list(listed_in(location)):  # all of it, or nothing: a list may break off
            if not search.leaves_out(found.path.removeprefix(root.path)):
                yield Item(found.shown, root.shown, remote=found)
    except InputError as e:
        search.problems.append(e)


def _only_hidden(item: Item) -> Unreadable:
    what = "differs from another input only in what is not shown (what follows the ?)"
    return Unreadable(what, where=item.path, hint="give each of them in a run of its own")


def _walk(root: str, search: _Search) -> Iterator[Item]:
    def failed(e: OSError) -> None:
        search.problems.append(_no_access(e, os.fspath(e.filename)))

    def left_out(path: str) -> bool:
        return search.leaves_out(path[len(os.path.join(root, "")) :])

    if not search.enters(root):
        return
    for folder, subfolders, names in os.walk(root, onerror=failed, followlinks=True):
        subfolders[:] = [
            name
            for name in sorted(subfolders)
            if not left_out(path := os.path.join(folder, name)) and search.enters(path)
        ]
        for name in sorted(names):
            path = os.path.join(folder, name)
            try:
                regular = stat.S_ISREG(os.stat(path).st_mode)
            except OSError as e:
                is_model = os.path.splitext(name)[1].lower() in MODEL_SUFFIXES
                if is_model and not left_out(path):
                    search.problems.append(_no_access(e, path))  # a link that leads nowhere
                continue
            if regular and not left_out(path):
                yield Item(path, root=root)


def _is_partial(name: str) -> bool:
    if not name.startswith("."):
        return False
    from sdtool.convert import is_partial

    return is_partial(name)


def _no_access(e: OSError, path: str) -> Unreadable:
    if isinstance(e, FileNotFoundError):
        return Unreadable("no such file or folder", where=path)
    return Unreadable(f"cannot be read ({os_reason(e)})", where=path)
