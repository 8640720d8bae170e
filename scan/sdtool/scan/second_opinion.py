"""fickling's reading of a flagged pickle, as Python source: it explains, and decides nothing.

fickling parses and decompiles; the pickle is never loaded. It runs in a child process, with a
bound on size and time, because it is slow on large pickles and stops at opcodes it does not know.
Runs of lines that only rebuild tensors are counted.
"""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ast

MAX_NBYTES = 1 << 20
MAX_LINES = 400
TIMEOUT_SECONDS = 4.0
"""Of the processor; by the clock where the system cannot bound that (Windows)."""
_BUSY = 1 if sys.platform == "win32" else 15
"""How many times as long it may take by the clock: other programs may keep the machine busy."""
_MEMORY_NBYTES = 160 << 20
"""Beyond what it has when it has begun: lists that are shared unfold without end."""


def decompile(
    pickle: bytes, *, inert: AbstractSet[str] = frozenset(), timeout: float = TIMEOUT_SECONDS
) -> tuple[str | None, str | None]:
    """The pickle as Python source, or None and why there is none.

    Lines that name nothing but `inert` (`module.attr`, as the pickle writes it) are counted only.

    Never raises for what the pickle holds: a crash of fickling costs the explanation only.
    """
    if len(pickle) > MAX_NBYTES:
        return None, f"longer than {MAX_NBYTES:,} bytes"
    try:
        child = subprocess.run(
            [sys.executable, "-m", "sdtool.scan.second_opinion", str(math.ceil(timeout))],
            input=json.dumps(sorted(inert)).encode() + b"\n" + pickle,
            capture_output=True,
            timeout=_BUSY * timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, _too_long(timeout)
    except OSError as e:
        return None, f"fickling could not be started ({type(e).__name__})"
    if child.returncode < 0 and not child.stderr:  # SIGXCPU, or SIGKILL where that is not heard
        return None, _too_long(timeout)
    if child.returncode != 0:
        last = child.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        return None, f"fickling cannot follow it: {last}" if last else "fickling cannot follow it"
    return child.stdout.decode("utf-8", "replace"), None


def _too_long(seconds: float) -> str:
    return f"fickling took longer than {seconds:g} seconds"


def counted(tensors: int, steps: int) -> str:
    """The line that stands for steps which name only what is inert."""
    if tensors:
        return f"(... {tensors:,} {'tensor' if tensors == 1 else 'tensors'} rebuilt ...)"
    return f"(... {steps:,} harmless {'step' if steps == 1 else 'steps'} ...)"


def main() -> int:
    """Decompile the names' JSON and the pickle on standard input; 1 when that fails."""
    from fickling.fickle import Pickled  # costs 0.07 s, so only in this process

    _bound(int(sys.argv[1]))
    try:
        inert = frozenset[str](json.loads(sys.stdin.buffer.readline()))
        tree = Pickled.load(sys.stdin.buffer.read(MAX_NBYTES)).ast
        text = "\n".join(_lines(tree, inert))
        sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    except Exception as e:  # whatever fickling runs into, the parent reports one line of it
        sys.stderr.write(f"{type(e).__name__}: {e}\n")
        return 1
    return 0


def _bound(seconds: int) -> None:
    """Bound the time and the memory of this process, as far as the system lets it."""
    try:
        import resource
    except ImportError:  # Windows: the clock of the parent has to do
        return
    with contextlib.suppress(OSError, ValueError):  # there is a lower bound already
        resource.setrlimit(resource.RLIMIT_CPU, (max(1, seconds), max(1, seconds)))
    with contextlib.suppress(OSError, ValueError):
        with open("/proc/self/statm", encoding="ascii") as file:  # Linux
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        most = mapped + _MEMORY_NBYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _lines(tree: ast.Module, inert: AbstractSet[str]) -> Iterator[str]:
    import ast

    bound = {"UNPICKLER"}
    """The variables that hold only what is inert."""
    tensors = steps = 0
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom):
            targets = {alias.asname or alias.name for alias in statement.names}
            is_inert = {f"{statement.module}.{alias.name}" for alias in statement.names} <= inert
            used = set[str]()
        else:
            targets, used = _targets_and_used(statement)
            is_inert = isinstance(statement, (ast.Assign, ast.Expr)) and used <= bound
        if is_inert and "result" not in targets:
            bound |= targets
            steps += 1
            tensors += any(name.startswith("_rebuild_tensor") for name in used)
            continue
        bound -= targets
        if steps:
            yield counted(tensors, steps)
            tensors = steps = 0
        yield ast.unparse(statement)
    if steps:
        yield counted(tensors, steps)


def _targets_and_used(statement: ast.stmt) -> tuple[set[str], set[str]]:
    import ast

    targets = set[str]()
    inside: ast.AST = statement
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        targets.add(statement.targets[0].id)
        inside = statement.value
    return targets, {node.id for node in ast.walk(inside) if isinstance(node, ast.Name)}


if __name__ == "__main__":
    sys.exit(main())
