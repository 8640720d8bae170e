"""From what was typed to files: files, folders, patterns, or `-` for a list on standard input."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from sdtool.checkpoint.errors import InputError, Unreadable, UsageError

MODEL_SUFFIXES = frozenset(
    {
        ".bin", ".ckpt", ".gguf", ".h5", ".joblib", ".keras", ".npy", ".npz", ".onnx", ".pickle",
        ".pkl", ".pt", ".pt2", ".pth", ".safetensors", ".sft", ".th",
    }
)  # fmt: skip
"""A file that ends so and is no model is trouble; any other is passed over in silence."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file to work on. `root` is the folder that was named and that it was found in."""

    path: str
    root: str | None = None
    alone: bool = False
    """Whether it was named by itself, and not through a folder, a pattern or a list."""

    @property
    def looks_like_model(self) -> bool:
        """Whether a person expects a model here: it was named itself, or its suffix says so."""
        return self.alone or os.path.splitext(self.path)[1].lower() in MODEL_SUFFIXES


def expand(
    arguments: Sequence[str],
    stdin: BinaryIO | None = None,
    *,
    passed: Callable[[str], object] | None = None,
) -> tuple[list[Item], list[InputError]]:
    """Return the files that the arguments name, each once, and what could not be found or read.

    In folders the partial outputs of other runs are passed over; `passed` is told of each.

    Raises:
        UsageError: `-` is given and there is no standard input.
    """
    items: dict[str, Item] = {}
    problems: list[InputError] = []
    alone = len(arguments) == 1 and arguments[0] != "-"
    for argument in arguments:
        if argument == "-":
            if stdin is None:
                raise UsageError("- wants a list of files on standard input")
            names = listed(stdin.read())
            found = [item for name in names for item in _named(name, False, problems)]
        else:
            found = list(_argument(argument, alone, problems))
        for item in found:
            if item.root is not None and _is_partial(os.path.basename(item.path)):
                if passed is not None:
                    passed(item.path)
                continue
            items.setdefault(os.path.normcase(os.path.abspath(item.path)), item)
    return list(items.values()), problems


def listed(data: bytes) -> list[str]:
    """Return the names in a list: one a line, or NUL between them (`find -print0`).

    UTF-8 with or without a byte order mark, UTF-16 as Windows shells write it, CR LF; names that
    are not UTF-8 keep their bytes, as in `os.fsdecode`.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", "surrogatepass")
    elif len(data) > 1 and not data[1::2].strip(b"\0"):
        text = data.decode("utf-16-le", "surrogatepass")
    else:
        text = os.fsdecode(data.removeprefix(b"\xef\xbb\xbf"))
    if "\0" in text:
        return [name for name in text.split("\0") if name]
    lines = text.replace("\r\n", "\n").split("\n")
    return [line for line in lines if line.strip()]


def _argument(argument: str, alone: bool, problems: list[InputError]) -> Iterator[Item]:
    # A shell on Windows leaves patterns to the program; a file may be called so all the same.
    if os.path.lexists(argument) or not glob.has_magic(argument):
        yield from _named(argument, alone, problems)
        return
    matches = sorted(glob.iglob(argument, recursive=True))
    if not matches:
        problems.append(Unreadable("no file matches", where=argument))
    for match in matches:
        yield from _named(match, False, problems)


def _named(path: str, alone: bool, problems: list[InputError]) -> Iterator[Item]:
    try:
        mode = os.stat(path).st_mode
    except OSError as e:
        problems.append(_no_access(e, path))
        return
    except ValueError:  # a NUL in the name
        problems.append(Unreadable("no such file or folder", where=path))
        return
    if stat.S_ISDIR(mode):
        yield from _walk(path, problems)
    elif stat.S_ISREG(mode):
        yield Item(path, alone=alone)
    else:
        problems.append(Unreadable("not a regular file", where=path))


def _walk(root: str, problems: list[InputError]) -> Iterator[Item]:
    def failed(e: OSError) -> None:
        problems.append(_no_access(e, os.fspath(e.filename)))

    for folder, subfolders, names in os.walk(root, onerror=failed):
        subfolders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            try:
                regular = stat.S_ISREG(os.stat(path).st_mode)
            except OSError as e:
                if os.path.splitext(name)[1].lower() in MODEL_SUFFIXES:
                    problems.append(_no_access(e, path))  # such as a link that leads nowhere
                continue
            if regular:
                yield Item(path, root=root)


def _is_partial(name: str) -> bool:
    if not name.startswith("."):
        return False
    from sdtool.convert.names import is_partial  # a scan starts without the rooms that write

    return is_partial(name)


def _no_access(e: OSError, path: str) -> Unreadable:
    if isinstance(e, FileNotFoundError):
        return Unreadable("no such file or folder", where=path)
    return Unreadable(f"cannot be read ({(e.strerror or 'unknown').lower()})", where=path)
