"""Which values a report never shows: those with the name of a secret, and those of the settings."""

import os
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from django.conf import global_settings
from django.conf import settings as django_settings

from itkit import conf
from itkit.conf import NAMES_OF_SECRETS
from itkit.core.text import repr_of
from itkit.core.urls import passwords_in, redact
from itkit.exceptions import printable

HIDDEN: Final = "********"

_LONGEST: Final = 2_000  # characters of a value
_SHORTEST: Final = 6  # characters of a secret that is looked for in all texts
_DEEPEST: Final = 6
_IN_SETTINGS: Final = re.compile(rf"API|AUTH|{NAMES_OF_SECRETS}", re.IGNORECASE)
_NAMES: Final = (
    *("authorization", "card", "cookie", "credential", "cvc", "cvv", "iban", "passphrase"),
    *("passwd", "password", "secret", "session_?key", "signature", "token", "api_?key"),
)
_COLUMN: Final = re.compile(
    r"""(?:"(?P<quoted>[^"]+)"|(?P<plain>\w+))(?:::\w+)?\s*(?:=|<>|!=|I?LIKE|IN\s*\()\s*%s""",
    re.IGNORECASE,
)
_INSERTED: Final = re.compile(r"\s*INSERT\s+INTO\s+\S+\s*\(([^)]*)\)\s*VALUES", re.IGNORECASE)


class Redactor:
    """Makes the texts of a report, without what is secret.

    Args:
        names: further names of secrets, such as those in ``ITKIT["REPORT"]["SECRETS"]``; a part of
            a name is enough, in upper or lower case.
        shows_values: whether arguments and parameters are shown at all.
        known: the secrets to look for in all texts; those of the settings and of the environment
            where it is None.
    """

    def __init__(
        self,
        names: Iterable[str] = (),
        *,
        shows_values: bool = True,
        known: Collection[str] | None = None,
    ) -> None:
        self._shows_values = shows_values
        self._name = re.compile(
            "|".join([*_NAMES, *(re.escape(name) for name in names)]), re.IGNORECASE
        )
        # Headers and the like, as they are printed: Authorization: Bearer x, "password": "x".
        self._assigned = re.compile(
            rf"""((?:\w|-)*(?:{self._name.pattern})(?:\w|-)*['"]?\s*[:=]\s*)"""
            r"""((?:Bearer|Basic|Token)\s+)?('[^']*'|"[^"]*"|[^\s,;)}\]'"&]+)""",
            re.IGNORECASE,
        )
        known = _known() if known is None else known
        longest_first = sorted(known, key=lambda secret: (-len(secret), secret))
        self._known = re.compile("|".join(map(re.escape, longest_first))) if known else None
        # Pages have the same statements and lines of source many times.
        self._hidden_once = lru_cache(maxsize=4096)(self._hidden)

    def is_secret(self, name: str) -> bool:
        """Return whether a name is that of a secret."""
        return self._name.search(name) is not None

    def text(self, text: str) -> str:
        """Return a printable text with all secrets hidden that can be recognized."""
        return self._hidden_once(text) if len(text) <= _LONGEST else self._hidden(text)

    def _hidden(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        return printable(self._assigned.sub(rf"\1\2{HIDDEN}", redact(text, HIDDEN)))

    def value(self, name: str, value: object) -> str:
        """Return what is shown of a value that has a name.

        Args:
            name: the name of the argument, parameter or column; empty where it has none.
            value: any object; one whose ``repr()`` raises is shown by the error.
        """
        if not self._shows_values:
            return f"<{type(value).__name__}, not shown>"
        if name and self.is_secret(name):
            return HIDDEN
        return self.text(_clipped(_printed(self._without(value, _DEEPEST))))

    def parameters(self, sql: str, params: Any) -> list[str]:
        """Return what is shown of the parameters of a statement.

        Args:
            sql: the statement, with a ``%s`` for each parameter.
            params: as they were passed to the driver: a sequence, a mapping or None.
        """
        if isinstance(params, Mapping):
            return [f"{name}: {self.value(str(name), value)}" for name, value in params.items()]
        if not isinstance(params, Sequence) or isinstance(params, str | bytes):
            return []
        columns = _columns(sql, len(params))
        return [self.value(name, value) for name, value in zip(columns, params, strict=True)]

    def _without(self, value: object, depth: int) -> object:
        """Return a value whose dicts, at any depth, have no secret in them."""
        if depth == 0:
            return value
        if type(value) is dict:
            return {
                key: HIDDEN
                if isinstance(key, str) and self.is_secret(key)
                else self._without(item, depth - 1)
                for key, item in value.items()
            }
        if type(value) in (list, tuple):
            return type(value)(self._without(item, depth - 1) for item in value)  # type: ignore[call-arg,attr-defined]  # a list or a tuple
        return value


def redactor() -> Redactor:
    """Return what hides secrets as ``ITKIT["REPORT"]`` says."""
    settings = conf.get().report
    return _redactor(tuple(settings.secrets), settings.values, _known())


@lru_cache(maxsize=4)
def _redactor(names: Sequence[str], shows_values: bool, known: frozenset[str]) -> Redactor:  # noqa: FBT001 - as the settings have it
    return Redactor(names, shows_values=shows_values, known=known)


def _printed(value: object) -> str:
    if isinstance(value, str | bytes) and len(value) > _LONGEST:
        return f"{value[: _LONGEST // 2]!r} … {len(value):,} in all"
    return repr_of(value)


def _clipped(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]} … {len(text) - _LONGEST:,} characters more"


@lru_cache(maxsize=256)
def _columns(sql: str, count: int) -> list[str]:
    """Return the name of the column that each parameter is for; empty where that is not known."""
    if inserted := _INSERTED.match(sql):
        names = [name.strip().strip('"') for name in inserted[1].split(",")]
        return [names[number % len(names)] for number in range(count)]
    found = {match.end(): match["quoted"] or match["plain"] for match in _COLUMN.finditer(sql)}
    ends = [match.end() for match in re.finditer("%s", sql)]
    columns = [found.get(end, "") for end in ends]
    return columns if len(columns) == count else [""] * count


def _known() -> frozenset[str]:
    return frozenset([*_secrets_of_settings(), *_secrets_of_environment()])


def _secrets_of_settings() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Django warns of each deprecated setting that is read
        values = {name: getattr(django_settings, name, None) for name in dir(django_settings)}
    for name, value in values.items():
        # Django's own defaults, such as its many languages, have no secrets.
        is_default = value is getattr(global_settings, name, None)
        if name.isupper() and (isinstance(value, Mapping) or not is_default):
            yield from _secrets_in(name, value, _DEEPEST)


def _secrets_of_environment() -> Iterator[str]:
    for name, value in os.environ.items():
        yield from _secrets_in(name, value, 1)


def _secrets_in(name: str, value: object, depth: int) -> Iterator[str]:
    """Yield the secrets that a setting has: by its name, in its dicts, in its URLs."""
    if isinstance(value, Mapping) and depth:
        for key, item in value.items():
            # A dict of secrets, such as API_KEYS, has them by other names.
            yield from _secrets_in(f"{name}.{key}", item, depth - 1)
    elif isinstance(value, list | tuple) and depth:
        for item in value:
            yield from _secrets_in(name, item, depth - 1)
    elif isinstance(value, str):
        yield from _secrets_of(name, value)


@lru_cache(maxsize=4096)  # each page reads all settings, which are nearly always as they were
def _secrets_of(name: str, value: str) -> Sequence[str]:
    is_one = len(value) >= _SHORTEST and _IN_SETTINGS.search(name) and not _is_path(value)
    return [*([value] if is_one else []), *passwords_in(value)]


def _is_path(value: str) -> bool:
    """Whether a value is a dotted path, such as those of AUTH_PASSWORD_VALIDATORS, or a file's."""
    return re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+|/.*", value) is not None
