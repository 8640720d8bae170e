"""`sdtool tidy`."""

from __future__ import annotations

import os
from typing import Any

import click

from sdtool.batch import (
    PROGRAMS,
    Tidied,
    TidyOptions,
    TidyPlan,
    Undone,
    carry_out,
    forget_tidy,
    held_by_tidy,
    plan_tidy,
    undo_tidy,
)
from sdtool.checkpoint import UsageError, counted, size
from sdtool.cli.console import Console
from sdtool.cli.exit_codes import DONE, TROUBLE
from sdtool.cli.options import dtype_option
from sdtool.cli.results import Results
from sdtool.cli.settings import settings_options
from sdtool.cli.stopping import code_of as stopped_code
from sdtool.cli.tidying import (
    as_json,
    code_of_all,
    did,
    done_lines,
    parts_of,
    plan_lines,
    undone_line,
)
from sdtool.cli.verb import format_options, verb
from sdtool.scan import Settings


@verb("tidy", examples=["sdtool tidy ~/stable-diffusion-webui", "sdtool tidy --undo ~/models"])
@click.argument("folder", metavar="[FOLDER]", default=os.curdir)
@click.option(
    "--for", "program", type=click.Choice(list(PROGRAMS)),
    help="The program that reads FOLDER (default: detected).",
)  # fmt: skip
@click.option("--quarantine", metavar="DIR", help="Where unsafe files go.")
@click.option("--strict", is_flag=True, help="Suspicious files go to quarantine, too.")
@click.option("--raw-only", is_flag=True, help="Drop the EMA weights of models.")
@click.option("--ema-only", is_flag=True, help="Keep the EMA weights in place of the raw ones.")
@dtype_option("--dtype", "Precision of the floating weights of models.", default="keep")
@click.option("--dry-run", is_flag=True, help="Show the plan only.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@click.option("--undo", is_flag=True, help="Put back everything that was moved.")
@click.option("--forget", is_flag=True, help="Delete the replaced originals.")
@settings_options
@format_options()
def command(
    console: Console,
    folder: str,
    settings: Settings,
    program: str | None,
    quarantine: str | None,
    form: str,
    dry_run: bool,
    yes: bool,
    undo: bool,
    forget: bool,
    **options: Any,
) -> int:
    """Make a folder of models safe and small; --undo puts everything back.

    Shows a plan and asks. Unsafe files go to quarantine; pickles become
    safetensors under the same stem, without what only training needs; all
    else stays, with the reason. Outputs are compared with their inputs.
    Originals are kept in FOLDER/.sdtool-tidy until --forget. No code is ever
    run.
    """
    if undo and forget:
        raise UsageError("--undo and --forget cannot be used together")
    if undo:
        return _undo(console, folder, quarantine, form)
    if forget:
        return _forget(console, folder, form, yes=yes)
    wanted = _options(**options)
    with console.progress(0, "looking") as progress:
        plan = plan_tidy(
            folder,
            program=program,
            quarantine=quarantine,
            options=wanted,
            allow=settings.allow,
            exclude=settings.exclude,
            progress=progress,
            passed=console.leftover,
        )
    if form == "text" and not (console.quiet and code_of_all(plan) == DONE):
        for line in plan_lines(plan, verbose=console.verbose):
            console.line(line)
    agreed = bool(plan.work) and not dry_run and (yes or _asked(console, plan))
    return _carry_out(console, plan, form) if agreed else _leave(console, plan, form)


def _options(*, raw_only: bool, ema_only: bool, dtype: str, strict: bool) -> TidyOptions:
    if raw_only and ema_only:
        raise UsageError("--raw-only and --ema-only cannot be used together")
    if raw_only:
        return TidyOptions("raw-only", dtype, strict)
    return TidyOptions("ema-only" if ema_only else None, dtype, strict)


def _asked(console: Console, plan: TidyPlan) -> bool:
    answer = console.asks(f"change {counted(len(plan.work), 'file')}?")
    if answer is None:
        console.note("nothing was changed: add --yes to do it")
    return bool(answer)


def _leave(console: Console, plan: TidyPlan, form: str) -> int:
    """Report a plan that is not carried out."""
    results = Results("tidy", form, console.data)
    for entry in plan.entries:
        results.add(as_json(plan, entry, "kept" if did(entry) == "keep" else "planned", None, 0.0))
    code = code_of_all(plan)
    results.finish(code, parts_of(plan))
    return code


def _carry_out(console: Console, plan: TidyPlan, form: str) -> int:
    results = Results("tidy", form, console.data)
    done: list[Tidied] = []
    for entry in plan.entries:
        if did(entry) == "keep":
            results.add(as_json(plan, entry, "kept", None, 0.0))

    def report(one: Tidied) -> None:
        done.append(one)
        status = "done" if one.error is None else "failed"
        results.add(as_json(plan, one.entry, status, one.error, one.seconds))
        if one.error is not None:
            console.failed(one.error)
        elif form == "text" and not console.quiet:
            console.detail(f"{one.entry.facts.path}: done")

    total = sum(entry.facts.nbytes for entry in plan.work)
    try:
        with console.progress(total, "tidying") as progress:
            carry_out(plan, report=report, progress=progress)
    except BaseException as e:
        if not isinstance(e, Exception):
            results.finish(stopped_code(e), parts_of(plan), interrupted=True)
        raise
    if form == "text" and not console.quiet:
        for line in done_lines(plan, done):
            console.line(line)
    code = code_of_all(plan, done)
    results.finish(code, parts_of(plan))
    return code


def _undo(console: Console, folder: str, quarantine: str | None, form: str) -> int:
    results = Results("tidy-undo", form, console.data)

    def report(one: Undone) -> None:
        line = undone_line(one)
        if form == "text" and line is not None and not console.quiet:
            console.line(line)
        if one.error is not None:
            console.failed(one.error)
        error = one.error
        results.add(
            {
                "paths": [os.path.join(folder, path) for path in one.paths],
                "exit_code": DONE if error is None else TROUBLE,
                "error": None if error is None else str(error),
                "hint": None if error is None else error.hint,
            }
        )

    undone = undo_tidy(folder, quarantine=quarantine, report=report)
    if not undone:
        console.note("there is nothing to undo")
    failed = [one for one in undone if one.error is not None]
    code = TROUBLE if failed else DONE
    results.finish(code, {"summary": {"put_back": sum(len(one.paths) for one in undone)}})
    return code


def _forget(console: Console, folder: str, form: str, *, yes: bool) -> int:
    held = held_by_tidy(folder)
    results = Results("tidy-forget", form, console.data)
    what = f"{counted(held.originals, 'original')} ({size(held.nbytes)})"
    deleted = 0
    if not held.originals:
        console.note("there is nothing to forget")
    elif yes or console.asks(f"delete {what} for good?"):
        deleted = forget_tidy(folder)
        if form == "text" and not console.quiet:
            console.line(f"{what} deleted")
    else:
        console.note(f"{what} kept: add --yes to delete {_them(held.originals)}")
    if held.quarantined:
        count = len(held.quarantined)
        console.note(f"{counted(count, 'file')} in quarantine: delete {_them(count)} by hand")
    parts = {"originals": held.originals, "size_bytes": held.nbytes, "deleted_bytes": deleted}
    results.finish(DONE, {"summary": parts})
    return DONE


def _them(count: int) -> str:
    return "it" if count == 1 else "them"
