"""Which templates the mails of a test were made from: those whose text is in one of its mails."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.template import Template

from itkit.core.wrapping import wrapped

_MOST_TEXTS: Final = 10  # of each template: a test may render a page for each of many users
_LONGEST: Final = 200_000  # characters of a text; a mail has fewer
_SHORTEST: Final = 10  # characters of what is looked for in a text; fewer are in it by accident


class Mailed:
    """The templates that have made a part of a mail, by the texts that templates make in a test."""

    def __init__(self) -> None:
        self._texts: dict[str, deque[str]] = {}
        self._found: set[str] = set()

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Note within a block what templates make, and compare it with each mail that is sent.

        The signal ``template_rendered`` comes before there is a text, and mail has no signal.
        Checked with Django 5.2, 6.0 and 6.1.
        """
        with (
            wrapped(Template, "render", self._rendering),
            wrapped(EmailBackend, "send_messages", self._sending),
        ):
            yield

    def take(self) -> list[str]:
        """Return, once, the names of the templates whose text was in a mail of the test.

        The text of a template is the subject, or it is in the body or in an alternative of it,
        whatever white space is between its words.
        """
        found = sorted(self._found)
        self._texts.clear()
        self._found.clear()
        return found

    def _rendering(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def rendering(template: Template, *args: Any, **kwargs: Any) -> Any:
            text = original(template, *args, **kwargs)
            if template.name and len(text) <= _LONGEST:
                self._texts.setdefault(template.name, deque(maxlen=_MOST_TEXTS)).append(text)
            return text

        return rendering

    def _sending(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def sending(*args: Any, **kwargs: Any) -> Any:
            already = len(getattr(mail, "outbox", ()))
            try:
                return original(*args, **kwargs)
            finally:
                self._compare(getattr(mail, "outbox", [])[already:])

        return sending

    def _compare(self, mails: Sequence[mail.EmailMessage]) -> None:
        subjects = {_plain(message.subject) for message in mails}
        bodies = [_plain(body) for message in mails for body in _bodies(message)]
        for name, texts in list(self._texts.items()):
            if any(_is_in(_plain(text), subjects, bodies) for text in list(texts)):
                self._found.add(name)


def _is_in(text: str, subjects: set[str], bodies: Sequence[str]) -> bool:
    if not text:
        return False
    return text in subjects or (len(text) >= _SHORTEST and any(text in body for body in bodies))


def _bodies(message: mail.EmailMessage) -> Iterator[object]:
    yield message.body
    for content, _ in getattr(message, "alternatives", None) or ():
        yield content


def _plain(text: object) -> str:
    return " ".join(str(text).split())
