"""Composes SQL, with names and values quoted for Postgres.

The drivers have such modules as well, but they differ: psycopg2's needs a connection to quote
anything, and does not accept plain values. With this module itkit sends the same text through both
drivers.
"""

from collections.abc import Iterable
from typing import Any, LiteralString


class Composable:
    """A part of a statement.

    Args:
        text: the text of the part.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Composable) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._text!r})"

    def as_string(self) -> str:
        """Return the text of the part."""
        return self._text


class Composed(Composable):
    """A statement, or a part of it, that was composed from several parts."""


class SQL(Composable):
    """A literal part, with ``{}`` for each part to insert."""

    def __init__(self, text: LiteralString) -> None:
        super().__init__(text)

    def format(self, *parts: object, **named: object) -> Composed:
        """Insert parts; an argument that is no part is a value."""
        texts = {name: _composable(part).as_string() for name, part in named.items()}
        return Composed(
            self._text.format(*(_composable(part).as_string() for part in parts), **texts)
        )

    def join(self, parts: Iterable[Composable]) -> Composed:
        """Put this between some parts."""
        return Composed(self._text.join(part.as_string() for part in parts))


class Identifier(Composable):
    """A name, or several with a dot between them."""

    def __init__(self, *names: str) -> None:
        super().__init__(".".join('"' + name.replace('"', '""') + '"' for name in names))


class Literal(Composable):
    """A value as a constant: a text, a number, a truth value, None, or a list of texts or numbers.

    Raises:
        TypeError: the value is of another type.
    """

    def __init__(self, value: object) -> None:
        super().__init__(_constant(value))


def _composable(part: object) -> Composable:
    return part if isinstance(part, Composable) else Literal(part)


def _constant(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f" {value}" if value < 0 else str(value)  # two minus signs begin a comment
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return _quoted(f"{{{','.join(map(_element, value))}}}")
    raise TypeError(f"no constant of SQL is made of {value!r}")


def _quoted(text: str) -> str:
    quoted = text.replace("'", "''")
    if "\\" not in text:
        return f"'{quoted}'"
    escaped = quoted.replace("\\", "\\\\")
    return f" E'{escaped}'"  # for any standard_conforming_strings, and behind a name


def _element(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
