"""Files of web servers: what is read of them, what servers do wrong, what is never shown."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.forge import dict_of, pickled, tensor, torch_zip
from tests.gguf_files import Q8_0, Tensor, gguf
from tests.remote.server import (
    Reply,
    Server,
    answered,
    busy,
    cut,
    good,
    redirect,
    running,
    saying,
    slow,
    with_header,
)
from tests.sd_models import small_sd1

from sdtool.batch import Cancelled, open_file, scan_file
from sdtool.batch.remote import connections, pace, patience
from sdtool.checkpoint import Unreadable
from sdtool.cli.exit_codes import DONE, FOUND, TROUBLE


def without_costs(report: dict[str, object]) -> dict[str, object]:
    """A report without what depends on where the file is."""
    left_out = {"path", "seconds", "read_bytes", "requests"}
    return {key: value for key, value in report.items() if key not in left_out}


@pytest.mark.parametrize("name", ["training", "trapped"])
def test_a_scan_says_what_it_says_of_a_copy(
    sdtool: Run, server: Server, request: pytest.FixtureRequest, name: str
) -> None:
    path: Path = request.getfixturevalue(name)
    url = server.serve("/m.ckpt", path.read_bytes())
    here = sdtool("scan", path, "--format", "json")
    there = sdtool("scan", url, "--format", "json")
    assert there.code == here.code == (FOUND if name == "trapped" else DONE)
    (a,), (b,) = json.loads(here.out)["files"], json.loads(there.out)["files"]
    assert without_costs(a) == without_costs(b)
    assert (b["path"], b["requests"], b["read_bytes"]) == (url, len(server.asked), server.nbytes)
    assert server.nbytes <= path.stat().st_size


def test_a_folder_of_diffusers_is_that_of_a_copy(
    sdtool: Run, server: Server, tmp_path: Path
) -> None:
    small_sd1(tmp_path / "m.safetensors")
    url = server.serve("/deep/m.safetensors", (tmp_path / "m.safetensors").read_bytes())
    assert sdtool("convert", "m.safetensors", "--to", "diffusers", "--out-dir", "here").code == DONE
    options = ("--to", "diffusers", "--verify", "--out-dir", "there")
    result = sdtool("convert", url, *options)
    assert (result.code, result.err) == (DONE, "")
    assert "were fetched" in result.out
    made = tree(tmp_path / "there")
    assert made == tree(tmp_path / "here")
    assert len(made) == 8


def test_blocks_of_a_gguf_file_are_fetched_in_few_requests(
    sdtool: Run, server: Server, tmp_path: Path
) -> None:
    """The weights are computed, and as float32 four times what is fetched for them."""
    blocks = bytes(range(34)) * (2 * 1024)
    tensors = [Tensor(f"{i}.weight", [1024, 64], blocks, Q8_0) for i in range(30)]
    data = gguf({"general.architecture": "x"}, [*tensors, Tensor("b", [2], bytes(8))])
    Path("m.gguf").write_bytes(data)
    url = server.serve("/deep/m.gguf", data)
    assert sdtool("convert", "m.gguf", "--out-dir", "here").code == DONE
    assert sdtool("convert", url, "--out-dir", "there").code == DONE
    assert tree(tmp_path / "there") == tree(tmp_path / "here")
    assert len(server.asked) <= 6
    assert server.nbytes <= 1.5 * len(data)


def tree(folder: Path) -> dict[str, bytes]:
    """The files in a folder, by their paths in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_info_tells_what_it_tells_of_a_copy(sdtool: Run, server: Server, training: Path) -> None:
    url = server.serve("/training.ckpt", training.read_bytes())
    assert sdtool("info", url).out == sdtool("info", training).out


@pytest.mark.parametrize(
    "options",
    [
        ["convert"],
        ["convert", "--dtype", "fp16", "--hash"],
        ["convert", "--to", "pt"],
        ["convert", "--verify"],
        ["prune", "--all-variants", "--dtype", "fp16"],
        ["prune", "--only", "vae"],
    ],
    ids=" ".join,
)
def test_what_is_made_is_what_is_made_of_a_copy(
    sdtool: Run, server: Server, training: Path, options: list[str]
) -> None:
    url = server.serve("/deep/training.ckpt", training.read_bytes())
    assert sdtool(*options, "--out-dir", "here", training).code == DONE
    result = sdtool(*options, "--out-dir", "there", url)
    assert result.code == DONE
    here = {path.name: path.read_bytes() for path in Path("here").iterdir()}
    there = {path.name: path.read_bytes() for path in Path("there").iterdir()}
    assert here == there
    assert f"were fetched, in {len(server.asked)} requests" in result.out


def test_an_output_goes_to_the_current_folder(sdtool: Run, server: Server, training: Path) -> None:
    url = server.serve("/a/b/x.ckpt", training.read_bytes())
    assert sdtool("convert", url).code == DONE
    assert {path.name for path in Path().iterdir()} == {"training.ckpt", "x.safetensors"}
    again = sdtool("convert", url)
    assert again.code == DONE
    assert "x.safetensors already exists and is up to date" in again.out


@pytest.mark.parametrize("option", ["-o", "--out-dir"])
def test_nothing_is_written_to_a_web_server(sdtool: Run, training: Path, option: str) -> None:
    result = sdtool("convert", training, option, "https://me:SECRET@host/x.safetensors?sig=SECRET")
    assert (result.code, result.err.splitlines()) == (
        TROUBLE,
        [
            "sdtool: error: https://host/x.safetensors: https:// is for inputs only",
            "sdtool: hint: outputs can be local, or on s3://, gs:// and az://",
        ],
    )
    assert {path.name for path in Path().iterdir()} == {"training.ckpt"}


def test_an_unsafe_file_gives_nothing(sdtool: Run, server: Server, trapped: Path) -> None:
    url = server.serve("/x.ckpt", trapped.read_bytes())
    result = sdtool("convert", url)
    assert result.code == FOUND
    assert not list(Path().glob("*.safetensors"))
    assert result.err == sdtool("convert", trapped).err.replace(str(trapped), url)


@pytest.mark.parametrize("is_open", [True, False])
def test_a_scan_from_python_is_followed_and_stopped(
    server: Server, training: Path, is_open: bool
) -> None:
    url = server.serve("/x.ckpt", training.read_bytes())
    done: list[int] = []
    stop = threading.Event()
    with open_file(url) as file:
        report = scan_file(file if is_open else url, progress=done.append)
        assert (report.verdict, report.path) == ("clean", url)
        assert len(done) > 1 and all(0 < nbytes <= report.nbytes for nbytes in done)
        reads, asked = len(done), len(server.asked)
        stop.set()
        with pytest.raises(Cancelled):
            scan_file(file if is_open else url, progress=done.append, cancelled=stop)
        assert (len(done), file.progress) == (reads, None)
        assert len(server.asked) == (asked if is_open else asked + 1)  # the one that opens it
        assert scan_file(file).findings == report.findings  # it stays open, and is read again


def test_verify_takes_files_that_are_elsewhere(sdtool: Run, server: Server, training: Path) -> None:
    assert sdtool("convert", training).code == DONE
    made = server.serve("/training.safetensors", Path("training.safetensors").read_bytes())
    source = server.serve("/training.ckpt", training.read_bytes())
    whole = sdtool("verify", f"{made}?token=SECRET")
    assert (whole.code, whole.out.splitlines()[0].partition(":")[0]) == (DONE, "http")
    compared = sdtool("verify", f"{made}?token=SECRET", "--against", f"{source}?token=SECRET")
    assert compared.code == DONE
    assert f"{made}: holds the values of {source}" in compared.out
    assert "SECRET" not in whole.out + compared.out


# --- what servers do wrong ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [
        [busy(503)] * 4,
        [good, busy(429, **{"Retry-After": "0"}), busy(500)],
        [cut(100)],
        [good, cut(0), cut(1000)],
        [good, slow(0.05), slow(0.05)],
    ],
    ids=["503", "429", "cut", "cut later", "slow"],
)
def test_what_passes_is_tried_again(
    sdtool: Run, server: Server, training: Path, faults: list[object]
) -> None:
    url = server.serve("/x.ckpt", training.read_bytes())
    server.faults = list(faults)  # type: ignore[arg-type]
    assert sdtool("scan", url).code == DONE
    assert not server.faults


@pytest.mark.parametrize(
    ("always", "told"),
    [
        (busy(503), "the server answers 503 Service Unavailable, 5 times"),
        (cut(5), "the response ended after 5 of 65,536 bytes, 5 times"),
        (busy(429, **{"Retry-After": "4000"}), "the server asks to wait 4,000 seconds"),
        (with_header("Content-Range", "bytes 1-65536/999999"), "other bytes than requested"),
        (with_header("Content-Range", "bytes 0-9/999999"), "other bytes than requested"),
        (with_header("Content-Range", "bytes 0-65535/*"), "other bytes than requested"),
        (with_header("Content-Range", f"bytes 0-65535/{'9' * 5000}"), "other bytes than requested"),
        (with_header("Content-Encoding", "gzip"), "other bytes than requested"),
        (with_header("Content-Length", "70000"), "other bytes than requested"),
        (lambda *_: Reply(200, {"Content-Encoding": "gzip"}, b"x"), "other bytes than requested"),
        (busy(404), "no such file on the server"),
        (busy(403), "the server denies access (403)"),
        (busy(401), "the server denies access (401)"),
        (busy(418), "the server answers 418"),
        (redirect("/x.ckpt"), "the server redirects too many times"),
        (redirect("ftp://elsewhere/x"), "the server redirects to an invalid URL"),
        (redirect("http://[::1/x"), "the server redirects to an invalid URL"),
        (redirect("//" + "a" * 300 + "/x"), "there is no server of this name"),
    ],
)
def test_what_does_not_pass_is_one_line(
    sdtool: Run, server: Server, training: Path, always: object, told: str
) -> None:
    url = server.serve("/x.ckpt", training.read_bytes())
    server.always = always  # type: ignore[assignment]
    result = sdtool("info", url + "?sig=SECRET")
    assert result.code == TROUBLE
    first, *hints = result.err.splitlines()
    assert first.startswith(f"sdtool: error: {url}: ") and told in first
    assert all(line.startswith("sdtool: hint: ") for line in hints) and len(hints) <= 1
    assert "SECRET" not in result.out + result.err
    scan = sdtool("scan", url + "?sig=SECRET", "--format", "json")
    (report,) = json.loads(scan.out)["files"]
    assert (scan.code, report["verdict"]) == (TROUBLE, "undecided")
    assert told in report["error"]
    assert "SECRET" not in scan.out + scan.err


def test_a_server_that_is_not_there(sdtool: Run) -> None:
    with running() as gone:
        url = f"{gone.url}/x.ckpt"
    result = sdtool("info", url)
    assert result.code == TROUBLE
    assert f"{url}: the connection failed (connection refused)" in result.err


def test_a_server_that_says_nothing(
    sdtool: Run, server: Server, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SILENCE_SECONDS", 0.05)
    monkeypatch.setattr(patience, "ATTEMPTS", 2)
    url = server.serve("/x.ckpt", training.read_bytes())
    over = threading.Event()

    def silent(path: str, asked: Mapping[str, str], answer: Callable[[], Reply]) -> Reply:
        over.wait()
        return answer()

    server.always = silent
    result = sdtool("info", url)
    over.set()
    assert "the server does not answer, 2 times" in result.err


_HEAD = b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-65535/65536\r\n"


@pytest.mark.parametrize(
    ("begin", "then", "told"),
    [
        (_HEAD + b"Content-Length: 65536\r\n\r\n", b"x", "the server sends data too slowly"),
        (b"HTTP/1.1 206 P\r\nX: ", b"x", "the server sends data too slowly"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 4096, "the server sends headers without end"),
        (
            _HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
            (b"1;" + b"x" * 60_000 + b"\r\nx\r\n") * 2,
            "the server sends headers without end",
        ),
        (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n", b"", "closed during a response"),
    ],
    ids=["body", "head", "interim", "chunks", "negative"],
)
def test_a_server_that_never_ends_is_given_up(
    sdtool: Run, monkeypatch: pytest.MonkeyPatch, begin: bytes, then: bytes, told: str
) -> None:
    monkeypatch.setattr(patience, "ATTEMPTS", 2)
    if len(then) < 2:
        monkeypatch.setattr(pace, "_GRACE_SECONDS", 0.1)

    def pieces() -> Iterator[bytes]:
        yield begin
        while then:
            time.sleep(0.01 if len(then) < 2 else 0)
            yield then

    with saying(pieces) as url:
        result = sdtool("info", url)
    assert result.code == TROUBLE
    assert f"{url}: " in result.err and told in result.err


@pytest.mark.parametrize("how", ["tag", "date", "empty tag", "size", "weak", "ignores conditions"])
@pytest.mark.parametrize("verb", ["scan", "convert"])
def test_a_file_that_changes_midway_is_an_error(
    sdtool: Run, server: Server, training: Path, how: str, verb: str
) -> None:
    data = training.read_bytes()
    first = {"tag": None, "date": "Mon, 01 Jan 2024 00:00:00 GMT"}
    if how in ("tag", "ignores conditions"):
        first = {"tag": '"one"'}
    elif how == "weak":
        first = {"tag": 'W/"one"'}
    elif how == "empty tag":
        first["tag"] = ""
    url = server.serve("/x.ckpt", data, **first)

    def replaced(path: str, headers: Mapping[str, str], answer: Callable[[], Reply]) -> Reply:
        if how == "size":
            server.serve("/x.ckpt", data + b"x", **first)
        else:
            then = {**first, "date": "Mon, 01 Jan 2024 00:00:01 GMT"}
            is_date = how in ("date", "empty tag")
            server.serve("/x.ckpt", data, **(then if is_date else {"tag": '"two"'}))
        if how == "ignores conditions":
            headers = {key: value for key, value in headers.items() if key != "If-Match"}
            return answered(server.files[path], headers)
        return answer()

    server.faults = [good, replaced]
    result = sdtool(verb, url)
    assert result.code == TROUBLE
    assert "changed while it was read" in result.out + result.err
    assert not list(Path().glob("*.safetensors"))


def test_a_server_without_parts_is_said_so(sdtool: Run, server: Server, training: Path) -> None:
    url = server.serve("/x.ckpt", training.read_bytes(), ranges=False)
    result = sdtool("info", url)
    assert (result.code, result.err.splitlines()) == (
        TROUBLE,
        [
            f"sdtool: error: {url}: the server does not support range requests",
            "sdtool: hint: --download fetches all of it first, to a temporary file",
        ],
    )
    assert len(server.asked) == 1


@pytest.mark.parametrize("verb", ["scan", "info", "convert", "prune", "verify"])
def test_it_is_fetched_whole_where_that_is_asked_for(
    sdtool: Run,
    server: Server,
    training: Path,
    verb: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    url = server.serve("/x.ckpt", training.read_bytes(), ranges=False)
    server.faults = [good, cut(1000)]
    result = sdtool(verb, "--download", url)
    assert (result.code, result.err) == (DONE, "")
    assert str(temporary) not in result.out
    assert not list(temporary.iterdir())
    if verb == "convert":
        sdtool("convert", training)
        assert Path("x.safetensors").read_bytes() == Path("training.safetensors").read_bytes()


def test_what_was_compressed_on_the_way_is_not_taken_for_the_file(
    sdtool: Run, server: Server, training: Path
) -> None:
    url = server.serve("/x.ckpt", training.read_bytes(), ranges=False)
    server.always = with_header("Content-Encoding", "gzip")
    result = sdtool("info", "--download", url)
    assert result.code == TROUBLE
    assert "other bytes than requested" in result.err


def test_a_small_file_needs_no_parts(sdtool: Run, server: Server, training: Path) -> None:
    sdtool("prune", "--only", "vae", "--dtype", "fp16", "-o", "vae.safetensors", training)
    data = Path("vae.safetensors").read_bytes()
    assert len(data) < 65536
    url = server.serve("/vae.safetensors", data, ranges=False)
    assert sdtool("scan", url).code == DONE
    assert len(server.asked) == 1


def test_an_empty_file(sdtool: Run, server: Server) -> None:
    url = server.serve("/x.ckpt", b"")
    result = sdtool("info", url)
    assert (result.code, "empty" in result.err) == (TROUBLE, True)


# --- whom we are sent to, and who learns who we are -----------------------------------------------


def test_a_redirect_is_followed_once(sdtool: Run, server: Server, training: Path) -> None:
    server.serve("/store/y", training.read_bytes())
    server.faults = [redirect("/store/y?sig=OTHER")]
    assert sdtool("scan", f"{server.url}/x.ckpt?sig=SECRET").code == DONE
    assert [one.path for one in server.asked][:3] == [
        "/x.ckpt?sig=SECRET",
        "/store/y?sig=OTHER",
        "/store/y?sig=OTHER",
    ]


def test_an_address_that_expires_is_asked_for_again(
    sdtool: Run, server: Server, training: Path
) -> None:
    server.serve("/store/y", training.read_bytes())
    server.faults = [redirect("/store/y?1"), good, busy(403), redirect("/store/y?2")]
    assert sdtool("scan", f"{server.url}/x.ckpt").code == DONE
    assert [one.path for one in server.asked][:5] == [
        "/x.ckpt", "/store/y?1", "/store/y?1", "/x.ckpt", "/store/y?2",
    ]  # fmt: skip


def test_a_password_goes_to_the_server_that_was_named_and_no_other(
    sdtool: Run, server: Server, training: Path
) -> None:
    with running() as other:
        other.serve("/y", training.read_bytes())
        server.always = redirect(f"{other.url}/y")
        result = sdtool("scan", f"http://me:p%40ss@127.0.0.1:{server.port}/x.ckpt", "-v")
        assert result.code == DONE
        assert server.asked[0].headers["Authorization"] == "Basic bWU6cEBzcw=="  # me:p@ss
        assert other.asked
        assert not any("Authorization" in one.headers for one in other.asked)
        assert "p%40ss" not in result.out + result.err
        assert "me" not in result.out.partition(":")[2].partition("/x.ckpt")[0]


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take 127.0.0.1 for an address of the internet, and no other."""
    monkeypatch.setattr(connections, "is_public", lambda a: str(a) == "127.0.0.1")


@pytest.mark.usefixtures("public")
@pytest.mark.parametrize(
    "place",
    ["127.0.0.2", "10.0.0.1", "169.254.169.254", "[::1]", "localtest.example"],
)
def test_a_public_server_cannot_send_us_into_a_private_net(
    sdtool: Run, server: Server, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    resolve = socket.getaddrinfo

    def resolved(host: str, *rest: object, **more: object) -> object:
        host = "192.168.0.1" if host == "localtest.example" else host
        return resolve(host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    server.always = redirect(f"http://{place}:{server.port}/x.ckpt")
    result = sdtool("info", f"{server.url}/x.ckpt")
    assert result.code == TROUBLE
    shown = place.strip("[]")
    what = f"the server redirects to {shown}:{server.port}, which is not a public address"
    assert result.err.startswith(f"sdtool: error: {server.url}/x.ckpt: {what}\n")
    assert len(server.asked) == 1


def test_a_private_server_may_but_never_to_where_machines_keep_their_keys(
    sdtool: Run, server: Server, training: Path
) -> None:
    server.serve("/y", training.read_bytes())
    server.faults = [redirect(f"http://localhost:{server.port}/y")]
    assert sdtool("scan", f"{server.url}/x.ckpt").code == DONE
    for place in (
        "169.254.169.254",
        "[fe80::1]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
    ):
        server.faults = [redirect(f"http://{place}/latest/meta-data")]
        assert "which is not a public address" in sdtool("info", f"{server.url}/x.ckpt").err


def test_a_server_is_known_by_its_certificate_before_its_address_counts(server: Server) -> None:
    """The name of a public server may be resolved to anything, by whoever it belongs to."""
    links = connections.Connections()
    for _ in range(2):
        with pytest.raises(ssl.SSLError):  # it is nearby, and does not even speak TLS
            links.take(connections.Origin("https", "127.0.0.1", server.port))
        with pytest.raises(Unreadable, match="which is not a public address"):
            links.take(connections.Origin("https", "127.0.0.2", server.port))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.216.34", True),
        ("10.1.2.3", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("2606:2800:220:1::1", True),
        ("::1", False),
        ("fd00::1", False),
        ("fe80::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("2002:0a00:0001::1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d822", True),
        ("2001::1", False),
    ],
)
def test_which_addresses_are_public(address: str, expected: bool) -> None:
    assert connections.is_public(ipaddress.ip_address(address)) is expected


def test_http_is_for_this_machine(
    sdtool: Run, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ipaddress.IPv4Address, "is_loopback", False)
    result = sdtool("info", f"{server.url}/x.ckpt")
    assert result.code == TROUBLE
    assert "http:// is accepted only for this machine" in result.err
    assert not server.asked


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that no authority has signed, and its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return both


def test_certificates_are_checked(
    sdtool: Run, training: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with running(tls=context) as server:
        url = server.serve("/x.ckpt", training.read_bytes())
        assert url.startswith("https://")
        result = sdtool("info", url)
        assert result.code == TROUBLE
        assert f"{url}: the certificate of 127.0.0.1:{server.port} is not valid" in result.err
        assert not server.asked
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_name("cert.pem")))
        assert sdtool("scan", url).code == DONE
        by_name = url.replace("127.0.0.1", "localhost")
        assert "is not valid" in sdtool("info", by_name).err
        server.faults = [redirect(url.replace("https", "HTTPS"))]
        assert sdtool("scan", f"{server.url}/y.ckpt").code == DONE
        with running() as plain:
            plain.serve("/y", training.read_bytes())
            server.always = redirect(f"{plain.url}/y")
            assert "an unencrypted address" in sdtool("info", url).err
            assert not plain.asked


def test_a_wait_ends_when_the_file_is_closed() -> None:
    waiting = patience.Patience()
    tried: list[str] = []

    def busy_for_long() -> None:
        tried.append("x")
        waiting.stopped.set()  # as another thread does, while this one waits
        raise patience.Again("busy", 300)

    with pytest.raises(Unreadable, match="was closed"):
        waiting.get(busy_for_long, "x")
    assert tried == ["x"]


_WITHOUT_PATIENCE = """
import sys
from sdtool.batch.remote import connections
from sdtool.cli.entry import main
connections.SILENCE_SECONDS = 1e6
sys.exit(main())
"""


@pytest.mark.parametrize("is_silent", [True, False], ids=["silent", "busy"])
@pytest.mark.parametrize("verb", ["scan", "convert"])
def test_ctrl_c_waits_for_no_server(
    server: Server, training: Path, tmp_path: Path, verb: str, is_silent: bool
) -> None:
    """The server falls silent in the middle of a file, or asks to be left alone for minutes."""
    url = server.serve("/x.ckpt", training.read_bytes())
    asked_again, over = threading.Event(), threading.Event()

    def stalls(path: str, asked: Mapping[str, str], answer: Callable[[], Reply]) -> Reply:
        if len(server.asked) < 2:
            return answer()
        asked_again.set()
        if is_silent:
            over.wait()
        return Reply(429, {"Retry-After": "200"})

    server.always = stalls
    command = [sys.executable, "-c", _WITHOUT_PATIENCE, verb, url]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert asked_again.wait(120)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
        over.set()
    assert (process.returncode, err) == (130, "sdtool: interrupted\n")
    assert {path.name for path in tmp_path.iterdir()} == {"training.ckpt"}


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="a process cannot be interrupted")
@pytest.mark.parametrize("verb", ["scan", "convert"])
def test_ctrl_c_waits_for_no_server_of_other_processes_and_leaves_nothing(
    server: Server, training: Path, tmp_path: Path, verb: str
) -> None:
    """The server falls silent when it is asked for whole files."""
    urls = [server.serve(f"/{n}.ckpt", training.read_bytes(), ranges=False) for n in "xy"]
    (temporary := tmp_path / "temporary").mkdir()
    both_wait, over = threading.Barrier(3), threading.Event()

    def silent(path: str, asked: Mapping[str, str], answer: Callable[[], Reply]) -> Reply:
        if "Range" not in asked:
            both_wait.wait(120)
            over.wait(120)
        return answer()

    server.always = silent
    process = subprocess.Popen(
        [sys.executable, "-m", "sdtool", verb, "--download", "-j", "2", *urls],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )  # fmt: skip
    try:
        both_wait.wait(120)
        assert len(list(temporary.iterdir())) == 2
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=25)  # before the silence is an error
    finally:
        process.kill()
        over.set()
    assert (process.returncode, err) == (130, "sdtool: interrupted\n")
    assert not list(temporary.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"training.ckpt", "temporary"}


def test_what_came_with_the_first_answer_is_not_fetched_again(sdtool: Run, server: Server) -> None:
    data = torch_zip(pickled(dict_of({"w": tensor()})))
    url = server.serve("/small.ckpt", data)
    assert sdtool("convert", url).code == DONE
    assert (len(server.asked), server.nbytes) == (1, len(data))
    assert sdtool("verify", "small.safetensors", "--against", url).code == DONE
    assert len(server.asked) == 2
