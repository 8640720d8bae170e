"""The page: the whole in numbers, the sizes as a picture, what was found, and every file."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files as package_files
from string import Template
from typing import Any

from sdtool.batch import sdtool_version
from sdtool.checkpoint import counted, size
from sdtool.cli.picture.facts import Facts, facts_of
from sdtool.cli.picture.markup import name, text, verdict
from sdtool.cli.picture.treemap import Kind, kinds_of, treemap

_SHOWN = 1_000
"""Files of which the findings are listed; the list has the verdict of all."""
_AT_FIRST = 200
"""Rows that are shown before somebody asks for more; the script has the same number."""
_GRAVEST = ("unsafe", "suspicious", "undecided", "not-a-checkpoint", "clean")
_EMA = {"none": "", "scalars-only": ""}


@dataclass(frozen=True, slots=True)
class Live:
    """What a page has that can ask for work: the number of each file by its path, and more of
    everything else.
    """

    numbers: Mapping[str, str]
    panel: str
    style: str
    script: str


def page(
    schema: str,
    files: Sequence[Mapping[str, Any]],
    parts: Mapping[str, Any],
    *,
    live: Live | None = None,
) -> str:
    """Return the HTML for a document of `schema` (`info` or `scan`), its files and what it holds
    beside them (docs/schemas). Only a `live` page asks for anything, and only the server it is on.
    """
    groups = parts.get("duplicates")
    facts = facts_of(files, groups or ())
    kinds = kinds_of(facts)
    of_info = schema == "info"
    total = sum(file.counted for file in facts)
    heading = f"{counted(len(facts), 'file')}, {size(total)}"
    style, script = (_data(f"page.{suffix}") for suffix in ("css", "js"))
    asks = ""
    if live is not None:
        style, script = style + live.style, script + live.script
        asks = " connect-src 'self';"
    return Template(_data("page.html")).substitute(
        policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)};"
        f"{asks} base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        heading=heading,
        made_by=text(f"sdtool {schema}, version {sdtool_version()}"),
        figures="".join(_figures(facts, parts["summary"])),
        map=treemap(kinds),
        panel=live.panel if live else "",
        kind_columns="".join(_kind_columns(of_info=of_info)),
        kinds="".join(_kinds(kinds, of_info=of_info)),
        found="".join(_found(facts)),
        duplicates="".join(_duplicates(groups)) if of_info else "",
        legend=_data("legend.html") if of_info else "",
        filters="".join(_filters(facts, kinds, "Kind" if of_info else "Format")),
        columns="".join(_columns(of_info=of_info)),
        rows="\n".join(
            _row(file, live, of_info=of_info, later=number >= _AT_FIRST)
            for number, file in enumerate(facts)
        ),
        count=f"{len(facts):,}",
    )


def _data(file: str) -> str:
    return (package_files("sdtool.cli.picture") / file).read_text("utf-8")


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _figures(facts: Sequence[Facts], summary: Mapping[str, Any]) -> Iterator[str]:
    verdicts = Counter(file.verdict for file in facts)
    yield from (
        f"<div><dt>{verdict(word)}</dt><dd>{verdicts[word]:,}</dd></div>"
        for word in _GRAVEST
        if verdicts[word]
    )
    for key, label in (
        ("freed_by_pruning_bytes", "pruning would free"),
        ("freed_by_pruning_to_fp16_bytes", "with fp16"),
        ("wasted_by_duplicates_bytes", "duplicates waste"),
    ):
        if key in summary:
            yield f"<div><dt>{label}</dt><dd>{size(summary[key])}</dd></div>"


def _kind_columns(*, of_info: bool) -> Iterator[str]:
    yield f'<th scope="col">{"Kind" if of_info else "Format"}</th><th scope="col">Files</th>'
    for label in ("Size", "Removable") if of_info else ("Size",):
        yield f'<th scope="col" class="n">{label}</th>'


def _kinds(kinds: Sequence[Kind], *, of_info: bool) -> Iterator[str]:
    for kind in kinds:
        wasted = _number(kind.wasted) if of_info else ""
        yield (
            f'<tr><th scope="row"><button type="button" data-kind="{text(kind.title)}">'
            f'<svg class="swatch" aria-hidden="true"><rect class="k{kind.colour}" width="100%"'
            f' height="100%"/></svg>{name(kind.title)}</button></th>'
            f"<td>{len(kind.files):,}</td>{_number(kind.nbytes)}{wasted}</tr>"
        )


def _number(nbytes: int) -> str:
    return f'<td class="n" data-n="{nbytes}">{size(nbytes) if nbytes else "-"}</td>'


def _found(facts: Sequence[Facts]) -> Iterator[str]:
    """Yield what was found in each file that is not clean, the worst first."""
    found = [file for file in facts if file.verdict != "clean" or file.error]
    found.sort(key=lambda file: _GRAVEST.index(file.verdict))
    if not found:
        yield "<p>Every file is clean.</p>"
    for file in found[:_SHOWN]:
        yield f"<article><h3>{verdict(file.verdict)} {name(file.path)}</h3><ul>"
        if file.error:
            yield f"<li>{name(file.error)}</li>"
        yield from map(_finding, file.findings)
        names = [one for one in file.names if one["known"] != "allowlisted"]
        if names:
            yield f"<li>A loader would import {', '.join(map(_imported, names))}.</li>"
        yield "</ul></article>"
    if len(found) > _SHOWN:
        yield f"<p>And {len(found) - _SHOWN:,} more: see the list of files.</p>"


def _finding(finding: Mapping[str, Any]) -> str:
    where = [name(finding["member"])] if finding["member"] else []
    if finding["offset"] is not None:
        where.append(f"offset {finding['offset']:,}")
    place = f' <span class="where">{", ".join(where)}</span>' if where else ""
    evidence = f" <code>{name(finding['evidence'])}</code>" if finding["evidence"] else ""
    return (
        f"<li>{text(finding['severity'])}: {name(finding['message'])}{place}{evidence}"
        f" [{text(finding['rule'])}]</li>"
    )


def _imported(one: Mapping[str, Any]) -> str:
    known = f"{one['known']}, called" if one["called"] else one["known"]
    return f"<code>{name(one['name'])}</code> ({text(known)})"


def _duplicates(groups: Sequence[Mapping[str, Any]] | None) -> Iterator[str]:
    yield "<section><h2>Duplicates</h2>"
    if groups is None:
        yield "<p>Not searched for; use <code>sdtool info --duplicates</code>.</p>"
    elif not groups:
        yield "<p>No duplicate components.</p>"
    for group in sorted(groups or (), key=lambda group: -group["wasted_bytes"]):
        yield (
            f"<article><h3>{name(group['label'])}, {size(group['size_bytes'])}:"
            f" {size(group['wasted_bytes'])} wasted</h3><ul>"
        )
        yield from (f"<li>{name(path)}</li>" for path in group["paths"])
        yield "</ul></article>"
    yield "</section>"


def _filters(facts: Sequence[Facts], kinds: Sequence[Kind], sort: str) -> Iterator[str]:
    held = {file.verdict for file in facts}
    verdicts = [word for word in _GRAVEST if word in held]
    titles = [kind.title for kind in kinds]
    for key, label, words in (("verdict", "Verdict", verdicts), ("kind", sort, titles)):
        options = "".join(f'<option value="{text(word)}">{text(word)}</option>' for word in words)
        yield (
            f'<label>{label} <select id="{key}"><option value="">all</option>{options}'
            "</select></label>"
        )


def _columns(*, of_info: bool) -> Iterator[str]:
    """Yield the headings; on a narrow screen the first are the ones that are seen."""
    of_scan = (("Name", "name"), ("Verdict", ""), ("Size", "n"), ("Format", "kind"))
    of_model = (
        ("Name", "name"), ("Verdict", ""), ("Size", "n"), ("Removable", "n"), ("Kind", "kind"),
        ("Precision", ""), ("EMA", ""),
    )  # fmt: skip
    for label, kind in of_model if of_info else of_scan:
        yield (
            f'<th scope="col" class="{kind}" aria-sort="none"><button type="button">{label}'
            "</button></th>"
        )


def _row(file: Facts, live: Live | None, *, of_info: bool, later: bool) -> str:
    begin = '<tr class="later">' if later else "<tr>"
    box = _box(file.path, live.numbers.get(file.path)) if live else ""
    link = f" <small>= {name(file.same_file_as)}</small>" if file.same_file_as else ""
    more = f"<td>{text(file.precision)}</td><td>{text(_EMA.get(file.ema, file.ema))}</td>"
    return (
        f'{begin}<th scope="row">{box}{name(file.path)}{link}</th><td>{verdict(file.verdict)}</td>'
        f"{_number(file.nbytes)}{_number(file.wasted) if of_info else ''}"
        f"<td>{name(file.kind)}</td>{more if of_info else ''}</tr>"
    )


def _box(path: str, number: str | None) -> str:
    """Return the box that chooses a file; none for one that is not there any more."""
    if number is None:
        return ""
    return f'<input type="checkbox" value="{number}" aria-label="choose {text(path)}">'
