"""The mutants: every place that a verdict hangs on, taken out or changed in turn.

    removed     a statement that notes, raises, yields or returns a finding or an error
    guard       a condition before one: never true, or without one of its parts
    boundary    one comparison of such a condition takes or leaves its bound
    passed on   an argument of a Reading or a Stream that carries findings, errors or what is inside
    table       one entry of a table of names or rules
    row         one check of an allowlisted name takes anything
    demoted     a rule that no longer changes a verdict, or one that begins to

A mutant is known by its file, its function and its source before and after, not by its line.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

OPERATORS = ("removed", "guard", "boundary", "passed on", "table", "row", "demoted")

_FOLDERS = (
    "checkpoint/sdtool/checkpoint",
    "checkpoint/sdtool/checkpoint/containers",
    "checkpoint/sdtool/checkpoint/machine",
    "scan/sdtool/scan",
    "scan/sdtool/scan/allowlist",
    "scan/sdtool/scan/dangerous",
    "scan/sdtool/scan/rules",
)
_OTHERS = frozenset({"__init__.py", "explaining.py", "second_opinion.py"})
"""What speaks about a verdict that others have reached."""

_ERRORS = frozenset(
    {"InputError", "NotACheckpoint", "Truncated", "Malformed", "Unsupported", "LimitExceeded"}
)
_FINDINGS = frozenset({"Anomaly", "Finding", "Mutation", "Resolve"})
_NOTES = frozenset(
    {
        "note", "disagree", "fail", "check_arguments", "check_memo_index", "check_objects",
        "leave_frame", "refuse_persistent_id", "_odd_number", "_outside", "_gap", "_name",
    }
)  # fmt: skip
_LISTS = frozenset(
    {"events", "anomalies", "unread", "gaps", "streams", "inner", "nested", "findings", "found"}
)
_CARRIERS = frozenset({"Reading", "Stream", "ZipArchive", "replace"})
_CARRIED = {
    "anomalies": "()",
    "unread": "()",
    "inner": "()",
    "streams": "()",
    "error": "None",
}
_SWAPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
_BLOCKS = ("body", "orelse", "finalbody")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Mutant:
    """One change: `index` is its place among those of its file."""

    file: str
    function: str
    """The function or method that it is in; empty at the top of a module."""
    operator: str
    before: str
    after: str
    ordinal: int
    """1, or more where a function has the same change several times."""
    line: int
    last: int
    """The lines of which one runs if the change can make a difference."""
    index: int

    @property
    def name(self) -> str:
        """Its name, the same while its source is the same."""
        again = f" #{self.ordinal}" if self.ordinal > 1 else ""
        where = f"{self.file}:{self.function}" if self.function else self.file
        return f"{where} [{self.operator}] {self.before} -> {self.after}{again}"


@dataclass(frozen=True)
class _Change:
    function: str
    operator: str
    before: str
    after: str
    line: int
    last: int
    apply: Callable[[], None]


def files() -> list[Path]:
    """The modules that are mutated."""
    return [
        path
        for folder in _FOLDERS
        for path in sorted((ROOT / folder).glob("*.py"))
        if path.name not in _OTHERS
    ]


def mutants() -> list[Mutant]:
    """Every mutant of every module."""
    found: list[Mutant] = []
    for path in files():
        file = path.relative_to(ROOT).as_posix()
        seen: Counter[tuple[str, ...]] = Counter()
        for index, change in enumerate(_module(file)[1]):
            key = (change.function, change.operator, change.before, change.after)
            seen[key] += 1
            found.append(Mutant(file, *key, seen[key], change.line, change.last, index))
    return found


def mutated(mutant: Mutant) -> ast.Module:
    """The module of a mutant, with its change made: for one mutant in a process."""
    tree, changes = _module(mutant.file)
    changes[mutant.index].apply()
    return ast.fix_missing_locations(tree)


@cache
def _module(file: str) -> tuple[ast.Module, list[_Change]]:
    tree = ast.parse((ROOT / file).read_text("utf-8"), str(ROOT / file))
    return tree, _changes(tree)


def _changes(tree: ast.Module) -> list[_Change]:
    emitters = _emitters(tree)
    found: list[_Change] = []
    for function, node in _outermost(tree):
        for part in ast.walk(node):
            if isinstance(part, ast.expr):
                found.extend(_in_expression(function, part))
            found.extend(_in_statements(function, part, emitters, judges=_judges(node)))
    found.extend(_tables(tree))
    return sorted(found, key=lambda change: change.line)


def _outermost(tree: ast.Module) -> Iterator[tuple[str, Function]]:
    """Every function and method that stands in no other one."""
    for node in tree.body:
        if isinstance(node, Function):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, Function):
                    yield f"{node.name}.{part.name}", part


def _judges(node: Function) -> bool:
    """Whether it answers yes or no, or with what is wrong: each of its conditions counts."""
    return _names_of(node.returns) & {"bool", "Anomaly", "Danger"} != frozenset()


def _names_of(node: ast.AST | None) -> frozenset[str]:
    parts = ast.walk(node) if node is not None else ()
    return frozenset(part.id for part in parts if isinstance(part, ast.Name))


def _emitters(tree: ast.Module) -> frozenset[str]:
    """The names whose call makes or notes a finding or an error."""
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sdtool.")
        for alias in node.names
    }
    return _ERRORS | _FINDINGS | _NOTES | _returning(tree) | (imported & _returning_anywhere())


def _returning(tree: ast.Module) -> frozenset[str]:
    """The functions of a module that return a finding or an error."""
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, Function) and (_ERRORS | _FINDINGS) & _names_of(node.returns)
    )


@cache
def _returning_anywhere() -> frozenset[str]:
    trees = (ast.parse(path.read_text("utf-8")) for path in files())
    return frozenset[str]().union(*map(_returning, trees))


# --- statements ---------------------------------------------------------------------------------


def _in_statements(
    function: str, node: ast.AST, emitters: frozenset[str], *, judges: bool
) -> Iterator[_Change]:
    for block in _BLOCKS:
        body = getattr(node, block, None)
        if not isinstance(body, list):  # that of a lambda
            continue
        for i, statement in enumerate(body):
            if _is_emission(statement, emitters):
                yield _removed(function, body, i)
    if isinstance(node, (ast.Return, ast.Assign, ast.AnnAssign)) and node.value is not None:
        yield from _values(function, node, node.value, emitters)
    if isinstance(node, ast.If):
        yield from _guard(function, node, emitters, judges=judges)
    elif isinstance(node, ast.Return) and node.value is not None and judges:
        yield from _variants(function, node, "value")
    elif isinstance(node, ast.Call) and _called(node) in _CARRIERS:
        for keyword in node.keywords:
            if keyword.arg in _CARRIED and ast.unparse(keyword.value) != _CARRIED[keyword.arg]:
                nothing = ast.parse(_CARRIED[keyword.arg], mode="eval").body
                yield _replaced(function, "passed on", keyword, "value", nothing, node.lineno)


def _is_emission(node: ast.AST, emitters: frozenset[str]) -> bool:
    if isinstance(node, ast.Raise):
        return node.exc is not None
    if not isinstance(node, ast.Expr):
        return False
    if isinstance(node.value, (ast.Yield, ast.YieldFrom)):
        return True
    if not isinstance(node.value, ast.Call):
        return False
    return _emits(node.value, emitters) or _fills_a_list(node.value)


def _emits(node: ast.AST, emitters: frozenset[str]) -> bool:
    return any(isinstance(n, ast.Call) and _called(n) in emitters for n in ast.walk(node))


def _fills_a_list(call: ast.Call) -> bool:
    """Whether it is `found.add(...)`, `state.events.append(...)` or the like."""
    if not isinstance(call.func, ast.Attribute):
        return False
    owner = ast.unparse(call.func.value).rpartition(".")[2]
    return call.func.attr in ("add", "append", "extend", "insert") and owner in _LISTS


def _called(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]


def _removed(function: str, body: list[ast.stmt], i: int) -> _Change:
    statement = body[i]

    def apply() -> None:
        # Still there to the compiler: a generator stays one, and a local name local.
        body[i] = ast.copy_location(ast.If(ast.Constant(False), [statement], []), statement)

    text = ast.unparse(statement)
    return _Change(function, "removed", text, "pass", *_lines(statement), apply)


def _values(
    function: str, node: ast.stmt, value: ast.expr, emitters: frozenset[str]
) -> Iterator[_Change]:
    """A statement that returns or keeps an emission: nothing instead."""
    if isinstance(value, ast.BoolOp) and not isinstance(node, ast.Return):
        for i, part in enumerate(value.values):
            if _emits(part, emitters):
                less = copy.deepcopy(value)
                less.values[i] = ast.Constant(isinstance(value.op, ast.And) or None)
                yield _replaced(function, "removed", node, "value", less)
        return
    direct = value
    if isinstance(value, ast.IfExp):
        direct = value.body if _emits(value.body, emitters) else value.orelse
    if isinstance(direct, ast.Tuple) and direct.elts:
        is_emission = any(_is_made(part, emitters) for part in direct.elts)
        nothing: ast.expr = ast.Tuple([], ast.Load())
    else:
        is_emission = _is_made(direct, emitters) and isinstance(node, (ast.Return, ast.Assign))
        nothing = ast.Constant(None)
    if is_emission:
        yield _replaced(function, "removed", node, "value", nothing)


def _is_made(node: ast.expr, emitters: frozenset[str]) -> bool:
    return isinstance(node, ast.Call) and _called(node) in emitters


# --- conditions ---------------------------------------------------------------------------------


def _guard(
    function: str, node: ast.If, emitters: frozenset[str], *, judges: bool
) -> Iterator[_Change]:
    if not judges and not any(_decides(part, emitters) for part in (*node.body, *node.orelse)):
        return
    alone = len(node.body) == 1 and not node.orelse and _is_emission(node.body[0], emitters)
    if not alone:  # else it is the same as taking out its body
        never = ast.Constant(False)
        yield _replaced(function, "guard", node, "test", never)
    yield from _variants(function, node, "test")


def _decides(statement: ast.stmt, emitters: frozenset[str]) -> bool:
    if isinstance(statement, (ast.Return, ast.Assign)) and statement.value is not None:
        return _emits(statement.value, emitters)
    return _is_emission(statement, emitters)


def _variants(function: str, node: ast.AST, field: str) -> Iterator[_Change]:
    """A condition without one part of its `and` and `or`, and with one comparison moved."""
    whole: ast.expr = getattr(node, field)
    for i, part in enumerate(ast.walk(whole)):
        if isinstance(part, ast.BoolOp):
            for k in range(len(part.values)):
                copied, twin = _copied(whole, i)
                assert isinstance(twin, ast.BoolOp)
                twin.values[k] = ast.Constant(isinstance(twin.op, ast.And))
                yield _replaced(function, "guard", node, field, copied)
        elif isinstance(part, ast.Compare):
            for k, operator in enumerate(part.ops):
                swapped = _SWAPPED.get(type(operator))
                if swapped is not None:
                    copied, twin = _copied(whole, i)
                    assert isinstance(twin, ast.Compare)
                    twin.ops[k] = swapped()
                    yield _replaced(function, "boundary", node, field, copied)


def _copied(whole: ast.expr, i: int) -> tuple[ast.expr, ast.AST]:
    """A copy of an expression, and the part at place `i` of a walk through it."""
    copied = copy.deepcopy(whole)
    return copied, list(ast.walk(copied))[i]


def _in_expression(function: str, node: ast.expr) -> Iterator[_Change]:
    """The bound of a limit, wherever it is not in a condition of its own."""
    if isinstance(node, ast.IfExp) and "limits." in ast.unparse(node.test):
        yield from _variants(function, node, "test")


def _replaced(
    function: str,
    operator: str,
    node: ast.AST,
    field: str,
    by: ast.expr,
    line: int | None = None,
) -> _Change:
    old: ast.expr = getattr(node, field)
    before = ast.unparse(old)
    if isinstance(node, ast.keyword):
        before = f"{node.arg}={before}"
    elif isinstance(node, ast.stmt) and operator == "removed":
        before = ast.unparse(node)
    return _Change(
        function,
        operator,
        before,
        ast.unparse(by),
        *_lines(old, line),
        lambda: setattr(node, field, ast.copy_location(by, old)),
    )


def _lines(node: ast.expr | ast.stmt, first: int | None = None) -> tuple[int, int]:
    return node.lineno if first is None else first, node.end_lineno or node.lineno


# --- tables -------------------------------------------------------------------------------------


def _tables(tree: ast.Module) -> Iterator[_Change]:
    """The top of a module: sets of names, tables of rows, checks of rows, severities."""
    for node in tree.body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign, ast.For)):
            continue
        if isinstance(node, ast.For):
            yield from (_removed("", node.body, i) for i in range(len(node.body)))
        elif isinstance(node.value, ast.Dict) and _names_of(node.value) & {"Allowed"}:
            yield from _rows(node.value)
        elif isinstance(node.value, ast.Tuple):
            for i, row in enumerate(node.value.elts):
                if _names_of(row):  # else a list of words
                    yield _without(node.value.elts, i, row)
        elif isinstance(node.value, ast.Call) and _called(node.value) == "frozenset":
            empty = ast.Call(ast.Name("frozenset", ast.Load()), [], [])
            yield _replaced("", "table", node, "value", empty)
        for part in ast.walk(node):
            if isinstance(part, ast.Call) and _called(part) == "Allowed":
                yield from _checks(part)
            elif isinstance(part, ast.Call) and _called(part) == "Rule":
                yield _demoted(part)


def _rows(table: ast.Dict) -> Iterator[_Change]:
    for i, value in enumerate(table.values):
        key = table.keys[i]
        text = f"**{ast.unparse(value)}" if key is None else ast.unparse(key)

        def apply(i: int = i, line: ast.expr = value) -> None:
            table.keys[i] = None
            table.values[i] = ast.copy_location(ast.Dict([], []), line)

        yield _Change("", "table", text, "nothing", *_lines(value), apply)


def _without(elements: list[ast.expr], i: int, row: ast.expr) -> _Change:
    def apply() -> None:
        elements[i] = ast.copy_location(ast.Starred(ast.Tuple([], ast.Load()), ast.Load()), row)

    text = ast.unparse(row)
    return _Change("", "table", " ".join(text.split())[:80], "nothing", *_lines(row), apply)


def _checks(call: ast.Call) -> Iterator[_Change]:
    """One check of a row that takes anything, or one flag of it turned."""
    for keyword in call.keywords:
        by: ast.expr = ast.parse("lambda value: None", mode="eval").body
        if isinstance(keyword.value, ast.Constant):
            by = ast.Constant(not keyword.value.value)
        elif ast.unparse(keyword.value) == "_anything":
            by = ast.Constant(None)
        change = _replaced("", "row", keyword, "value", by)
        yield change


def _demoted(rule: ast.Call) -> _Change:
    info = ast.unparse(rule.args[0]) == "Severity.INFO"
    by = ast.parse("Severity.LOW" if info else "Severity.INFO", mode="eval").body
    old = rule.args[0]

    def apply() -> None:
        rule.args[0] = ast.copy_location(by, old)

    return _Change("", "demoted", ast.unparse(old), ast.unparse(by), *_lines(old), apply)
