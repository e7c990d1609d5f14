"""Failures as annotations of GitHub's: lines that its runner shows beside the code."""

import inspect
import os
import re
from pathlib import Path
from typing import Any, Final

from itkit.timeline import callsite

_FILE: Final = re.compile(r'^  File "(?P<path>[^"]+)", line (?P<line>\d+)', re.MULTILINE)
Location = tuple[str, int]
"""The path of a file and the number of a line in it, from 1."""
NOWHERE: Final[Location] = ("", 0)
_MOST: Final = 4_000  # characters; GitHub shows no more of one


def annotation(title: str, message: str, path: str, line: int) -> str:
    """Return the line that has GitHub show a failure.

    Args:
        title: the id of the test.
        message: the message, in any number of lines.
        path: the path of the file, which is shown from the root of the checkout.
        line: the number of the line, from 1.
    """
    where = f"file={_property(_from_root(path))},line={line}," if path else ""
    return f"::error {where}title={_property(title)}::{_data(message[:_MOST])}"


def annotation_of(title: str, text: str, location: Location = NOWHERE) -> str:
    """Return the same for the text of a traceback, at the last line in it of the user's own.

    Args:
        title: the id of the test.
        text: the text.
        location: that of the test, for an error that has come through no line of the user's own,
            such as a finding of a sweep.
    """
    frames = list(_FILE.finditer(text))
    own = [frame for frame in frames if callsite.is_own_file(frame["path"])]
    path, line = (own[-1]["path"], int(own[-1]["line"])) if own else location
    behind = text[frames[-1].end() :].splitlines()[1:] if frames else text.splitlines()
    while behind and behind[0].startswith("    "):  # the source of the last frame
        behind.pop(0)
    return annotation(title, "\n".join(behind).strip(), path, line)


def location_of(function: Any) -> Location:
    """Return the location of a test, by its function; ``NOWHERE`` if it is not the user's own."""
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    if code is None or not callsite.is_own_file(code.co_filename):
        return NOWHERE
    return code.co_filename, code.co_firstlineno


def _from_root(path: str) -> str:
    root = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd())
    found = Path(path).absolute()
    return found.relative_to(root).as_posix() if found.is_relative_to(root) else path


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
