"""Pickles behind each other, and whether bytes that nobody announced are a pickle."""

from __future__ import annotations

from collections.abc import Iterator
from sys import stdlib_module_names

from sdtool.checkpoint.containers.opening import Opening
from sdtool.checkpoint.errors import LimitExceeded, Truncated
from sdtool.checkpoint.reading import PICKLE, LoaderProfile, Stream
from sdtool.checkpoint.source import Source
from sdtool.checkpoint.trace import Resolve
from sdtool.checkpoint.values import Global, Instance

_HEAD_NBYTES = 4096
_INSTALLED = stdlib_module_names | {
    "__builtin__", "torch", "numpy", "joblib", "pandas", "scipy", "sklearn", "pip", "setuptools",
    "pkg_resources", "transformers", "diffusers", "accelerate", "PIL", "cv2", "tensorflow", "yaml",
    "safetensors", "omegaconf", "pytorch_lightning", "lightning", "torchvision", "huggingface_hub",
}  # fmt: skip
"""Packages that are on most machines where a model is loaded."""


def too_many(opening: Opening, last: Stream) -> Stream:
    """`last`, which is one pickle too many."""
    error = LimitExceeded(f"more than {opening.limits.pickles:,} pickles in a row")
    return Stream(last.member, last.offset, last.profile, last.source, last.trace, None, error)


def pickles_in_a_row(
    opening: Opening,
    content: Source,
    offset: int,
    member: str | None = None,
    profile: LoaderProfile = PICKLE,
) -> Iterator[Stream]:
    """Pickles behind each other from `offset`, while they look like pickles."""
    for number in range(opening.limits.pickles + 1):
        if offset >= content.nbytes:
            return
        stream = opening.pickle(content, offset, profile=profile, member=member)
        if not looks_like_pickle(stream):
            return
        yield too_many(opening, stream) if number == opening.limits.pickles else stream
        if not reached_stop(stream):
            return
        offset += stream.trace.nbytes


def reached_stop(stream: Stream) -> bool:
    """Whether some loader goes on behind this pickle.

    Where loaders disagree about an opcode there is no value; those who took it have the next
    pickle before them all the same.
    """
    if stream.error is None:
        return True
    end = stream.offset + stream.trace.nbytes
    return stream.trace.nbytes > 0 and stream.source.read_at(end - 1, 1) == b"."


def looks_like_pickle(stream: Stream) -> bool:
    """Whether bytes that nobody declared to be a pickle are one that matters.

    What an unpickler would look up makes a pickle of any bytes, also where it breaks off
    afterwards: the name has been imported by then, and may have been called. Without a name there
    has to be a PROTO opcode: two bytes of a tensor (`N.`) make a perfect pickle of None.
    """
    if isinstance(stream.error, LimitExceeded) and stream.trace.opcodes != 1:
        return True  # broken off in the middle, or not begun: not for what its first opcode holds
    if stream.trace.goes_on:
        return True
    names = [event.target for event in stream.trace.events if type(event) is Resolve]
    if names and (stream.error is None or _could_run(names, stream)):
        return True
    head = stream.source.read_at(stream.offset, 2)
    if head[:1] == b"\x80" and head[1:] <= b"\x05":
        return stream.trace.opcodes > 2 or stream.error is None or type(stream.error) is Truncated
    return False


def _could_run(names: list[Global], stream: Stream) -> bool:
    """Whether any loader would get as far as to import one of the names.

    `config`, a line end, `foo` and a line end are a GLOBAL opcode too, and so is any list of words
    that begins with a c. What is text from end to end and only names what is not installed
    anywhere imports nothing.
    """
    if any(_package(name) in _INSTALLED for name in names):
        return True  # whatever it is called in there: the package is imported before
    if not any(map(_is_importable, names)):
        return False
    calls = any(type(e) is Instance and type(e.args) is tuple for e in stream.trace.events)
    return calls or not _is_text(stream.source.read_at(stream.offset, _HEAD_NBYTES))


def _package(name: Global) -> str:
    """What is imported first; an import ends at a NUL."""
    return name.module.partition("\0")[0].partition(".")[0]


def _is_importable(name: Global) -> bool:
    """Whether Python would find anything by that name."""
    module = name.module.partition("\0")[0]
    return all(
        part and part.isprintable() and not any(map(str.isspace, part))
        for part in (*module.split("."), *name.name.split("."))
    )


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as e:
        if e.start < len(head) - 3:  # the last character may be cut in two
            return False
        text = head[: e.start].decode()
    return all(char.isprintable() or char in "\t\n\r\f" for char in text)
