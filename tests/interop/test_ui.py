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
from tests.batch.mixed import tree
from tests.cli.kinds import lora

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


def test_a_folder_is_tidied_and_put_back(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    torch.save(lora(), folder / _NAME)
    before = tree(folder)
    command = [sys.executable, "-m", "sdtool", "ui", str(folder)]
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            with urllib.request.urlopen(address.replace("/?", "/runs/0?")) as look:
                assert b'"ended": "done"' in look.read()
            browser.run(_tidied(address, tmp_path / "profile"))
        finally:
            server.terminate()
    assert tree(folder) == before


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


async def _tidied(address: str, profile: Path) -> None:
    async with browser.opened(profile) as page:
        await page.open(address)

        async def asked(button: str, answer: str) -> str:
            await page.value(f"document.getElementById({button!r}).click()")
            await page.value(_when("document.getElementById('question').open"))
            asked: str = await page.value("document.getElementById('asked').textContent")
            await page.value(f"document.querySelector('#question [value={answer}]').click()")
            await page.value(_when("!document.getElementById('question').open"))
            return asked

        async def ended(label: str) -> str:
            words = "['label', 'ended'].map((id) => document.getElementById(id).textContent)"
            await page.value(_when(f"{words}.join() === '{label},done'"))
            lines: str = await page.value("document.getElementById('lines').textContent")
            return lines

        await page.value("document.querySelector('#tidy-request [type=submit]').click()")
        await page.value(_when("document.getElementById('carry-out')"))
        plan = await page.value("document.getElementById('plan').textContent")
        assert f"{_NAME}converted to " in plan and "1 file: 1 converted" in plan
        assert await page.value("document.querySelector('#plan img')") is None
        assert await asked("carry-out", "no") == "Change 1 file?"
        assert await page.value("document.getElementById('lines').textContent") == ""
        await asked("carry-out", "yes")
        assert "1 original (" in await ended("tidying")
        assert await asked("undo", "yes") == "Put 1 file back?"
        assert f"{_NAME}: put back" in await ended("undoing")
        assert _troubles(page.events) == []


def _troubles(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Errors of the script, what the policy refused, and dialogs; the icon may be missing."""
    kinds = ("Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening")
    found = [event for event in events if event["method"] in kinds]
    entries = (event["params"].get("entry", {}) for event in found)
    return [one for one in entries if "favicon" not in one.get("url", "") and "409" not in str(one)]
