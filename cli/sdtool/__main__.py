"""`python -m sdtool`."""

from __future__ import annotations

import sys

from sdtool.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
