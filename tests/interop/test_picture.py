"""The page of `info --html` in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_picture import HOSTILE, file, made

browser = pytest.importorskip("tests.interop.browser")
pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="needs Chromium")

_NAMES = "[...document.querySelectorAll('#list tbody th')].map((cell) => cell.textContent)"
_TOLD = "document.getElementById('count').value"


def _click(selector: str) -> str:
    return f"document.querySelector({selector!r}).click()"


def _typed(text: str) -> str:
    return (
        "(() => { const field = document.getElementById('name'); field.value = " + repr(text) + ";"
        " field.dispatchEvent(new Event('input', { bubbles: true })); })()"
    )


def test_it_sorts_filters_and_asks_for_nothing(tmp_path: Path) -> None:
    files = [file(name, size_bytes=1_000_000 * n, title="VAE") for n, name in enumerate(HOSTILE, 1)]
    files += [file(f"m{n}.ckpt", size_bytes=n, verdict="unsafe") for n in range(1, 300)]
    path = tmp_path / "page.html"
    path.write_text(made(files), "utf-8")

    async def look() -> None:
        async with browser.opened(tmp_path / "profile") as page:
            await page.open(path.as_uri())
            assert await page.value(_TOLD) == "307 of 307 files, the first 200 shown"
            assert len(await page.value(_NAMES)) == 200
            await page.value(_click("#more"))
            assert len(await page.value(_NAMES)) == 307
            assert await page.value("document.getElementById('more').hidden") is True

            await page.value(_click("#list thead th:nth-child(3) button"))
            names = await page.value(_NAMES)
            assert names[0] == HOSTILE[-1] and names[-1] == "m1.ckpt"
            order = "document.querySelector('#list th:nth-child(3)').getAttribute('aria-sort')"
            assert await page.value(order) == "descending"
            await page.value(_click("#list thead th:nth-child(3) button"))
            assert (await page.value(_NAMES))[0] == "m1.ckpt"
            await page.value(_click("#list thead th:first-child button"))
            assert await page.value(order) == "none"

            await page.value(_typed("M29"))
            assert await page.value(_NAMES) == ["m29.ckpt", *(f"m29{n}.ckpt" for n in range(10))]
            await page.value(_click("[data-kind='VAE']"))
            assert await page.value(_TOLD) == "8 of 307 files"
            assert HOSTILE[0] in await page.value(_NAMES)
            await page.value(
                "document.querySelector('svg[data-path]')"
                ".dispatchEvent(new MouseEvent('click', { bubbles: true }))"
            )
            assert await page.value(_TOLD) == "1 of 307 files"

            assert _troubles(page.events) == []
            asked = [e for e in page.events if e["method"] == "Network.requestWillBeSent"]
            assert [e["params"]["request"]["url"] for e in asked] == [path.as_uri()]

    browser.run(look())


def _troubles(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Errors of the script, what the policy refused, and dialogs."""
    kinds = ("Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening")
    return [event for event in events if event["method"] in kinds]
