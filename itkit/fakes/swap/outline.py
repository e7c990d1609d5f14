"""Finds the parts of a class's objects in its source, before any object is made.

Annotations name the parts, and so do assignments such as ``self.chat = Chat(self)`` and properties
that ``return Chat(self)``. Other parts are found when a test or the application makes an object.
"""

import ast
import functools
import inspect
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from enum import Enum, auto
from types import FunctionType
from typing import Any, Final

from itkit.fakes.classes.members import is_descriptor, members_of
from itkit.fakes.swap.parts import ROUTINES, has_methods, is_part, real_of
from itkit.fakes.swap.reading import is_nested, subclasses_of
from itkit.fakes.swap.replacements import PartReading
from itkit.fakes.swap.stored import answers_to_any_name, functions_of, stored_names


class Said(Enum):
    """What the source says about a name where it does not show a class."""

    ABSENT = auto()
    METHOD = auto()
    UNKNOWN = auto()
    VALUE = auto()


Outlined = type | Said
_WITHOUT: Final = (Said.ABSENT, Said.VALUE)
_NOT_FOUND: Final = object()


class Outline:
    """The names that a client and its parts have.

    Args:
        real: the client's class.
        seen: classes of the parts that objects have shown, by the names of the parts.
    """

    def __init__(self, real: type, seen: Mapping[str, type]) -> None:
        self._real = real
        self._seen = seen

    def has(self, part: str, name: str) -> bool:
        """Return whether a part may have a name; the part ``""`` is the client itself."""
        kind = self._at(part)
        if isinstance(kind, type):
            return name in members_of(kind) or self._below(kind, name) not in _WITHOUT
        return kind is Said.UNKNOWN

    def names(self, part: str) -> list[str]:
        """Return the names that a part is known to have."""
        kind = self._at(part)
        if not isinstance(kind, type):
            return []
        named = {name for name in dir(kind) if not name.startswith("_")} | stored_names(kind)
        return sorted(
            {*members_of(kind), *(name for name in named if said_of(kind, name) not in _WITHOUT)}
        )

    def _below(self, kind: type, name: str) -> Outlined:
        said = said_of(kind, name)
        if said is Said.ABSENT and kind is self._real:
            for below in subclasses_of(kind):
                if (said := said_of(below, name)) is not Said.ABSENT:
                    break
        return said

    def _at(self, part: str) -> Outlined:
        kind: Outlined = self._real
        path: list[str] = []
        for name in part.split(".") if part else ():
            path.append(name)
            seen = self._seen.get(".".join(path))
            if seen is not None:
                kind = seen
            elif isinstance(kind, type):
                kind = self._below(kind, name)
            elif kind is not Said.UNKNOWN:
                return kind
        return kind


@functools.lru_cache(maxsize=4096)
def said_of(kind: type, name: str) -> Outlined:
    """Return the class of the value that a name of a class stands for, or why there is none."""
    raw = inspect.getattr_static(kind, name, _NOT_FOUND)
    raw = raw.raw if isinstance(raw, PartReading) else real_of(raw)
    is_stored = name in stored_names(kind) and not isinstance(raw, FunctionType | property)
    if raw is not _NOT_FOUND and not is_stored:
        return _said_in_class(kind, name, raw)
    if is_stored:
        return _said_of_stored(kind, name)
    return Said.UNKNOWN if answers_to_any_name(kind) else Said.ABSENT


def _said_in_class(kind: type, name: str, raw: Any) -> Outlined:
    if isinstance(raw, type):
        return raw if is_nested(kind, name, raw) else Said.VALUE
    if not is_descriptor(raw) and not isinstance(raw, ROUTINES) and is_part(raw):
        return type(raw)
    getter = inspect.unwrap(getattr(raw, "fget", None) or getattr(raw, "func", None) or raw)
    if isinstance(raw, FunctionType | staticmethod | classmethod | functools.partialmethod):
        return Said.METHOD
    if isinstance(getter, FunctionType):
        return _said_by_return(getter)
    reading = getattr(type(raw), "__get__", None)
    if isinstance(reading, FunctionType):
        return _said_by_return(reading)
    return Said.METHOD if callable(raw) else Said.VALUE


def _said_by_return(function: FunctionType) -> Outlined:
    hint = _hint(function, "return")
    if hint is not _NOT_FOUND:
        return _class_of(hint)
    for node in ast.walk(_tree(function)):
        if isinstance(node, ast.Return) and node.value is not None:
            return _said_by(node.value, function)
    return Said.UNKNOWN


def _said_of_stored(kind: type, name: str) -> Outlined:
    for base in kind.__mro__:
        if name in vars(base).get("__annotations__", ()):
            return _class_of(_evaluated(vars(base)["__annotations__"][name], base.__module__))
    said = [
        _said_by(value, function)
        for function, value in _assigned(kind, name)
        if not (isinstance(value, ast.Constant) and value.value is None)
    ]
    otherwise = Said.VALUE if said else Said.UNKNOWN
    return next((one for one in said if one is not Said.VALUE), otherwise)


def _assigned(kind: type, name: str) -> Iterator[tuple[FunctionType, ast.expr]]:
    """Yield the expressions that methods assign to an attribute of ``self``."""
    for function in functions_of(kind):
        if name not in function.__code__.co_names:
            continue
        for node in ast.walk(_tree(function)):
            if isinstance(node, ast.Assign):
                targets, value = node.targets, node.value
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                targets, value = [node.target], node.value
            else:
                continue
            for target in targets:
                if isinstance(target, ast.Attribute) and target.attr == name:
                    yield function, value


def _said_by(value: ast.expr, function: FunctionType) -> Outlined:
    """Return the class of the value of an expression in a function, or why there is none."""
    if isinstance(value, ast.Constant | ast.JoinedStr):
        return Said.VALUE
    if isinstance(value, ast.Name):
        hint = _hint(function, value.id)
        return _class_of(hint) if hint is not _NOT_FOUND else Said.UNKNOWN
    if isinstance(value, ast.Call):
        made = _named(value.func, function.__globals__)
        if isinstance(made, type):
            return _class_of(made)
        if isinstance(made, FunctionType):
            hint = _hint(made, "return")
            return _class_of(hint) if hint is not _NOT_FOUND else Said.UNKNOWN
    return Said.UNKNOWN


def _named(expression: ast.expr, namespace: Mapping[str, Any]) -> Any:
    if isinstance(expression, ast.Name):
        return namespace.get(expression.id)
    if isinstance(expression, ast.Attribute):
        return getattr(_named(expression.value, namespace), expression.attr, None)
    return None


def _class_of(hint: Any) -> Outlined:
    given = [item for item in typing.get_args(hint) if item is not types.NoneType]
    if typing.get_origin(hint) in (typing.Union, types.UnionType) and len(given) == 1:
        return _class_of(given[0])
    kind = typing.get_origin(hint) or hint
    if not isinstance(kind, type) or kind is object or getattr(kind, "_is_protocol", False):
        return Said.UNKNOWN
    if has_methods(kind):
        return kind
    return (
        Said.VALUE
        if kind.__module__ == "builtins" and kind not in (dict, list, tuple)
        else (Said.UNKNOWN)
    )


def _hint(function: Callable[..., Any], name: str) -> Any:
    written = inspect.get_annotations(function).get(name, _NOT_FOUND)
    return written if written is _NOT_FOUND else _evaluated(written, function.__module__)


def _evaluated(written: Any, module: str) -> Any:
    """Return an annotation, or None where it uses names that exist for type checkers only."""
    if not isinstance(written, str):
        return written
    try:
        return eval(written, vars(sys.modules[module]).copy())  # noqa: S307 - as typing does
    except Exception:  # noqa: BLE001 - an annotation may be anything
        return typing.Any


def _tree(function: FunctionType) -> ast.AST:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError, TypeError):  # made without a source, such as by dataclass
        return ast.Module([], [])
