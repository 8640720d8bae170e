"""What a run that writes models may be asked for, whatever it writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from sdtool.checkpoint import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """The options that convert and prune share."""

    allow: Mapping[str, str] = field(default_factory=dict[str, str])
    """Names that may load, and why: as `[scan.allow]` of sdtool.toml."""
    force: bool = False
    """Whether outputs that exist are replaced."""
    dry_run: bool = False
    verify: bool = False
    """Whether each output is compared with its input before it gets its name."""
    hashes: bool = False
    provenance: bool = False
    replace: Literal["trash", "delete"] | None = None
    """What becomes of the original after a write; every output is verified then."""
    replace_anyway: bool = False
    """Whether also of one that holds what no output does; the reason is reported first."""
    copy_sidecars: bool = False
    disarm: bool = False
    """Whether the tensors of unsafe files are taken, too."""
    allow_overflow: bool = False
    any_size: bool = False
    download: bool = False
    """Whether inputs elsewhere, whose servers give no parts, are fetched whole first."""
