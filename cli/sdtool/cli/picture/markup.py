"""Texts of files as HTML: whatever they hold, they are shown and never obeyed."""

from __future__ import annotations

from html import escape as entities

from sdtool.checkpoint import escape


def text(value: str) -> str:
    r"""Return a text for HTML, between tags and in quoted attributes; `\u202e` for what does not
    print or turns the direction of what follows.
    """
    return entities(escape(value))


def name(value: str) -> str:
    """Return a text whose letters may run from right to left, kept apart from those around it."""
    return f"<bdi>{text(value)}</bdi>"


def verdict(value: str) -> str:
    """Return a verdict, coloured by what it means and readable without."""
    return f'<span class="verdict {text(value)}">{text(value)}</span>'
