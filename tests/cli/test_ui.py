"""The page of `sdtool ui`: who may ask, for what, and what is never done without a second yes."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.cli.conftest import Run as Command
from tests.cli.test_info import write_lora
from tests.cli.test_picture import HOSTILE, Page

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from sdtool.cli.ui.app import app
from sdtool.cli.ui.guard import Guard
from sdtool.cli.ui.library import Library
from sdtool.cli.ui.run import Run
from sdtool.scan import Settings

TOKEN, PORT = "a" * 43, 8350
HOST = f"127.0.0.1:{PORT}"
OURS = {"host": HOST, "origin": f"http://{HOST}", "content-type": "application/json"}


@dataclass(frozen=True)
class Answer:
    """What the application has sent."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def told(self) -> list[dict[str, Any]]:
        """The events of a run."""
        parts = self.body.decode().split("\n\n")
        return [json.loads(part.removeprefix("data: ")) for part in parts if part]


Ask = Callable[..., Awaitable[Answer]]


def scope_of(method: str, path: str, token: str | None, headers: dict[str, str]) -> dict[str, Any]:
    query = "" if token is None else f"token={token}"
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http",
        "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "root_path": "", "server": ("127.0.0.1", PORT), "client": ("127.0.0.1", 1),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
    }  # fmt: skip


def guard_of(errors: list[Exception], *folders: str | Path) -> Guard:
    """The application over folders; `errors` gets what its terminal would show."""
    library = Library([str(folder) for folder in folders], Settings({}))
    return app(library, TOKEN, PORT, errors.append)


@asynccontextmanager
async def served(
    *folders: str | Path, reported: list[Exception] | None = None
) -> AsyncGenerator[Ask]:
    """Run the application over folders, as a server does; without `reported` no error may be."""
    errors: list[Exception] = [] if reported is None else reported
    guard = guard_of(errors, *folders)
    to_app, from_app = asyncio.Queue[Any](), asyncio.Queue[Any]()
    life = asyncio.create_task(guard({"type": "lifespan"}, to_app.get, from_app.put))
    await to_app.put({"type": "lifespan.startup"})
    assert (await from_app.get())["type"] == "lifespan.startup.complete"

    async def ask(
        method: str,
        path: str,
        data: Any = None,
        *,
        token: str | None = TOKEN,
        headers: dict[str, str] = OURS,
    ) -> Answer:
        sent: list[dict[str, Any]] = []
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            return waiting.pop() if waiting else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        await guard(scope_of(method, path, token, headers), receive, send)
        found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        content = b"".join(message.get("body", b"") for message in sent[1:])
        return Answer(sent[0]["status"], found, content)

    yield ask
    await to_app.put({"type": "lifespan.shutdown"})
    await life
    assert reported is not None or not errors


async def first_look(ask: Ask) -> Page:
    """The page, once the first look at the folders has ended."""
    assert (await ask("GET", "/runs/0")).told[-1]["ended"] == "done"
    return Page((await ask("GET", "/")).body.decode())


def numbers(page: Page) -> dict[str, str]:
    """The number of each file, by its name on the page."""
    boxes = [box for box in page.all("input") if box.get("type") == "checkbox" and "id" not in box]
    return {(box["aria-label"] or "").removeprefix("choose "): box["value"] or "" for box in boxes}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def job(verb: str, *files: str, **more: Any) -> dict[str, Any]:
    plain = {"variant": "raw-only", "dtype": "keep", "replace": False}
    return {"verb": verb, "files": list(files), **plain, **more}


ATTACKS: dict[str, tuple[str, str | None, dict[str, str]]] = {
    "no token": ("GET", None, {}),
    "another token": ("GET", "b" * 43, {}),
    "half a token": ("GET", TOKEN[:-1], {}),
    "two tokens": ("GET", f"{TOKEN}&token={TOKEN}", {}),
    "a token that is no ASCII": ("GET", "%C3%A9", {}),
    **{
        f"rebinding: {method} {host}": (method, TOKEN, {"host": host, "origin": f"http://{host}"})
        for method in ("GET", "POST")
        for host in (
            f"evil.example:{PORT}",
            f"0.0.0.0:{PORT}",
            "127.0.0.1:1",
            "127.0.0.1",
            f"127.0.0.1:{PORT}.evil.example",
            f"[::1]:{PORT}",
        )
    },
    "rebinding, read without an origin": (
        "GET",
        TOKEN,
        {"host": f"evil.example:{PORT}", "origin": ""},
    ),
    "no host": ("GET", TOKEN, {"host": "", "origin": ""}),
    "read by another page": ("GET", TOKEN, {"origin": "http://evil.example"}),
    "an origin that is none": ("GET", TOKEN, {"origin": "null"}),
    "another page, by its own word": ("GET", TOKEN, {"sec-fetch-site": "cross-site"}),
    "another port's page": ("GET", TOKEN, {"sec-fetch-site": "same-site"}),
    "posted by another page": ("POST", TOKEN, {"origin": "http://evil.example"}),
    "posted over https": ("POST", TOKEN, {"origin": f"https://{HOST}"}),
    "posted from localhost to 127.0.0.1": ("POST", TOKEN, {"origin": f"http://localhost:{PORT}"}),
    "posted without an origin": ("POST", TOKEN, {"origin": ""}),
    "a form": ("POST", TOKEN, {"content-type": "text/plain"}),
    "a form of another kind": ("POST", TOKEN, {"content-type": "application/json; x"}),
    "asked whether it may": ("OPTIONS", TOKEN, {"origin": "http://evil.example"}),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_nobody_else_is_answered(attack: str, tmp_path: Path) -> None:
    method, token, changed = ATTACKS[attack]

    async def attacked() -> None:
        async with served(tmp_path) as ask:
            headers = {name: value for name, value in (OURS | changed).items() if value}
            for path in ("/", "/look", "/runs", "/runs/0", "/runs/0/cancel", "/nothing"):
                answer = await ask(method, path, {}, token=token, headers=headers)
                assert answer.status == 403
                assert not any(name.startswith("access-control") for name in answer.headers)
                assert str(tmp_path).encode() not in answer.body

    asyncio.run(attacked())


@pytest.mark.parametrize(
    "headers",
    [{"host": HOST}, {"host": f"localhost:{PORT}"}, OURS, OURS | {"sec-fetch-site": "none"}],
)
def test_the_page_itself_is_answered(headers: dict[str, str]) -> None:
    guard = guard_of([])
    assert guard.refusal(scope_of("GET", "/", TOKEN, headers)) is None
    assert guard.refusal(scope_of("POST", "/", TOKEN, OURS)) is None


def test_two_hosts_are_none() -> None:
    guard = guard_of([])
    scope = scope_of("GET", "/", TOKEN, OURS)
    scope["headers"].append((b"Host", b"evil.example"))
    assert guard.refusal(scope) is not None


def test_a_websocket_is_not_accepted() -> None:
    async def asked() -> None:
        guard = guard_of([])
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await guard({"type": "websocket", "headers": []}, asyncio.Queue[Any]().get, send)
        assert sent == []

    asyncio.run(asked())


def test_every_answer_is_shut_off(tmp_path: Path) -> None:
    async def asked() -> None:
        async with served(tmp_path) as ask:
            for path in ("/", "/runs/0", "/nothing", "/look"):
                headers = (await ask("GET", path)).headers
                assert headers["x-frame-options"] == "DENY"
                assert headers["x-content-type-options"] == "nosniff"
                assert headers["referrer-policy"] == "no-referrer"
                assert headers["cache-control"] == "no-store"
                assert headers["cross-origin-resource-policy"] == "same-origin"
            page = await first_look(ask)
            (policy,) = (meta["content"] or "" for meta in page.all("meta") if "http-equiv" in meta)
            assert policy.startswith("default-src 'none'; style-src 'sha256-")
            assert "connect-src 'self'; base-uri 'none'; form-action 'none'" in policy
            assert "unsafe" not in policy

    asyncio.run(asked())


def test_the_page_shows_what_is_there_and_names_stay_text(tmp_path: Path) -> None:
    names = [name for name in HOSTILE if not re.search(r"[\0/\ud800-\udfff]", name)]
    if sys.platform == "win32":
        names = ["plain.ckpt"]
    for name in names:
        write_lora(tmp_path / "x")
        (tmp_path / "x").rename(tmp_path / name)
    (tmp_path / "cut.ckpt").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("words")

    async def asked() -> None:
        async with served(tmp_path) as ask:
            page = await first_look(ask)
            assert page.comments == []
            assert len(page.all("script")) == len(page.all("style")) == 1
            shown = numbers(page)
            assert len(shown) == len(names) + 1
            assert {"cut.ckpt"} | {n for n in names if n.isprintable()} <= {
                path.removeprefix(f"{tmp_path}/") for path in shown
            }

    asyncio.run(asked())


def test_files_are_scanned_converted_and_pruned(
    tmp_path: Path, training: Path, trapped: Path
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    for path in (training, trapped):
        shutil.move(path, folder)

    async def asked() -> None:
        async with served(folder) as ask:
            files = numbers(await first_look(ask))
            safe, unsafe = (files[str(folder / name)] for name in ("training.ckpt", "trapped.ckpt"))

            async def done(*arguments: Any, **more: Any) -> list[tuple[str, str]]:
                answer = await ask("POST", "/runs", job(*arguments, **more))
                told = (await ask("GET", f"/runs/{answer.json['run']}")).told
                assert (told[-1]["ended"], told[-1]["done"]) == ("done", told[-1]["total"])
                return [(line["level"], line["text"]) for one in told for line in one["lines"]]

            lines = await done("scan", safe, unsafe)
            assert lines[0][1].startswith(f"{folder / 'training.ckpt'}: CLEAN")
            assert any("os.system" in text for _, text in lines)
            lines = await done("convert", safe, unsafe, dtype="fp16")
            assert (
                "result",
                f"{folder / 'training.ckpt'} -> {folder / 'training-fp16.safetensors'}",
            ) in lines
            assert any(level == "error" and "refused as unsafe" in text for level, text in lines)
            await done("prune", safe, variant="ema-only")
            assert names_in(folder) == [
                "training-fp16.safetensors", "training-pruned-emaonly.safetensors",
                "training.ckpt", "trapped.ckpt",
            ]  # fmt: skip

            again = (await ask("POST", "/look", {})).json["run"]
            assert (await ask("GET", f"/runs/{again}")).told[-1]["ended"] == "done"
            later = numbers(Page((await ask("GET", "/")).body.decode()))
            assert later.items() >= files.items()
            assert len(later) == 4

    asyncio.run(asked())


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[" * 100_000, b"[]", b'"scan"', b"x" * ((1 << 20) + 1), {}, {"verb": "scan"},
        job("demo"), job("scan", more=1), job("convert", dtype="fp17"), job("scan", variant=[]),
        job("scan") | {"files": "1"}, job("scan") | {"files": [1]}, job("scan", "0"),
        job("scan", "../../etc/passwd"), job("scan", "/etc/passwd"), job("scan", "1", "3"),
    ],
)  # fmt: skip
def test_what_the_page_does_not_ask_for_is_refused(tmp_path: Path, data: Any) -> None:
    for name in ("a", "b"):
        write_lora(tmp_path / f"{name}.safetensors")

    async def asked() -> None:
        async with served(tmp_path) as ask:
            await first_look(ask)
            answer = await ask("POST", "/runs", data)
            assert (answer.status, list(answer.json)) == (400, ["error", "hint"])
            for path in ("/runs/1", "/runs/99"):
                assert (await ask("GET", path)).status == 400
            assert names_in(tmp_path) == ["a.safetensors", "b.safetensors"]

    asyncio.run(asked())


def test_a_request_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    async def asked() -> None:
        async with served(tmp_path) as ask:
            await first_look(ask)
            answer = await ask("POST", "/runs", b'["' + bytes(1 << 20) + b'"]')
            assert answer.json["error"] == "the request is too long"

    asyncio.run(asked())


def test_no_original_is_removed_before_a_second_yes(
    tmp_path: Path, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, trash = tmp_path / "models", tmp_path / "trash"
    folder.mkdir()
    trash.mkdir()
    path = Path(shutil.move(training, folder))
    shutil.copy(path, folder / "other.ckpt")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    removed = SimpleNamespace(send2trash=lambda path: shutil.move(path, trash))
    monkeypatch.setitem(sys.modules, "send2trash", removed)

    async def asked() -> None:
        async with served(folder) as ask:
            files = numbers(await first_look(ask))
            wanted = job("convert", files[str(path)], replace=True)
            answer = await ask("POST", "/runs", wanted)
            assert answer.status == 409
            assert answer.json["question"] == "Move 1 original to the trash?"
            assert answer.json["paths"] == [str(path)]
            assert (await ask("POST", "/runs", wanted | {"confirmed": None})).status == 409
            assert (await ask("POST", "/runs", wanted | {"confirmed": "x"})).status == 409
            for other in (
                job("convert", *files.values(), replace=True),
                job("prune", files[str(path)], replace=True),
            ):
                confirm = (await ask("POST", "/runs", wanted)).json["confirm"]
                assert (await ask("POST", "/runs", other | {"confirmed": confirm})).status == 409
                assert (await ask("POST", "/runs", wanted | {"confirmed": confirm})).status == 409
            assert names_in(folder) == ["other.ckpt", "training.ckpt"]
            asked_again = (await ask("POST", "/runs", wanted)).json["confirm"]
            answer = await ask("POST", "/runs", wanted | {"confirmed": asked_again})
            assert (await ask("GET", f"/runs/{answer.json['run']}")).told[-1]["ended"] == "done"
            assert names_in(folder) == ["other.ckpt", "training.safetensors"]
            assert names_in(trash) == ["training.ckpt"]
            assert (await ask("POST", "/runs", wanted | {"confirmed": asked_again})).status == 409

    asyncio.run(asked())


def test_one_thing_at_a_time_and_an_end_to_it(tmp_path: Path) -> None:
    async def asked() -> None:
        async with served(tmp_path) as ask:
            await first_look(ask)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("sdtool.cli.ui.app.work_of", lambda *arguments: (9, _endless))
                assert (await ask("POST", "/runs", job("scan"))).json == {"run": 1}
            page = Page((await ask("GET", "/")).body.decode())
            assert [
                one["data-running"] for one in page.all("section") if one.get("id") == "panel"
            ] == ["1"]
            answer = await ask("POST", "/runs", job("scan"))
            assert answer.json["error"] == "scan goes on: wait for its end, or cancel it"
            assert (await ask("POST", "/look", {})).status == 400
            assert (await ask("POST", "/runs/1/cancel", {})).status == 200
            assert (await ask("GET", "/runs/1")).told[-1]["ended"] == "cancelled"

    asyncio.run(asked())


def test_a_mistake_of_sdtool_is_answered_as_every_error(tmp_path: Path) -> None:
    def broken(library: Library) -> None:
        raise KeyError("lost")

    async def asked() -> None:
        reported: list[Exception] = []
        async with served(tmp_path, reported=reported) as ask:
            await first_look(ask)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("sdtool.cli.ui.library.Library.found", broken)
                answer = await ask("POST", "/look", {})
            assert (answer.status, answer.headers["content-type"]) == (500, "application/json")
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.json == {
                "error": "unexpected KeyError ('lost')",
                "hint": "this is a bug in sdtool: please report it, with the output of --verbose",
            }
            assert [repr(error) for error in reported] == ["KeyError('lost')"]
            assert (await ask("POST", "/look", {})).status == 200  # it goes on

    asyncio.run(asked())


def _endless(run: Run) -> None:
    run.cancelled.wait()
    run.advance(1)


def _failing(run: Run) -> None:
    Path("/nowhere/at/all").read_bytes()


def test_a_run_that_fails_says_why() -> None:
    run = Run("scan", 1)
    run.start(_failing)
    run.join()
    assert run.ended == "failed"
    ((level, text),) = run.lines
    assert level == "error" and "/nowhere/at/all" in text


def test_the_end_of_the_server_ends_what_runs(tmp_path: Path) -> None:
    async def asked() -> None:
        async with served(tmp_path) as ask:
            await first_look(ask)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("sdtool.cli.ui.app.work_of", lambda *arguments: (9, _endless))
                await ask("POST", "/runs", job("scan"))

    asyncio.run(asked())  # it comes to an end


def test_the_command_tells_the_address(sdtool: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(server: Any, sockets: Any) -> None:
        assert sockets[0].getsockname()[0] == "127.0.0.1"
        raise KeyboardInterrupt

    monkeypatch.setattr("uvicorn.Server.run", run)
    result = sdtool("ui")
    assert result.code == 0
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}\n", result.out)
    assert sdtool("ui").out.partition("token=")[2] != result.out.partition("token=")[2]


def test_the_command_without_its_packages(sdtool: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdtool.cli.verbs.ui.find_spec", lambda name: None)
    result = sdtool("ui")
    assert (result.code, result.out) == (2, "")
    assert "needs the packages starlette and uvicorn" in result.err


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C of POSIX")
def test_the_command_serves_until_ctrl_c(tmp_path: Path) -> None:
    write_lora(tmp_path / "a.safetensors")
    command = [sys.executable, "-m", "sdtool", "ui", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            with urllib.request.urlopen(address) as answer:
                assert b"<!DOCTYPE html>" in answer.read()
            with pytest.raises(urllib.error.HTTPError, match="403") as refused:
                urllib.request.urlopen(address.partition("?")[0])
            refused.value.close()
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
