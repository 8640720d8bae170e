"""The part of the page that asks for work."""

from __future__ import annotations

from importlib.resources import files as package_files
from string import Template

from sdtool.batch import PROGRAMS
from sdtool.cli.picture.markup import text
from sdtool.cli.ui.library import Library


def panel_of(library: Library, running: int | None) -> str:
    """Return its HTML; `running` is the number of the run that goes on."""
    data = package_files("sdtool.cli.ui")
    tidy = Template((data / "tidy.html").read_text("utf-8")).substitute(
        folders="".join(_option(number, path) for number, path in library.folders.items()),
        programs="".join(_option(one.slug, one.label) for one in PROGRAMS.values()),
    )
    return Template((data / "panel.html").read_text("utf-8")).substitute(
        running="" if running is None else running, tidy=tidy if library.folders else ""
    )


def _option(value: str, label: str) -> str:
    return f'<option value="{text(value)}">{text(label)}</option>'
