"""The paths that every verb takes, and how many files it takes up at once.

Apart from `options.py`, which needs the rooms that write: a scan starts without them.
"""

from __future__ import annotations

import click

jobs_option = click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=0),
    metavar="N",
    default=1,
    help="Files at once (default 1); 0 for one per core.",
)

paths_argument = click.argument("paths", metavar="PATH...", nargs=-1, required=True)
