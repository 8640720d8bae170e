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
    from sdtool.batch.engines import Engine, Here, Processes, Threads
    from sdtool.batch.expand import expand_inputs, own_files
    from sdtool.batch.failures import as_error
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
    from sdtool.batch.place import AnyJob, PartsJob, apart, nbytes_of, plan_outputs
    from sdtool.batch.progress import Cancelled, Progress
    from sdtool.batch.pruning import Pruning, with_baked_vae
    from sdtool.batch.run import run_jobs
    from sdtool.batch.scanning import scan_file, scanned, unread
    from sdtool.batch.sets import as_models, files_of
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
    "AnyJob",
    "Arrived",
    "Cancelled",
    "Cluster",
    "Converting",
    "Done",
    "Engine",
    "Failed",
    "Here",
    "Identified",
    "Input",
    "InputError",
    "Item",
    "Journal",
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
    "Progress",
    "Pruning",
    "Recipe",
    "Refused",
    "Remarks",
    "Report",
    "Row",
    "SdtoolError",
    "Seen",
    "SetRecipe",
    "Shard",
    "Skipped",
    "Threads",
    "ToFolder",
    "ToSingle",
    "Truncated",
    "Unreadable",
    "UnsafeError",
    "Unsupported",
    "UsageError",
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
    "changes_in",
    "check_trash",
    "convert_file",
    "expand_inputs",
    "files_of",
    "identify_file",
    "inputs_of",
    "is_remote",
    "looked_at",
    "nbytes_of",
    "open_file",
    "open_journal",
    "open_judged",
    "outputs_for",
    "own_files",
    "part_of",
    "plan_outputs",
    "prune_file",
    "recipe_for",
    "run_batch",
    "run_jobs",
    "scan_file",
    "scanned",
    "sdtool_version",
    "shown_path",
    "unread",
    "verify_file",
    "with_baked_vae",
]  # fmt: skip

# A scan does without the rooms that write.
__getattr__ = lazily(
    __name__,
    {
        ".cluster": ("Cluster",),
        ".converting": ("Converting",),
        ".engines": ("Engine", "Here", "Processes", "Threads"),
        ".expand": ("expand_inputs", "own_files"),
        ".failures": ("as_error",),
        ".files": (
            "Done", "Identified", "convert_file", "identify_file", "prune_file", "run_batch",
        ),
        ".items": ("Item", "MODEL_SUFFIXES", "is_remote", "open_file", "shown_path"),
        ".journal": ("Journal", "Row", "open_journal"),
        ".layouts": ("ToFolder", "ToSingle", "assembly", "inputs_of", "recipe_for"),
        ".looking": ("Seen", "looked_at"),
        ".making": ("Making", "MakingFolder", "Nothing", "Recipe", "SetRecipe"),
        ".options": ("Options",),
        ".originals": ("check_trash",),
        ".outcome": (
            "Failed", "Input", "NothingToDo", "Original", "Outcome", "Output", "Planned", "Refused",
            "Remarks", "Shard", "Skipped", "Written",
        ),
        ".outputs": ("Outputs", "outputs_for"),
        ".part": ("Part", "part_of"),
        ".place": ("AnyJob", "PartsJob", "apart", "nbytes_of", "plan_outputs"),
        ".progress": ("Cancelled", "Progress"),
        ".pruning": ("Pruning", "with_baked_vae"),
        ".run": ("run_jobs",),
        ".scanning": ("scan_file", "scanned", "unread"),
        ".sets": ("as_models", "files_of"),
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
