"""A server on this machine, a user without secrets, and a patience that does not take long."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from tests.cli.conftest import _made as _made  # pyright: ignore
from tests.cli.conftest import home as home
from tests.cli.conftest import lightning as lightning
from tests.cli.conftest import sdtool as sdtool
from tests.cli.conftest import training as training
from tests.cli.conftest import trapped as trapped
from tests.remote.server import Server, running

from sdtool.batch.remote import patience, silence


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Waits of milliseconds, and no setting, token or proxy of whoever runs the tests."""
    monkeypatch.setattr(patience, "FIRST_SECONDS", 0.001)
    vars(silence)["_silent"].clear()  # a port may be that of an earlier server
    for name in list(os.environ):
        is_secret = name.upper().startswith(("HF_", "AWS_", "AZURE_", "GOOGLE_", "HUGGING_"))
        if is_secret or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))


@pytest.fixture
def server() -> Generator[Server]:
    """A web server without files."""
    with running() as server:
        yield server
