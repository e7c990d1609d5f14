"""Finds what a schema for each worker does not isolate in a project: ``manage.py itkit doctor``.

The SQL of migrations comes from the operations that Django would run. Other SQL is searched in the
project's own source: string literals that look like SQL, and ``.sql`` files. Then a database in
which all migrations have run is inspected, as the text does not show everything.
"""

import ast
import os
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import (
    AddField,
    AlterField,
    AlterModelTable,
    CreateModel,
    RunSQL,
)

from itkit import postgres
from itkit.postgres.migrations.escapes import Escape, Match, escapes, is_sql, untrusted
from itkit.postgres.migrations.operations import flat, statements

_SETTING: Final = 'ITKIT = {"POSTGRES": {"ISOLATION": "database"}}'
_TAKES_SQL: Final = frozenset({"execute", "executemany", "raw", "RawSQL", "SQL", "extra"})
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
_NOT_OURS: Final = _INSTALLED | {"node_modules", "__pycache__"}
_CONNECTS: Final = frozenset(
    {
        "aiopg.connect",
        "aiopg.create_pool",
        "aiopg.sa.create_engine",
        "asyncpg.connect",
        "asyncpg.create_pool",
        "databases.Database",
        "peewee.PostgresqlDatabase",
        "pg8000.connect",
        "pg8000.dbapi.connect",
        "pg8000.native.Connection",
        "playhouse.pool.PooledPostgresqlDatabase",
        "playhouse.postgres_ext.PostgresqlExtDatabase",
        "psycopg.AsyncConnection.connect",
        "psycopg.Connection.connect",
        "psycopg.connect",
        "psycopg2.connect",
        "psycopg2.extras.LogicalReplicationConnection",
        "psycopg2.extras.PhysicalReplicationConnection",
        "psycopg2.pool.PersistentConnectionPool",
        "psycopg2.pool.SimpleConnectionPool",
        "psycopg2.pool.ThreadedConnectionPool",
        "psycopg_pool.AsyncConnectionPool",
        "psycopg_pool.AsyncNullConnectionPool",
        "psycopg_pool.ConnectionPool",
        "psycopg_pool.NullConnectionPool",
        "sqlalchemy.create_engine",
        "sqlalchemy.engine_from_config",
        "sqlalchemy.ext.asyncio.async_engine_from_config",
        "sqlalchemy.ext.asyncio.create_async_engine",
        "sqlmodel.create_engine",
    }
)
"""Functions and classes that connect to Postgres, or make objects that do."""

_CONNECTIONS: Final = frozenset(
    {
        "psycopg.AsyncConnection",
        "psycopg.Connection",
        "psycopg2.extensions.connection",
        *(name for name in _CONNECTS if "Pool" in name),
    }
)
"""Classes of connections, whose subclasses connect as well."""

_STARTS: Final = frozenset(
    {
        "asyncio.create_subprocess_exec",
        "asyncio.create_subprocess_shell",
        "os.popen",
        "os.system",
        "subprocess.Popen",
        "subprocess.call",
        "subprocess.check_call",
        "subprocess.check_output",
        "subprocess.getoutput",
        "subprocess.run",
    }
)
"""Functions and classes that start programs."""

_PROGRAM: Final = re.compile(
    r"(?:\S*/)?(?P<name>psql|pg_dump|pg_dumpall|pg_restore|createdb|dropdb|vacuumdb|reindexdb"
    r"|clusterdb|pgbench)(?:\s|\Z)"
)
"""The beginning of a command that starts a client of Postgres'."""

_IN_A_SCHEMA: Final = Escape(
    "a db_table with a schema",
    "the table is beside the schema of a worker, so all workers share it",
)
_UNKNOWN: Final = "{}"
"""Replaces a part of a literal that is known only when the code runs."""


@dataclass(frozen=True, order=True)
class Finding:
    """One line of the project that a schema does not isolate.

    Attributes:
        path: the path of the file, relative to the working directory where it is below that; or the
            name of a database.
        line: the line in it, from 1; 0 for a database.
        what: the thing that was found.
        why: the reason why it is not isolated.
        is_of_server: whether a database for each worker does not isolate it either.
        is_hint: whether it may be correct, so that somebody has to check it.
    """

    path: str
    line: int
    what: str
    why: str
    is_of_server: bool
    is_hint: bool = False

    def __str__(self) -> str:
        """Return the line that describes it."""
        folder = f"{self.path}:{self.line}" if self.line else self.path
        return f"{folder}: {'to be looked at: ' if self.is_hint else ''}{self.what}: {self.why}"


def findings() -> list[Finding]:
    """Return the findings in the text of the project, by file and line, without a server."""
    return sorted({*_in_migrations(), *_in_models(), *_in_code()})


def findings_in_databases(known: Iterable[Finding]) -> list[Finding]:
    """Return findings in Django's present databases that the text does not show.

    Args:
        known: the findings in the text; findings of the same kind are not reported again.
    """
    kinds = {finding.what for finding in known}
    return sorted(
        Finding(
            f"database of {alias!r}",
            0,
            escape.what,
            escape.why,
            escape.is_of_server,
            escape.is_hint,
        )
        for alias, kind, escape in postgres.inspected()
        if kind not in kinds
    )


def relevant(found: Iterable[Finding], isolation: str) -> list[Finding]:
    """Return the findings that the present ``ITKIT["POSTGRES"]["ISOLATION"]`` does not isolate."""
    return [
        finding
        for finding in found
        if isolation == "schema" or finding.is_of_server or (finding.is_hint and finding.line)
    ]


def verdict(found: Sequence[Finding], isolation: str) -> str:
    """Return advice about the relevant findings.

    Args:
        found: the findings of ``relevant``, without hints.
        isolation: the value of the setting.
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
            f"{of_server} of the whole server, which no mode isolates: only on the embedded server"
            " do tests meet no other run. They are superuser there with"
            " ITKIT_POSTGRES_ROLE=project."
        )
    if not found:
        lines.append("Nothing was found that is not isolated.")
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
        self._names = _Names(self._tree)

    def findings(self) -> Iterator[Finding]:
        """Yield the findings in the module's own SQL, except that of its operations."""
        for literal in _Literals.of(self._tree, self._names, with_operations=False):
            if is_sql(literal.text, likely=literal.is_likely_sql):
                for match in escapes(literal.text):
                    yield _finding(self._path, self._line(literal, match), match.escape)
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call | ast.ClassDef):
                for used in _connecting(node, self._names):
                    yield _finding(self._path, node.lineno, _connection(used), is_hint=True)

    def findings_in(self, statements: str) -> Iterator[Finding]:
        """Yield the findings in SQL that an operation of this migration runs."""
        literals = _Literals.of(self._tree, self._names, with_operations=True)
        literal = next((found for found in literals if found.text == statements), None)
        for match in escapes(statements):
            line = self._line(literal, match) if literal else self.line_with(match.text, "RunSQL")
            yield _finding(self._path, line, match.escape)

    def line_with(self, *texts: str) -> int:
        """Return the first line with the first of some texts, or with the next of them, or 1."""
        for text in texts:
            for number, line in enumerate(self._lines, start=1):
                if text in line:
                    return number
        return 1

    def _line(self, literal: _Literal, match: Match) -> int:
        """Return the line of a match; implicit concatenation has more lines than newlines."""
        shown = match.text.strip().splitlines()[0]
        line = literal.first_line + literal.text.count("\n", 0, match.offset)
        if line <= literal.last_line and shown in self._lines[line - 1]:
            return line
        lines = range(literal.first_line, literal.last_line + 1)
        return next((n for n in lines if shown in self._lines[n - 1]), literal.first_line)


class _Names:
    """The meaning of names in a module: constants of this or other modules, and imports."""

    def __init__(self, tree: ast.Module) -> None:
        self._imported: dict[str, str] = {}
        self._constants: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for item in node.names:
                    first = item.name.partition(".")[0]
                    self._imported[item.asname or first] = item.name if item.asname else first
            elif isinstance(node, ast.ImportFrom) and node.module:
                for item in node.names:
                    self._imported[item.asname or item.name] = f"{node.module}.{item.name}"
        for statement in tree.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))):
                    self._constants[name] = text

    def full(self, node: ast.AST) -> str:
        """Return the dotted name of an expression; an empty text if it is no name."""
        match node:
            case ast.Name(id=name):
                return self._imported.get(name, name)
            case ast.Attribute(value=value, attr=name):
                before = self.full(value)
                return f"{before}.{name}" if before else ""
        return ""

    def constant(self, node: ast.AST) -> str | None:
        """Return the text behind a name, in this module, in another one or in the settings."""
        if isinstance(node, ast.Name) and node.id in self._constants:
            return self._constants[node.id]
        module, _, name = self.full(node).rpartition(".")
        holder: object = settings if module == "django.conf.settings" else sys.modules.get(module)
        found = getattr(holder, name, None) if name and holder is not None else None
        return found if isinstance(found, str) else None


class _Literals(ast.NodeVisitor):
    """Collects the string literals of a module, except docstrings.

    Args:
        names: the values of names in the module.
        reverse: names that only the reverse of an operation uses.
        with_operations: whether to collect those in a ``RunSQL`` as well.
    """

    def __init__(self, names: _Names, reverse: frozenset[str], *, with_operations: bool) -> None:
        self._names = names
        self._reverse = reverse
        self._with_operations = with_operations
        self._is_likely_sql = False
        self.found: list[_Literal] = []

    @classmethod
    def of(cls, tree: ast.Module, names: _Names, *, with_operations: bool) -> list[_Literal]:
        """Return the literals of a module."""
        collector = cls(names, frozenset(_reverse_names(tree)), with_operations=with_operations)
        collector.visit(tree)
        return collector.found

    def visit(self, node: ast.AST) -> None:
        """Collect the text of a node, or visit its children."""
        text = _text(node, self._names) if isinstance(node, ast.expr) else None
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
        """Leave out SQL that only reverses a migration; collect names of Postgres functions."""
        names = {target.id for target in node.targets if isinstance(target, ast.Name)}
        if "function" in names:
            self._take_function(node.value)
        elif "template" in names and (text := _text(node.value, self._names)) is not None:
            line, last = node.value.lineno, node.value.end_lineno or node.value.lineno
            self.found.append(_Literal(f"SELECT {text}", line, last, is_likely_sql=True))
        elif not names & self._reverse:
            self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        """Collect the name of the function that an expression of Django's calls."""
        if node.arg == "function":
            self._take_function(node.value)
        else:
            self.generic_visit(node)

    def _take_function(self, value: ast.expr) -> None:
        text = _text(value, self._names)
        if text is not None and re.fullmatch(r"\w+(?:\.\w+)?", text):
            self.found.append(
                _Literal(f"SELECT {text}()", value.lineno, value.lineno, is_likely_sql=True)
            )
        else:
            self.visit(value)

    def visit_Call(self, node: ast.Call) -> None:
        """Remember whether the arguments are SQL; leave out operations that Django loads itself."""
        called = _called(node)
        if called == "RunSQL" and not self._with_operations:
            return
        outer = self._is_likely_sql
        self._is_likely_sql = outer or called in _TAKES_SQL
        self.generic_visit(node)
        self._is_likely_sql = outer


def _text(node: ast.AST, names: _Names) -> str | None:
    """Return the text of a literal or of a composed one; None for other nodes."""
    found: str | None = None
    match node:
        case ast.Constant(value=str(constant)):
            found = constant
        case ast.JoinedStr(values=parts):
            found = "".join(_part(part, names) for part in parts)
        case ast.BinOp(left=left, op=ast.Mod(), right=right):
            given = right.elts if isinstance(right, ast.Tuple) else [right]
            found = _filled(_text(left, names), given, names)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            if _text(left, names) is not None or _text(right, names) is not None:
                found = _part(left, names) + _part(right, names)
        case ast.Call(func=ast.Attribute(value=value, attr="format")):
            found = _formatted(_text(value, names), node, names)
    return found


def _part(node: ast.AST, names: _Names) -> str:
    """Return the text of a part of a composed literal."""
    inner = node.value if isinstance(node, ast.FormattedValue) else node
    return _text(inner, names) or names.constant(inner) or _UNKNOWN


def _filled(text: str | None, given: Sequence[ast.expr], names: _Names) -> str | None:
    """Return a text with the known values for its ``%s``."""
    for value in given if text is not None else ():
        text = str(text).replace("%s", names.constant(value) or _UNKNOWN, 1)
    return text


def _formatted(text: str | None, call: ast.Call, names: _Names) -> str | None:
    """Return a text with the known values for its fields in braces."""
    if text is None:
        return None
    values = {word.arg: names.constant(word.value) for word in call.keywords}
    folders = iter(call.args)

    def value(field: re.Match[str]) -> str:
        known = values.get(field[1])
        if not field[1] and (folder := next(folders, None)) is not None:
            known = names.constant(folder)
        return known or _UNKNOWN

    return re.sub(r"\{(\w*)\}", value, text)


def _called(node: ast.Call) -> str:
    match node.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def _reverse_names(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a ``RunSQL`` gets as its reverse."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) == "RunSQL":
            given = [keyword.value for keyword in node.keywords if keyword.arg == "reverse_sql"]
            yield from (arg.id for arg in [*node.args[1:2], *given] if isinstance(arg, ast.Name))


def _in_migrations() -> Iterator[Finding]:
    loader = MigrationLoader(None, ignore_no_migrations=True)
    for migration in loader.disk_migrations.values():
        yield from _in_migration(migration)


def _in_migration(migration: Migration) -> Iterator[Finding]:
    from django.contrib.postgres.operations import CreateExtension  # imports a driver

    operations = list(flat(migration.operations))
    if not operations:
        return
    path = Path(str(sys.modules[migration.__module__].__file__))
    module = _Module(path)
    for operation in operations:
        if isinstance(operation, RunSQL):
            for text in statements(operation):
                yield from module.findings_in(text)
        elif isinstance(operation, CreateExtension):
            if escape := untrusted(operation.name):
                line = module.line_with(f'"{operation.name}"', type(operation).__name__)
                yield _finding(path, line, escape)
        else:
            for table in filter(_names_a_schema, _tables(operation)):
                yield _finding(path, module.line_with(table), _IN_A_SCHEMA)


def _tables(operation: Any) -> Iterator[str]:
    """Yield the tables that an operation names."""
    if isinstance(operation, CreateModel):
        yield operation.options.get("db_table") or ""
        yield from (getattr(item, "db_table", None) or "" for _, item in operation.fields)
    elif isinstance(operation, AlterModelTable):
        yield operation.table or ""
    elif isinstance(operation, AddField | AlterField):
        yield getattr(operation.field, "db_table", None) or ""


def _names_a_schema(table: str) -> bool:
    """Return whether a ``db_table`` contains quotes, by which it also names a schema."""
    return bool(re.search(r'"\s*\.\s*"', table))


def _in_models() -> Iterator[Finding]:
    """Yield findings for models whose ``db_table`` names a schema."""
    for model in apps.get_models(include_auto_created=True):
        if not _names_a_schema(model._meta.db_table):
            continue
        maker: Any = model._meta.auto_created or model
        path = Path(str(sys.modules[maker.__module__].__file__))
        line = _Module(path).line_with(model._meta.db_table, f"class {maker.__name__}(")
        yield _finding(path, line, _IN_A_SCHEMA)


def _in_code() -> Iterator[Finding]:
    folders = [*_own_apps(), *_project()]
    for path in sorted({path.resolve() for folder in folders for path in _files(folder)}):
        try:
            yield from _in_sql_file(path) if path.suffix == ".sql" else _Module(path).findings()
        except (SyntaxError, ValueError):
            continue  # not valid in this Python, such as a template of a module: nothing runs it


def _in_sql_file(path: Path) -> Iterator[Finding]:
    text = path.read_text(encoding="utf-8")
    for match in escapes(text):
        yield _finding(path, text.count("\n", 0, match.offset) + 1, match.escape)


def _own_apps() -> list[Path]:
    """Return the directories of the project's own apps."""
    return [
        Path(app.path)
        for app in apps.get_app_configs()
        if not _INSTALLED & set(Path(app.path).resolve().parts)
        and app.name.partition(".")[0] not in {"django", "itkit"}
    ]


def _project() -> Iterator[Path]:
    """Yield the directory of the settings' package, which has modules outside of apps."""
    module = sys.modules.get((os.environ.get("DJANGO_SETTINGS_MODULE") or "").partition(".")[0])
    file = Path(getattr(module, "__file__", None) or os.devnull).resolve()
    if file.suffix == ".py" and not _INSTALLED & set(file.parts):
        yield file.parent.parent if file.name == "__init__.py" else file.parent


def _files(folder: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(folder):
        here = Path(directory)
        names[:] = [name for name in names if _is_searched(here / name)]
        yield from (here / name for name in files if name.endswith((".py", ".sql")))


def _is_searched(directory: Path) -> bool:
    is_environment = (directory / "pyvenv.cfg").exists()
    return not (directory.name in _NOT_OURS or directory.name.startswith(".") or is_environment)


def _finding(path: Path, line: int, escape: Escape, *, is_hint: bool = False) -> Finding:
    here = Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return Finding(str(shown), line, escape.what, escape.why, escape.is_of_server, is_hint)


def _connecting(node: ast.Call | ast.ClassDef, names: _Names) -> Iterator[str]:
    """Yield what a call or the definition of a class connects to Postgres by."""
    if isinstance(node, ast.ClassDef):
        yield from (f"class {base}" for base in map(names.full, node.bases) if base in _CONNECTIONS)
        return
    called = names.full(node.func)
    given = [*node.args, *(keyword.value for keyword in node.keywords)]
    for used in (called, *map(names.full, given)):  # it may be handed on, as to partial()
        if used in _CONNECTS:
            yield f"{used}()"
    if called in _STARTS and node.args:
        command = node.args[0]
        if isinstance(command, ast.List | ast.Tuple) and command.elts:
            command = command.elts[0]
        if found := _PROGRAM.match(_text(command, names) or ""):
            yield f"the program {found['name']}"


def _connection(used: str) -> Escape:
    return Escape(
        used,
        "itkit leads it to the tests' schema if it names neither options nor another server;"
        " django.db.connection needs no such care",
    )
