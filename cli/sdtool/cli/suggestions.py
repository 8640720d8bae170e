"""What a person may have meant by a verb or an option that there is not."""

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
"""Words of other tools, and ours."""

_NEAR = 0.65
"""How alike two words are, of 1, of which one may be the other mistyped."""

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
"""What other tools call a precision, and what it is called here."""


def verb_for(word: str, verbs: Iterable[str]) -> str | None:
    """Return what is to be typed behind `sdtool` in place of `word`."""
    near = get_close_matches(word.lower(), [*verbs, *_VERBS], 1, _NEAR)
    if near:
        return _VERBS.get(near[0], near[0])
    return f"scan {word}" if os.path.lexists(word) else None


def option_for(word: str, command: click.Command, others: Iterable[click.Command]) -> str | None:
    """Return what is to be typed in place of an option that `command` has not.

    Of a word that means something to one of the `others`, it is that with its verb.
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
