"""A page that shows what `info` or `scan` has found, in one file that asks for nothing else.

It is made of the files as JSON has them (docs/schemas), so that both say the same.
"""

from __future__ import annotations

from sdtool.cli.picture.page import Live, page

__all__ = ["Live", "page"]
