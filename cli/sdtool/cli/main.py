"""The entry point of the command: finds the verb, runs it, turns what happens into an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from sdtool.cli.console import Console, ReaderGone
from sdtool.cli.exit_codes import FOUND, INTERRUPTED, READER_GONE, TROUBLE
from sdtool.cli.stopping import Stopped, stoppable
from sdtool.cli.verb import help_option

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

VERBS = {
    "scan": "Report what a file would do if a program loaded it.",
    "convert": "Write a checkpoint's weights as safetensors.",
    "prune": "Keep what inference needs: raw or EMA weights, any precision.",
    "tidy": "Make a folder of models safe and small; --undo puts everything back.",
    "release": "Write all files of a model's release: variants, hashes, model card.",
    "info": "Show what a file is and what it contains.",
    "verify": "Check that a file is whole, or that it contains another file's values.",
    "watch": "Scan files as they arrive in a folder.",
    "ui": "Show a page on which folders are looked at, scanned, converted and pruned.",
    "journal": "Show or clean up a journal that --journal has written.",
    "demo": "Demonstrate the main workflow on a small built-in checkpoint.",
    "completion": "Print the script that lets a shell complete verbs, options and files.",
}
"""Each verb with its line in `sdtool --help`; `sdtool.cli.verbs.NAME` holds its `command`."""


class _Verbs(click.Group):
    """Imports a verb's module only when that verb is asked for."""

    def get_help_option(self, ctx: click.Context) -> click.Option:
        return _HELP

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in VERBS and not name.startswith("-") and not ctx.resilient_parsing:
            from sdtool.cli.suggestions import verb_for

            ctx.fail(f"No such command {name!r}{_meant(verb_for(name, VERBS))}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = importlib.import_module(f"sdtool.cli.verbs.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Complete a verb without importing any."""
        from click.shell_completion import CompletionItem

        return [
            *(
                CompletionItem(name, help=line)
                for name, line in VERBS.items()
                if name.startswith(incomplete)
            ),
            *click.Command.shell_complete(self, ctx, incomplete),
        ]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


_HELP = help_option()


def _show_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        from sdtool.batch import sdtool_version

        context.ensure_object(Console).out(f"sdtool {sdtool_version()}")
        context.exit()


@click.group(
    cls=_Verbs,
    subcommand_metavar="VERB [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog="""\b
Examples:
  sdtool scan ~/models
  sdtool prune --ema-only last.ckpt
""",
)
@click.option(
    "-V", "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version,
    help="Show the version and exit.",
)  # fmt: skip
def sdtool() -> None:
    """Scan, convert and prune Stable Diffusion checkpoints without ever running them.

    Exit codes: 0 done, nothing found; 1 findings, a refused file or a failed
    verification; 2 usage error, or something could not be read or decided.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's arguments); return its exit code."""
    # numpy's BLAS would begin a thread a core on import, of which none is used: where memory is
    # short it ends the process then, or sends it SIGINT.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    console = Console()
    try:
        with stoppable():
            return _run(console, argv)
    except Stopped as e:
        console.interrupted()
        return e.code
    except ReaderGone:
        return READER_GONE
    except (KeyboardInterrupt, click.Abort):
        console.interrupted()
        return INTERRUPTED
    except click.ClickException as e:
        _explain(console, e)
        return TROUBLE
    except Exception as e:
        from sdtool.checkpoint import UnsafeError

        console.failed(e)
        return FOUND if isinstance(e, UnsafeError) else TROUBLE


def _run(console: Console, argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    code = sdtool.main(arguments, prog_name="sdtool", standalone_mode=False, obj=console)
    assert isinstance(code, int)
    return code


def _meant(near: str | None) -> str:
    return f". Did you mean {near}?" if near else ""


def _without_option(e: click.NoSuchOption) -> str:
    """Say that there is no such option, and at most one that may be meant."""
    from sdtool.cli.suggestions import option_for

    near = None
    if e.ctx is not None:
        verbs = (sdtool.get_command(e.ctx, name) for name in VERBS)
        near = option_for(e.option_name, e.ctx.command, (verb for verb in verbs if verb))
    return f"no such option {e.option_name!r}{_meant(near)}"


def _explain(console: Console, e: click.ClickException) -> None:
    message = _without_option(e) if isinstance(e, click.NoSuchOption) else e.format_message()
    message = message.rstrip(".")
    hint = None
    if isinstance(e, click.UsageError):
        usage = e.ctx.command_path if e.ctx is not None else "sdtool"
        hint = f"see {usage} --help"
    console.error(message[:1].lower() + message[1:], hint=hint)
