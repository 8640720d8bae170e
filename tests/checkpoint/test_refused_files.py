"""Files of which no one checkpoint can be taken: refused, each with its exact reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests import forge

from sdtool.checkpoint import (
    InputError,
    LimitExceeded,
    Malformed,
    NotACheckpoint,
    Unsupported,
    open_checkpoint,
)
from sdtool.checkpoint.joined import together
from sdtool.checkpoint.limits import DEFAULT_LIMITS
from sdtool.checkpoint.source import Memory

STATE = forge.pickled(forge.dict_of({"a": forge.tensor()}))
MODEL = forge.torch_zip(STATE)

CASES: dict[str, tuple[bytes, type[InputError], str]] = {
    "two formats": (
        forge.safetensors({}, b"") + MODEL,
        Malformed,
        "it can be read as safetensors and as torch-zip",
    ),
    "a tar of models": (
        forge.tar_file({"a.ckpt": MODEL}),
        Unsupported,
        "a tar archive, not a checkpoint itself",
    ),
    "a zip without a pickle": (
        forge.zip_file([forge.Member("notes.txt", b"hello")]),
        NotACheckpoint,
        "a zip archive with no checkpoint inside",
    ),
    "an empty zip": (forge.zip_file([]), NotACheckpoint, "an empty zip archive"),
    "a gzip of text": (
        forge.gz(b"hello, world\n" * 10),
        NotACheckpoint,
        "a gzip file with no checkpoint inside",
    ),
    "a tar of text": (
        forge.tar_file({"a.txt": b"hello"}),
        NotACheckpoint,
        "a tar archive with no checkpoint inside",
    ),
    "a pickle that is cut": (
        forge.torch_zip(STATE[:-9]),
        InputError,
        "archive/data.pkl: the pickle ends in the middle of a name at offset 104",
    ),
    "an array of text": (
        forge.npy("abcd".encode("utf-32-le"), "'<U1'", "(4,)"),
        NotACheckpoint,
        "it holds nothing that could be weights",
    ),
    "several pickles": (
        forge.pickled({"a": 1}) + forge.pickled({"b": 2}),
        Malformed,
        "the file holds several pickles where a checkpoint has one",
    ),
    "a change that Python refuses": (
        forge.torch_zip(forge.pickled(forge.setitem(forge.value((1, 2)), 0, 1))),
        Malformed,
        "SETITEM on what cannot be changed so",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_no_checkpoint_is_taken(case: str) -> None:
    data, kind, what = CASES[case]
    with pytest.raises(InputError) as refused:
        open_checkpoint(Memory(data, "model.ckpt"))
    assert refused.value.what == what
    assert isinstance(refused.value, kind)
    assert refused.value.where == "model.ckpt"


def test_names_beyond_the_limit() -> None:
    data = forge.torch_zip(forge.pickled(forge.dict_of({"name": forge.tensor(), "x": 1})))
    small, enough = (replace(DEFAULT_LIMITS, names_nbytes=nbytes) for nbytes in (4, 5))
    with pytest.raises(LimitExceeded) as refused:
        open_checkpoint(Memory(data, "model.ckpt"), limits=small)
    assert refused.value.what == "names of more than 4 bytes"
    assert refused.value.where == "model.ckpt"
    assert open_checkpoint(Memory(data, "model.ckpt"), limits=enough).leaves == {"x": 1}


def test_a_name_that_two_shards_hold() -> None:
    first, second = (open_checkpoint(Memory(MODEL, name)) for name in ("a.ckpt", "b.ckpt"))
    with pytest.raises(Malformed) as refused:
        together([first, second])
    assert refused.value.what == "two shards hold 'a'"
    assert refused.value.where == "a.ckpt and b.ckpt"
    assert together([first]) is first
