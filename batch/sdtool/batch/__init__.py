"""From many inputs to typed outcomes: judged first, then converted or pruned.

from sdtool.batch import convert_file
(written,) = convert_file("model.ckpt")

`scan_file`, `identify_file`, `verify_file`, `convert_file` and `prune_file` take one file and raise
what is wrong; `run_batch` takes many and a recipe (`Converting`, `Pruning`), and every input has
its outcome. None of them writes to a terminal. Unsafe and undecided files are refused, as the
command refuses them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdtool.batch.checking import VerificationError
    from sdtool.batch.cluster import Cluster
    from sdtool.batch.converting import Converting
    from sdtool.batch.engines import Engine, Here, Processes, Threads
    from sdtool.batch.files import (
        Done,
        Identified,
        convert_file,
        identify_file,
        prune_file,
        run_batch,
    )
    from sdtool.batch.items import open_file
    from sdtool.batch.journal import Journal, Row, open_journal
    from sdtool.batch.layouts import ToFolder, ToSingle, assembly, inputs_of, recipe_for
    from sdtool.batch.listed import Checked, Expected, expected_of, verify_listed
    from sdtool.batch.making import Making, MakingFolder, Nothing, Recipe, SetRecipe
    from sdtool.batch.options import Options
    from sdtool.batch.outcome import (
        Failed,
        Input,
        NothingToDo,
        Outcome,
        Output,
        Planned,
        Refused,
        Remarks,
        Shard,
        Skipped,
        Written,
    )
    from sdtool.batch.part import Part, part_of
    from sdtool.batch.progress import Cancelled, Progress
    from sdtool.batch.pruning import Pruning, with_baked_vae
    from sdtool.batch.release.ema_health import EmaHealth
    from sdtool.batch.release.releasing import About, Released, Variant, release_file
    from sdtool.batch.scanning import scan_file
    from sdtool.batch.sets import as_models, files_of
    from sdtool.batch.tidy.doing import (
        Held,
        Tidied,
        carry_out,
        forget_tidy,
        held_by_tidy,
        undo_tidy,
    )
    from sdtool.batch.tidy.look import TidyOptions
    from sdtool.batch.tidy.moving import Undone
    from sdtool.batch.tidy.plan import (
        Entry,
        Keep,
        Quarantine,
        Retire,
        Rewrite,
        TidyPlan,
        plan_tidy,
    )
    from sdtool.batch.tidy.programs import PROGRAMS, Program
    from sdtool.batch.verifying import verify_file
    from sdtool.checkpoint import (
        InputError,
        LimitExceeded,
        Malformed,
        NotACheckpoint,
        OutputError,
        SdtoolError,
        Truncated,
        Unreadable,
        UnsafeError,
        Unsupported,
        UsageError,
    )
    from sdtool.convert import Verification
    from sdtool.scan import Report, Verdict, open_judged

__all__ = [
    "PROGRAMS", "About", "Cancelled", "Checked", "Cluster", "Converting", "Done", "EmaHealth",
    "Engine", "Entry", "Expected", "Failed", "Held", "Here", "Identified", "Input", "InputError",
    "Journal", "Keep", "LimitExceeded", "Making", "MakingFolder", "Malformed", "NotACheckpoint",
    "Nothing", "NothingToDo", "Options", "Outcome", "Output", "OutputError", "Part", "Planned",
    "Processes", "Program", "Progress", "Pruning", "Quarantine", "Recipe", "Refused", "Released",
    "Remarks", "Report", "Retire", "Rewrite", "Row", "SdtoolError", "SetRecipe", "Shard", "Skipped",
    "Threads", "Tidied", "TidyOptions", "TidyPlan", "ToFolder", "ToSingle", "Truncated", "Undone",
    "Unreadable", "UnsafeError", "Unsupported", "UsageError", "Variant", "Verdict", "Verification",
    "VerificationError", "Written", "as_models", "assembly", "carry_out", "convert_file",
    "expected_of", "files_of", "forget_tidy", "held_by_tidy", "identify_file", "inputs_of",
    "open_file", "open_journal", "open_judged", "part_of", "plan_tidy", "prune_file", "recipe_for",
    "release_file", "run_batch", "scan_file", "undo_tidy", "verify_file", "verify_listed",
    "with_baked_vae",
]  # fmt: skip

_HOMES = {
    "checking": ("VerificationError",),
    "cluster": ("Cluster",),
    "converting": ("Converting",),
    "engines": ("Engine", "Here", "Processes", "Threads"),
    "files": ("Done", "Identified", "convert_file", "identify_file", "prune_file", "run_batch"),
    "items": ("open_file",),
    "journal": ("Journal", "Row", "open_journal"),
    "layouts": ("ToFolder", "ToSingle", "assembly", "inputs_of", "recipe_for"),
    "listed": ("Checked", "Expected", "expected_of", "verify_listed"),
    "making": ("Making", "MakingFolder", "Nothing", "Recipe", "SetRecipe"),
    "options": ("Options",),
    "outcome": (
        "Failed", "Input", "NothingToDo", "Outcome", "Output", "Planned", "Refused", "Remarks",
        "Shard", "Skipped", "Written",
    ),
    "part": ("Part", "part_of"),
    "progress": ("Cancelled", "Progress"),
    "pruning": ("Pruning", "with_baked_vae"),
    "release.ema_health": ("EmaHealth",),
    "release.releasing": ("About", "Released", "Variant", "release_file"),
    "scanning": ("scan_file",),
    "sets": ("as_models", "files_of"),
    "tidy.doing": (
        "Held", "Tidied", "carry_out", "forget_tidy", "held_by_tidy", "undo_tidy",
    ),
    "tidy.look": ("TidyOptions",),
    "tidy.moving": ("Undone",),
    "tidy.plan": (
        "Entry", "Keep", "Quarantine", "Retire", "Rewrite", "TidyPlan", "plan_tidy",
    ),
    "tidy.programs": ("PROGRAMS", "Program"),
    "verifying": ("verify_file",),
}  # fmt: skip
_MODULES = {name: module for module, names in _HOMES.items() for name in names}
_OF_SCAN = frozenset({"Report", "Verdict", "open_judged"})


def __getattr__(name: str) -> Any:
    """Import what is asked for: a scan does without the rooms that write (PEP 562)."""
    if name in _MODULES:
        return getattr(import_module(f"sdtool.batch.{_MODULES[name]}"), name)
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _OF_SCAN:
        return getattr(import_module("sdtool.scan"), name)
    if name == "Verification":
        return getattr(import_module("sdtool.convert"), name)
    return getattr(import_module("sdtool.checkpoint"), name)  # the errors
