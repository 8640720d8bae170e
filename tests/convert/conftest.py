"""Fixtures of the convert room's tests."""

from __future__ import annotations

from typing import Any

import pytest


def no_kernel_copy(*_: Any) -> int:
    """Stand in for a kernel that cannot copy between these two files."""
    return 0


@pytest.fixture
def buffers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every byte copied through the buffers of this process, as on Windows and macOS."""
    monkeypatch.setattr("sdtool.convert.copy.in_kernel.copy_range", no_kernel_copy)


@pytest.fixture(params=["by the kernel", "through buffers"])
def both_ways(request: pytest.FixtureRequest) -> None:
    """Run the test twice: as this machine copies, and as one without kernel copies does."""
    if request.param == "through buffers":
        request.getfixturevalue("buffers_only")
