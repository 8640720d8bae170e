"""The plan of a tidy as a part of the page. Names stay text, as everywhere on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sdtool.batch import Entry, TidyPlan
from sdtool.checkpoint import counted, size
from sdtool.cli.picture.markup import name, text
from sdtool.cli.tidying import IDLE, changes_suffixes, groups_of, reasons, summary_line

_SHOWN = 500
"""Rows of a group; what is more is counted."""


def view_of(plan: TidyPlan, number: int) -> str:
    """Return the HTML for a plan, which the button in it names by `number`."""
    return "".join(_parts(plan, number))


def _parts(plan: TidyPlan, number: int) -> Iterator[str]:
    yield f"<h3>{name(str(plan.places.folder))}: as {text(plan.program.label)} reads it</h3>"
    yield f"<p>{text(summary_line(plan))}</p>"
    for title, entries in groups_of(plan):
        yield f"<details{'' if title == IDLE else ' open'}>"
        yield f"<summary>{text(title)}: {counted(len(entries), 'file')}</summary>"
        yield from _table(title, entries)
        yield "</details>"
    if plan.duplicates:
        yield "<p>Of the same content, and kept:</p><ul>"
        for paths in plan.duplicates[:_SHOWN]:
            yield f"<li>{', '.join(map(name, paths))}</li>"
        yield "</ul>"
    if changes_suffixes(plan):
        yield "<p>Workflows name files with their suffix: choose the new ones there.</p>"
    if plan.work:
        what = counted(len(plan.work), "file")
        yield f'<button type="button" id="carry-out" data-plan="{number}">Change {what}</button>'
    else:
        yield "<p>Nothing is to be changed.</p>"


def _table(title: str, entries: Sequence[Entry]) -> Iterator[str]:
    yield f'<div class="scroll" role="region" aria-label="{text(title)}" tabindex="0"><table>'
    yield '<thead><tr><th scope="col">File</th><th scope="col">What and why</th>'
    yield '<th scope="col" class="n">Before</th><th scope="col" class="n">After</th></tr></thead>'
    yield "<tbody>"
    for entry in entries[:_SHOWN]:
        before = size(entry.facts.nbytes)
        after = size(entry.nbytes_after) if entry.nbytes_after else "-"
        what = "".join(f"<div>{name(line)}</div>" for line in reasons(entry))
        yield (
            f'<tr><th scope="row">{name(entry.facts.path)}</th>'
            f'<td>{what}</td><td class="n">{before}</td><td class="n">{after}</td></tr>'
        )
    yield "</tbody></table></div>"
    if len(entries) > _SHOWN:
        yield f"<p>And {len(entries) - _SHOWN:,} more.</p>"
