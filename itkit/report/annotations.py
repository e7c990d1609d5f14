"""Failures as annotations of GitHub's: lines that its runner shows beside the code."""

import os
import re
from pathlib import Path
from typing import Final

from itkit.timeline import callsite

_FILE: Final = re.compile(r'^  File "(?P<path>[^"]+)", line (?P<line>\d+)', re.MULTILINE)
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


def annotation_of(title: str, text: str) -> str:
    """Return the same for the text of a traceback, at the last line in it of the user's own."""
    frames = list(_FILE.finditer(text))
    own = [frame for frame in frames if callsite.is_own_file(frame["path"])]
    last = (own or frames)[-1:]
    path, line = (last[0]["path"], int(last[0]["line"])) if last else ("", 0)
    behind = text[frames[-1].end() :].splitlines()[1:] if frames else text.splitlines()
    while behind and behind[0].startswith("    "):  # the source of the last frame
        behind.pop(0)
    return annotation(title, "\n".join(behind).strip(), path, line)


def _from_root(path: str) -> str:
    root = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd())
    found = Path(path).absolute()
    return found.relative_to(root).as_posix() if found.is_relative_to(root) else path


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
