"""A release of one training checkpoint: all variants, written in one reading, and their texts.

The input is read once for its hash, its EMA and raw weights once to compare them, and once for all
outputs together. All files take their names together, or none does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from threading import Event
from typing import TypeAlias

from sdtool.batch.checking import verify
from sdtool.batch.items import item_of
from sdtool.batch.kinds import identity_of
from sdtool.batch.options import Options
from sdtool.batch.place import new_folders
from sdtool.batch.progress import Progress, Stop, stoppable
from sdtool.batch.provenance import as_text
from sdtool.batch.release.ema_health import EmaHealth, ema_health
from sdtool.batch.release.modelspec import PREFIX, checked, modelspec_of, thumbnail_url
from sdtool.batch.release.texts import Texts, text_names
from sdtool.batch.release.variants import Variant, plan_variants, written_variants
from sdtool.checkpoint import (
    Checkpoint,
    InputError,
    OutputError,
    SdtoolError,
    UsageError,
    dataclass,
)
from sdtool.checkpoint.identify import resolve
from sdtool.convert import (
    Written,
    check_expansion,
    check_output,
    hash_file,
    mode_like,
    split_name,
    write_together,
)
from sdtool.scan import Report, Verdict, open_judged, worst_message

_Path: TypeAlias = str | os.PathLike[str]
_PLAIN = Options()


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
    metadata = {**given, **modelspec_of(identity, as_text(split_name(name)[0]), given)}
    plans = plan_variants(checkpoint, identity, name, dtype, metadata)
    _check_outputs(folder, [*plans.files, *text_names(name)], options)
    if not options.any_size:
        for planned in plans.files.values():
            check_expansion(planned.plan.tensors, planned.plan.nbytes, name)
    sha256 = hash_file(checkpoint.source).sha256
    health, uncompared = _health_of(checkpoint, plans.updates)
    texts = Texts(
        name,
        checkpoint.source.nbytes,
        sha256,
        report,
        identity.title,
        health,
        dtype,
        given,
        metadata,
        options,
    )
    variants: list[Variant] = []

    def beside(done: Mapping[Path, Written | SdtoolError]) -> dict[Path, bytes]:
        variants.extend(written_variants(plans, done))
        return {folder / key: content for key, content in texts.contents(variants).items()}

    def check(out: Path, written: Path) -> None:
        if options.verify:
            verify(written, out, checkpoint, plans.files[out.name].selection, advance)

    with new_folders([folder]):
        write_together(
            {folder / key: planned.plan for key, planned in plans.files.items()},
            force=options.force,
            progress=advance,
            hashes=True,
            allow_overflow=options.allow_overflow,
            nonfinite=True,
            check=check,
            beside=beside,
            mode=mode_like(checkpoint.source),
        )
    return Released(
        checkpoint.source.name,
        checkpoint.source.nbytes,
        sha256,
        report.verdict,
        os.fspath(folder),
        tuple(variants),
        text_names(name),
        health,
        options.verify,
        tuple(dict.fromkeys((*plans.notes, *uncompared))),
        tuple(_warnings(checkpoint, report, variants)),
    )


def _health_of(
    checkpoint: Checkpoint, updates: int | None
) -> tuple[EmaHealth | None, tuple[str, ...]]:
    """Compare the EMA with the raw weights; without what that takes, a note says so."""
    try:
        return ema_health(checkpoint, updates), ()
    except UsageError as e:  # it says what to install
        return None, (f"the EMA was not compared: {e.what}",)


def _warnings(checkpoint: Checkpoint, report: Report, variants: Sequence[Variant]) -> Iterator[str]:
    yield from checkpoint.notes
    if report.verdict is Verdict.SUSPICIOUS:
        yield f"suspicious ({worst_message(report)})"
    if any(one.nonfinite for one in variants):
        yield "NaN or Inf in the weights: images may come out black"


def _check_outputs(folder: Path, names: Sequence[str], options: Options) -> None:
    """Check before anything is read that no output exists.

    Raises:
        OutputError: one does.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise OutputError("is not a folder", where=os.fspath(folder))
    for name in names:
        check_output(folder / name, force=options.force)
