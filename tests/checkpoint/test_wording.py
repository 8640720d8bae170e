"""Sizes, counts, names and refusals, in the words that every room uses."""

from __future__ import annotations

import errno

import pytest

from sdtool.checkpoint.wording import counted, escape, os_reason, size


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("modèle 模型.ckpt", "modèle 模型.ckpt"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\rb\nc\0", "a\\rb\\nc\\x00"),
        ("\x9b31m", "\\x9b31m"),
        ("gnp.\u202etpkc", "gnp.\\u202etpkc"),
        ("\u2028", "\\u2028"),
        ("\udcff", "\\udcff"),
        ("C:\\models\\x.ckpt", "C:\\models\\x.ckpt"),
    ],
)
def test_only_what_prints_is_shown(text: str, shown: str) -> None:
    assert escape(text) == shown


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.00 KB"),
        (999_499, "999 KB"),
        (999_500, "1.00 MB"),
        (7_703_807_346, "7.70 GB"),
        (64_446_596_128, "64.4 GB"),
        (5_000_000_000_000, "5.00 TB"),
    ],
)
def test_sizes_as_model_pages_give_them(nbytes: int, text: str) -> None:
    assert size(nbytes) == text


def test_escaping_twice_changes_nothing() -> None:
    text = "C:\\x\x1b\ud800"
    assert escape(escape(text)) == escape(text) == "C:\\x\\x1b\\ud800"


def test_a_long_text_is_cut() -> None:
    assert escape("x" * 500, 10) == "x" * 9 + "…"
    assert escape("\0" * 500, 10) == "\\x00\\x00\\…"
    assert escape("x" * 10, 10) == "x" * 10


def test_counts_have_their_plural() -> None:
    words = ["0 tensors", "1 tensor", "2,000 tensors"]
    assert [counted(n, "tensor") for n in (0, 1, 2000)] == words


def test_what_the_system_refused_is_said_in_its_words() -> None:
    assert os_reason(OSError(errno.EACCES, "Permission denied")) == "permission denied"
    assert os_reason(OSError("made up")) == "oserror"
