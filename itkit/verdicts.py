"""What fails a test although the application has swallowed the error that says so.

An error that was kept (``boundary.keep``) counts unless the test has seen it itself: then it has
passed a frame of the test's own source, or ``assertRaises`` has taken its traceback away.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from itkit import boundary
from itkit.exceptions import ElsewhereError, SwallowedError
from itkit.sites import Site

_PACKAGE = f"{Path(__file__).parent}{os.sep}"
_FRAMEWORKS = ("django", "itkit", "pytest_django", "unittest")


def check(sources: frozenset[str]) -> None:
    """Find out whether the application has swallowed what fails the running test.

    What was found is found once.

    Args:
        sources: paths of the files whose frames are the test's own.

    Raises:
        SwallowedError: it has; the first error is the cause, and the message tells all.
    """
    timeline = boundary.current()
    kept, timeline.kept = timeline.kept, []
    swallowed = [error for error in kept if not _was_seen(error, sources)]
    if swallowed:
        raise SwallowedError(_message(swallowed)) from swallowed[0]


def late() -> Iterator[tuple[str, SwallowedError]]:
    """Yield, once, a test that has ended and what it has done since, for each time."""
    for test, error in boundary.take_late():
        yield test, SwallowedError(_described(error).removeprefix("  "))


def sources_of(test: type) -> frozenset[str]:
    """Return the paths of the files that a test case and its own base classes are written in."""
    own = [kind for kind in test.__mro__ if kind.__module__.partition(".")[0] not in _FRAMEWORKS]
    paths = [getattr(sys.modules.get(kind.__module__), "__file__", None) for kind in own]
    return frozenset(path for path in paths if path is not None)


def _was_seen(error: BaseException, sources: frozenset[str]) -> bool:
    passed = [frame.path for frame in _frames(error.__traceback__)]
    if isinstance(error, ElsewhereError):
        return False
    return not passed or not sources.isdisjoint(passed)


def _message(swallowed: Iterable[BaseException]) -> str:
    shown = [_described(error) for error in swallowed]
    count = "an error that fails" if len(shown) == 1 else f"{len(shown)} errors that fail"
    return "\n".join([f"The application has swallowed {count} this test:", *shown])


def _described(error: BaseException) -> str:
    where = "  in a process that the test has started:\n" * isinstance(error, ElsewhereError)
    text = "\n".join(f"  {line}" for line in str(error).splitlines())
    frames = [
        frame for frame in _frames(error.__traceback__) if not frame.path.startswith(_PACKAGE)
    ]
    caught = f"\n  caught at {frames[0]}" if frames else ""
    return f"{where}{text}{caught}"


def _frames(traceback: TracebackType | None) -> Iterator[Site]:
    """Yield where an error has passed, from where it was caught to where it was raised."""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        yield Site(code.co_filename, traceback.tb_lineno, code.co_name)
        traceback = traceback.tb_next
