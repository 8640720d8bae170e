"""The entry point of the command."""

from __future__ import annotations


def main() -> int:
    """Run the command; return its exit code."""
    return 0
