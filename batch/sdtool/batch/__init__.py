"""From many inputs to typed outcomes: judged first, then converted or pruned.

from sdtool.batch import convert_file
(written,) = convert_file("model.ckpt")

`scan_file`, `identify_file`, `verify_file`, `convert_file` and `prune_file` take one file and raise
what is wrong; `run_batch` takes many and a recipe (`Converting`, `Pruning`), and every input has
its outcome. None of them writes to a terminal. Unsafe and undecided files are refused, as the
command refuses them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdtool.checkpoint import lazily

if TYPE_CHECKING:
    from sdtool.batch.cluster import Cluster
    from sdtool.batch.converting import Converting
    from sdtool.batch.engines import Engine, Here, Processes
    from sdtool.batch.expand import expand_inputs, own_files
    from sdtool.batch.failures import as_error
    from sdtool.batch.file_lock import lock_file
    from sdtool.batch.files import (
        Done,
        Identified,
        convert_file,
        identify_file,
        prune_file,
        run_batch,
    )
    from sdtool.batch.items import MODEL_SUFFIXES, Item, is_remote, open_file, shown_path
    from sdtool.batch.journal import Journal, Row, open_journal
    from sdtool.batch.layouts import ToFolder, ToSingle, assembly, inputs_of, recipe_for
    from sdtool.batch.listed import Checked, Expected, each_listed, expected_of, verify_listed
    from sdtool.batch.looking import Seen, looked_at
    from sdtool.batch.making import Making, MakingFolder, Nothing, Recipe, SetRecipe
    from sdtool.batch.options import Options
    from sdtool.batch.originals import check_trash
    from sdtool.batch.outcome import (
        Failed,
        Input,
        NothingToDo,
        Original,
        Outcome,
        Output,
        Planned,
        Refused,
        Remarks,
        Shard,
        Skipped,
        Written,
    )
    from sdtool.batch.outputs import Outputs, outputs_for
    from sdtool.batch.part import Part, part_of
    from sdtool.batch.pipelines import is_folder
    from sdtool.batch.place import AnyJob, PartsJob, apart, nbytes_of, plan_outputs
    from sdtool.batch.progress import Cancelled, Progress
    from sdtool.batch.pruning import Pruning, with_baked_vae
    from sdtool.batch.release.ema_health import EmaHealth
    from sdtool.batch.release.releasing import About, Released, release_file
    from sdtool.batch.release.variants import Variant
    from sdtool.batch.run import run_each, run_jobs
    from sdtool.batch.scanning import scan_file, scanned, unread
    from sdtool.batch.set_aside import without_set_aside
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
    from sdtool.batch.tidy.steps import Undone
    from sdtool.batch.verifying import verify_file
    from sdtool.batch.version import sdtool_version
    from sdtool.batch.watch import Arrived, Waking, Watch, Watching, changes_in
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
        VerificationError,
    )
    from sdtool.convert import Verification
    from sdtool.scan import Report, Verdict, open_judged

__all__ = [
    "MODEL_SUFFIXES",
    "PROGRAMS",
    "About",
    "AnyJob",
    "Arrived",
    "Cancelled",
    "Checked",
    "Cluster",
    "Converting",
    "Done",
    "EmaHealth",
    "Engine",
    "Entry",
    "Expected",
    "Failed",
    "Held",
    "Here",
    "Identified",
    "Input",
    "InputError",
    "Item",
    "Journal",
    "Keep",
    "LimitExceeded",
    "Making",
    "MakingFolder",
    "Malformed",
    "NotACheckpoint",
    "Nothing",
    "NothingToDo",
    "Options",
    "Original",
    "Outcome",
    "Output",
    "OutputError",
    "Outputs",
    "Part",
    "PartsJob",
    "Planned",
    "Processes",
    "Program",
    "Progress",
    "Pruning",
    "Quarantine",
    "Recipe",
    "Refused",
    "Released",
    "Remarks",
    "Report",
    "Retire",
    "Rewrite",
    "Row",
    "SdtoolError",
    "Seen",
    "SetRecipe",
    "Shard",
    "Skipped",
    "Tidied",
    "TidyOptions",
    "TidyPlan",
    "ToFolder",
    "ToSingle",
    "Truncated",
    "Undone",
    "Unreadable",
    "UnsafeError",
    "Unsupported",
    "UsageError",
    "Variant",
    "Verdict",
    "Verification",
    "VerificationError",
    "Waking",
    "Watch",
    "Watching",
    "Written",
    "apart",
    "as_error",
    "as_models",
    "assembly",
    "carry_out",
    "changes_in",
    "check_trash",
    "convert_file",
    "each_listed",
    "expand_inputs",
    "expected_of",
    "files_of",
    "forget_tidy",
    "held_by_tidy",
    "identify_file",
    "inputs_of",
    "is_folder",
    "is_remote",
    "lock_file",
    "looked_at",
    "nbytes_of",
    "open_file",
    "open_journal",
    "open_judged",
    "outputs_for",
    "own_files",
    "part_of",
    "plan_outputs",
    "plan_tidy",
    "prune_file",
    "recipe_for",
    "release_file",
    "run_batch",
    "run_each",
    "run_jobs",
    "scan_file",
    "scanned",
    "sdtool_version",
    "shown_path",
    "undo_tidy",
    "unread",
    "verify_file",
    "verify_listed",
    "with_baked_vae",
    "without_set_aside",
]  # fmt: skip

# A scan does without the rooms that write.
__getattr__ = lazily(
    __name__,
    {
        ".cluster": ("Cluster",),
        ".converting": ("Converting",),
        ".engines": ("Engine", "Here", "Processes"),
        ".expand": ("expand_inputs", "own_files"),
        ".failures": ("as_error",),
        ".file_lock": ("lock_file",),
        ".files": (
            "Done", "Identified", "convert_file", "identify_file", "prune_file", "run_batch",
        ),
        ".items": ("Item", "MODEL_SUFFIXES", "is_remote", "open_file", "shown_path"),
        ".journal": ("Journal", "Row", "open_journal"),
        ".layouts": ("ToFolder", "ToSingle", "assembly", "inputs_of", "recipe_for"),
        ".listed": ("Checked", "Expected", "each_listed", "expected_of", "verify_listed"),
        ".looking": ("Seen", "looked_at"),
        ".making": ("Making", "MakingFolder", "Nothing", "Recipe", "SetRecipe"),
        ".options": ("Options",),
        ".originals": ("check_trash",),
        ".outcome": (
            "Failed", "Input", "NothingToDo", "Original", "Outcome", "Output", "Planned", "Refused",
            "Remarks", "Shard", "Skipped", "Written",
        ),
        ".outputs": ("Outputs", "outputs_for"),
        ".pipelines": ("is_folder",),
        ".part": ("Part", "part_of"),
        ".place": ("AnyJob", "PartsJob", "apart", "nbytes_of", "plan_outputs"),
        ".progress": ("Cancelled", "Progress"),
        ".pruning": ("Pruning", "with_baked_vae"),
        ".release.ema_health": ("EmaHealth",),
        ".release.releasing": ("About", "Released", "release_file"),
        ".release.variants": ("Variant",),
        ".run": ("run_each", "run_jobs"),
        ".scanning": ("scan_file", "scanned", "unread"),
        ".set_aside": ("without_set_aside",),
        ".sets": ("as_models", "files_of"),
        ".tidy.doing": (
            "Held", "Tidied", "carry_out", "forget_tidy", "held_by_tidy", "undo_tidy",
        ),
        ".tidy.look": ("TidyOptions",),
        ".tidy.steps": ("Undone",),
        ".tidy.plan": (
            "Entry", "Keep", "Quarantine", "Retire", "Rewrite", "TidyPlan", "plan_tidy",
        ),
        ".tidy.programs": ("PROGRAMS", "Program"),
        ".verifying": ("verify_file",),
        ".version": ("sdtool_version",),
        ".watch": ("Arrived", "Waking", "Watch", "Watching", "changes_in"),
        "sdtool.checkpoint": (
            "InputError", "LimitExceeded", "Malformed", "NotACheckpoint", "OutputError",
            "SdtoolError", "Truncated", "Unreadable", "UnsafeError", "Unsupported", "UsageError",
            "VerificationError",
        ),
        "sdtool.convert": ("Verification",),
        "sdtool.scan": ("Report", "Verdict", "open_judged"),
    },
)  # fmt: skip
