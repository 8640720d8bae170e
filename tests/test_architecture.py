"""The house rules that no compiler holds: arrows between rooms, imports, names, packaging."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from tests.rooms import drawing

ROOT = Path(__file__).parent.parent
ROOMS = ("checkpoint", "scan", "convert", "prune", "batch", "cli")
BELOW = {
    "checkpoint": set[str](),
    "scan": {"checkpoint"},
    "convert": {"checkpoint"},
    "prune": {"checkpoint", "scan", "convert"},
    "batch": {"checkpoint", "scan", "convert", "prune"},
    "cli": {"checkpoint", "scan", "convert", "prune", "batch"},
}
HOMES = {
    "click": ("cli/sdtool/cli/",),
    "anyio": ("cli/sdtool/cli/ui/app.py",),
    "starlette": ("cli/sdtool/cli/ui/",),
    "uvicorn": ("cli/sdtool/cli/verbs/ui.py",),
    "tqdm": ("cli/sdtool/cli/console.py",),
    "dask": ("batch/sdtool/batch/cluster.py",),
    "distributed": ("batch/sdtool/batch/cluster.py",),
    "send2trash": ("batch/sdtool/batch/originals.py",),
    "boto3": ("batch/sdtool/batch/remote/buckets.py",),
    "obstore": ("batch/sdtool/batch/remote/buckets.py",),
    "watchfiles": ("batch/sdtool/batch/watch/waking.py",),
    "fickling": ("scan/sdtool/scan/second_opinion.py",),
    "safetensors": ("convert/sdtool/convert/verify/whole.py",),
    "isal": ("checkpoint/sdtool/checkpoint/crc32.py",),
    "torch": ("convert/sdtool/convert/elements/vectors.py",),
    "numpy": ("convert/sdtool/convert/elements/vectors.py",),
}
"""Which files may import what; everything else that is imported is the standard library's."""

SOURCES = sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in SOURCES]
each_module = pytest.mark.parametrize("path", SOURCES, ids=IDS)


def imports(tree: ast.AST) -> Iterator[str]:
    """The full name of every module that is imported, anywhere in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides which room it reaches into"
            assert node.module is not None
            yield node.module
            if node.module == "sdtool":
                yield from (f"sdtool.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "lazily":
            keys = node.args[1].keys if isinstance(node.args[1], ast.Dict) else []
            homes = [str(key.value) for key in keys if isinstance(key, ast.Constant)]
            yield from (home for home in homes if not home.startswith("."))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            if ast.unparse(node) == "import_module(modules[name], package)":
                continue  # faces.py: the names are those that are given to `lazily`
            name = node.args[0]
            first = name.values[0] if isinstance(name, ast.JoinedStr) else name
            assert isinstance(first, ast.Constant), f"line {node.lineno} imports a computed name"
            yield str(first.value)


FLOORS = (
    "os_errors", "elements", "layouts", "plan", "copy", "write", "verify", "files", "__init__",
)  # fmt: skip
"""The floors of the room `convert`, from the ground up."""


def floor_of(module: str) -> int:
    """The floor of a module, named from below `sdtool.convert`."""
    return FLOORS.index(module.partition(".")[0] or "__init__")


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if "convert/sdtool/convert" in p.as_posix()], ids=str
)
def test_floors_of_convert_stand_on_those_below(path: Path) -> None:
    here = ".".join(path.relative_to(ROOT / "convert/sdtool/convert").with_suffix("").parts)
    for name in imports(ast.parse(path.read_text(encoding="utf-8"))):
        if name.startswith("sdtool.convert."):
            there = name.removeprefix("sdtool.convert.")
            assert floor_of(there) <= floor_of(here), f"{here} imports {there}"


@each_module
def test_arrows_point_down(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    names = [name.split(".") for name in imports(ast.parse(path.read_text("utf-8")))]
    reached = {name[1] for name in names if name[0] == "sdtool" and len(name) > 1}
    assert reached <= BELOW[room] | {room}


FACES = (
    "sdtool.checkpoint", "sdtool.checkpoint.identify", "sdtool.scan", "sdtool.scan.report",
    "sdtool.convert", "sdtool.prune", "sdtool.batch",
)  # fmt: skip
"""The packages that other rooms import from."""


@pytest.mark.parametrize("room", ["batch", "cli"])
def test_the_upper_rooms_import_faces(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("sdtool.") for alias in node.names), path
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                module = node.module
                inside = module == "sdtool" or module.startswith(f"sdtool.{room}")
                assert inside or not module.startswith("sdtool.") or module in FACES, path


@pytest.mark.parametrize("face", FACES)
def test_a_face_exports_what_it_says(face: str) -> None:
    room = importlib.import_module(face)
    for name in getattr(room, "__all__", ()):
        exported = getattr(room, name)
        assert not isinstance(exported, ModuleType), name
    assert sorted(getattr(room, "__all__", ())) == sorted(_typed_names(face))


def _typed_names(face: str) -> list[str]:
    """What a type checker sees that the package imports from its room, or under TYPE_CHECKING."""
    room = face.split(".")[1]
    tree = ast.parse((ROOT / room / face.replace(".", "/") / "__init__.py").read_text("utf-8"))
    late = [node for branch in tree.body if isinstance(branch, ast.If) for node in branch.body]
    return [
        alias.name
        for node in (*tree.body, *late)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sdtool.")
        for alias in node.names
        if alias.name != "lazily" or face == "sdtool.checkpoint"
    ]


@each_module
def test_packages_are_imported_where_they_live(path: Path) -> None:
    where = path.relative_to(ROOT).as_posix()
    tops = {name.split(".")[0] for name in imports(ast.parse(path.read_text("utf-8")))}
    for top in tops - {"sdtool"} - sys.stdlib_module_names:
        assert where.startswith(HOMES.get(top, ())), f"{where} imports {top}"


@each_module
def test_heavy_packages_are_imported_when_needed(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    at_the_top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    tops = {n.split(".")[0] for n in imports(ast.Module(list(at_the_top), type_ignores=[]))}
    assert not tops & {
        "torch",
        "numpy",
        "fickling",
        "tqdm",
        "safetensors",
        "obstore",
        "distributed",
        "watchfiles",
    }


@each_module
def test_nothing_unpickles_or_evaluates(path: Path) -> None:
    """No shipped line may call what runs a pickle or code."""
    forbidden = {
        "torch.load", "pickle.load", "pickle.loads", "pickle.Unpickler", "pickle._Unpickler",
        "marshal.loads", "eval", "exec", "__import__", "Unpickler",
    }  # fmt: skip
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in forbidden, f"line {node.lineno}"
        if isinstance(node, ast.ImportFrom) and node.module in {"pickle", "_pickle", "marshal"}:
            raise AssertionError(f"line {node.lineno} takes names out of {node.module}")


@each_module
def test_public_names_have_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree), "the module has none"
    bodies: list[list[ast.stmt]] = [tree.body]
    for body in bodies:
        for node in body:
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                continue
            if node.name.startswith("_"):
                continue
            assert ast.get_docstring(node), f"{node.name}, line {node.lineno}, has none"
            if isinstance(node, ast.ClassDef):
                bodies.append(node.body)


@each_module
def test_no_unfinished_work(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not re.findall(r"\b(?:TO[D]O|FIX[M]E|XX[X]|NotImplemented[E]rror)\b", text)


def test_the_namespace_has_no_init() -> None:
    assert not [room for room in ROOMS if (ROOT / room / "sdtool" / "__init__.py").exists()]


def test_every_package_is_typed() -> None:
    packages = {path.parent for path in SOURCES if path.parent.name != "sdtool"}
    assert packages
    for package in packages:
        assert (package / "__init__.py").is_file(), package
        assert (package / "py.typed").is_file(), package


def test_the_build_takes_every_room() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    build = config["tool"]["hatch"]["build"]
    assert tuple(build["dev-mode-dirs"]) == ROOMS
    assert build["targets"]["wheel"]["packages"] == [f"{room}/sdtool" for room in ROOMS]


def test_a_wheel_holds_every_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    options = ["--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run([*command, *options], check=True)
    (wheel,) = tmp_path.glob("sdtool-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for path in SOURCES:
        assert path.relative_to(ROOT / path.relative_to(ROOT).parts[0]).as_posix() in names
    assert "sdtool/__init__.py" not in names
    assert {f"sdtool/{room}/py.typed" for room in ROOMS} <= names
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    with zipfile.ZipFile(wheel) as archive:
        assert b"sdtool = sdtool.cli.entry:main" in archive.read(entry_points)


def test_help_loads_nothing_heavy() -> None:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "sdtool", "--help"],
        capture_output=True, text=True, check=True, encoding="utf-8",
    )  # fmt: skip
    assert "scan" in result.stdout
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in result.stderr.splitlines()}
    assert "sdtool" in loaded and "click" in loaded
    assert not loaded & {"torch", "numpy", "fickling", "tqdm", "fsspec", "safetensors"}


def test_the_drawing_of_the_rooms_is_made_of_their_imports() -> None:
    """`python -m tests.rooms` prints the one that docs/design.md has to hold."""
    assert (ROOT / "docs" / "design.md").read_text(encoding="utf-8").count(drawing()) == 1


def test_an_installation_without_extras_is_light() -> None:
    """It is what a pre-commit hook installs: nothing that takes more than a few megabytes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = {re.split(r"[^a-z0-9-]", line, maxsplit=1)[0] for line in project["dependencies"]}
    assert names == {"click", "fickling", "safetensors", "tqdm"}
    extras = {name: set(lines) for name, lines in project["optional-dependencies"].items()}
    assert extras["fast"] | extras["torch"] <= extras["test"]  # what tests hold casts against
