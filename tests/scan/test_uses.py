"""Each allowlisted name takes exactly what uses.txt says, and raises at nothing.

`SDTOOL_LEDGER=write` rewrites the file from what the allowlist says now; read the diff.
"""

from __future__ import annotations

import pytest
from tests.scan import uses
from tests.scan.vectors.ledger import WRITES

from sdtool.checkpoint.values import Global
from sdtool.scan.allowlist import ALLOWLIST

if WRITES:
    uses.write()
WRITTEN = uses.written()


@pytest.mark.parametrize("name", WRITTEN)
def test_a_name_takes_what_its_line_says(name: str) -> None:
    target = Global(*name.rsplit(".", 1))
    assert uses.use_of(target) == WRITTEN[name]


def test_every_name_has_a_line() -> None:
    assert list(WRITTEN) == sorted(map(str, ALLOWLIST))
