"""fickling's reading of a flagged pickle, as Python source: it explains, and decides nothing.

fickling parses and decompiles; the pickle is never loaded. It runs in a child process, with a
bound on size and time, because it is slow on large pickles and stops at opcodes it does not know.
Runs of lines that only rebuild tensors are counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ast

MAX_NBYTES = 1 << 20
MAX_LINES = 400
TIMEOUT_SECONDS = 20.0


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
            [sys.executable, "-m", "sdtool.scan.second_opinion"],
            input=json.dumps(sorted(inert)).encode() + b"\n" + pickle,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"fickling took longer than {timeout:g} seconds"
    except OSError as e:
        return None, f"fickling could not be started ({type(e).__name__})"
    if child.returncode != 0:
        last = child.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        return None, f"fickling cannot follow it: {last}" if last else "fickling cannot follow it"
    return child.stdout.decode("utf-8", "replace"), None


def counted(tensors: int, steps: int) -> str:
    """The line that stands for steps which name only what is inert."""
    if tensors:
        return f"(... {tensors:,} {'tensor' if tensors == 1 else 'tensors'} rebuilt ...)"
    return f"(... {steps:,} harmless {'step' if steps == 1 else 'steps'} ...)"


def main() -> int:
    """Decompile the names' JSON and the pickle on standard input; 1 when that fails."""
    from fickling.fickle import Pickled  # costs 0.07 s, so only in this process

    try:
        inert = frozenset[str](json.loads(sys.stdin.buffer.readline()))
        tree = Pickled.load(sys.stdin.buffer.read(MAX_NBYTES)).ast
        text = "\n".join(_lines(tree, inert))
        sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    except Exception as e:  # whatever fickling runs into, the parent reports one line of it
        sys.stderr.write(f"{type(e).__name__}: {e}\n")
        return 1
    return 0


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
