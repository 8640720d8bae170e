"""Names known to do harm when a pickle calls them, grouped by what they do.

This list decides between two words only. A name that is not on the allowlist is a
finding whether it is here or not (default deny); one that is here makes the file `unsafe`, and the
message can say what it does. So the list may be incomplete, and must not accuse: a name that
well-formed checkpoints hold (`functools.partial`, layer classes) does not belong here.
"""

from __future__ import annotations

from functools import cache

from sdtool.checkpoint.values import Global
from sdtool.scan.dangerous import code, programs, sessions, system
from sdtool.scan.dangerous.code import RESOLVES
from sdtool.scan.dangerous.danger import Danger

__all__ = ["Danger", "danger_of"]

# What the name of an attribute gives away, wherever it is reached from: `x.__globals__` leads
# from any function of Python to everything that its module imported.
_LEADS_ANYWHERE = frozenset(
    """
    __globals__ __builtins__ __subclasses__ __getattribute__ __getattr__ __setattr__ __delattr__
    __dict__ __bases__ __mro__ mro __import__ __loader__ __spec__ __code__ __closure__ __func__
    __self__ __wrapped__ __reduce__ __reduce_ex__ __class__ __init__ __call__ __get__ f_globals
    f_builtins f_locals gi_frame cr_frame tb_frame func_globals func_code im_func im_self
    load_module exec_module get_data
    """.split()
)

# Modules whose `*` stops here: harmless submodules or names of a module that is dangerous.
_HARMLESS = frozenset(
    {
        "os.path",
        "xml.sax.saxutils",
        "torch.jit._pickle",
        "torch.distributed.checkpoint.metadata",
        "torch.distributed.checkpoint.filesystem._StorageInfo",
        "torch._dynamo.decorators._DimRange",
        "joblib.numpy_pickle.NumpyArrayWrapper",
    }
)
"""Modules and names inside of dangerous ones that only hold data."""

# Modules that a pickle can pick up as an attribute of another one (`torch.serialization` + `os`).
_MODULES = frozenset(
    "os sys subprocess builtins importlib pickle ctypes socket shutil marshal pty runpy".split()
)


def danger_of(module: str, name: str) -> Danger | None:
    """What `module.name` is known to do, or None when nothing is known of it.

    A dotted name is judged by all that it passes through: `torch.serialization` + `os.system` does
    what `os.system` does, and so does `argparse` + `_os.system`.
    """
    module = module.partition("\0")[0].strip()
    if found := _lookup(module, name):
        return found
    parts = name.split(".")
    for i, part in enumerate(parts):
        if i and part in _LEADS_ANYWHERE:
            return RESOLVES
        rest = ".".join(parts[i + 1 :])
        if rest and (found := _lookup(part, rest) or _lookup(part.lstrip("_"), rest)):
            return found
        if i and (found := _lookup(module, ".".join(parts[:i]))):
            return found
    if len(parts) > 1:
        # `collections` + `abc.sys.exit`: a module on the way, or a builtin at the end.
        return _lookup("builtins", parts[-1])
    return RESOLVES if name in _LEADS_ANYWHERE or name.lstrip("_") in _MODULES else None


def _lookup(module: str, name: str) -> Danger | None:
    exact, whole = _parsed()
    if found := exact.get(Global(module, name)):
        return found
    if module in _HARMLESS or f"{module}.{name}" in _HARMLESS:
        return None
    package = module
    while package:
        if found := whole.get(package):
            return found
        package = package.rpartition(".")[0]
    # `os` + `path`, `concurrent` + `futures`: the name may itself be a whole module.
    return whole.get(f"{module}.{name}")


@cache
def _parsed() -> tuple[dict[Global, Danger], dict[str, Danger]]:
    exact: dict[Global, Danger] = {}
    whole: dict[str, Danger] = {}
    for danger, lines in (*programs.ROWS, *code.ROWS, *system.ROWS, *sessions.ROWS):
        for line in lines.strip().splitlines():
            module, *names = line.split()
            for name in names:
                if name == "*":
                    whole.setdefault(module, danger)
                else:
                    exact.setdefault(Global(module, name), danger)
    return exact, whole
