"""The documents say what the command and the packages do."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from sdtool.cli.main import VERBS
from sdtool.cli.main import main as sdtool_main

ROOT = Path(__file__).parents[2]


def help_of(verb: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert sdtool_main([verb, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("document", "least", "output"),
    [
        ("python.md", 4, "model-pruned-emaonly.safetensors"),
        ("conversion.md", 1, "model-plain.safetensors"),
    ],
)
def test_the_examples_for_python_run(
    training: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    document: str,
    least: int,
    output: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(training, "model.ckpt")
    text = (ROOT / "docs" / document).read_text("utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples) >= least
    names: dict[str, object] = {}
    for number, example in enumerate(examples):
        exec(compile(example, f"docs/{document}, example {number + 1}", "exec"), names)
    assert Path(output).stat().st_size > 500_000


def test_the_documents_name_no_package_that_is_not_there() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    extras = set(tomllib.loads(text)["project"]["optional-dependencies"])
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for line in path.read_text("utf-8").splitlines():
            assert not re.search(r"pip install \W?sdtool", line), (path, "it is on no index")
            for names in re.findall(r"\[([a-z,]+)\]\W? in a checkout", line):
                assert set(names.split(",")) <= extras, (path, names)


def test_the_scripts_of_the_recipes_run(sdtool: Run, training: Path, trapped: Path) -> None:
    text = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    blocks = re.findall(r"```(?:bat|sh)\n(.*?)```", text, re.DOTALL)
    lines = re.findall(r"^sdtool .*$", "\n".join(blocks), re.MULTILINE)
    assert len(lines) == len(blocks) == 3
    for line in lines:
        words = line.replace("%*", "training.ckpt trapped.ckpt").replace('"%~1"', ".").split()
        assert sdtool(*words[1:]).code == 1, line


def test_the_hook_takes_no_name_for_an_option(sdtool: Run, trapped: Path) -> None:
    trapped.rename("--exclude=*.ckpt")
    hook = (ROOT / ".pre-commit-hooks.yaml").read_text("utf-8")
    assert re.findall(r"^  entry: sdtool scan$\n^  args: \[(.*)\]", hook, re.MULTILINE) == ['"--"']
    assert sdtool("scan", "--", "--exclude=*.ckpt").code == 1


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_stands_in_the_document(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "cli.md").read_text("utf-8")
    block = re.search(rf"^## {verb}\n.*?```text\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    assert block is not None
    assert block[1] == help_of(verb, capsys)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_has_two_examples_that_fit_80_columns(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of(verb, capsys)
    examples = re.findall(rf"^ +sdtool {verb}\b.*", text.partition("Examples:")[2], re.MULTILINE)
    assert len(examples) == 2
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("verb", VERBS)
def test_the_overview_says_of_a_verb_what_its_help_begins_with(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert VERBS[verb] in help_of(verb, capsys)


def test_the_readme_has_the_two_lines_for_both_kinds_of_machine() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    install = 'pip install -c constraints.txt -e ".[test]" && '
    for line in (
        f"python3 -m venv .venv && .venv/bin/{install}.venv/bin/sdtool demo",
        f"python3 -m venv .venv && .venv/bin/{install}.venv/bin/python -m pytest",
        f"py -m venv .venv && .venv\\Scripts\\{install}.venv\\Scripts\\sdtool demo",
        f"py -m venv .venv && .venv\\Scripts\\{install}.venv\\Scripts\\python -m pytest",
    ):
        assert f"    {line}" in lines
