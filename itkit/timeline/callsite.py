"""Call sites: the lines of the source where something happened.

A hot path records only a module's namespace and a ``Spot``. The line and the function are found
when they are printed. To find the line of a frame, CPython goes through all lines before it in the
code, which takes 0.1 to 0.3 µs for each; the function is found in the source.
"""

import asyncio
import dis
import linecache
import os
import sysconfig
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from inspect import CO_NEWLOCALS
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from itkit.exceptions import ItkitError

_PACKAGE: Final = __name__.partition(".")[0]
_OWN: Final = f"{Path(__file__).parents[1]}{os.sep}"
_OF_POOLS: Final = "itkit.timeline.threads"
_TEST_DIRECTORIES: Final = frozenset({"test", "tests"})
_TEST_FILES: Final = frozenset({"conftest.py", "tests.py"})
_USER: Final = "the user's"
_LIBRARY: Final = "a library's"
_ITKIT: Final = "itkit's"
_LOOP: Final = "the event loop's"
_SET_UP: Final = "_callSetUp"
"""The method of unittest's test cases, and of its asynchronous ones, that calls ``setUp()``."""
_HIDDEN: Final = "__tracebackhide__"
"""The variable by which a function says, also to pytest, that an error is its caller's."""
_LIBRARIES: Final = tuple({path for path in sysconfig.get_paths().values() if path})


class CallSite(NamedTuple):
    """A line of the source.

    Attributes:
        path: the path of the file.
        line: the number of the line, from 1.
        function: the function around the line; empty if there is none, or if the source is missing.
    """

    path: str
    line: int
    function: str

    def __str__(self) -> str:
        where = f"{_relative(self.path)}:{self.line}"
        return f"{where} in {self.function}" if self.function else where


Spot = int | tuple[CodeType, int]
"""A line, or the code and the offset of an instruction, from which the line is found."""


def spot(caller: Any) -> Spot:
    """Return the present spot of a caller, in a time that does not depend on the code's length.

    Args:
        caller: a frame, or an object that has an ``f_lineno`` as well.
    """
    if type(caller) is FrameType:
        return caller.f_code, caller.f_lasti
    line: int = caller.f_lineno
    return line


def line_of(spot: Spot) -> int:
    """Return the line of a spot, counted from 1."""
    if isinstance(spot, int):
        return spot
    code, offset = spot
    for first, end, line in code.co_lines():
        if first <= offset < end and line is not None:
            return line
    return code.co_firstlineno


def site(namespace: Mapping[str, Any], spot: Spot) -> CallSite:
    """Return a call site by the globals of its module and its line, or a spot."""
    line = line_of(spot)
    path = str(namespace.get("__file__") or f"<{namespace.get('__name__', 'unknown')}>")
    return CallSite(path, line, _function_at(path, line))


def outside_of_itkit(frame: FrameType) -> FrameType:
    """Return the first frame outside of itkit, going up from a frame; else the last frame."""
    while frame.f_back is not None and _is_ours(frame):
        frame = frame.f_back
    return frame


class Submitter:
    """The code that has submitted work to a pool, in the state of its frame at that time.

    It replaces a frame, as a coroutine is on no stack while a thread works for it.

    Args:
        frame: the frame of the submitter, or a replacement of one.
    """

    __slots__ = ("_frame", "f_lineno")

    def __init__(self, frame: "FrameType | Submitter | _Line") -> None:
        self._frame = frame
        self.f_lineno: int = frame.f_lineno

    @property
    def f_globals(self) -> dict[str, Any]:
        """The globals of its module."""
        return self._frame.f_globals

    @property
    def f_code(self) -> CodeType:
        """The code of the submitter."""
        return self._frame.f_code

    @property
    def f_back(self) -> FrameType | None:
        """The frame of its caller; None if it is suspended by now."""
        return self._frame.f_back


class _Line(NamedTuple):
    """What is kept of a frame where the frame itself would keep all of its variables."""

    f_globals: dict[str, Any]
    f_lineno: int
    f_code: CodeType
    f_back: None = None


Where = FrameType | Submitter


_creators: "WeakKeyDictionary[object, Submitter]" = WeakKeyDictionary()
"""The code that has made a task of asyncio, whose coroutine is a library's own."""


def note_task(task: object, frame: FrameType) -> None:
    """Note who has made a task of asyncio, as no frame below its coroutine's says so.

    Args:
        task: the task.
        frame: the frame that makes it.
    """
    made_by = outside_of_libraries(frame)
    if made_by is not None:
        line = _Line(made_by.f_globals, made_by.f_lineno, made_by.f_code)
        _creators[task] = Submitter(line)


def _creator() -> Submitter | None:
    """Return who has made the task that runs in this thread, if that is noted."""
    if asyncio._get_running_loop() is None:
        return None
    task = asyncio.current_task()
    return None if task is None else _creators.get(task)


def caller(frame: FrameType) -> Where:
    """Return the first frame in a user's own code, or else the first one outside of itkit."""
    return outside_of_libraries(frame) or outside_of_itkit(frame)


def outside_of_libraries(frame: FrameType) -> Where | None:
    """Return the first frame in a user's own code, going up from a frame.

    A user's own code is neither itkit nor an installed package. None is returned if there is no
    such frame. From work in a pool, the search continues at the code that has submitted it, and
    from a task of asyncio at the code that has made it.
    """
    found: FrameType | None = frame
    while found is not None:
        try:  # subscripts take half the time of calls, and each statement has dozens of frames
            owner = _owners[found.f_globals["__file__"]]
        except KeyError:
            owner = _owner_of(found.f_globals.get("__file__"))
        if owner is _USER:
            return found
        if owner is not _LIBRARY:
            # Below a task, the stack goes on with what runs the loop, such as manage.py.
            submitter = _submitter(found) if owner is _ITKIT else _creator()
            if submitter is not None and is_own_file(submitter.f_globals.get("__file__")):
                return submitter
        found = found.f_back
    return None


_owners: dict[str | None, str] = {}
"""The owners of files, by their paths, as far as they were looked up."""


def _owner_of(path: str | None) -> str:
    owner = _LIBRARY if is_installed(path) else _USER
    if path is not None and path.startswith(_OWN):
        owner = _ITKIT
    elif path == asyncio.events.__file__:
        owner = _LOOP
    return _owners.setdefault(path, owner)


def _submitter(frame: FrameType) -> Submitter | None:
    """Return who has submitted the work that a frame of itkit runs for a pool, or None."""
    if frame.f_globals.get("__name__") != _OF_POOLS:
        return None
    found = getattr(frame.f_locals.get("self"), "submitter", None)
    return found if isinstance(found, Submitter) else None


def end_in_own_code(error: BaseException) -> None:
    """Cut the traceback of an error after the line of the user's code that has called itkit.

    Nothing is cut if other code has called it, such as a library.

    Args:
        error: the error, whose message is complete without the traceback.
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


def hide_own_frames(error: BaseException) -> None:
    """Take itkit's frames out of the traceback of an error, and of those that it came from.

    They say nothing to a test's author, who is called by them or has called through them. An
    error in itkit's own code that no ``raise`` of it has raised is a bug, and keeps all frames.

    Args:
        error: the error, whose ``__traceback__`` may begin with another frame afterwards.
    """
    errors, seen = [error], set[int]()
    while errors:
        found = errors.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        _hide_own_frames(found)
        errors += filter(None, (found.__cause__, found.__context__))
        if isinstance(found, BaseExceptionGroup):
            errors += found.exceptions


def _hide_own_frames(error: BaseException) -> None:
    steps, step = [], error.__traceback__
    while step is not None:
        steps.append(step)
        step = step.tb_next
    shown = [step for step in steps if not _is_ours(step.tb_frame)]
    if len(shown) in {0, len(steps)} or _is_bug(error, steps[-1]):
        return
    for step, after in zip(shown, [*shown[1:], None], strict=True):
        step.tb_next = after
    error.__traceback__ = shown[0]


def _is_bug(error: BaseException, step: TracebackType) -> bool:
    """Return whether an error comes from itkit, which has not raised it on purpose."""
    frame = step.tb_frame
    if isinstance(error, ItkitError) or not _is_ours(frame):
        return False
    is_raised = frame.f_code.co_code[step.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return not is_raised and not frame.f_locals.get(_HIDDEN)


def has_own_code(trace: TracebackType | None) -> bool:
    """Return whether a traceback has a line in a user's own code."""
    while trace is not None:
        if is_own_file(trace.tb_frame.f_globals.get("__file__")):
            return True
        trace = trace.tb_next
    return False


def is_of_set_up(error: BaseException) -> bool:
    """Return whether an error was raised in ``setUp()`` of a test case of unittest."""
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        if code.co_name == _SET_UP and _is_of_unittest(step.tb_frame.f_globals.get("__name__")):
            return True
        step = step.tb_next
    return False


def _is_of_unittest(module: object) -> bool:
    return str(module or "").partition(".")[0] == "unittest"


def is_own_code(function: Any) -> bool:
    """Return whether a function is a user's own: neither itkit's nor of an installed package."""
    namespace = getattr(function, "__globals__", None)
    return namespace is not None and is_own_file(namespace.get("__file__"))


def is_own_file(path: str | None) -> bool:
    """Return whether a file is a user's own."""
    return not is_installed(path) and not str(path).startswith((_OWN, "<"))


@lru_cache(maxsize=4096)
def is_of_tests(path: str) -> bool:
    """Return whether a file of the project is code of tests, by its name or a directory's."""
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
    """Return whether a file belongs to a library; code without a file counts as a library."""
    return path is None or path.startswith(_LIBRARIES)


def _function_at(path: str, line: int) -> str:
    inside = [(first, name) for first, last, name in _functions(path) if first <= line <= last]
    return max(inside)[1] if inside else ""


@lru_cache(maxsize=256)
def _functions(path: str) -> tuple[tuple[int, int, str], ...]:
    """Return the first and the last line of each function in a file, and its name.

    The file is compiled, as Python 3.11 fails when two threads make syntax trees at once.
    """
    source = "".join(linecache.getlines(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the import has reported the warnings
            module = compile(source, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):  # a template, or Python of another version
        return ()
    return tuple(_functions_in(module))


def _functions_in(code: CodeType) -> Iterator[tuple[int, int, str]]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found = list(_functions_in(inner))
            own = [line for _, _, line in inner.co_lines() if line is not None]
            last = max([*own, *(last for _, last, _ in found)], default=inner.co_firstlineno)
            # Classes, lambdas and comprehensions are code objects as well.
            if inner.co_flags & CO_NEWLOCALS and not inner.co_name.startswith("<"):
                yield inner.co_firstlineno, last, inner.co_name
            yield from found


def _relative(path: str) -> str:
    return _relative_to(path, os.getcwd())  # noqa: PTH109 - a page has hundreds of call sites


@lru_cache(maxsize=1024)
def _relative_to(path: str, here: str) -> str:
    plain = Path(os.path.normpath(path))  # an entry of sys.path may have ".." in it
    return str(plain.relative_to(here)) if plain.is_relative_to(here) else path
