"""`sdtool demo`: a session on files of its own, every result of it checked."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Generator
from pathlib import Path

import click

from sdtool.checkpoint import (
    OutputError,
    TensorEntry,
    local_file,
    open_checkpoint,
    os_reason,
    size,
    storage_chunks,
)
from sdtool.cli.console import Console
from sdtool.cli.demo.torch_zip import write_torch_zip
from sdtool.cli.demo.training import Training, training_checkpoint, trapped_checkpoint
from sdtool.cli.exit_codes import DONE, FOUND, TROUBLE
from sdtool.cli.outcomes import saving
from sdtool.cli.verb import verb
from sdtool.convert import new_file

TRAINING, TRAPPED = "training.ckpt", "trapped.ckpt"
CONVERTED, PRUNED = "training.safetensors", "training-pruned-emaonly.safetensors"

SESSION = (
    (
        DONE,
        "A file as training writes it. What would it do when loaded?",
        f"scan {TRAINING}",
    ),
    (FOUND, "The same file after somebody has added a call to it:", f"scan {TRAPPED}"),
    (FOUND, "An unsafe file is not converted either:", f"convert {TRAPPED}"),
    (
        DONE,
        "The original, as safetensors, compared value by value:",
        f"convert --verify {TRAINING}",
    ),
    (DONE, "What people download: only the EMA weights:", f"prune --ema-only {TRAINING}"),
    (
        DONE,
        "Is the output whole, and are its values those of the source?",
        f"verify {PRUNED} --against {TRAINING}",
    ),
)
"""The expected exit code of a step, its purpose, and its command."""


@verb("demo", examples=["sdtool demo", "sdtool demo my-folder"])
@click.argument("folder", required=False, metavar="[FOLDER]")
def command(console: Console, folder: str | None) -> int:
    """Demonstrate the main workflow on a small built-in checkpoint.

    Writes training.ckpt, laid out like a Stable Diffusion training checkpoint,
    and trapped.ckpt, the same with a call hidden in it (which could only
    print a line); scans, converts, prunes and verifies. Exits with 0 only if
    every step gave the expected result. The files are kept if FOLDER is given.
    """
    from sdtool.cli.main import main

    training = training_checkpoint()
    with _folder(folder) as place, contextlib.chdir(place):
        _check_free()
        _write(TRAINING, training.content)
        _write(TRAPPED, trapped_checkpoint(training))
        failures: list[str] = []
        for expected, purpose, words in SESSION:
            console.out(f"# {purpose}\n$ sdtool {words}")
            code = main(words.split())
            if code > max(DONE, FOUND, TROUBLE):  # stopped, and reported
                return code
            if code != expected:
                failures.append(f"sdtool {words}: exit code {code} instead of {expected}")
            console.out()
        failures += _surprises(training)
        if failures:
            for failure in failures:
                console.error(failure)
            return FOUND
        _summarise(console, None if folder is None else place)
    return DONE


@contextlib.contextmanager
def _folder(named: str | None) -> Generator[Path]:
    if named is None:
        with tempfile.TemporaryDirectory(prefix="sdtool-demo-") as temporary:
            # Windows cannot remove the folder that a process stands in; chdir has left it by then
            yield Path(temporary)
        return
    try:
        Path(named).mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise OutputError(f"cannot be created ({os_reason(e)})", where=named) from e
    yield Path(named).absolute()


def _check_free() -> None:
    """Check that none of the demo's files exists.

    Raises:
        OutputError: something is, of an earlier demo or not.
    """
    for name in (TRAINING, TRAPPED, CONVERTED, PRUNED):
        if os.path.lexists(name):
            raise OutputError(
                "already exists, and the demo replaces nothing",
                where=name,
                hint="name an empty folder",
            )


def _write(name: str, content: object) -> None:
    """Write one of the demo's files; a file that has appeared under its name is not replaced."""
    made = io.BytesIO()
    write_torch_zip(made, content)
    data = made.getbuffer()
    with new_file(Path(name), len(data)) as file:
        file.write_at(data, 0)


def _surprises(training: Training) -> list[str]:
    """Compare the outputs with the values in the checkpoint, independently of the verbs."""
    if not all(Path(name).is_file() for name in (CONVERTED, PRUNED)):
        return ["an output is missing"]
    raw = {name: tensor.data for name, tensor in training.weights.items()}
    ema = {name: tensor.data for name, tensor in training.ema.items()}
    scalars = ("model_ema.decay", "model_ema.num_updates")
    pruned = {k: v for k, v in raw.items() if not k.startswith("model_ema.") or k in scalars} | ema
    failures = [
        f"{name} does not contain the expected values"
        for name, values in ((CONVERTED, raw), (PRUNED, pruned))
        if _values(name) != values
    ]
    if Path("trapped.safetensors").exists():
        failures.append(f"{TRAPPED} was converted")
    return failures


def _values(name: str) -> dict[str, bytes]:
    with local_file(name) as source:
        tensors = open_checkpoint(source).tensors
        return {tensor.name: _bytes(tensor) for tensor in tensors}


def _bytes(tensor: TensorEntry) -> bytes:
    start = tensor.offset * tensor.dtype.itemsize
    return b"".join(storage_chunks(tensor.storage, start, tensor.nbytes))


def _summarise(console: Console, kept: Path | None) -> None:
    whole = os.path.getsize(TRAINING)
    rows = (
        (TRAINING, "weights, EMA, optimizer state"),
        (CONVERTED, "weights and EMA"),
        (PRUNED, "the EMA weights alone"),
    )
    for name, text in rows:
        nbytes = os.path.getsize(name)
        console.out(f"{name:<35}  {size(nbytes):>7}  {text}{saving(whole, nbytes)}")
    console.out("\nAll steps gave the expected results, and every value was checked.")
    console.out(f"The files are in {kept}" if kept else "Name a folder to keep the files.")
