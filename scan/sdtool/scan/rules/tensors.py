"""Rules for tensors: their names, storages and sizes."""

from __future__ import annotations

from sdtool.checkpoint.rule_ids import RuleId
from sdtool.scan.findings import Rule, Severity
from sdtool.scan.rules.hints import COMPARE, DOWNLOAD_AGAIN

RULES: dict[RuleId, Rule] = {
    RuleId.NUL_IN_NAME: Rule(
        Severity.LOW,
        title="a tensor's name contains a NUL",
        why="Programs written in C cut the name there, so two programs see two different tensors.",
        hint=DOWNLOAD_AGAIN,
    ),
    RuleId.RECORD_SIZE_MISMATCH: Rule(
        Severity.LOW,
        title="a storage has a different size from the one in the pickle",
        why="A plain load fails on it. With mmap the program reads what follows.",
        hint=COMPARE,
    ),
    RuleId.RECORDS_NOT_FETCHED: Rule(
        Severity.INFO,
        title="records of tensors that were not fetched",
        why=(
            "The file is large and on a server, and each of them would cost a request. torch takes "
            "them as numbers, whatever they hold; only `numpy.load` with `allow_pickle=True`, "
            "called on a checkpoint, would unpickle one that begins as an array file does."
        ),
        hint="Nothing, if torch loads it; `--deep` reads all of it, and so does a scan of a copy.",
    ),
    RuleId.STORAGE_CONFLICT: Rule(
        Severity.LOW,
        title="a storage is declared in two ways",
        why=(
            "torch uses the first declaration and another reader may use the last, so their "
            "tensors differ."
        ),
        hint=DOWNLOAD_AGAIN,
    ),
    RuleId.TENSOR_BOMB: Rule(
        Severity.LOW,
        title="a tensor claims far more elements than the file has bytes",
        why=(
            "Strides of zero, or thousands of views of one storage, let a few bytes stand for "
            "terabytes. A program that copies the tensors runs out of memory."
        ),
        hint=DOWNLOAD_AGAIN,
    ),
    RuleId.TENSOR_OUT_OF_BOUNDS: Rule(
        Severity.LOW,
        title="a tensor reaches outside its storage",
        why="A careful loader rejects it. A careless one reads memory that is not the tensor's.",
        hint=DOWNLOAD_AGAIN,
    ),
}
