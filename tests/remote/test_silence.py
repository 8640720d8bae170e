"""A server that does not answer costs a run a few files' patience, not that of all of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import pytest
from tests.cli.conftest import Run
from tests.forge import dict_of, pickled, tensor, torch_zip
from tests.remote.server import Reply, Server, busy, running, saying

from sdtool.batch.remote import connections, pace, patience, silence
from sdtool.checkpoint import Unreadable
from sdtool.cli.exit_codes import DONE, TROUBLE

DATA = torch_zip(pickled(dict_of({"w": tensor()})))
HUNG_UP = "the connection failed (remote end closed connection without response)"
TWICE = f"{HUNG_UP}, 2 times"


@dataclass
class Moody:
    """A server with the files 0 to 7, which hangs up where it is asked for one that is `mute`."""

    urls: list[str]
    mute: str = ""
    asked: list[str] = field(default_factory=list[str])

    def answer(self, path: str, headers: Mapping[str, str], good: Callable[[], Reply]) -> Reply:
        self.asked.append(path[1])
        if path[1] in self.mute:
            raise ConnectionError
        return good()


@pytest.fixture
def moody(server: Server, monkeypatch: pytest.MonkeyPatch) -> Moody:
    monkeypatch.setattr(patience, "ATTEMPTS", 2)
    moody = Moody([server.serve(f"/{number}.ckpt", DATA) for number in range(8)])
    server.always = moody.answer
    return moody


def errors(sdtool: Run, urls: Iterable[str]) -> list[str | None]:
    done = sdtool("scan", *urls, "--json")
    found = [one["error"] for one in json.loads(done.out)["files"]]
    assert done.code == (TROUBLE if any(found) else DONE)
    return found


def test_after_three_files_a_server_is_not_asked_any_more(
    sdtool: Run, server: Server, moody: Moody
) -> None:
    moody.mute = "01234567"
    given_up = (
        f"was not asked for: 127.0.0.1:{server.port} has failed for 3 other files ({HUNG_UP})"
    )
    assert errors(sdtool, moody.urls) == [TWICE] * 3 + [given_up] * 5
    assert "".join(moody.asked) == "001122"


def test_a_server_that_answers_in_between_is_asked(sdtool: Run, moody: Moody) -> None:
    moody.mute = "013467"
    assert errors(sdtool, moody.urls) == [TWICE, TWICE, None, TWICE, TWICE, None, TWICE, TWICE]


def test_that_there_is_no_such_file_is_an_answer(sdtool: Run, server: Server, moody: Moody) -> None:
    moody.mute = "0134"
    del server.files["/2.ckpt"]
    none = "no such file on the server"
    assert errors(sdtool, moody.urls[:5]) == [TWICE, TWICE, none, TWICE, TWICE]


def test_it_is_asked_again_after_a_while_and_once(
    sdtool: Run, moody: Moody, monkeypatch: pytest.MonkeyPatch
) -> None:
    moody.mute = "0123"
    monkeypatch.setattr(silence, "PAUSE_SECONDS", 0)
    assert errors(sdtool, moody.urls) == [TWICE] * 3 + [HUNG_UP] + [None] * 4
    assert not silence.is_given_up(connections.Origin.of(moody.urls[0]))


def test_another_server_is_asked(sdtool: Run, moody: Moody) -> None:
    moody.mute = "01234567"
    assert all(errors(sdtool, moody.urls))
    with running() as other:
        assert errors(sdtool, [other.serve("/x.ckpt", DATA)]) == [None]


@pytest.mark.parametrize(
    ("head", "seconds", "told"),
    [
        (b"", "SILENCE_SECONDS", "the server does not answer"),
        (
            b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-65535/65536\r\n"
            b"Content-Length: 65536\r\n\r\n",
            "_GRACE_SECONDS",
            "the server sends data too slowly",
        ),
    ],
    ids=["silent", "byte by byte"],
)
def test_what_takes_longest_is_given_up(
    sdtool: Run, monkeypatch: pytest.MonkeyPatch, head: bytes, seconds: str, told: str
) -> None:
    """A head without its body is no answer: nobody has anything of it."""
    monkeypatch.setattr(patience, "ATTEMPTS", 2)
    monkeypatch.setattr(pace if head else connections, seconds, 0.02)
    over = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield head
        while not over.wait(0.005):
            yield b"x" if head else b""

    with saying(pieces) as url:
        found = errors(sdtool, [f"{url}{number}" for number in range(5)])
        over.set()
    assert found[:3] == [f"{told}, 2 times"] * 3
    assert all(error and error.startswith("was not asked for: 127.") for error in found[3:])


def test_a_busy_server_is_waited_for(sdtool: Run, server: Server, moody: Moody) -> None:
    """It has answered, and says when to come again."""
    server.always = busy(503)
    assert set(errors(sdtool, moody.urls)) == {
        "the server answers 503 Service Unavailable, 2 times"
    }
    assert len(server.asked) == 16


def test_what_was_closed_meanwhile_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "ATTEMPTS", 1)
    origin = connections.Origin("https", "example.org", 443)
    waiting = patience.Patience()

    def attempt() -> None:
        waiting.stopped.set()
        raise patience.Again("closed", silent=origin)

    for number in range(9):
        with pytest.raises(Unreadable):
            waiting.get(attempt, f"{number}.ckpt")
    assert not silence.is_given_up(origin)
