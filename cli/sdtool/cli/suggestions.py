"""Suggestions for a verb or an option that does not exist."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

import click

_VERBS: Mapping[str, str] = {
    "cast": "convert",
    "check": "scan",
    "compare": "info --compare",
    "diff": "info --compare",
    "hash": "info --hash",
    "help": "--help",
    "inspect": "info",
    "list": "info",
    "show": "info",
    "shrink": "prune",
    "strip": "prune",
    "version": "--version",
}
_OPTIONS: Mapping[str, str] = {
    "--bf16": "--dtype bf16",
    "--bfloat16": "--dtype bf16",
    "--check": "--verify",
    "--ema": "--ema-only",
    "--float16": "--dtype fp16",
    "--float32": "--dtype fp32",
    "--fp16": "--dtype fp16",
    "--fp32": "--dtype fp32",
    "--fp8": "--dtype fp8_e4m3fn",
    "--half": "--dtype fp16",
    "--no-ema": "--raw-only",
    "--overwrite": "--force",
    "--precision": "--dtype",
    "--type": "--dtype",
}
"""Options of other tools, and their equivalents here."""

_NEAR = 0.65
"""The least similarity, from 0 to 1, of a mistyped word and the suggested one."""

PRECISIONS: Mapping[str, str] = {
    "bfloat16": "bf16",
    "e4m3": "fp8_e4m3fn",
    "e5m2": "fp8_e5m2",
    "float": "fp32",
    "float16": "fp16",
    "float32": "fp32",
    "fp8": "fp8_e4m3fn",
    "fp8_e4m3": "fp8_e4m3fn",
    "full": "fp32",
    "half": "fp16",
}
"""Names of precisions in other tools, and here."""


def verb_for(word: str, verbs: Iterable[str]) -> str | None:
    """Return what to type after `sdtool` instead of `word`."""
    near = get_close_matches(word.lower(), [*verbs, *_VERBS], 1, _NEAR)
    if near:
        return _VERBS.get(near[0], near[0])
    return f"scan {word}" if os.path.lexists(word) else None


def option_for(word: str, command: click.Command, others: Iterable[click.Command]) -> str | None:
    """Return what to type instead of an option that `command` does not have.

    If one of the `others` has such an option, the result includes its verb.
    """
    meant = _OPTIONS.get(word.lower())
    if meant is None:
        names = {name.lstrip("-"): name for name in _long_options(command)}
        near = get_close_matches(word.lstrip("-").lower(), list(names), 1, _NEAR)
        return names[near[0]] if near else None
    name = meant.partition(" ")[0]
    if name in _long_options(command):
        return meant
    verb = next((other.name for other in others if name in _long_options(other)), None)
    return verb and f"sdtool {verb} {meant}"


def _long_options(command: click.Command) -> list[str]:
    return [name for option in command.params for name in option.opts if name.startswith("--")]
