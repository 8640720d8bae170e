"""fickling's reading of a flagged pickle, as Python source: it explains, and decides nothing.

fickling parses and decompiles; the pickle is never loaded. It runs in a child process, with a
bound on size and time, because it is slow on large pickles and stops at opcodes it does not know.

    python -m sdtool.scan.second_opinion < pickle
"""

from __future__ import annotations

import subprocess
import sys

MAX_NBYTES = 1 << 20
MAX_LINES = 400
TIMEOUT_SECONDS = 20.0


def decompile(pickle: bytes, *, timeout: float = TIMEOUT_SECONDS) -> tuple[str | None, str | None]:
    """The pickle as Python source, or None and why there is none.

    Never raises for what the pickle holds: a crash of fickling costs the explanation only.
    """
    if len(pickle) > MAX_NBYTES:
        return None, f"longer than {MAX_NBYTES:,} bytes"
    try:
        child = subprocess.run(
            [sys.executable, "-m", "sdtool.scan.second_opinion"],
            input=pickle,
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


def main() -> int:
    """Decompile the pickle on standard input to standard output; 1 when that fails."""
    import ast

    from fickling.fickle import Pickled  # costs 0.07 s, so only in this process

    try:
        tree = Pickled.load(sys.stdin.buffer.read(MAX_NBYTES)).ast
        sys.stdout.buffer.write(ast.unparse(tree).encode("utf-8", "backslashreplace"))
    except Exception as e:  # whatever fickling runs into, the parent reports one line of it
        sys.stderr.write(f"{type(e).__name__}: {e}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
