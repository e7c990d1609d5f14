"""Django's mail: each message that is sent is a recorded call, and is in the outbox."""

import copy
import smtplib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import django
from django.conf import settings
from django.core import mail
from django.core.mail import EmailMessage
from django.core.mail.backends import locmem
from django.test import override_settings

from itkit.backends.presets.base import Preset, PresetHandle


class Outgoing:
    """The call that is recorded for messages."""

    def send(self, message: EmailMessage) -> int:
        """Put a copy of a message into the outbox; return how many were sent."""
        message.message()  # this refuses headers with line breaks
        sent = copy.deepcopy(message)
        mail.outbox.append(sent)
        return 1


class MailHandle(PresetHandle):
    """The handle of mail: ``backends.email.send.calls``, ``backends.email.outbox``."""

    __slots__ = ()

    @property
    def outbox(self) -> list[EmailMessage]:
        """The messages that were sent in this test: ``django.core.mail.outbox``."""
        found: list[EmailMessage] = mail.outbox
        return found


class Mail(Preset):
    """Mail through Django, by either setting: EMAIL_BACKEND or MAILERS.

    Django's backend in memory replaces all others, as in Django's test runners, and sends its
    messages here.
    """

    is_shared = True  # the outbox also has the mail of processes that a test has started
    calls = ("send",)
    raises = (smtplib.SMTPServerDisconnected,)
    handle = MailHandle
    real = Outgoing

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Redirect all mail to this fake for the duration of the block.

        Django's test runners put the backend in memory into the settings themselves, and tests use
        its name. So the method of that class is replaced. Checked with Django 5.2, 6.0 and 6.1.
        """
        original = locmem.EmailBackend.send_messages
        locmem.EmailBackend.send_messages = _send  # type: ignore[method-assign]  # for the run
        try:
            with override_settings(**_in_memory()):
                yield
        finally:
            locmem.EmailBackend.send_messages = original  # type: ignore[method-assign]  # as it was

    def reset(self) -> None:
        """Empty the outbox."""
        if hasattr(mail, "outbox"):
            mail.outbox.clear()


def _in_memory() -> dict[str, Any]:
    """Return the settings of the test runners."""
    path = f"{locmem.__name__}.{locmem.EmailBackend.__name__}"
    mailers = getattr(settings, "MAILERS", None) if django.VERSION >= (6, 1) else None
    if mailers is None:
        return {"EMAIL_BACKEND": path}
    return {"MAILERS": {alias: {"BACKEND": path} for alias in mailers}}


def _send(self: Any, messages: Sequence[EmailMessage]) -> int:
    """Send messages one by one, as a connection to a server does."""
    outgoing, count = Outgoing(), 0
    for message in messages:
        try:
            sent = outgoing.send(message)
        except OSError:  # as in the SMTP backend; a ValueError of a message is never silent
            if not _fails_silently(self):
                raise
        else:
            count += sent
            if sent and hasattr(self, "alias") and mail.outbox:
                last: Any = mail.outbox[-1]
                last.sent_using = self.alias
    return count


def _fails_silently(backend: Any) -> bool:
    own = vars(backend)  # Django 6.1 warns if the attribute is read from a backend without it
    return bool(own.get("fail_silently", own.get("_fail_silently", False)))
