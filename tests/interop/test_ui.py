"""The page of `sdtool ui` in a browser: chosen, converted, asked twice, and nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

browser = pytest.importorskip("tests.interop.browser")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="needs Chromium")

_NAME = "<img src=x onerror=alert(1)>.ckpt"


def _when(condition: str) -> str:
    """A script that waits in the page until something holds."""
    return (
        "new Promise((met) => { const at = setInterval(() => {"
        f" if ({condition}) {{ clearInterval(at); met(true); }} }}, 10); }})"
    )


def test_files_are_chosen_converted_and_asked_for_twice(tmp_path: Path) -> None:
    folder, stub = tmp_path / "models", tmp_path / "stub"
    folder.mkdir()
    stub.mkdir()
    (stub / "send2trash.py").write_text("def send2trash(path): raise AssertionError(path)\n")
    weights = {"model.diffusion_model.input_blocks.0.0.weight": torch.randn(320, 4, 3, 3)}
    torch.save(weights, folder / _NAME)
    command = [sys.executable, "-m", "sdtool", "ui", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(stub)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            with urllib.request.urlopen(address.replace("/?", "/runs/0?")) as look:
                assert b'"ended": "done"' in look.read()  # the first look has ended
            browser.run(_used(address, tmp_path / "profile"))
        finally:
            server.terminate()
    made = load_file(folder / f"{_NAME.removesuffix('.ckpt')}.safetensors")
    assert all(torch.equal(made[name], tensor) for name, tensor in weights.items())
    assert len(list(folder.iterdir())) == 2  # nothing was removed


async def _used(address: str, profile: Path) -> None:
    async with browser.opened(profile) as page:
        await page.open(address)
        await page.value("document.querySelector('[value=convert]').click()")
        assert await page.value("document.getElementById('lines').textContent") == (
            "Choose a file first."
        )
        await page.value("document.querySelector('#list input').click()")
        assert await page.value("document.getElementById('chosen').value") == "1 file is chosen."
        await page.value("document.querySelector('[value=convert]').click()")
        await page.value(_when("document.getElementById('ended').textContent === 'done'"))
        lines = await page.value("document.getElementById('lines').textContent")
        assert f"{_NAME} -> " in lines and "verified" in lines

        await page.value("document.getElementById('replace').click()")
        await page.value("document.querySelector('[value=convert]').click()")
        await page.value(_when("document.getElementById('question').open"))
        asked = await page.value("document.getElementById('asked').textContent")
        assert asked == "Move 1 original to the trash?"
        originals = await page.value("document.getElementById('originals').textContent")
        assert originals.endswith(_NAME)
        await page.value("document.querySelector('#question [value=no]').click()")
        await page.value(_when("!document.getElementById('question').open"))

        assert _troubles(page.events) == []
        asked_of = {
            event["params"]["request"]["url"].partition("?")[0]
            for event in page.events
            if event["method"] == "Network.requestWillBeSent"
        }
        host = address.partition("?")[0]
        assert asked_of <= {host, f"{host}runs", f"{host}runs/1", f"{host}favicon.ico"}

        strange = await page.value(
            f"fetch({address.replace('127.0.0.1', 'localhost')!r}).then(() => 'read', () => 'kept')"
        )
        assert strange == "kept"


def _troubles(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Errors of the script, what the policy refused, and dialogs; the icon may be missing."""
    kinds = ("Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening")
    found = [event for event in events if event["method"] in kinds]
    entries = (event["params"].get("entry", {}) for event in found)
    return [one for one in entries if "favicon" not in one.get("url", "") and "409" not in str(one)]
