"""How a verb is declared: its help, its two examples and the options that all verbs share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from sdtool.cli.console import Console

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def help_option() -> click.Option:
    """The option `--help`, written as all results are: a full disk is reported in one line."""

    def show(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value and not context.resilient_parsing:
            context.ensure_object(Console).coloured(context.get_help())
            context.exit()

    return click.Option(
        ["-h", "--help"], is_flag=True, is_eager=True, expose_value=False, callback=show,
        help="Show this message and exit.",
    )  # fmt: skip


class _Command(click.Command):
    """A command whose options with an optional value never swallow the path behind them."""

    def get_help_option(self, ctx: click.Context) -> click.Option:
        return _HELP

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as e:
            raise click.Abort from e  # else click writes an empty line, even where it cannot

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        bare = {
            name: f"{name}={option.flag_value}"
            for option in self.params
            if isinstance(option, click.Option) and not option.is_flag
            if isinstance(option.flag_value, str)
            for name in option.opts
        }
        end = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [bare.get(a, a) for a in args[:end]] + args[end:])


_HELP = help_option()


def verb(name: str, *, examples: Sequence[str]) -> Callable[[Callable[..., int]], click.Command]:
    """Make a command of a function: `function(console, **options) -> exit code`.

    The docstring is the help; `examples` are shown below the options, one a line.
    """

    def declare(function: Callable[..., int]) -> click.Command:
        epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in examples)
        for flag in (_flag("--verbose", "-v", "Show more."), _flag("--quiet", "-q", "Show less.")):
            function = flag(function)
        command = click.command(
            name,
            cls=_Command,
            epilog=epilog,
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
        )(click.pass_obj(function))
        for parameter in command.params:
            if parameter.metavar in _NAMES_OF_FILES:
                parameter.type = _FileName(_NAMES_OF_FILES[parameter.metavar])
        return command

    return declare


_NAMES_OF_FILES = {
    "DIR": "dir", "FILE": "file", "FOLDER": "dir", "IMAGE": "file", "IN": "file", "JSON": "file",
    "PATH...": "file", "VAE": "file", "[FOLDER]": "dir", "[FOLDER]...": "dir",
}  # fmt: skip
"""What a shell completes where the help has this word."""


class _FileName(click.types.StringParamType):
    """A name that a shell completes: of a `dir`, or of any `file`. Nothing is checked."""

    def __init__(self, sort: str) -> None:
        self._sort = sort

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type=self._sort)]


def _flag(option: str, short: str, text: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    def note(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value:
            setattr(context.find_object(Console), option.lstrip("-"), True)

    return click.option(option, short, is_flag=True, expose_value=False, callback=note, help=text)


def format_options(*more: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Add `--format` and its short form `--json`; the function gets the format as `form`.

    Every verb knows `text`, `json` and `jsonl`; `more` are further ones.
    """
    forms = ["text", "json", "jsonl", *more]

    def declare(function: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(function)
        def run(console: Console, *, form: str | None, as_json: bool, **options: Any) -> int:
            if as_json and form not in (None, "json"):
                raise click.UsageError(f"--json and --format {form} cannot be used together")
            form = "json" if as_json else form or "text"
            console.machine = form != "text"
            return function(console, form=form, **options)

        for option in (
            click.option("--json", "as_json", is_flag=True, help="The same as --format json."),
            click.option(
                "--format", "form", type=click.Choice(forms), help="How to report (default text)."
            ),
        ):
            run = option(run)
        return run

    return declare
