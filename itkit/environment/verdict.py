"""The verdict about a test that has run: what fails it, and what the end of the run reports."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from itkit import conf
from itkit.backends.registry import Registry
from itkit.environment.reporting import messages, notes
from itkit.environment.reporting.notes import Notes
from itkit.exceptions import (
    EffectError,
    EscapeError,
    LeakedKeysError,
    LeakedPatchError,
    UnusedAnswerError,
)
from itkit.observation import effects, swallowed
from itkit.timeline import core

if TYPE_CHECKING:
    from itkit.redis import WorkerRedis


class Varied(Protocol):
    """One run of a swept test, as its scope sees it. ``itkit.sweep`` has the subclasses.

    Attributes:
        option: the option of the command line that repeats the variation.
    """

    option: str

    @property
    def columns(self) -> Sequence[Sequence[str]]:
        """For acts that run at once: their names, and each crossing in the column of its act."""

    @property
    def shown(self) -> str:
        """The text that explains the variation's failure beside the timeline; it may be empty."""

    @property
    def has_fault(self) -> bool:
        """Whether it is not the first run, so that what the test requires may not happen."""

    def check(self) -> None:
        """Check that the fault or schedule has happened, and has left only what is allowed."""


def is_faulty(variation: Varied | None) -> bool:
    """Return whether a test runs with a fault, so that what it requires may not happen."""
    return variation is not None and variation.has_fault


def check_calls(
    *,
    backends: Registry,
    noted: Notes,
    variation: Varied | None,
    sources: frozenset[str],
    has_passed: bool,
) -> None:
    """Check that the backends were called as the running test requires.

    Args:
        backends: the project's backends.
        noted: gets what the end of the run reports.
        variation: the run of a swept test, if it is one.
        sources: paths of the files that the test is written in.
        has_passed: whether the test has passed until now; unused answers of a test that failed
            mean nothing.

    Raises:
        SwallowedError: the application has swallowed an error that fails the test.
        FoundError: no error was swallowed, but another failure was found.
        CallMismatchError: a required call was not made.
        UnusedAnswerError: an answer was used by no call, and the settings do not allow this.
    """
    swallowed.check(sources)
    if variation is not None and has_passed:
        variation.check()
    if is_faulty(variation):
        return
    backends.check()
    if has_passed and conf.get().unused != "off":
        _check_unused(core.current().test, backends, noted)


def _check_unused(test: str, backends: Registry, noted: Notes) -> None:
    """Note, or raise an error for, the programmed answers that no call has used."""
    found = [
        (f"{method}.{given.text} at {given.site}", unused)
        for method, given, unused in backends.given()
    ]
    left = [f"  {where}: {unused}" for where, unused in found if unused]
    if left and conf.get().unused == "fail":
        raise UnusedAnswerError(messages.unused_answers("\n".join(left)))
    for where, unused in found:
        kind = notes.UNUSED if unused else notes.USED
        noted.add(notes.Note(kind, where, unused, test))


def check_test(
    test: str,
    *,
    backends: Registry,
    isolation: "WorkerRedis",
    noted: Notes,
    variation: Varied | None,
    sources: frozenset[str],
) -> None:
    """Check that a test, its clean-up included, has touched only what is its own.

    Args:
        test: the name of the test.
        backends: the project's backends.
        isolation: the worker's Redis.
        noted: gets what the end of the run reports.
        variation: the run of a swept test, if it is one.
        sources: paths of the files that the test is written in.

    Warns:
        RuntimeWarning: the test has left keys in Redis, and the settings ask for a report.

    Raises:
        SwallowedError: the application has swallowed an error that fails the test.
        FoundError: no error was swallowed, but another failure was found.
        EffectError: something has left the process while a transaction was open, which the
            settings do not allow.
        EscapeError: the server has denied the test a command, even if the application has caught
            the error.
        LeakedKeysError: the test has left keys in Redis, which the settings do not allow.
        LeakedPatchError: the test has left patches over fakes or settings.
    """
    patches = backends.remove_patches()  # first, so that it is done in any case
    swallowed.check(sources, is_over=True)
    if patches:
        raise LeakedPatchError(messages.leaked_patches(test, patches))
    if not is_faulty(variation):
        _check_effects(noted)
    for where, text in core.current().spared:
        noted.add(notes.Note(notes.SPARED, where, text, test))
    denied = isolation.denied()
    if denied:
        raise EscapeError(messages.denied(denied, isolation.prefix))
    leaks = conf.get().redis.leaks
    left = isolation.left() if leaks != "off" else []
    if left and leaks == "fail":
        raise LeakedKeysError(messages.leaked_keys(test, left))
    if left:  # the warning names the caller of the environment
        warnings.warn(messages.leaked_keys(test, left), RuntimeWarning, stacklevel=3)


def _check_effects(noted: Notes) -> None:
    """Note, or raise an error for, the effects that left the process during a transaction."""
    story = core.current()
    if not story.effects or conf.get().effects == "off":
        return
    found = dict.fromkeys(effects.found(story))
    if found and conf.get().effects == "fail":
        lines = [f"  {where}: {text}" for where, text in found]
        raise EffectError(messages.effects_in_transactions("\n".join(lines)))
    for where, text in found:
        noted.add(notes.Note(notes.EFFECT, where, text, story.test))
