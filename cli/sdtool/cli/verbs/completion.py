"""`sdtool completion`."""

from __future__ import annotations

import click

from sdtool.checkpoint import UsageError
from sdtool.cli.console import Console
from sdtool.cli.exit_codes import DONE
from sdtool.cli.verb import verb

SHELLS = ("bash", "zsh", "fish", "powershell")


@verb(
    "completion",
    examples=[
        "sdtool completion bash >> ~/.bashrc",
        "sdtool completion fish > ~/.config/fish/completions/sdtool.fish",
    ],
)
@click.argument("shell", type=click.Choice(SHELLS))
def command(console: Console, shell: str) -> int:
    """Print the script that lets a shell complete verbs, options and files.

    Have the shell run it at its start: see docs/cli.md.
    """
    from click.shell_completion import get_completion_class

    from sdtool.cli.main import sdtool

    found = get_completion_class(shell)
    if found is None:
        raise UsageError(
            f"the installed version of click has no completion for {shell}",
            hint="python -m pip install --upgrade click",
        )
    complete = found(sdtool, {}, "sdtool", "_SDTOOL_COMPLETE")
    # not `source()`: for bash it runs the bash that it finds, to see its version
    console.data((complete.source_template % complete.source_vars()).strip("\n"))
    return DONE
