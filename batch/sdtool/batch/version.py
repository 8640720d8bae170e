"""The version of what is installed."""

from __future__ import annotations


def sdtool_version() -> str:
    """Return the version of the installed distribution."""
    from importlib.metadata import version as installed_version  # 10 ms: when it is asked for

    return installed_version("sdtool")
