"""A checkpoint of 7.7 GB on a server: a scan and a card cost a few requests, and no megabyte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.remote.server import Holes, Server

from sdtool.cli.exit_codes import DONE

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def full_size() -> Holes:
    """sd-v1-full-ema.ckpt as Lightning saved it: its directory, its pickle, and no values."""
    pytest.importorskip("numpy")
    spec = spec_from_file_location("make_checkpoint", BENCHMARKS / "make_checkpoint.py")
    assert spec is not None and spec.loader is not None
    make: Any = module_from_spec(spec)
    spec.loader.exec_module(make)
    layout = json.loads((BENCHMARKS / "sd-v1-full-ema.json").read_text("utf-8"))["tensors"]
    weights = make.Weights(is_half=False, is_legacy=False, scale=1)
    checkpoint = make.lightning_checkpoint(layout, weights, "full")
    file = Holes()
    archive = make.TorchZip(file, "archive")
    pickled = make.pickled(checkpoint, is_legacy=False)
    archive.add("data.pkl", len(pickled), [pickled])

    def hole(nbytes: int) -> Iterator[bytes]:
        file.skip(nbytes)
        yield from ()

    for storage in weights.storages:
        is_small = storage.nbytes < 64  # counters: what they hold is shown
        values = storage.chunks() if is_small else hole(storage.nbytes)
        archive.add(f"data/{storage.key}", storage.nbytes, values)
    archive.add("version", 2, [b"3\n"])
    archive.close()
    return file


@pytest.mark.parametrize("verb", ["scan", "info"])
def test_a_few_requests_tell_what_it_is(
    sdtool: Run, server: Server, full_size: Holes, verb: str
) -> None:
    assert full_size.nbytes > 7_700_000_000
    url = server.serve("/sd-v1.ckpt", full_size)
    result = sdtool(verb, url, *(["--format", "json"] if verb == "scan" else ["--json"]))
    assert (result.code, result.err) == (DONE, "")
    (report,) = json.loads(result.out)["files"]
    assert (report["verdict"], report["size_bytes"]) == ("clean", full_size.nbytes)
    assert (report["requests"], report["read_bytes"]) == (len(server.asked), server.nbytes)
    assert len(server.asked) <= 10
    assert server.nbytes <= 1_000_000
    if verb == "info":
        assert (report["title"], report["ema"]["state"]) == ("SD 1.x checkpoint", "full")


def test_what_was_not_looked_at_is_said(sdtool: Run, server: Server, full_size: Holes) -> None:
    url = server.serve("/sd-v1.ckpt", full_size)
    (report,) = json.loads(sdtool("scan", url, "--format", "json").out)["files"]
    (finding,) = report["findings"]
    assert (finding["rule"], finding["severity"]) == ("records-not-fetched", "info")
    assert "1,833" in finding["message"]


def test_several_at_once_cost_no_more_each(sdtool: Run, server: Server, full_size: Holes) -> None:
    urls = [server.serve(f"/{i}.ckpt", full_size) for i in range(3)]
    result = sdtool("scan", "-j", "2", *urls)
    assert result.code == DONE
    assert result.out.splitlines()[-1] == "3 files scanned: 3 clean"
    assert len(server.asked) <= 30
