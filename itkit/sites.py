"""Where in the source something happened.

What is recorded on a hot path is a module's namespace and a line. The code object would tell the
function as well, but reading it from a frame is an audit event, which costs as much as the rest of
the record while anybody listens: so the function is found in the source, when it is printed.
"""

import linecache
import os
import sysconfig
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from inspect import CO_NEWLOCALS
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

_PACKAGE: Final = __package__
_OWN: Final = f"{Path(__file__).parent}{os.sep}"
_TEST_DIRECTORIES: Final = frozenset({"test", "tests"})
_TEST_FILES: Final = frozenset({"conftest.py", "tests.py"})
_LIBRARIES: Final = tuple({path for path in sysconfig.get_paths().values() if path})


class Site(NamedTuple):
    """A place in the source.

    Attributes:
        path: of the file.
        line: from 1.
        function: that it is in; empty where it is in none, or the source is not at hand.
    """

    path: str
    line: int
    function: str

    def __str__(self) -> str:
        place = f"{_relative(self.path)}:{self.line}"
        return f"{place} in {self.function}" if self.function else place


def site(namespace: Mapping[str, Any], line: int) -> Site:
    """Return a place by the globals of its module and its line."""
    path = str(namespace.get("__file__") or f"<{namespace.get('__name__', 'unknown')}>")
    return Site(path, line, _function_at(path, line))


def outside_of_itkit(frame: FrameType) -> FrameType:
    """Return the first frame, on the way to its caller, that is none of itkit; else the last."""
    while frame.f_back is not None and _is_ours(frame):
        frame = frame.f_back
    return frame


def caller(frame: FrameType) -> FrameType:
    """Return the first frame in a user's own code, or else the first that is none of itkit."""
    return outside_of_libraries(frame) or outside_of_itkit(frame)


def outside_of_libraries(frame: FrameType) -> FrameType | None:
    """Return the first frame, on the way to its caller, that is in a user's own code.

    That is neither itkit nor what is installed; None where there is no such frame.
    """
    found: FrameType | None = frame
    while found is not None and (is_installed(found.f_globals.get("__file__")) or _is_ours(found)):
        found = found.f_back
    return found


def end_in_own_code(error: BaseException) -> None:
    """Cut the traceback of an error behind the line of a user's own code that has called itkit.

    Nothing is cut where something else has called it, such as a library on behalf of that code.

    Args:
        error: whose message says all that there is to say.
    """
    found, step = None, error.__traceback__
    while step is not None:
        if is_own_file(step.tb_frame.f_globals.get("__file__")):
            found = step
        step = step.tb_next
    called = found.tb_next if found is not None else None
    while called is not None and called.tb_frame.f_globals.get("__name__") == "contextlib":
        called = called.tb_next
    if found is not None and called is not None and _is_ours(called.tb_frame):
        found.tb_next = None


def is_own_code(function: Any) -> bool:
    """Tell whether a function is a user's own: neither itkit's nor what is installed."""
    namespace = getattr(function, "__globals__", None)
    return namespace is not None and is_own_file(namespace.get("__file__"))


def is_own_file(path: str | None) -> bool:
    """Tell whether a file is a user's own."""
    return not is_installed(path) and not str(path).startswith((_OWN, "<"))


@lru_cache(maxsize=4096)
def is_of_tests(path: str) -> bool:
    """Tell whether a file of the project is code of tests, by its name or that of a directory."""
    here = Path.cwd()
    if is_installed(path) or not Path(path).is_relative_to(here):
        return False
    *directories, name = Path(path).relative_to(here).parts
    is_named_so = name in _TEST_FILES or name.startswith("test_") or name.endswith("_test.py")
    return is_named_so or not _TEST_DIRECTORIES.isdisjoint(directories)


def _is_ours(frame: FrameType) -> bool:
    return _is_of_itkit(frame.f_globals.get("__name__"))


@lru_cache(maxsize=4096)
def _is_of_itkit(module: object) -> bool:
    return str(module or "").partition(".")[0] == _PACKAGE


@lru_cache(maxsize=4096)
def is_installed(path: str | None) -> bool:
    """Tell whether a file is one of a library; what has no file is taken for one."""
    return path is None or path.startswith(_LIBRARIES)


def _function_at(path: str, line: int) -> str:
    inside = [(first, name) for first, last, name in _functions(path) if first <= line <= last]
    return max(inside)[1] if inside else ""


@lru_cache(maxsize=256)
def _functions(path: str) -> tuple[tuple[int, int, str], ...]:
    """Return the first and the last line of each function in a file, and its name.

    By compiling it: Python 3.11 fails when two threads make syntax trees at once.
    """
    source = "".join(linecache.getlines(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the import has told of them
            module = compile(source, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):  # no Python, such as a template, or none that this one reads
        return ()
    return tuple(_functions_in(module))


def _functions_in(code: CodeType) -> Iterator[tuple[int, int, str]]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found = list(_functions_in(inner))
            own = [line for _, _, line in inner.co_lines() if line is not None]
            last = max([*own, *(last for _, last, _ in found)], default=inner.co_firstlineno)
            # Classes are code as well, and so are lambdas and comprehensions.
            if inner.co_flags & CO_NEWLOCALS and not inner.co_name.startswith("<"):
                yield inner.co_firstlineno, last, inner.co_name
            yield from found


def _relative(path: str) -> str:
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path
