"""Which ``except`` of the project has caught an error, found by its traceback alone."""

import ast
import contextlib
import linecache
from collections.abc import Iterator
from functools import lru_cache
from types import FrameType
from typing import Any, Final

from itkit.timeline import callsite
from itkit.timeline.callsite import CallSite

_NAMES: Final = (ast.Name, ast.Attribute, ast.Tuple, ast.Load)
_Handled = tuple[int, int, int, ast.expr | None, bool]
"""First and last line of what is guarded, the line of the handler, what it catches, and whether
``suppress()`` does."""


def handlers_of(error: BaseException) -> list[str]:
    """Return the lines where code of the project, which is not a test's, has caught an error.

    A handler is an ``except`` or a ``contextlib.suppress()`` around a line that the error has come
    through, and whose classes the error is of. One that names its classes by anything but names is
    not found.
    """
    found = []
    step = error.__traceback__
    while step is not None:
        frame, line = step.tb_frame, step.tb_lineno
        path = frame.f_code.co_filename
        if callsite.is_own_file(path) and not callsite.is_of_tests(path):
            found += [
                str(CallSite(path, handler, frame.f_code.co_name))
                for handler in _catching(error, frame, line)
            ]
        step = step.tb_next
    return found


def _catching(error: BaseException, frame: FrameType, line: int) -> Iterator[int]:
    """Yield the handlers that catch the error in a frame, of each ``try`` the first."""
    caught: set[tuple[int, int]] = set()
    for first, last, handler, classes, is_suppressing in _handled(frame.f_code.co_filename):
        if not first <= line <= last or (first, last) in caught:
            continue
        if _is_of(error, frame, classes, is_suppressing=is_suppressing):
            caught.add((first, last))
            yield handler


def _is_of(
    error: BaseException, frame: FrameType, classes: ast.expr | None, *, is_suppressing: bool
) -> bool:
    if classes is None:
        return True
    if is_suppressing:
        if not isinstance(classes, ast.Call):
            return False
        if _value(classes.func, frame) is not contextlib.suppress:
            return False
        kinds = tuple(_value(argument, frame) for argument in classes.args)
    else:
        kinds = (_value(classes, frame),)
    try:
        return isinstance(error, kinds)
    except TypeError:  # no classes
        return False


def _value(expression: ast.expr, frame: FrameType) -> Any:
    """Return what a name stands for in a frame; None where that is more than a name."""
    if not all(isinstance(node, _NAMES) for node in ast.walk(expression)):
        return None
    code = compile(ast.Expression(expression), "<handler>", "eval")
    try:
        return eval(code, frame.f_globals, frame.f_locals)  # noqa: S307 - names of the source only
    except Exception:  # noqa: BLE001 - a property of the project's may raise anything
        return None


@lru_cache(maxsize=512)
def _handled(path: str) -> list[_Handled]:
    """Return the handlers of a file, the innermost first."""
    try:
        tree = ast.parse("".join(linecache.getlines(path)))
    except SyntaxError:
        return []
    found: list[_Handled] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Try | ast.TryStar):
            first, last = node.body[0].lineno, node.body[-1].end_lineno or node.body[-1].lineno
            found += [(first, last, one.lineno, one.type, False) for one in node.handlers]
        elif isinstance(node, ast.With | ast.AsyncWith):
            last = node.end_lineno or node.lineno
            found += [
                (node.body[0].lineno, last, node.lineno, item.context_expr, True)
                for item in node.items
            ]
    return sorted(found, key=lambda one: (one[1] - one[0], one[2]))
