"""HDF5 files, as Keras writes them (`.h5`): recognised, and searched for what Keras would build.

Keras keeps its configuration as one text, an attribute of the root group: those are read, wherever
they are in the file. Other groups are not. But any text stands in a row in the file, so
configurations are looked for at both ends, too, and with `deep` everywhere: every object of JSON,
whatever the order of its keys and however they are spelled.

Source: HDF5 File Format Specification 3.0, II.A (the signature, at 0, 512, 1024, ...);
keras/src/legacy/saving/legacy_h5_format.py (the attribute `model_config`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain

from sdtool.checkpoint.containers.container import Container
from sdtool.checkpoint.containers.opening import Opening
from sdtool.checkpoint.errors import Unsupported
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.reading import Reading
from sdtool.checkpoint.source import Source
from sdtool.checkpoint.trace import Anomaly

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_PLACES = (0, 512, 1024, 2048)
_BEGINS = rb'\{\s*"'
_SEARCHED_NBYTES = 8 << 20
_CONFIG_NBYTES = 4 << 20
_CONFIGS = 64
_TRIED_NBYTES = 64 << 20
"""What is decoded of a file, in vain or not."""
_HINT = (
    "open it with Keras in safe mode (a Lambda layer in it can hold code), or look for a"
    " safetensors version"
)


def _begins(opening: Opening) -> bool:
    return any(opening.head.startswith(_SIGNATURE, place) for place in _PLACES)


def _read(opening: Opening) -> Iterator[Reading]:
    source = opening.source
    error = Unsupported(
        "an HDF5 file, as Keras writes (.h5), which sdtool does not read",
        where=source.name,
        hint=_HINT,
    )
    anomalies = tuple(_found(source, deep=opening.deep))
    yield Reading(Format.HDF5, source, anomalies=anomalies, error=error)


def _found(source: Source, *, deep: bool) -> Iterator[Anomaly]:
    """What the configurations in the file name, each rule once."""
    from sdtool.checkpoint.containers.hdf5_attributes import root_texts
    from sdtool.checkpoint.keras_config import config_anomalies

    start = next(place for place in _PLACES if source.read_at(place, 8) == _SIGNATURE)
    texts = chain(root_texts(source, start), _configs(source, deep=deep))
    seen: set[object] = set()
    for text in texts:
        try:
            named = list(config_anomalies(text, None))
        except ValueError:
            continue  # another text
        for anomaly in named:
            if anomaly.rule not in seen:
                seen.add(anomaly.rule)
                yield anomaly


def _configs(source: Source, *, deep: bool) -> Iterator[bytes]:
    """Objects of JSON in the file, the first few of those that are no part of one."""
    found = behind = 0
    left = _TRIED_NBYTES
    for start in _windows(source.nbytes, deep=deep):
        data = source.read_at(start, _SEARCHED_NBYTES)
        for match in re.finditer(_BEGINS, data):
            at = start + match.start()
            if at < behind:
                continue
            text = _until_nul(source, data, match.start(), at)
            left -= len(text)
            nbytes = _object_nbytes(text)
            if nbytes:
                behind = at + nbytes
                yield text[:nbytes]
                found += 1
            if found == _CONFIGS or left < 0:
                return


def _until_nul(source: Source, data: bytes, begin: int, at: int) -> bytes:
    """What stands at `at` of the file, `begin` of the window `data`, before the next NUL."""
    end = data.find(b"\0", begin, begin + _CONFIG_NBYTES)
    if end >= 0:
        return data[begin:end]
    return source.read_at(at, _CONFIG_NBYTES).partition(b"\0")[0]


def _object_nbytes(text: bytes) -> int:
    """How long the object of JSON is that `text` begins with; 0 where it begins with none."""
    import json  # no other file needs it

    decoded = text.decode("utf-8", "replace")
    try:
        _, end = json.JSONDecoder().raw_decode(decoded)
    except (ValueError, RecursionError):
        return 0
    return len(decoded[:end].encode())


def _windows(nbytes: int, *, deep: bool) -> Iterator[int]:
    """Where to search: at both ends, or with some overlap everywhere."""
    step = _SEARCHED_NBYTES - 64
    if deep or nbytes <= 2 * _SEARCHED_NBYTES:
        yield from range(0, nbytes, step)
    else:
        yield from (0, nbytes - _SEARCHED_NBYTES)


HDF5 = Container((Format.HDF5,), _begins, _read)
