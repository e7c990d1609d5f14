"""Parts of messages that many modules write."""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

NO_SERVER: Final = (
    "no {} server answers there; this brings one, for the tests only: {} --integration"
)
"""The text about a refused connection without ``--integration``, of which server and command."""
_NO_ANSWER: Final = (
    "Connection refused",
    "No such file or directory",
    "could not translate host name",
    "failed to resolve host",
    "name resolution",
    "Name or service not known",
    "No route to host",
    "timeout expired",
)


def did_you_mean(name: str, available: Mapping[str, Any] | list[str]) -> str:
    """Return a hint that offers the nearest of the available names, or all of them."""
    near = difflib.get_close_matches(name, list(available), n=1, cutoff=0.5)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Available: {', '.join(sorted(available)) or 'none'}."


def counted(number: float, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as ``1 fault``, ``2 faults`` and ``0.5 seconds``.

    Args:
        number: the number.
        noun: the noun in the singular.
        plural: its plural; by default the singular with an ``s``.
    """
    shown = int(number) if number == int(number) else number
    return f"{shown} {noun if number == 1 else plural or f'{noun}s'}"


def listed(lines: Sequence[str], *, most: int | None = None) -> str:
    """Return lines as the part of a message, each indented.

    Args:
        lines: the lines.
        most: the number of lines that are shown; all if it is not given.
    """
    shown = [f"  {line}" for line in lines[:most]]
    if len(shown) < len(lines):
        shown.append(f"  and {len(lines) - len(shown)} more")
    return "\n".join(shown)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text; if it has no text, the name of its class."""
    lines = message_of(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def chained(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it came from, each once: clients make circles of them."""
    seen: list[BaseException] = []
    while error is not None and not any(error is other for other in seen):
        yield error
        seen.append(error)
        error = error.__cause__ or error.__context__


def is_refusal(text: str) -> bool:
    """Return whether an error of a client says that no server answers, or has no such host."""
    return any(symptom in text for symptom in _NO_ANSWER)


def message_of(error: BaseException) -> str:
    """Return the text of an error; words in its place if its own method raises another one."""
    return _said(error, str)


def repr_of(value: object) -> str:
    """Return the ``repr()`` of an object; words in its place if its own method raises an error."""
    return _said(value, repr)


def _said(value: object, how: Callable[[Any], str]) -> str:
    try:
        return how(value)
    except Exception as error:  # noqa: BLE001 - a class of the project's may raise anything there
        return f"<{type(value).__name__} whose {how.__name__}() raises {type(error).__name__}>"
