"""`sdtool ui`."""

from __future__ import annotations

import secrets
import socket
from importlib.util import find_spec

import click

from sdtool.checkpoint import UsageError, os_reason
from sdtool.cli.console import Console
from sdtool.cli.exit_codes import DONE
from sdtool.cli.settings import settings_options
from sdtool.cli.verb import verb
from sdtool.scan import Settings

_HOST = "127.0.0.1"


@verb("ui", examples=["sdtool ui ~/models", "sdtool ui ~/models ~/loras --port 8350"])
@click.argument("folders", metavar="[FOLDER]...", nargs=-1)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, metavar="N",
    help="Port on this machine (default: a free one).",
)  # fmt: skip
@settings_options
def command(console: Console, folders: tuple[str, ...], port: int, settings: Settings) -> int:
    """Show a page on which folders are looked at, scanned, converted and tidied.

    FOLDER is the current one by default. The page is served on this machine
    only, until Ctrl-C, and only to whoever has the address that is printed.
    It reads files below the folders and writes beside them.
    """
    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        raise UsageError(
            "the page needs the packages starlette and uvicorn",
            hint='pip install ".[ui]" in a checkout installs them',
        )
    import uvicorn

    from sdtool.cli.ui.app import app
    from sdtool.cli.ui.library import Library

    token = secrets.token_urlsafe(32)
    with socket.socket() as listening:
        try:
            listening.bind((_HOST, port))
            listening.listen()  # who is quick with the address waits for the first answer
        except OSError as e:
            raise UsageError(f"port {port} cannot be used ({os_reason(e)})") from e
        port = listening.getsockname()[1]
        library = Library(folders or (".",), settings)
        config = uvicorn.Config(
            app(library, token, port, console.failed),
            log_level="error",
            lifespan="on",
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        console.out(f"http://{_HOST}:{port}/?token={token}")
        console.note("Ctrl-C ends it")
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:  # the way to end it
            return DONE
    return DONE
