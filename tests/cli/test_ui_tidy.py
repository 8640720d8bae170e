"""Tidy on the page of `sdtool ui`: the plan, the second yes, the run, the ways back and on."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.batch.mixed import TRAP, tree
from tests.cli.kinds import hypernetwork, lora
from tests.cli.test_picture import Page

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from tests.cli.test_ui import OURS, TOKEN, Answer, Ask, first_look, names_in, served

from sdtool.batch import carry_out, plan_tidy
from sdtool.checkpoint import size
from sdtool.cli.tidying import summary_line
from sdtool.cli.ui.run import Level, Run

Told = list[tuple[str, str]]
PLAN: dict[str, Any] = {
    "folder": "1", "program": "found", "variant": "keep-both", "dtype": "keep", "strict": False,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one file of each fate."""
    place = tmp_path / "models"
    place.mkdir()
    (place / "bad.ckpt").write_bytes(TRAP)
    torch.save(lora(), place / "l.pt")
    torch.save(lora(1), place / "m.pt")
    save_file(lora(1), place / "m.safetensors")
    torch.save(hypernetwork(), place / "h.pt")
    return place


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with one file, for the quarantine."""
    place = tmp_path / "models"
    place.mkdir()
    (place / "bad.ckpt").write_bytes(TRAP)
    return place


def on_the_page(asked: Callable[[Ask], Awaitable[None]], *folders: Path) -> None:
    """Ask a server over folders, once it has looked at them."""

    async def run() -> None:
        async with served(*folders) as ask:
            await first_look(ask)
            await asked(ask)

    asyncio.run(run())


async def ended(ask: Ask, answer: Answer, how: str = "done") -> Told:
    """What a run has told; it has ended so, and all bytes were counted."""
    told = (await ask("GET", f"/runs/{answer.json['run']}")).told
    assert told[-1]["ended"] == how
    if how == "done":
        assert told[-1]["done"] == told[-1]["total"]
    return [(line["level"], line["text"]) for one in told for line in one["lines"]]


async def planned(ask: Ask, **more: Any) -> int:
    """The number of a plan that was made."""
    answer = await ask("POST", "/tidy/plans", PLAN | more)
    assert await ended(ask, answer) == []
    number: int = answer.json["run"]
    return number


async def confirmed(ask: Ask, path: str, data: dict[str, Any]) -> tuple[Any, Told]:
    """The question, and what came of a yes to it."""
    question = await ask("POST", path, data)
    assert question.status == 409
    answer = await ask("POST", path, data | {"confirmed": question.json["confirm"]})
    return question.json, await ended(ask, answer)


def test_planned_asked_done_undone_and_forgotten(folder: Path) -> None:
    before = tree(folder)
    sizes = {name: size((folder / name).stat().st_size) for name in before}

    async def asked(ask: Ask) -> None:
        number = await planned(ask)
        view = (await ask("GET", f"/tidy/plans/{number}")).body.decode()
        assert summary_line(plan_tidy(folder)).replace(">", "&gt;") in view
        bad, *rest = Page(view).rows[""][1::]
        assert bad[0] == "bad.ckpt" and bad[2:] == ["379 bytes", "-"]
        assert "unsafe: references a dangerous function: os.system" in bad[1]
        heading = ["File", "What and why", "Before", "After"]
        kept = "programs load hypernetworks from .pt files only"
        idle = "it is safetensors already, and holds nothing that only training needs"
        assert rest == [
            heading, ["l.pt", "converted to l.safetensors", sizes["l.pt"], "10.7 KB"],
            heading, ["m.pt", "m.safetensors holds all of it", sizes["m.pt"], "-"],
            heading, ["h.pt", kept, sizes["h.pt"], sizes["h.pt"]],
            heading, ["m.safetensors", idle, *[sizes["m.safetensors"]] * 2],
        ]  # fmt: skip
        (button,) = Page(view).all("button")
        assert button["data-plan"] == str(number)

        question, told = await confirmed(ask, f"/tidy/plans/{number}/run", {})
        assert (question["question"], question["yes"]) == ("Change 3 files?", "Yes, change them")
        assert [path.partition(": ")[0] for path in question["paths"]] == [
            str(folder / name) for name in ("bad.ckpt", "l.pt", "m.pt")
        ]
        assert ("result", "l.pt: converted to l.safetensors") in told
        assert not any(level == "error" for level, _ in told)
        assert names_in(folder) == [
            ".sdtool-tidy", "h.pt", "l.safetensors", "m.safetensors", "sdtool-quarantine",
        ]  # fmt: skip

        question, told = await confirmed(ask, "/tidy/undo", {"folder": "1"})
        assert question["question"] == "Put 3 files back?"
        assert [text for _, text in told][:3] == [
            "m.pt: put back", "l.pt: put back", "bad.ckpt: put back",
        ]  # fmt: skip
        assert tree(folder) == before

        await confirmed(ask, f"/tidy/plans/{await planned(ask)}/run", {})
        question, told = await confirmed(ask, "/tidy/forget", {"folder": "1"})
        nbytes = sum(len(before[name][0]) for name in ("l.pt", "m.pt"))
        assert question["question"] == f"Delete 2 originals ({size(nbytes)}) for good?"
        assert question["paths"] == [str(folder / name) for name in ("l.pt", "m.pt")]
        assert "held" not in names_in(folder / ".sdtool-tidy")

    on_the_page(asked, folder)


def test_nothing_is_moved_or_deleted_without_its_own_yes(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    before = tree(tmp_path)

    async def asked(ask: Ask) -> None:
        run = f"/tidy/plans/{await planned(ask)}/run"
        for word in (None, "x", True, ["x"]):
            assert (await ask("POST", run, {"confirmed": word})).status == 409
        word = (await ask("POST", run, {})).json["confirm"]
        await planned(ask, folder="2")  # the plan that was asked about is not the last one
        assert (await ask("POST", run, {"confirmed": word})).status == 400
        assert tree(tmp_path) == before

        run = f"/tidy/plans/{await planned(ask)}/run"
        await confirmed(ask, run, {})
        assert (await ask("POST", run, {})).status == 400, "a plan is carried out once"
        await confirmed(ask, f"/tidy/plans/{await planned(ask, folder='2')}/run", {})
        done = tree(tmp_path)
        for path, wrong in (("/tidy/undo", "/tidy/forget"), ("/tidy/forget", "/tidy/undo")):
            word = (await ask("POST", path, {"folder": "1"})).json["confirm"]
            for to, number in ((wrong, "1"), (path, "2"), (path, "1")):
                data = {"folder": number, "confirmed": word}
                assert (await ask("POST", to, data)).status == 409
        assert tree(tmp_path) == done

        word = (await ask("POST", "/tidy/forget", {"folder": "2"})).json["confirm"]
        torch.save(lora(9), other / "n.pt")  # what is held changes after the question
        carry_out(plan_tidy(other))
        data = {"folder": "2", "confirmed": word}
        assert (await ask("POST", "/tidy/forget", data)).status == 409
        assert len(names_in(other / ".sdtool-tidy" / "held")) == 3

    on_the_page(asked, folder, other)


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/tidy/plans", {}), ("/tidy/plans", PLAN | {"more": 1}), ("/tidy/plans", b"[]"),
        *(("/tidy/plans", PLAN | wrong) for wrong in (
            {"folder": "2"}, {"folder": "/"}, {"folder": "../models"}, {"folder": 1},
            {"program": "krita"}, {"program": None}, {"variant": "all"}, {"dtype": "fp17"},
            {"strict": 1}, {"folder": ["1"]},
        )),
        ("/tidy/undo", {"folder": "1"}), ("/tidy/forget", {"folder": "1"}),
        ("/tidy/undo", {"folder": "/"}), ("/tidy/undo", {}), ("/tidy/forget", {"folder": None}),
        ("/tidy/forget", {"folder": "1", "quarantine": "/"}),
        ("/tidy/plans/0/run", {}), ("/tidy/plans/1/run", {}), ("/tidy/plans/7/run", {}),
    ],
)  # fmt: skip
def test_what_the_page_does_not_ask_for_is_refused(small: Path, path: str, data: Any) -> None:
    before = tree(small)

    async def asked(ask: Ask) -> None:
        answer = await ask("POST", path, data)
        assert (answer.status, list(answer.json)) == (400, ["error", "hint"])
        assert (await ask("GET", "/tidy/plans/0")).status == 400

    on_the_page(asked, small)
    assert tree(small) == before


def test_nobody_else_is_answered(small: Path) -> None:
    before = tree(small)

    async def asked(ask: Ask) -> None:
        number = await planned(ask)
        for path in ("/tidy/plans", f"/tidy/plans/{number}/run", "/tidy/undo", "/tidy/forget"):
            for token, headers in (
                (None, OURS), ("b" * 43, OURS),
                (TOKEN, OURS | {"origin": "http://evil.example"}),
                (TOKEN, OURS | {"host": "evil.example:8350"}),
                (TOKEN, OURS | {"content-type": "text/plain"}),
            ):  # fmt: skip
                answer = await ask("POST", path, PLAN, token=token, headers=headers)
                assert answer.status == 403
        assert (await ask("GET", f"/tidy/plans/{number}", token=None)).status == 403

    on_the_page(asked, small)
    assert tree(small) == before


def test_a_run_is_cancelled_between_two_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(folder)

    def cancelled_then(run: Run, level: Level, *lines: str) -> None:
        run.lines.extend((level, line) for line in lines)
        run.cancelled.set()

    async def asked(ask: Ask) -> None:
        path = f"/tidy/plans/{await planned(ask)}/run"
        word = (await ask("POST", path, {})).json["confirm"]
        with monkeypatch.context() as patch:
            patch.setattr(Run, "report", cancelled_then)
            told = await ended(ask, await ask("POST", path, {"confirmed": word}), "cancelled")
        (first, *_) = told
        assert first[1].startswith("bad.ckpt: to quarantine, unsafe: ")
        assert ("result", f"1 file in quarantine in {folder / 'sdtool-quarantine'}") in told
        assert (folder / "l.pt").exists()
        await confirmed(ask, "/tidy/undo", {"folder": "1"})
        assert tree(folder) == before

    on_the_page(asked, folder)


def test_what_stands_in_the_way_is_told(folder: Path) -> None:
    async def asked(ask: Ask) -> None:
        number = await planned(ask)
        (folder / "l.safetensors").write_bytes(b"mine")
        _, told = await confirmed(ask, f"/tidy/plans/{number}/run", {})
        assert ("error", f"{folder / 'l.safetensors'}: already exists") in told
        (folder / "m.pt").write_bytes(b"mine, too")
        _, told = await confirmed(ask, "/tidy/undo", {"folder": "1"})
        assert ("error", f"{folder / 'm.pt'}: already exists") in told
        assert ("result", "bad.ckpt: put back") in told

    on_the_page(asked, folder)


@pytest.mark.skipif(sys.platform == "win32", reason="names that Windows does not take")
def test_names_stay_text(tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>\u202e$running.ckpt"
    place = tmp_path / f"{hostile}.d"
    place.mkdir()
    (place / hostile).write_bytes(TRAP)

    async def asked(ask: Ask) -> None:
        page = (await ask("GET", "/")).body.decode()
        view = (await ask("GET", f"/tidy/plans/{await planned(ask)}")).body.decode()
        for html in (page, view):
            assert "<img" not in html and "\u202e" not in html
            assert "&lt;img src=x onerror=alert(1)&gt;\\u202e$running.ckpt" in html

    on_the_page(asked, place)


def test_a_page_over_files_alone_has_no_tidy(small: Path) -> None:
    async def asked(ask: Ask) -> None:
        page = Page((await ask("GET", "/")).body.decode())
        assert not any(one.get("id") == "tidy-request" for one in page.all("form"))
        assert (await ask("POST", "/tidy/plans", PLAN)).status == 400

    on_the_page(asked, small / "bad.ckpt")
