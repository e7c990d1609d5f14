"""What of a project a schema for each worker does not keep apart: ``manage.py itkit doctor``.

The SQL of migrations is that of the operations that Django would run. Other SQL is looked for in
the source of the project's own apps: string literals that look like it, and ``.sql`` files.
"""

import ast
import os
import sys
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from django.apps import apps
from django.contrib.postgres.operations import CreateExtension
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import RunSQL, SeparateDatabaseAndState

from itkit.postgres.escapes import Escape, Match, escapes, is_sql, untrusted

_SETTING: Final = 'ITKIT = {"POSTGRES": {"ISOLATION": "database"}}'
_TAKES_SQL: Final = frozenset({"execute", "executemany", "raw", "RawSQL", "SQL", "extra"})
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
_NOT_OURS: Final = _INSTALLED | {"node_modules", "__pycache__"}
_UNKNOWN: Final = "{}"
"""Stands in a literal for what is only known when it runs."""


@dataclass(frozen=True, order=True)
class Finding:
    """One place in the project that a schema does not isolate.

    Attributes:
        path: of the file, relative to the working directory where it is below that.
        line: in it, from 1.
        what: is there.
        why: it is not isolated.
        is_of_server: whether a database for each worker does not isolate it either.
    """

    path: str
    line: int
    what: str
    why: str
    is_of_server: bool

    def __str__(self) -> str:
        """Return the line that tells of it."""
        return f"{self.path}:{self.line}: {self.what}: {self.why}"


def findings() -> list[Finding]:
    """Return all of them, by file and line. No server is asked."""
    return sorted({*_in_migrations(), *_in_code()})


def relevant(found: Iterable[Finding], isolation: str) -> list[Finding]:
    """Return what is not isolated by ``ITKIT["POSTGRES"]["ISOLATION"]`` as it is set."""
    return [finding for finding in found if isolation == "schema" or finding.is_of_server]


def verdict(found: Sequence[Finding], isolation: str) -> str:
    """Return what to do about the findings that are relevant.

    Args:
        found: of ``relevant``.
        isolation: the setting.
    """
    of_server = sum(finding.is_of_server for finding in found)
    of_schema = len(found) - of_server
    lines = []
    if isolation == "database":
        lines.append(
            "Each worker has a database of its own already; roles, the server's configuration and"
            " what needs a superuser stay shared."
        )
    elif of_schema:
        lines += [
            f"{of_schema} not isolated by a schema for each worker, only by a database:",
            f"    {_SETTING}",
            "or in the environment: ITKIT_POSTGRES_ISOLATION=database",
        ]
    if of_server:
        lines.append(
            f"{of_server} of the whole server, so in no isolation: only on the embedded server do"
            " tests meet no other run. They are superuser there with ITKIT_POSTGRES_ROLE=project."
        )
    if not found:
        lines.append("Nothing found that would not be isolated.")
    return "\n".join(lines)


@dataclass(frozen=True)
class _Literal:
    """A string in the source: its text and its lines."""

    text: str
    first_line: int
    last_line: int
    is_likely_sql: bool


class _Module:
    """The source of one Python file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with tokenize.open(path) as file:
            source = file.read()
        self._lines = source.splitlines()
        self._tree = ast.parse(source)

    def findings(self) -> Iterator[Finding]:
        """Yield what the module's own SQL reaches, but for that of its operations."""
        for literal in _Literals.of(self._tree, with_operations=False):
            if is_sql(literal.text, likely=literal.is_likely_sql):
                for match in escapes(literal.text):
                    yield _finding(self._path, self._line(literal, match), match.escape)

    def findings_in(self, statements: str) -> Iterator[Finding]:
        """Yield what SQL reaches that an operation of this migration runs."""
        literals = _Literals.of(self._tree, with_operations=True)
        literal = next((found for found in literals if found.text == statements), None)
        for match in escapes(statements):
            line = self._line(literal, match) if literal else self.line_with(match.text, "RunSQL")
            yield _finding(self._path, line, match.escape)

    def line_with(self, *texts: str) -> int:
        """Return the first line that has the first of some texts, or the next of them, or 1."""
        for text in texts:
            for number, line in enumerate(self._lines, start=1):
                if text in line:
                    return number
        return 1

    def _line(self, literal: _Literal, match: Match) -> int:
        """Return the line of a match; implicit concatenation has fewer newlines than lines."""
        shown = match.text.strip().splitlines()[0]
        line = literal.first_line + literal.text.count("\n", 0, match.offset)
        if line <= literal.last_line and shown in self._lines[line - 1]:
            return line
        lines = range(literal.first_line, literal.last_line + 1)
        return next((n for n in lines if shown in self._lines[n - 1]), literal.first_line)


class _Literals(ast.NodeVisitor):
    """Collects the string literals of a module, but for docstrings.

    Args:
        reverse: names of what only the way back of an operation runs.
        with_operations: whether to collect those in a ``RunSQL`` as well.
    """

    def __init__(self, reverse: frozenset[str], *, with_operations: bool) -> None:
        self._reverse = reverse
        self._with_operations = with_operations
        self._is_likely_sql = False
        self.found: list[_Literal] = []

    @classmethod
    def of(cls, tree: ast.Module, *, with_operations: bool) -> list[_Literal]:
        """Return the literals of a module."""
        collector = cls(frozenset(_reverse_names(tree)), with_operations=with_operations)
        collector.visit(tree)
        return collector.found

    def visit(self, node: ast.AST) -> None:
        """Take a node that is a text, or go into it."""
        text = _text(node) if isinstance(node, ast.expr) else None
        if isinstance(node, ast.expr) and text is not None:
            last = node.end_lineno or node.lineno
            self.found.append(_Literal(text, node.lineno, last, self._is_likely_sql))
        else:
            super().visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        """Leave out docstrings."""
        if not isinstance(node.value, ast.Constant):
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        """Leave out what only takes a migration back."""
        names = {target.id for target in node.targets if isinstance(target, ast.Name)}
        if not names & self._reverse:
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """Remember whether the arguments are SQL; leave out those that Django's loader knows."""
        called = _called(node)
        if called == "RunSQL" and not self._with_operations:
            return
        outer = self._is_likely_sql
        self._is_likely_sql = outer or called in _TAKES_SQL
        self.generic_visit(node)
        self._is_likely_sql = outer


def _text(node: ast.AST) -> str | None:
    """Return the text of a literal, or of one that is put together; None for all else."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) or _UNKNOWN for part in parts)
        case ast.BinOp(left=left, op=ast.Mod()):
            return _text(left)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            texts = [_text(left), _text(right)]
            return None if texts == [None, None] else "".join(text or _UNKNOWN for text in texts)
    return None


def _called(node: ast.Call) -> str:
    match node.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def _reverse_names(tree: ast.Module) -> Iterator[str]:
    """Yield the names of what is given to a ``RunSQL`` as the way back."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) == "RunSQL":
            given = [keyword.value for keyword in node.keywords if keyword.arg == "reverse_sql"]
            yield from (arg.id for arg in [*node.args[1:2], *given] if isinstance(arg, ast.Name))


def _in_migrations() -> Iterator[Finding]:
    loader = MigrationLoader(None, ignore_no_migrations=True)
    for migration in loader.disk_migrations.values():
        yield from _in_migration(migration)


def _in_migration(migration: Migration) -> Iterator[Finding]:
    operations = list(_flat(migration.operations))
    if not operations:
        return
    path = Path(str(sys.modules[migration.__module__].__file__))
    module = _Module(path)
    for operation in operations:
        if isinstance(operation, RunSQL):
            for statements in _statements(operation.sql):
                yield from module.findings_in(statements)
        elif escape := untrusted(operation.name):
            line = module.line_with(f'"{operation.name}"', type(operation).__name__)
            yield _finding(path, line, escape)


def _flat(operations: Iterable[Any]) -> Iterator[Any]:
    """Yield the operations that run or make something that Django does not know."""
    for operation in operations:
        if isinstance(operation, SeparateDatabaseAndState):
            yield from _flat(operation.database_operations)
        elif isinstance(operation, RunSQL | CreateExtension):
            yield operation


def _statements(sql: Any) -> Iterator[str]:
    """Yield the texts of a RunSQL: it takes one, or several, each with parameters or without."""
    if isinstance(sql, str):
        yield sql
    else:
        yield from (part if isinstance(part, str) else part[0] for part in sql)


def _in_code() -> Iterator[Finding]:
    for path in sorted({path for place in _own_apps() for path in _files(place)}):
        try:
            yield from _in_sql_file(path) if path.suffix == ".sql" else _Module(path).findings()
        except (SyntaxError, ValueError):
            continue  # no source of this Python's, such as a template of one: nothing runs it


def _in_sql_file(path: Path) -> Iterator[Finding]:
    text = path.read_text(encoding="utf-8")
    for match in escapes(text):
        yield _finding(path, text.count("\n", 0, match.offset) + 1, match.escape)


def _own_apps() -> list[Path]:
    """Return the directories of the apps that are the project's own."""
    return [
        Path(app.path)
        for app in apps.get_app_configs()
        if not _INSTALLED & set(Path(app.path).resolve().parts)
        and app.name.partition(".")[0] not in {"django", "itkit"}
    ]


def _files(place: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(place):
        here = Path(directory)
        names[:] = [name for name in names if _is_searched(here / name)]
        yield from (here / name for name in files if name.endswith((".py", ".sql")))


def _is_searched(directory: Path) -> bool:
    is_environment = (directory / "pyvenv.cfg").exists()
    return not (directory.name in _NOT_OURS or directory.name.startswith(".") or is_environment)


def _finding(path: Path, line: int, escape: Escape) -> Finding:
    here = Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return Finding(str(shown), line, escape.what, escape.why, escape.is_of_server)
