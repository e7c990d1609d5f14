"""What several acts have left, compared with what they leave one after another."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from django.core import mail
from django.db import models
from django.http import HttpResponse

from itkit.core.text import message_of
from itkit.environment import Environment
from itkit.fakes import Call
from itkit.sweep import rows
from itkit.sweep.gate import calls
from itkit.sweep.rows import Column, Rows
from itkit.timeline import core

_LOOSE: Final = re.compile(f"{rows.LOOSE}(\\d+)")
_FORM_TOKEN: Final = re.compile(r'(name="csrfmiddlewaretoken" value=")[^"]*')
_UNLUCKY: Final = {
    "SerializationFailure": "a serialization failure",
    "DeadlockDetected": "a deadlock",
}
"""What the server refuses a transaction for that would have succeeded alone, as drivers name it."""
_MOST_CONTENT: Final = 2000
_CLIENT_ERRORS: Final = range(400, 500)


class Result(NamedTuple):
    """How one act has ended.

    Attributes:
        text: the value or error as a text; empty for an act that has not run.
        error: the error that the act has raised; None where it has raised none.
        may_refuse: whether this can mean that the act has refused to do anything.
    """

    text: str = ""
    error: BaseException | None = None
    may_refuse: bool = False

    @property
    def misfortune(self) -> str:
        """What the server has refused the act for, though it would have succeeded alone."""
        error = self.error
        while error is not None:
            if (kind := type(error).__name__) in _UNLUCKY:
                return _UNLUCKY[kind]
            error = error.__cause__
        return ""


class Unstable(NamedTuple):
    """What is another value in each run, although the acts do the same in the same order.

    Attributes:
        columns: columns of tables.
        results: the numbers of acts.
        kinds: kinds of calls, mails and keys.
    """

    columns: frozenset[Column] = frozenset()
    results: frozenset[int] = frozenset()
    kinds: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Aftermath:
    """What acts have left.

    Attributes:
        results: the result of each act.
        rows: the rows of all models.
        others: keys, calls and mails as texts, by their kind.
    """

    results: tuple[Result, ...]
    rows: Rows
    others: Mapping[str, Counter[str]]
    _texts: dict[frozenset[Column], Counter[str]] = field(default_factory=dict)

    def unstable(self, other: "Aftermath") -> Unstable:
        """Return what differs, where two runs have done the same."""
        columns = frozenset(rows.differing(self.rows, other.rows))
        numbers = (Numbers(self.rows, columns), Numbers(other.rows, columns))
        return Unstable(
            columns,
            frozenset(
                number
                for number, (one, two) in enumerate(zip(self.results, other.results, strict=True))
                if not _alike(one.text, two.text, *numbers)
            ),
            frozenset(
                kind
                for kind in self.others
                if any(_unmatched(self.others[kind], other.others[kind], *numbers))
            ),
        )

    def differences(
        self, expected: "Aftermath", unstable: Unstable, acts: Iterable[int]
    ) -> list[str]:
        """Return a line for each thing that differs from what was expected.

        Args:
            expected: the aftermath of an order of the acts.
            unstable: the columns and kinds that are not compared.
            acts: the numbers of the acts whose results are compared.
        """
        columns = unstable.columns
        numbers = (Numbers(self.rows, columns), Numbers(expected.rows, columns))
        lines = []
        compared = [(self._texts_of_rows(columns), expected._texts_of_rows(columns))]
        for kind in self.others:
            pair = (self.others[kind], expected.others[kind])
            if kind in unstable.kinds:
                pair = (_vaguely(pair[0]), _vaguely(pair[1]))
            compared.append(pair)
        for mine, theirs in compared:
            extra, missing = _unmatched(mine, theirs, *numbers)
            lines += [f"extra:   {text}" for text in extra]
            lines += [f"missing: {text}" for text in missing]
        for number in acts:
            mine_text, text = self.results[number].text, expected.results[number].text
            if number in unstable.results:
                mine_text, text = mine_text.split(" ")[0], text.split(" ")[0]
            if not _alike(mine_text, text, *numbers):
                lines.append(f"act {number} has {mine_text}, and not {text}")
        return [line.replace(rows.LOOSE, "") for line in lines]

    def _texts_of_rows(self, without: frozenset[Column]) -> Counter[str]:
        if without not in self._texts:
            self._texts[without] = rows.texts(self.rows, without)
        return self._texts[without]


class Numbers:
    """What the rows are that have a number for their key, found when it is asked for.

    Args:
        found: the rows.
        without: columns that are left out.
    """

    def __init__(self, found: Rows, without: frozenset[Column]) -> None:
        self._found = found
        self._without = without

    def of(self, number: str) -> set[str]:
        """Return the rows that have a number for their key, as texts."""
        return {
            rows.text_of(self._found, model, key, self._without)
            for model, key in self._found
            if str(key) == number
        }


class Beginning(NamedTuple):
    """How much of calls and mails there was before acts began.

    Attributes:
        crossings: on the timeline.
        mails: the number of mails in Django's outbox.
    """

    crossings: int
    mails: int

    @classmethod
    def now(cls) -> "Beginning":
        """Return how much there is now."""
        return cls(len(core.current()), len(getattr(mail, "outbox", ())))


def left(
    results: tuple[Result, ...], begun: Beginning, since: datetime, found: Environment
) -> Aftermath:
    """Return what acts have left.

    Args:
        results: the result of each act.
        begun: the crossings and mails that there were before the acts.
        since: the begin of the sweep; a later time was read from the clock, and is not compared.
        found: the environment of the test.
    """
    with core.between_tests():
        loaded = rows.load(since)
    made = [call for call in list(core.current())[begun.crossings :] if isinstance(call, Call)]
    mails = getattr(mail, "outbox", [])[begun.mails :]
    texts = {
        "calls": [calls.text_of(one) for one in made],
        "mails": [f"mail({one.to}, {one.subject!r}, {one.body!r})" for one in mails],
        "keys": [f"{name}({value})" for name, value in found.contents_of_redis()],
    }
    others = {kind: Counter(map(rows.loose, listed)) for kind, listed in texts.items()}
    return Aftermath(results, loaded, others)


def result_of(value: Any, error: BaseException | None, since: datetime) -> Result:
    """Return how an act has ended.

    Args:
        value: the value that the act has returned.
        error: the error that the act has raised; None where it has raised none.
        since: the begin of the sweep; a later time was read from the clock, and is not compared.
    """
    if error is not None:
        text = rows.loose(message_of(error).strip().partition("\n")[0])
        found = Result(f"raised {type(error).__name__}: {text}".rstrip(": "), error)
        return found._replace(may_refuse=not found.misfortune)
    refuses = value is None or value is False
    if isinstance(value, HttpResponse):
        refuses = value.status_code in _CLIENT_ERRORS
    return Result(f"returned {_described(value, since)}", may_refuse=refuses)


def _described(value: Any, since: datetime) -> str:
    """Return a value as a text that is the same where another run returns the same."""
    shown = type(value).__qualname__
    match value:
        case models.Model():
            shown = f"<{value._meta.label} {rows.loose(str(value.pk))}>"
        case HttpResponse():
            content = "" if value.streaming else value.content.decode(errors="replace")
            text = _FORM_TOKEN.sub(r"\1", content)[:_MOST_CONTENT]
            shown = f"{value.status_code} {rows.loose(repr(text))}"
        case datetime():
            shown = repr(rows.plain(value, since))
        case dict():
            items = [f"{key!r}: {_described(one, since)}" for key, one in value.items()]
            shown = f"{{{', '.join(items)}}}"
        case list() | tuple() | models.QuerySet():
            shown = f"[{', '.join(_described(one, since) for one in value)}]"
        case set() | frozenset():
            shown = f"{{{', '.join(sorted(_described(one, since) for one in value))}}}"
        case str() | bytes() | int() | float() | Decimal() | None:
            shown = rows.loose(repr(value))
    return shown


def differ(one: Result, other: Result) -> bool:
    """Return whether two acts have ended in different ways, whatever the keys of rows are."""
    return _LOOSE.sub("#", one.text) != _LOOSE.sub("#", other.text)


def _vaguely(texts: Counter[str]) -> Counter[str]:
    """Return the same without what stands behind the names."""
    found: Counter[str] = Counter()
    for text, number in texts.items():
        found[text.partition("(")[0]] += number
    return found


def _unmatched(
    mine: Counter[str],
    theirs: Counter[str],
    my_numbers: Numbers,
    their_numbers: Numbers,
) -> tuple[list[str], list[str]]:
    """Return the texts that only one has, and those that only the other has."""
    extra, missing = sorted((mine - theirs).elements()), sorted((theirs - mine).elements())
    for text in list(extra):
        for other in missing:
            if _alike(text, other, my_numbers, their_numbers):
                extra.remove(text)
                missing.remove(other)
                break
    return extra, missing


def _alike(
    text: str,
    other: str,
    numbers: Numbers,
    other_numbers: Numbers,
) -> bool:
    """Return whether texts are equal, but for the keys of rows that are equal themselves."""
    if text == other:
        return True
    parts, others = _LOOSE.split(text), _LOOSE.split(other)
    if len(parts) != len(others) or parts[::2] != others[::2]:
        return False
    return all(
        one == two or bool(numbers.of(one) & other_numbers.of(two))
        for one, two in zip(parts[1::2], others[1::2], strict=True)
    )


def nearest(
    left: Aftermath,
    expected: Mapping[tuple[int, ...], Aftermath],
    refused: frozenset[int],
    unstable: Unstable,
) -> tuple[tuple[int, ...], list[str]]:
    """Return the order of acts whose aftermath is nearest, and what differs from it.

    Args:
        left: the aftermath of the acts at once.
        expected: the aftermath of each order of the acts, in which some may be missing.
        refused: the acts that may have refused to do anything.
        unstable: the columns and kinds that are not compared.
    """
    acts = frozenset(range(len(left.results)))
    found = {
        order: left.differences(one, unstable, sorted(order))
        for order, one in expected.items()
        if acts - frozenset(order) <= refused
    }
    order = min(found, key=lambda one: (len(found[one]), -len(one)))
    return order, found[order]
