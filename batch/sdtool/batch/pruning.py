"""The recipe of `prune`: what inference needs of an input, in one or several forms."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

from sdtool.batch.items import Item, open_file
from sdtool.batch.kinds import called_by_name
from sdtool.batch.making import Making, Nothing
from sdtool.batch.options import Options
from sdtool.batch.place import Job
from sdtool.checkpoint import Checkpoint, SdtoolError, dataclass
from sdtool.convert import DEQUANTIZED_DTYPE, output_name, weight_dtype
from sdtool.prune import (
    Component,
    NotHeld,
    PrunePlan,
    Variant,
    averaged_updates,
    component_file_name,
    ema_folder_of,
    plan_prune,
)
from sdtool.scan import open_judged

_BOTH: tuple[Variant, ...] = ("raw-only", "ema-only")

Form: TypeAlias = tuple[Variant, str]
"""Which weights, and in which precision."""


class BakedVae:
    """A file whose VAE goes into others. Where it is unpickled it is opened and judged again."""

    def __init__(self, path: str | os.PathLike[str], options: Options) -> None:
        self._arguments = path, options
        self.opened = ExitStack()
        """What closes it."""

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """What is in it.

        Raises:
            SdtoolError: it is unsafe, or cannot be read.
        """
        path, options = self._arguments
        file = self.opened.enter_context(open_file(path, download=options.download))
        judging = open_judged(file, allow=options.allow, disarm=options.disarm)
        checkpoint, _ = self.opened.enter_context(judging)
        return checkpoint

    def __reduce__(self) -> tuple[type[BakedVae], tuple[str | os.PathLike[str], Options]]:
        return BakedVae, self._arguments


@dataclass(frozen=True, slots=True)
class Pruning:
    """What to keep, and how. It can be pickled.

    Raises:
        UsageError: `dequantize` goes with another precision.
    """

    variant: Variant | Literal["all"] = "raw-only"
    """`all` is raw-only and ema-only; with a `dtype` both as they are and cast."""
    dtype: str = "keep"
    unet_dtype: str | None = None
    vae_dtype: str | None = None
    text_dtype: str | None = None
    dequantize: bool = False
    fill_from_raw: bool = False
    drop: Sequence[str] = ()
    fix: Sequence[str] = ()
    baked: BakedVae | None = None
    """The file whose VAE goes in."""
    only: Component | None = None
    names_given: bool = False
    """Whether a person named the output: then its name says nothing of what is in it."""

    def __post_init__(self) -> None:
        if self.dequantize:
            weight_dtype(self.dtype)

    @property
    def counts_nonfinite(self) -> bool:
        """Whether NaN and Inf are counted in what is not cast, too."""
        return True

    @property
    def sets(self) -> Nothing:
        """Why nothing is made of a sharded set: programs save models in shards for inference."""
        return Nothing("a sharded set has nothing to prune; use sdtool convert")

    @property
    def forms(self) -> list[Form]:
        """The outputs of one input."""
        if self.variant != "all":
            return [(self.variant, self.dtype)]
        dtypes = ("keep",) if self.dtype == "keep" else ("keep", self.dtype)
        return [(kind, form) for form in dtypes for kind in _BOTH]

    def names(self, path: str, shards: Sequence[str] = ()) -> list[str]:
        """Return the names of the outputs of one input, before it is opened."""
        return list(self._named_forms(path))

    def choose(self, checkpoint: Checkpoint, job: Job) -> Sequence[Making | Nothing | SdtoolError]:
        """Return what to make of an input, one for each output; what is said twice is left out."""
        forms = self._named_forms(job.item.called).values()
        result: list[Making | Nothing | SdtoolError] = []
        given: set[str] = set()
        for form, place in zip(forms, job.outs, strict=True):
            made = self._making(checkpoint, form, job.item, place)
            if not isinstance(made, Making):
                why = made.why if isinstance(made, Nothing) else str(made)
                if why in given:  # of all variants: once is enough
                    continue
                given.add(why)
            result.append(made)
        return result

    @property
    def _is_named_so(self) -> bool:
        """Whether names say the precision of what was quantized: no component contradicts it."""
        dtypes = {self.dtype, self.unet_dtype, self.vae_dtype, self.text_dtype}
        return self.dequantize and dtypes <= {"keep", None}

    def _named_forms(self, path: str) -> dict[str, Form]:
        """The forms by the names of their files; of two that a name cannot tell apart, the cast."""
        made: dict[str, Form] = {}
        parts = {"unet": self.unet_dtype, "vae": self.vae_dtype, "text": self.text_dtype}
        for kind, form in self.forms:
            name = output_name(
                path,
                variant=kind,
                dtype=DEQUANTIZED_DTYPE if self._is_named_so else form,
                parts=parts if form == self.dtype else {},
            )
            made[name if self.only is None else component_file_name(name, self.only)] = kind, form
        return made

    def _making(
        self, checkpoint: Checkpoint, form: Form, item: Item, place: Path
    ) -> Making | Nothing | SdtoolError:
        path, alone = item.path, item.alone
        try:
            plan = self._planned(checkpoint, form)
            notes = plan.notes
            updates = averaged_updates(path) if plan.lacks_ema else None
            if updates is not None:  # what is called raw here are the averages
                plan = self._planned(checkpoint, ("raw-only", form[1]))
                notes = (f"its weights are the EMA, updated {updates:,} times", *plan.notes)
        except NotHeld as e:
            return Nothing(e.what, is_wrong=True, hint=e.hint)
        except SdtoolError as e:
            return e  # the EMA may be incomplete where the raw weights are not
        if self._is_named_so and not any(selected.scale for selected in plan.selection.entries):
            return Nothing("it holds no quantized weights", is_wrong=True)
        if updates is not None and plan.nothing_to_do is not None:
            return Nothing(notes[0])
        if plan.nothing_to_do is not None:
            return Nothing(
                plan.nothing_to_do,
                is_wrong=plan.lacks_ema and len(self.forms) == 1,
                hint=_without_ema(path) if plan.lacks_ema else None,
            )
        label = called_by_name(checkpoint)
        if label is not None and not alone:
            keeps = f"a {label} keeps its name, by which prompts refer to it"
            return Nothing(f"{keeps}; name the file itself to prune it")
        if label is not None and not self.names_given:
            notes = (*notes, f"prompts refer to a {label} by its file name, which has changed")
        return Making(
            plan.selection,
            place,
            table=plan.table,
            notes=notes,
            details={"prune": plan.as_json()},
        )

    def _planned(self, checkpoint: Checkpoint, form: Form) -> PrunePlan:
        kind, dtype = form
        is_cast = dtype == self.dtype
        return plan_prune(
            checkpoint,
            variant=kind,
            dtype=dtype,
            unet_dtype=self.unet_dtype if is_cast else None,
            vae_dtype=self.vae_dtype if is_cast else None,
            text_dtype=self.text_dtype if is_cast else None,
            dequantize=self.dequantize and is_cast,
            fill_from_raw=self.fill_from_raw,
            drop=self.drop,
            fix=self.fix,
            bake=None if self.baked is None else self.baked.checkpoint,
            only=self.only,
            compare_ema=kind != "keep-both" and form == self.forms[0],
        )


@contextmanager
def with_baked_vae(
    recipe: Pruning, vae: str | os.PathLike[str] | None, options: Options
) -> Generator[Pruning]:
    """Give the recipe with the VAE of a file put in, which is judged and stays open; or as it is.

    Raises:
        SdtoolError: the file is unsafe, or cannot be read.
    """
    if vae is None:
        yield recipe
        return
    baked = BakedVae(vae, options)
    with baked.opened:
        _ = baked.checkpoint  # before anything is written
        yield replace(recipe, baked=baked)


def _without_ema(path: str) -> str:
    folder = ema_folder_of(path)
    if folder is not None:
        return f"its EMA is a separate model: {folder}"
    return "use --raw-only to keep the existing weights"
