"""A release of one training checkpoint: all variants, written in one reading, and their texts.

The input is read once for its hash, its EMA and raw weights once to compare them, and once for all
outputs together. All files take their names together, or none does.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import TypeAlias

from sdtool.batch.checking import verify
from sdtool.batch.items import item_of
from sdtool.batch.kinds import called_by_name, identity_of
from sdtool.batch.options import Options
from sdtool.batch.place import new_folders
from sdtool.batch.progress import Progress, Stop, stoppable
from sdtool.batch.provenance import as_text
from sdtool.batch.release import card, sums
from sdtool.batch.release.ema_health import EmaHealth, ema_health
from sdtool.batch.release.modelspec import PREFIX, checked, modelspec_of, thumbnail_url
from sdtool.batch.release.statement import SUFFIX, statement_of
from sdtool.batch.version import sdtool_version
from sdtool.checkpoint import (
    Checkpoint,
    InputError,
    LocalFile,
    OutputError,
    SdtoolError,
    UsageError,
)
from sdtool.checkpoint.identify import Identity, resolve
from sdtool.convert import (
    ConvertPlan,
    Hashes,
    Selection,
    Target,
    Written,
    check_expansion,
    check_output,
    hash_file,
    output_name,
    plan_safetensors,
    select_all,
    split_name,
    write_together,
)
from sdtool.prune import Variant as Weights
from sdtool.prune import plan_prune
from sdtool.scan import Report, Verdict, open_judged, worst_message

_Path: TypeAlias = str | os.PathLike[str]
_PLAIN = Options()
_WORDS: Mapping[Weights | None, str] = {"raw-only": "raw", "ema-only": "EMA", None: "all"}


@dataclass(frozen=True, slots=True)
class Variant:
    """One model file of a release. `nbytes` is its size."""

    name: str
    weights: str
    """`raw`, `EMA`, or `all` of a file that has no such sets."""
    precision: str
    nbytes: int
    tensors: int
    hashes: Hashes
    nonfinite: Mapping[str, tuple[int, int]]
    """NaN and infinite elements of the source, by tensor."""


@dataclass(frozen=True, slots=True)
class Released:
    """The files that were written, and their input."""

    path: str
    nbytes: int
    sha256: str
    verdict: Verdict
    folder: str
    variants: tuple[Variant, ...]
    files: tuple[str, ...]
    """Names of the other files."""
    ema: EmaHealth | None
    verified: bool
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class About:
    """What a publisher says of a model; each of it has a key in ModelSpec."""

    title: str | None = None
    author: str | None = None
    license: str | None = None
    trigger: str | None = None
    thumbnail: str | None = None
    """The path of an image."""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    """Further keys of the outputs' metadata."""

    def given(self) -> dict[str, str]:
        """Return all of it as metadata.

        Raises:
            UsageError: something of it is not what it should be.
            Unreadable: the image cannot be read.
        """
        named = {
            "title": self.title,
            "author": self.author,
            "license": self.license,
            "trigger_phrase": self.trigger,
            "thumbnail": None if self.thumbnail is None else thumbnail_url(self.thumbnail),
        }
        known = {f"{PREFIX}{key}": value for key, value in named.items() if value is not None}
        return checked({**self.metadata, **known})


@dataclass(frozen=True, slots=True)
class _Planned:
    weights: str
    precision: str
    selection: Selection
    plan: ConvertPlan


def release_file(
    path: _Path,
    out_dir: _Path,
    *,
    dtype: str = "fp16",
    about: About | None = None,
    options: Options = _PLAIN,
    progress: Progress | None = None,
    cancelled: Event | None = None,
) -> Released:
    """Write the files of a release into a folder: of a checkpoint the raw and the EMA weights
    without what only training needs, as they are and as `dtype` (`keep` for none); a model card, a
    statement and SHA256SUMS. Of a LoRA, which has no such sets, its one set of weights.

    Of `options` count `allow`, `force`, `verify`, `allow_overflow` and `any_size`. `progress` is
    called with bytes of outputs that were written and compared.

    Raises:
        UnsafeError: the file would do harm when loaded.
        InputError: it cannot be read or decided, or holds what no output can.
        OutputError: an output exists, cannot be written, or is not what the input holds.
        UsageError: what is said of the model is not what it should be.
        Cancelled: `cancelled` was set.
    """
    given = (about or About()).given()
    folder = Path(out_dir)
    advance = stoppable(progress, cancelled)
    try:
        item = item_of(path, download=options.download)
        name = Path(item.called).name
        with (
            item.opened() as file,
            open_judged(file, allow=options.allow) as (checkpoint, report),
        ):
            return _release(checkpoint, report, name, folder, dtype, given, options, advance)
    except Stop as stop:
        raise stop.cause from None


def _release(
    checkpoint: Checkpoint,
    report: Report,
    name: str,
    folder: Path,
    dtype: str,
    given: Mapping[str, str],
    options: Options,
    advance: Callable[[int], None],
) -> Released:
    identity = identity_of(checkpoint)
    with suppress(InputError):  # a value that cannot be read decides nothing
        identity = resolve(identity)
    stem = split_name(name)[0]
    own = modelspec_of(identity, as_text(stem), given)
    metadata = {**given, **own}
    plans, notes, updates = _plans(checkpoint, identity, name, dtype, metadata)
    extra = (card.NAME, f"{as_text(stem)}{SUFFIX}", sums.NAME)
    _check_outputs(folder, [*plans, *extra], options)
    for planned in plans.values():
        if not options.any_size:
            check_expansion(planned.plan.tensors, planned.plan.nbytes, name)
    sha256 = hash_file(checkpoint.source).sha256
    try:
        health = ema_health(checkpoint, updates)
    except UsageError as e:  # it says what to install
        health = None
        notes.append(f"the EMA was not compared: {e.what}")
    title = metadata.get(f"{PREFIX}title", as_text(stem))
    variants: list[Variant] = []

    def beside(done: Mapping[Path, Written | SdtoolError]) -> dict[Path, bytes]:
        variants.extend(_variants(plans, done))
        digests = {one.name: one.hashes.sha256 for one in variants}
        predicate: dict[str, object] = {
            "input": {
                "name": as_text(name),
                "digest": {"sha256": sha256},
                "size_bytes": checkpoint.source.nbytes,
                "verdict": report.verdict.value,
                "allowed": list(report.allowed),
            },
            "tool": {"name": "sdtool", "version": sdtool_version()},
            "options": {
                "dtype": dtype,
                "allow_overflow": options.allow_overflow,
                "metadata": dict(given),
            },
            "outputs": [_output(one) for one in variants],
            "ema": None if health is None else health.as_json(),
            "verified": options.verify,
        }
        statement = statement_of(digests, predicate)
        in_toto = json.dumps(statement, indent=2, ensure_ascii=True) + "\n"
        text = card.card_text(
            title,
            identity.title,
            variants,
            ema=None if health is None else str(health),
            metadata=metadata,
            statement=extra[1],
        )
        made = {extra[0]: text.encode(), extra[1]: in_toto.encode()}
        listed = digests | {
            key: hashlib.sha256(content).hexdigest() for key, content in made.items()
        }
        made[extra[2]] = os.fsencode(sums.sums_text(listed))
        return {folder / key: content for key, content in made.items()}

    def check(out: Path, written: Path) -> None:
        if options.verify:
            verify(written, out, checkpoint, plans[out.name].selection, advance)

    with new_folders([folder]):
        write_together(
            {folder / key: planned.plan for key, planned in plans.items()},
            force=options.force,
            progress=advance,
            hashes=True,
            allow_overflow=options.allow_overflow,
            nonfinite=True,
            check=check,
            beside=beside,
            mode=_mode(checkpoint),
        )
    warnings = [*checkpoint.notes]
    if report.verdict is Verdict.SUSPICIOUS:
        warnings.append(f"suspicious ({worst_message(report)})")
    if any(one.nonfinite for one in variants):
        warnings.append("NaN or Inf in the weights: images may come out black")
    return Released(
        checkpoint.source.name,
        checkpoint.source.nbytes,
        sha256,
        report.verdict,
        os.fspath(folder),
        tuple(variants),
        extra,
        health,
        options.verify,
        tuple(dict.fromkeys(notes)),
        tuple(warnings),
    )


def _plans(
    checkpoint: Checkpoint,
    identity: Identity,
    name: str,
    dtype: str,
    metadata: Mapping[str, str],
) -> tuple[dict[str, _Planned], list[str], int | None]:
    """Lay out every variant, by its name; with notes, and how often the EMA was updated."""
    notes: list[str] = []
    updates: int | None = None
    found: dict[str, _Planned] = {}
    dtypes = ["keep"] if dtype == "keep" or identity.quantization else ["keep", dtype]
    if identity.quantization and dtype != "keep":
        notes.append(f"its weights are quantized: there is no variant in {dtype}")
    for form in dtypes:
        for weights in _weights(checkpoint, identity, notes):
            if weights is None:
                selection = select_all(checkpoint, dtype=form)
            else:
                pruned = plan_prune(checkpoint, variant=weights, dtype=form, compare_ema=False)
                selection, updates = pruned.selection, pruned.num_updates
            if form != "keep" and all(s.dtype is s.entry.dtype for s in selection.entries):
                continue  # it has that precision already
            selection = replace(selection, metadata={**selection.metadata, **metadata})
            out = output_name(name, variant=weights, dtype=form)
            precision = identity.dtype if form == "keep" else form
            plan = plan_safetensors(selection)
            found[out] = _Planned(_WORDS[weights], precision, selection, plan)
    return found, notes, updates


def _weights(
    checkpoint: Checkpoint, identity: Identity, notes: list[str]
) -> Sequence[Weights | None]:
    """Return which sets of weights a file can be released as.

    Raises:
        UsageError: programs read this kind of file from .pt only.
    """
    if Target.of_kind(checkpoint.kind) is Target.PT:
        raise UsageError(
            f"is a {identity.title}, which programs read from .pt files only",
            where=checkpoint.source.name,
        )
    if called_by_name(checkpoint) is not None:
        return (None,)
    match identity.ema.state:
        case "full":
            return "raw-only", "ema-only"
        case "scalars-only":
            return ("ema-only",)
        case "none":
            return ("raw-only",)
        case state:
            notes.append(f"its EMA is {state}: no EMA variant is written")
            return ("raw-only",)


def _variants(
    plans: Mapping[str, _Planned], done: Mapping[Path, Written | SdtoolError]
) -> list[Variant]:
    """Return what was written of each variant.

    Raises:
        SdtoolError: one could not be: then there is no release.
    """
    found: list[Variant] = []
    for out, written in done.items():
        if isinstance(written, SdtoolError):
            raise written
        planned = plans[out.name]
        assert written.hashes is not None
        found.append(
            Variant(
                out.name,
                planned.weights,
                planned.precision,
                written.nbytes,
                written.tensors,
                written.hashes,
                written.nonfinite,
            )
        )
    return found


def _output(one: Variant) -> dict[str, object]:
    return {
        "name": one.name,
        "weights": one.weights,
        "precision": one.precision,
        "size_bytes": one.nbytes,
        "tensors": one.tensors,
        "hashes": one.hashes.as_json(),
    }


def _check_outputs(folder: Path, names: Sequence[str], options: Options) -> None:
    """Check before anything is read that no output exists.

    Raises:
        OutputError: one does.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise OutputError("is not a folder", where=os.fspath(folder))
    for name in names:
        check_output(folder / name, force=options.force)


def _mode(checkpoint: Checkpoint) -> int:
    """The mode of the input, which its outputs do not exceed."""
    file = checkpoint.source
    return file.stat.st_mode & 0o666 if isinstance(file, LocalFile) else 0o666
