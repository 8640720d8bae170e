"""The folder of a pipeline on a web server, which has no list of files.

Its `model_index.json` names the components. The files of each are looked for under the names that
diffusers and transformers give them: at most eight requests for a component.
"""

from __future__ import annotations

from collections.abc import Iterator

from sdtool.batch.remote.connections import Connections
from sdtool.batch.remote.location import Location
from sdtool.batch.remote.opening import open_remote, web_file
from sdtool.batch.remote.web import Absent
from sdtool.checkpoint import Unreadable
from sdtool.convert import PIPELINE_INDEX, SCHEDULER, components_in, names_of_weights


def web_listing(folder: Location) -> Iterator[Location]:
    """Yield the index of a pipeline, the configuration of its scheduler, and its weights.

    Raises:
        Unreadable: there is no index; a component has no weights under any of the usual names; or
            the server does not say.
        Malformed: the index is not one.
    """
    index = folder.inside(PIPELINE_INDEX)
    try:
        with open_remote(index) as file:
            components = components_in(file)
    except Absent as e:
        raise Unreadable(
            f"a web server has no list of files, and there is no {PIPELINE_INDEX}",
            where=folder.shown,
            hint="name a file; hf://owner/repo and s3://bucket/folder/ stand for all files in them",
        ) from e
    yield index
    connections = Connections()
    try:
        if _is_there(folder.inside(SCHEDULER), connections):
            yield folder.inside(SCHEDULER)
        for component, library in components.items():
            places = (folder.inside(f"{component}/{name}") for name in names_of_weights(library))
            found = [place for place in places if _is_there(place, connections)]
            if not found:
                raise Unreadable(
                    f"the server has no weights of {component} under any of the usual names",
                    where=folder.shown,
                    hint="name the files one by one",
                )
            yield from found
    finally:
        connections.close()


def _is_there(place: Location, connections: Connections) -> bool:
    return web_file(place, connections).is_there()
