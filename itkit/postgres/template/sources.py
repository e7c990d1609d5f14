"""Finds the code of a project that its migrations use, by definitions and not by whole files.

A migration that imports one constant of ``models.py`` does not depend on each method there. So only
these parts of a module count: the statements at its top level that bind the used names, the
statements that these need in turn, and their imports from other modules of the project.
"""

import ast
import copy
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple, TypeVar

ALL: Final = "*"
ABSENT: Final = "absent"
"""The digest of a file or definition that does not exist."""

DIGEST_BYTES: Final = 6
_JOINING: Final = frozenset({"Path", "PurePath", "join", "joinpath"})
_LONGEST_NAME: Final = 200
_DOTTED: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_VARIABLE: Final = re.compile(
    r"(?:environ(?:\.get|\.setdefault)?|getenv|\benv(?:\.\w+)?|\bconfig)[(\[]\s*['\"](\w+)['\"]"
)
_SETTING: Final = re.compile(
    r"\bsettings\.([A-Z][A-Z0-9_]*)|getattr\(settings, '([A-Z][A-Z0-9_]*)'"
)
_CACHING: Final = frozenset({"cache", "cached_property", "lru_cache"})
_CLOCK: Final = frozenset(
    {
        "datetime.date.today",
        "datetime.datetime.now",
        "datetime.datetime.today",
        "datetime.datetime.utcnow",
        "django.utils.timezone.localdate",
        "django.utils.timezone.localtime",
        "django.utils.timezone.now",
        "time.ctime",
        "time.gmtime",
        "time.localtime",
        "time.strftime",
        "time.time",
        "time.time_ns",
    }
)
_RANDOM: Final = frozenset(
    {"django.utils.crypto.get_random_string", "os.urandom", "uuid.uuid1", "uuid.uuid4"}
)
_SEEDED: Final = frozenset({"random.Random", "random.seed"})
_OF_A_GIVEN_TIME: Final = {"ctime": 1, "gmtime": 1, "localtime": 1, "strftime": 2}
"""The number of arguments with which these functions read no clock."""
_EXPRESSIONS: Final = {
    "django.contrib.postgres.functions.RandomUUID": "random values",
    "django.contrib.postgres.functions.TransactionNow": "the clock",
    "django.db.models.functions.Now": "the clock",
    "django.db.models.functions.Random": "random values",
}
"""Expressions that the server evaluates; those of an operation declare a default, and read none."""
# core.sqltext is not used here. It reads whole statements and takes a body in $$ for a value, but
# this module also gets fragments from Python's source, and the body of a function counts.
_WRITING: Final = r"(?:^|;)\s*(?:COPY|INSERT|MERGE|UPDATE|WITH)\b[^;]*?\b"
_SQL_CLOCK: Final = re.compile(
    rf"{_WRITING}(now\(\)|current_timestamp|current_date|localtimestamp|(?:clock|statement|transaction)_timestamp\(\))",
    re.IGNORECASE,
)
_SQL_RANDOM: Final = re.compile(
    rf"{_WRITING}(random\(|gen_random_uuid\(\)|uuidv[47]\(\)|uuid_generate_v[14]\(\))",
    re.IGNORECASE,
)


_Function = TypeVar("_Function", ast.FunctionDef, ast.AsyncFunctionDef)


class Unrepeatable(NamedTuple):
    """A call that returns another value each time.

    Attributes:
        what: the clock, or random values.
        call: the name of the function that is called.
        path: the path of the source.
        line: the number of the line.
    """

    what: str
    call: str
    path: Path
    line: int


class Used(NamedTuple):
    """The values and definitions that the code of a project uses.

    Attributes:
        parts: the names of the used definitions of a module, by the module's path.
        variables: the environment variables that the import of a module may read.
        settings: the settings that the import may read.
        files: the files that the import may read, relative to the module's directory.
        unrepeatable: the values that differ at each read, by the module at which the search began.
    """

    parts: dict[Path, set[str]]
    variables: set[str]
    settings: set[str]
    files: set[Path]
    unrepeatable: dict[str, list[Unrepeatable]]


@cache
def own_file(module: str) -> Path | None:
    """Return the file of a module of the project; None for an installed module.

    This imports nothing.
    """
    if module.partition(".")[0] in {*sys.stdlib_module_names, "django", "itkit"}:
        return None
    loaded = sys.modules.get(module)
    file = getattr(loaded, "__file__", None) if isinstance(loaded, ModuleType) else None
    path = Path(file) if file else _found(module)
    return None if path is None or {"site-packages", "dist-packages"} & set(path.parts) else path


def _found(module: str) -> Path | None:
    first, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    path = Path(spec.origin) if spec.has_location and spec.origin else None
    directories = [Path(found) for found in spec.submodule_search_locations or ()]
    for part in rest:
        named = [directory / part for directory in directories]
        files = [file for at in named for file in (at / "__init__.py", at.with_suffix(".py"))]
        path = next((file for file in files if file.is_file()), None)
        directories = [at for at in named if at.is_dir()]
    return path


def used(begin: Iterable[tuple[str, str]], imported_before: Iterable[tuple[str, str]] = ()) -> Used:
    """Return the values and definitions that modules of a project use.

    Args:
        begin: pairs of a module's name and the name that is used of it, or ``ALL``. What the import
            of these modules reads is recorded.
        imported_before: more such pairs, of modules that were imported before the recording.
    """
    found = Used({}, set(), set(), set(), {})
    for module, name in begin:
        _follow(module, name, found, is_recorded=True)
    for module, name in imported_before:
        _follow(module, name, found, is_recorded=False)
    return found


def _follow(begin: str, name: str, found: Used, *, is_recorded: bool) -> None:
    seen: set[tuple[str, str]] = set()
    todo = [(begin, name)]
    while todo:
        part = todo.pop()
        look = _look(*part) if part not in seen else None
        seen.add(part)
        if look is None:
            continue
        found.parts.setdefault(look.path, set()).add(part[1])
        is_begin = part[0] == begin
        known = found.unrepeatable.setdefault(begin, [])
        for one, is_in_class in look.unrepeatable:
            if one not in known and (is_begin or not is_in_class):
                known.append(one)
        if not (is_begin and is_recorded):
            # The import has run before, so that its reads cannot be recorded any more.
            found.variables.update(look.variables)
            found.settings.update(look.settings)
            found.files.update(look.files)
        todo += look.imports


class _Look(NamedTuple):
    """Reads a part of a module: its imports, and its code."""

    path: Path
    imports: tuple[tuple[str, str], ...]
    unrepeatable: tuple[tuple[Unrepeatable, bool], ...]  # each with whether it is in a class
    variables: frozenset[str]
    settings: frozenset[str]
    files: frozenset[Path]


@cache
def _look(module: str, name: str) -> _Look | None:
    path = own_file(module)
    source = _source(path) if path is not None and path.suffix == ".py" else None
    if path is None or source is None:
        return None
    statements = source.needed([name])
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    unrepeatable = (
        (one, isinstance(statement, ast.ClassDef))
        for statement in statements
        for one in source.unrepeatable(statement)
    )
    done = [_done_before(statement) for statement in statements]
    text = "\n".join(map(ast.unparse, done))
    return _Look(
        path,
        tuple(source.imports(statements, package, name)),
        tuple(unrepeatable),
        frozenset(_VARIABLE.findall(text)),
        frozenset(one or other for one, other in _SETTING.findall(text))
        | frozenset(source.settings(done)),
        frozenset(_files(path, done)),
    )


def _done_before(statement: ast.stmt) -> ast.stmt:
    """Return what of a statement may have run before the migrations.

    That is its import, so the bodies of functions are left out, but not their defaults, and not the
    bodies of those that remember their results: something may have called these already.
    """
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        done: ast.stmt = _Bodiless().visit(copy.deepcopy(statement))
        return done
    return statement


class _Bodiless(ast.NodeTransformer):
    """Empties the functions of a definition."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        return self._emptied(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AsyncFunctionDef:
        return self._emptied(node)

    def _emptied(self, node: _Function) -> _Function:
        names = (
            _dotted(one.func if isinstance(one, ast.Call) else one).rpartition(".")[2]
            for one in node.decorator_list
        )
        if _CACHING.isdisjoint(names):
            node.body = [ast.Pass()]
        return node


def _files(path: Path, statements: Iterable[ast.stmt]) -> Iterator[Path]:
    for node in (node for statement in statements for node in ast.walk(statement)):
        text = _path_of(node)
        if text and len(text) < _LONGEST_NAME and "\0" not in text:
            here = Path.cwd()
            above = [one for one in path.parents if one.is_relative_to(here)]
            possible = (directory / text for directory in {path.parent, here, *above})
            yield from (file for file in possible if file.is_file())


def _path_of(node: ast.AST) -> str:
    """Return the end of a path that an expression names: ``x/y`` of ``BASE_DIR / "x" / "y"``."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        parts = [node.left, node.right]
    elif isinstance(node, ast.Call) and _dotted(node.func).rpartition(".")[2] in _JOINING:
        parts = node.args
    else:
        return ""
    return "/".join(filter(None, map(_path_of, parts)))


def named(path: str, names: Iterable[str]) -> str:
    """Return the name under which parts of a file are stored."""
    found = set(names)
    return f"{path}:{','.join([ALL] if ALL in found else sorted(found))}"


def path_of(what: str) -> str:
    """Return the file of the parts with such a name."""
    return what.rpartition(":")[0]


def digest_of_parts(path: Path, what: str) -> str:
    """Return a digest of the definitions with such a name, and of those that they need."""
    source = _source(path)
    if source is None:
        return ABSENT
    statements = source.needed(what.rpartition(":")[2].split(","))
    text = "\n".join(ast.dump(statement) for statement in statements)
    return digest(text.encode())


def digest(content: bytes) -> str:
    """Return the digest by which contents are compared between runs."""
    return blake2b(content, digest_size=DIGEST_BYTES).hexdigest()


@cache
def _source(path: Path) -> "_Source | None":
    try:
        return _Source(path, ast.parse(path.read_bytes()))
    except (OSError, SyntaxError, ValueError):
        return None


class _Source:
    """A module as its top-level statements."""

    def __init__(self, path: Path, tree: ast.Module) -> None:
        self._path = path
        self._statements = tree.body
        self._binding: dict[str, list[int]] = {}
        self._stars: list[int] = []
        self._full: dict[str, str] = {}  # the meaning of imported names
        for number, statement in enumerate(tree.body):
            for name in _bound(statement):
                self._binding.setdefault(name, []).append(number)
        for number, statement in enumerate(tree.body):
            if isinstance(statement, ast.ImportFrom) and statement.names[0].name == ALL:
                self._stars.append(number)
            for name in _altered(statement):
                if name in self._binding:
                    self._binding[name].append(number)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                self._full.update({one.asname or one.name: one.name for one in node.names})
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
                self._full.update(names)

    def needed(self, names: Iterable[str]) -> list[ast.stmt]:
        """Return the statements that bind some names, and those that these need."""
        todo = list(names)
        if ALL in todo:
            return self._statements
        seen: set[str] = set()
        numbers: set[int] = set()
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            for number in self._binding.get(name, self._stars):
                if number not in numbers:
                    numbers.add(number)
                    todo += (
                        node.id
                        for node in ast.walk(self._statements[number])
                        if isinstance(node, ast.Name) and node.id in self._binding
                    )
        return [self._statements[number] for number in sorted(numbers)]

    def imports(
        self, statements: list[ast.stmt], package: str, wanted: str
    ) -> Iterator[tuple[str, str]]:
        """Yield the modules that statements import, each with a name that is used of it."""
        nodes = [node for statement in statements for node in ast.walk(statement)]
        for node in nodes:
            if isinstance(node, ast.Import):
                for one in node.names:
                    bound = one.asname or one.name
                    yield from ((one.name, used) for used in _attributes(nodes, bound))
            elif isinstance(node, ast.ImportFrom):
                module = _absolute(node, package)
                for one in node.names:
                    if one.name == ALL:
                        yield module, wanted
                    elif own_file(f"{module}.{one.name}") is not None:
                        used = _attributes(nodes, one.asname or one.name)
                        yield from ((f"{module}.{one.name}", name) for name in used)
                    else:
                        yield module, one.name
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from _named_in(node.value)

    def settings(self, statements: Iterable[ast.stmt]) -> Iterator[str]:
        """Yield the settings that statements read, whatever name Django's settings have there."""
        for node in (node for statement in statements for node in ast.walk(statement)):
            if isinstance(node, ast.Attribute):
                before, _, name = self._meant(_dotted(node)).rpartition(".")
                if before == "django.conf.settings" and name.isupper():
                    yield name
            elif isinstance(node, ast.Call) and _dotted(node.func) in {"getattr", "hasattr"}:
                match node.args:
                    case [of, ast.Constant(value=str(name)), *_]:
                        if self._meant(_dotted(of)) == "django.conf.settings":
                            yield name

    def unrepeatable(self, statement: ast.stmt) -> Iterator[Unrepeatable]:
        """Yield the clocks and random values that a statement reads."""
        is_class = isinstance(statement, ast.ClassDef)
        for node in ast.walk(statement):
            if isinstance(node, ast.Call):
                call = _dotted(node.func)
                what = self._kind(call, len(node.args))
                if not what and not is_class:
                    what = _EXPRESSIONS.get(self._meant(call), "")
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                what, call = _kind_of_sql(node.value)
            else:
                continue
            if what:
                yield Unrepeatable(what, call, self._path, node.lineno)

    def _kind(self, call: str, arguments: int) -> str:
        full = self._meant(call)
        given = _OF_A_GIVEN_TIME.get(full.rpartition(".")[2], arguments + 1)
        if full in _CLOCK and arguments < given:
            return "the clock"
        is_random = full in _RANDOM or full.startswith(("random.", "secrets."))
        if is_random and not (full in _SEEDED and arguments):
            return "random values"
        return ""

    def _meant(self, name: str) -> str:
        """Return a name with its module, if it has been imported."""
        first, _, rest = name.partition(".")
        return ".".join(filter(None, [self._full.get(first, first), rest]))


def _named_in(text: str) -> Iterator[tuple[str, str]]:
    """Yield the module of the project that a text names (``import_string()``), and what of it."""
    if not _DOTTED.fullmatch(text):
        return
    module, _, name = text.rpartition(".")
    if own_file(text) is not None:
        yield text, ALL
    elif (path := own_file(module)) is not None and path.name != "__init__.py":
        yield module, name


def _kind_of_sql(text: str) -> tuple[str, str]:
    for what, pattern in (("the clock", _SQL_CLOCK), ("random values", _SQL_RANDOM)):
        if match := pattern.search(text):
            return what, f"{match[1].rstrip('()')} in SQL"
    return "", ""


def _bound(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (one.asname or one.name.partition(".")[0] for one in node.names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _altered(statement: ast.stmt) -> Iterator[str]:
    """Yield the names whose values a statement may alter without binding: ``RATES.append(1)``."""
    is_call = isinstance(statement, ast.Expr)
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    if is_call or any(isinstance(one, ast.Attribute | ast.Subscript) for one in targets):
        yield from (node.id for node in ast.walk(statement) if isinstance(node, ast.Name))


def _attributes(nodes: list[ast.AST], bound: str) -> set[str]:
    """Return the attributes that are used of an imported module; ``ALL`` if it is passed on."""
    prefix = f"{bound}."
    found = {
        dotted.removeprefix(prefix).partition(".")[0]
        for node in nodes
        if isinstance(node, ast.Attribute) and (dotted := _dotted(node)).startswith(prefix)
    }
    if "." in bound:
        return found or {ALL}
    held = {
        id(node.value)
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    is_bare = any(
        isinstance(node, ast.Name) and node.id == bound and id(node) not in held for node in nodes
    )
    return found | ({ALL} if is_bare else set())


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])
