"""The recipe of `convert`: all weights of an input, in one precision, as one file."""

from __future__ import annotations

from collections.abc import Sequence

from sdtool.batch.file_keys import same_file
from sdtool.batch.kinds import called_by_name
from sdtool.batch.making import Making, Nothing, SetRecipe
from sdtool.batch.place import Job
from sdtool.checkpoint import Checkpoint, dataclass
from sdtool.convert import (
    DEQUANTIZED_DTYPE,
    Target,
    index_name,
    is_index,
    output_name,
    select_parts,
    token_name,
    treatment_of,
    weight_dtype,
)


@dataclass(frozen=True, slots=True)
class Converting:
    """What to convert to; it can be pickled.

    Raises:
        UsageError: `dequantize` goes with another precision.
    """

    dtype: str = "keep"
    """`keep`, or one of `sdtool.convert.plan.casts.DTYPES`."""
    to: Target | None = None
    """None for what programs load this kind of file from."""
    skip_unsupported: bool = False
    dequantize: bool = False
    """Whether scaled fp8 becomes weights of `dtype`, or bf16."""
    names_given: bool = False
    """Whether a person named the output: then its name says nothing of what is in it."""

    def __post_init__(self) -> None:
        if self.dequantize:
            weight_dtype(self.dtype)

    @property
    def counts_nonfinite(self) -> bool:
        """Whether NaN and Inf are counted in what is not cast, too."""
        return False

    @property
    def sets(self) -> SetRecipe:
        """What to make of a sharded set."""
        return SetRecipe(self.dtype, self.to, self.skip_unsupported, self.dequantize)

    def names(self, path: str, shards: Sequence[str] = ()) -> list[str]:
        """Return the names of the outputs of one input, before it is opened."""
        if is_index(path):
            return [index_name(path), *map(output_name, shards)]
        return [output_name(path, dtype=self._named, to=self.to or Target.SAFETENSORS)]

    def choose(self, checkpoint: Checkpoint, job: Job) -> Sequence[Making | Nothing]:
        """Return what to make of an input, one for each output."""
        named, source = self._named, job.item.called
        target = self.to or Target.of_kind(checkpoint.kind)
        (place,) = job.outs
        if self.to is None and target is Target.PT and not self.names_given:
            place = place.with_name(output_name(source, dtype=named, to=target))
        label = None
        if named != "keep" and not self.names_given and not job.item.alone:
            label = called_by_name(checkpoint)
        if label is not None:  # what a prompt calls keeps its name, in its new type as well
            place = place.with_name(output_name(source, to=target))
            if same_file(place, job.item.path):
                keeps = f"a {label} keeps its name, by which prompts refer to it"
                return [Nothing(f"{keeps}; use --out-dir to cast it under the same name")]
        treatment = treatment_of([checkpoint], dequantize=self.dequantize)
        if named != self.dtype and not treatment.scales:
            return [Nothing("it holds no quantized weights", is_wrong=True)]
        parts = select_parts(
            checkpoint,
            dtype=self.dtype,
            to=target,
            skip_unsupported=self.skip_unsupported,
            treatment=treatment,
        )
        is_idle = self.dequantize and not treatment.scales
        notes = ("it holds no quantized weights",) if is_idle else ()
        if len(parts) == 1:
            return [Making(parts[0][1], place, to=target, notes=notes)]
        return [
            Making(selection, place.with_name(token_name(place.name, token)), to=target)
            for token, selection in parts
        ]

    @property
    def _named(self) -> str:
        """The precision that names of outputs say."""
        return DEQUANTIZED_DTYPE if self.dequantize and self.dtype == "keep" else self.dtype
