"""Says what a load does beyond inert values: a hook on the audit events of the interpreter.

What is not on the short list below trips: imports, programs, sockets, files opened to be written,
code made from text. A child that trips is ended there, before the thing is done.

Source: docs.python.org, "Audit events table".
"""

from __future__ import annotations

import _compat_pickle
import importlib.machinery
import os
import sys
import tempfile
from collections.abc import Callable, Collection
from typing import Any

from sdtool.checkpoint.wording import escape
from sdtool.scan.findings import LONGEST

_HARMLESS = frozenset(
    {"array.__new__", "builtins.id", "sys._getframe", "gc.get_referrers", "mmap.__new__",
     "object.__getattr__", "sys.unraisablehook", "sys.excepthook", "cpython._PySys_ClearAuditHooks"}
)  # fmt: skip
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_IN_FOLDER = frozenset(
    {"os.mkdir", "os.chown", "os.chmod", "os.utime", "os.remove", "os.rmdir", "os.scandir",
     "os.listdir", "shutil.rmtree", "tempfile.mkdtemp", "tempfile.mkstemp"}
)  # fmt: skip
"""What torch does in a temporary folder of its own to read a tar."""
_PACKAGES = frozenset(
    {"encodings", "torch", "numpy", "joblib", "pandas", "dill", "cloudpickle", "omegaconf",
     "pytorch_lightning", "lightning", "safetensors", "lz4", "lzma", "sympy", "mpmath"}
)  # fmt: skip
"""What a loader may import late."""


class Tripwire:
    """The hook. `names` collects what the unpicklers looked up since `arm` was called."""

    def __init__(self, report: Callable[[str], None]) -> None:
        """`report` is told what tripped and does not return."""
        self._report = report
        self._armed = False
        self._own: tuple[str, ...] = ()
        self._libraries = tuple(
            {
                os.path.dirname(os.__file__),
                os.path.dirname(os.path.dirname(os.path.dirname(__file__))),  # lines for warnings
                *(path for path in sys.path if path.endswith("-packages")),
            }
        )
        self.names: set[tuple[str, str]] = set()
        sys.addaudithook(self._hook)

    def arm(self, path: str) -> None:
        """Watch from here on; `path` is the file that is loaded."""
        self._own = (path, *self._temporary())
        self.names.clear()
        self._armed = True

    def disarm(self) -> None:
        """Watch no longer."""
        self._armed = False

    def _temporary(self) -> tuple[str, ...]:
        return (f"{tempfile.gettempdir()}{os.sep}",)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._armed or event in _HARMLESS:
            return
        if event == "pickle.find_class":
            self.names.add((str(args[0]), str(args[1])))
            return
        self._armed = False  # what the checks do themselves is not watched
        if not self._is_expected(event, args):
            self._report(f"{event} {str(args)[:200]}")
        self._armed = True

    def _is_expected(self, event: str, args: tuple[Any, ...]) -> bool:
        if event == "open":
            path, mode, flags = (*args, None, None)[:3]
            writes = any(c in "wax+" for c in mode or "") or bool((flags or 0) & _WRITES)
            return self._is_own(path) or (not writes and self._is_library(path))
        if event == "import":
            return str(args[0]).partition(".")[0] in _PACKAGES or not exists(str(args[0]))
        if event == "compile":
            return self._is_library(args[1]) or args[1] == "<unknown>"  # ast.literal_eval
        if event == "exec":
            code = args[0]
            return code.co_name == "<module>" and self._is_library(code.co_filename)
        if event == "marshal.loads":
            return True  # of a module that was imported; what is run is seen by `exec`
        if event in _IN_FOLDER:
            # Where rmtree works by descriptors the names come without their folder.
            return self._is_own(args[0]) or isinstance(args[0], int) or args[-1] not in (-1, None)
        return False

    def _is_own(self, path: object) -> bool:
        text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
        return text.startswith(self._own) and ".." not in text

    def _is_library(self, path: object) -> bool:
        text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
        return text.startswith(self._libraries) and ".." not in text


def exists(module: str) -> bool:
    """Whether there is a package of that name to import; an import ends at a NUL."""
    top = module.partition("\0")[0].partition(".")[0]
    if top in sys.modules or top in sys.builtin_module_names:
        return True
    try:
        return bool(top) and importlib.machinery.PathFinder.find_spec(top) is not None
    except (ValueError, ImportError, UnicodeError):
        return False


def unlisted(
    names: Collection[tuple[str, str]], listed: frozenset[str], *, strict: bool
) -> list[str]:
    """The names an unpickler looked up that a report does not have; all of them where `strict`,
    else those of packages that are installed.
    """
    return sorted(
        f"{module}.{name}"
        for module, name in names
        if not listed.intersection(escape(spelled, LONGEST) for spelled in _spellings(module, name))
        and (strict or exists(module))
    )


def _spellings(module: str, name: str) -> list[str]:
    """A name as it stands, and as unpicklers map it: Python 2's names, and one of torch's."""
    found = [(module, name)]
    if (module, name) in _compat_pickle.NAME_MAPPING:
        found.append(_compat_pickle.NAME_MAPPING[(module, name)])
    if module in _compat_pickle.IMPORT_MAPPING:
        found.append((_compat_pickle.IMPORT_MAPPING[module], name))
    if module == "torch._tensor":  # torch.load has mapped it by then
        found.append(("torch.tensor", name))
    return [f"{m}.{n}" for m, n in found]
