"""Finds out which functions and branches were run, by instrumented code.

An instrumented function gets other code, compiled from the same source with a note at its beginning
and at the beginning of each branch. Afterwards it gets its own code back. No trace function and no
event of ``sys.monitoring`` is used, so debuggers and coverage.py continue to work. The function
object stays the same.
"""

import ast
import inspect
import linecache
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from types import CodeType, FunctionType
from typing import Any, Final, NamedTuple

_LISTENER: Final = "\0itkit listener"
_ENTRY: Final = "\0itkit entry "
_BRANCH: Final = "\0itkit branch "
_WIDEST: Final = 60  # characters of a condition that are shown


class _Hits:
    """The object in instrumented code that receives its notes."""

    def __init__(self, original: CodeType) -> None:
        self.original = original
        self.listeners: list[set[str]] = []

    def add(self, point: str) -> None:
        for listener in self.listeners:
            listener.add(point)


class Instrumented(NamedTuple):
    """The points of an instrumented function.

    Attributes:
        entry: the point that is noted when the function is called.
        branches: the name of each branch, by the point that is noted when it is taken.
    """

    entry: str
    branches: dict[str, str]


class Instrumentation:
    """Instruments functions, from ``add()`` to ``remove()``.

    Attributes:
        hit: the points that were noted.
    """

    def __init__(self) -> None:
        self.hit: set[str] = set()
        self._functions: list[FunctionType] = []

    def add(self, function: FunctionType) -> Instrumented | None:
        """Instrument a function; return None if its source is not known."""
        hits = _hits_in(function.__code__)
        original = function.__code__ if hits is None else hits.original
        found = _instrumented(original)
        if found is None:
            return None
        if hits is None:
            hits = _Hits(original)
            function.__code__ = _with_listener(found.code, hits)
        hits.listeners.append(self.hit)
        self._functions.append(function)
        return found.instrumented

    def remove(self) -> None:
        """Give the functions their own code back; a second call does nothing."""
        while self._functions:
            function = self._functions.pop()
            hits = _hits_in(function.__code__)
            if hits is None:
                continue  # somebody else has replaced its code meanwhile
            hits.listeners = [one for one in hits.listeners if one is not self.hit]
            if not hits.listeners:
                function.__code__ = hits.original


def functions_in(values: Iterable[Any]) -> Iterator[FunctionType]:
    """Yield the functions behind the attributes of a class, an object or a module."""
    for value in values:
        for part in _parts(value):
            found = inspect.unwrap(part) if callable(part) else part
            if isinstance(found, FunctionType):
                yield found


def _parts(value: Any) -> Sequence[Any]:
    """Return the functions from which a descriptor was made, or the value itself."""
    if isinstance(value, property):
        return [part for part in (value.fget, value.fset, value.fdel) if part is not None]
    if isinstance(value, classmethod | staticmethod):
        return [value.__func__]
    if isinstance(value, type):
        return []
    return [getattr(value, "func", value)]  # for cached_property and similar descriptors


class _WithNotes(NamedTuple):
    code: CodeType
    instrumented: Instrumented


def _instrumented(code: CodeType) -> _WithNotes | None:
    """Return the instrumented code of a function; None if its source is not known."""
    module = _instrumented_module(code.co_filename)
    if module is None:
        return None
    codes, labels = module
    found = codes.get((code.co_qualname, code.co_firstlineno))
    if found is None or found.co_freevars != code.co_freevars:
        return None  # a lambda, or the file has changed since it was imported
    entry = next(point for point in _points(found, _ENTRY))
    own = {*_all_points(found, _BRANCH)}
    branches = {point: label for point, label in labels.items() if point in own}
    return _WithNotes(found, Instrumented(entry, branches))


@cache
def _instrumented_module(
    path: str,
) -> tuple[dict[tuple[str, int], CodeType], dict[str, str]] | None:
    """Return the instrumented code of a module's functions, and the names of their branches."""
    source = "".join(linecache.getlines(path))
    if not source or path.startswith("<"):
        return None
    try:
        parsed = ast.parse(source)
    except SyntaxError:  # the file is being written
        return None
    transformer = _Instrumenter(path)
    tree = ast.fix_missing_locations(transformer.visit(parsed))
    module = compile(tree, path, "exec", dont_inherit=True)
    codes = {(code.co_qualname, code.co_firstlineno): code for code in _codes_in(module)}
    return codes, transformer.labels


def _codes_in(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if any(True for _ in _points(constant, _ENTRY)):
                yield constant
            yield from _codes_in(constant)


def _points(code: CodeType, prefix: str) -> Iterator[str]:
    for constant in code.co_consts:
        if isinstance(constant, str) and constant.startswith(prefix):
            yield constant


def _all_points(code: CodeType, prefix: str) -> Iterator[str]:
    yield from _points(code, prefix)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _all_points(constant, prefix)


def _with_listener(code: CodeType, hits: _Hits) -> CodeType:
    """Return the code with the object that receives its notes."""

    def replaced(constant: Any) -> Any:
        if isinstance(constant, CodeType):
            return _with_listener(constant, hits)
        return hits if type(constant) is str and constant == _LISTENER else constant

    return code.replace(co_consts=tuple(map(replaced, code.co_consts)))


def _hits_in(code: CodeType) -> _Hits | None:
    return next((constant for constant in code.co_consts if isinstance(constant, _Hits)), None)


class _Instrumenter(ast.NodeTransformer):
    """Adds a note to the beginning of each function and each branch.

    A note has the line of the code after it, so that tracebacks and coverage.py see the same lines.

    Attributes:
        labels: the names of the branches, by their notes.
    """

    def __init__(self, path: str) -> None:
        relative = os.path.relpath(path)
        self._path = path if relative.startswith("..") else relative
        self._names: list[str] = []
        self.labels: dict[str, str] = {}
        self._number = 0

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        return self._within(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> Any:
        return self._function(node)

    def visit_If(self, node: ast.If) -> Any:
        what = f"if {_shown(node.test)}"
        return self._two_ways(node, f"{what}: true", f"{what}: false")

    def visit_While(self, node: ast.While) -> Any:
        what = f"while {_shown(node.test)}"
        if isinstance(node.test, ast.Constant):  # a loop that ends only by a break
            return self._one_way(node, f"{what}: true")
        return self._two_ways(node, f"{what}: true", f"{what}: false")

    def visit_For(self, node: ast.For) -> Any:
        what = f"for {_shown(node.target)} in {_shown(node.iter)}"
        return self._two_ways(node, f"{what}: an item", f"{what}: the end")

    def visit_AsyncFor(self, node: ast.AsyncFor) -> Any:
        what = f"async for {_shown(node.target)} in {_shown(node.iter)}"
        return self._two_ways(node, f"{what}: an item", f"{what}: the end")

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> Any:
        caught = f"except {_shown(node.type)}" if node.type is not None else "except"
        return self._one_way(node, caught)

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        if not self._names:
            return node
        what = f"if {_shown(node.test)}"
        points = [self._branch(node, f"{what}: true"), self._branch(node, f"{what}: false")]
        self.generic_visit(node)
        node.body = ast.BoolOp(ast.Or(), [_note(points[0], node.body), node.body])
        node.orelse = ast.BoolOp(ast.Or(), [_note(points[1], node.orelse), node.orelse])
        return node

    def visit_Match(self, node: ast.Match) -> Any:
        if not self._names:
            return node
        points = [self._branch(case.pattern, f"case {_shown(case.pattern)}") for case in node.cases]
        other = self._branch(node, f"match {_shown(node.subject)}: no case")
        self.generic_visit(node)
        for case, point in zip(node.cases, points, strict=True):
            case.body.insert(0, _statement(point, case.body[0]))
        if _takes_all(node.cases[-1]):
            del self.labels[other]
        else:
            node.cases.append(
                ast.match_case(ast.MatchAs(), body=[_statement(other, node.cases[-1].pattern)])
            )
        return node

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Any:
        self._within(node)
        self._number += 1
        point = f"{_ENTRY}{self._path} {self._number}"
        at = 1 if ast.get_docstring(node, clean=False) is not None else 0
        node.body.insert(at, _statement(point, node.body[min(at, len(node.body) - 1)]))
        return node

    def _within(self, node: Any) -> Any:
        self._names.append(node.name)
        try:
            return self.generic_visit(node)
        finally:
            self._names.pop()

    def _one_way(self, node: Any, label: str) -> Any:
        if not self._names:
            return self.generic_visit(node)
        point = self._branch(node, label)
        self.generic_visit(node)
        node.body.insert(0, _statement(point, node.body[0]))
        return node

    def _two_ways(self, node: Any, label: str, other: str) -> Any:
        if not self._names:
            return self.generic_visit(node)
        points = [self._branch(node, label), self._branch(node, other)]
        self.generic_visit(node)
        node.body.insert(0, _statement(points[0], node.body[0]))
        # A missing else has the line of the condition.
        where = node.orelse[0] if node.orelse else getattr(node, "test", node)
        node.orelse.insert(0, _statement(points[1], where))
        return node

    def _branch(self, node: Any, label: str) -> str:
        self._number += 1
        point = f"{_BRANCH}{self._path} {self._number}"
        name = ".".join(self._names)
        self.labels[point] = f"{self._path}:{node.lineno} in {name}: {label}"
        return point


def _note(point: str, where: Any) -> ast.Call:
    """Return an expression that notes a point; its value is None."""
    listener = ast.Attribute(ast.Constant(_LISTENER), "add", ast.Load())
    call = ast.Call(listener, [ast.Constant(point)], [])
    for node in ast.walk(call):
        if isinstance(node, ast.expr):
            node.lineno = node.end_lineno = where.lineno
            node.col_offset = node.end_col_offset = where.col_offset
    return call


def _statement(point: str, where: Any) -> ast.Expr:
    decorators = getattr(where, "decorator_list", ())
    return ast.copy_location(ast.Expr(_note(point, decorators[0] if decorators else where)), where)


def _shown(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _takes_all(case: ast.match_case) -> bool:
    pattern = case.pattern
    return case.guard is None and isinstance(pattern, ast.MatchAs) and pattern.pattern is None
