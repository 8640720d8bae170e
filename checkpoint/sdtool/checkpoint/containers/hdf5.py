"""HDF5 files, as Keras writes them (`.h5`): recognised, and searched for what Keras would build.

Their groups and attributes are not read. But Keras keeps its configuration as one text, which
stands in a row in the file: it is looked for at both ends, and with `deep` everywhere.

Source: HDF5 File Format Specification 3.0, II.A (the signature, at 0, 512, 1024, ...);
keras/src/legacy/saving/legacy_h5_format.py (the attribute `model_config`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from sdtool.checkpoint.containers.container import Container
from sdtool.checkpoint.containers.opening import Opening
from sdtool.checkpoint.errors import Unsupported
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.reading import Reading
from sdtool.checkpoint.source import Source
from sdtool.checkpoint.trace import Anomaly

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_PLACES = (0, 512, 1024, 2048)
_BEGINS = re.compile(rb'\{"(?:class_name|module)": ?"')
_SEARCHED_NBYTES = 8 << 20
_CONFIG_NBYTES = 4 << 20
_CANDIDATES = 16
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
    from sdtool.checkpoint.keras_config import config_anomalies

    seen: set[object] = set()
    for text in _configs(source, deep=deep):
        try:
            end = json.JSONDecoder().raw_decode(text)[1]
            named = list(config_anomalies(text[:end].encode(), None))
        except (ValueError, RecursionError):
            continue  # another text that begins so
        for anomaly in named:
            if anomaly.rule not in seen:
                seen.add(anomaly.rule)
                yield anomaly


def _configs(source: Source, *, deep: bool) -> Iterator[str]:
    """Texts that begin as a configuration does, the first few of those that are no part of one."""
    found = 0
    behind = 0
    for start in _windows(source.nbytes, deep=deep):
        for match in _BEGINS.finditer(source.read_at(start, _SEARCHED_NBYTES)):
            at = start + match.start()
            if at < behind:
                continue
            data = source.read_at(at, _CONFIG_NBYTES)
            text = data.partition(b"\0")[0].decode("utf-8", "replace")
            behind = at + len(text)
            yield text
            found += 1
            if found == _CANDIDATES:
                return


def _windows(nbytes: int, *, deep: bool) -> Iterator[int]:
    """Where to search: at both ends, or with some overlap everywhere."""
    step = _SEARCHED_NBYTES - 64
    if deep or nbytes <= 2 * _SEARCHED_NBYTES:
        yield from range(0, nbytes, step)
    else:
        yield from (0, nbytes - _SEARCHED_NBYTES)


HDF5 = Container((Format.HDF5,), _begins, _read)
