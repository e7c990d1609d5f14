"""Every error that itkit raises.

ItkitError
├── ConfigurationError          a setting is wrong; also an ImproperlyConfigured
├── ServiceUnavailableError     no server can be found, or ours has died
├── RelayError                  a process that a test has started cannot reach the test
├── MigrationError              a migration failed, so there is no database for the tests
├── WorkerError                 a process that runs tests died, or could not send a result
├── IsolationError              itkit cannot keep the tests apart, so it refuses
│   └── EscapeError             code tried to reach something outside of its isolation
│       └── RunOverError        code that outlives the tests tried to reach a server
└── TestError                   a mistake of the test's author; also an AssertionError
    ├── LeakedKeysError         a test left keys in Redis, which the settings do not allow; its
    │                           earlier name is LeftKeysError
    ├── LeakedPatchError        a test put a mock or another object over a fake
    ├── LeakedRowsError         a test made rows without its data manager, which is not allowed
    ├── CallMismatchError       the calls of a backend differ from those that the test requires
    ├── OrderError              crossings did not happen in the order that the test requires
    ├── ObservationError        observed crossings differ from those that the test requires
    ├── BudgetError             a block sent more than its budget allows
    ├── BenchmarkError          the arguments of a benchmark are wrong
    ├── UnknownMethodError      the real class has no such method
    ├── UnknownBackendError     ITKIT["BACKENDS"] has no such name
    ├── UnprogrammedReturnError code used the return value of a fake that nobody programmed
    ├── UnexpectedCallError     a strict fake was called without a programmed answer
    ├── ImpossibleReturnError   a programmed value cannot be one of the real method
    ├── NotRunError             tests were found, but did not run
    ├── ScopeError              two tests run at once in one process
    ├── ProcessLeftError        a test would have replaced the process of the tests
    ├── ElsewhereError          a process that the test started raised an error that fails it
    ├── FoundError              a failure that itkit finds after a test, and that nothing raised
    │   ├── LeakedMarkError     a bystander's value, or a secret, turned up elsewhere
    │   ├── NeverRunError       the result of a backend call was never awaited or consumed
    │   ├── OpenTransactionError a test left a transaction open
    │   └── TaskCrashError      a task that a built-in backend ran has crashed
    ├── EffectError             an effect left the process while a transaction was open
    ├── UnusedAnswerError       a test programmed an answer that no call used
    ├── FaultError              a fault that a test or an option asks for is not possible
    ├── SweepError              a swept test fails under a fault, or in a race
    ├── HangError               an act of a swept test does not end
    ├── RepeatError             a repeated act had an effect again
    ├── StateError              an act was not refused in a state, or wrote data although it was
    ├── RaceError               concurrent acts left a state that no serial order of them leaves
    ├── AtomicityError          a failed act left a part of its changes
    ├── LateCallError           code of a test called a backend after the test had ended
    ├── SwallowedError          the application swallowed an error that fails the test
    ├── BindingError            the container has no binding for a requested interface
    └── DataError               the data manager does not know a model, factory, field or alias
        └── UnknownAliasError   there is no such alias
"""

import re
from typing import Final

from django.core.exceptions import ImproperlyConfigured

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters but tabs and line feeds, and halves of characters, which cannot be encoded."""


def printable(text: str) -> str:
    r"""Return a text for a terminal or a page, with control characters escaped, such as ``\x00``.

    It is here because the errors are the lowest module: their messages quote what others have sent.
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


class ItkitError(Exception):
    """Base of all errors of itkit."""

    def __str__(self) -> str:
        return printable(super().__str__())


class ConfigurationError(ItkitError, ImproperlyConfigured):
    """A setting is wrong; the message names it, its value and the line to change."""


class ServiceUnavailableError(ItkitError):
    """No Postgres or Redis can be found or started, or a server that itkit started has died."""


class MigrationError(ItkitError):
    """A migration failed, so that there is no database for the tests."""


class RelayError(ItkitError):
    """A process that a test has started cannot reach the test, or what it sends cannot be read."""


class WorkerError(ItkitError):
    """A process that runs tests died, could not start, or could not send a result."""


class IsolationError(ItkitError):
    """itkit cannot keep the tests apart from other data, so it runs nothing."""


class EscapeError(IsolationError):
    """Code tried to reach a server, key or command outside of its isolation, and was refused."""


class RunOverError(EscapeError):
    """Code that outlives the tests tried to reach a server, a backend or the network."""


class TestError(ItkitError, AssertionError):
    """A mistake of the test's author; runners report it as a failure, and in set-up as an error."""

    __test__ = False  # pytest would collect the class for its name


class LeakedKeysError(TestError):
    """A test left keys in Redis, and ``ITKIT["REDIS"]["LEAKS"]`` is ``"fail"``."""


LeftKeysError = LeakedKeysError
"""The earlier name, for projects that import it."""


class LeakedPatchError(TestError):
    """A test left a mock or another object where a fake or a setting was."""


class LeakedRowsError(TestError):
    """A test made rows that its data manager does not know, and ``leaks`` forbids this."""


class CallMismatchError(TestError):
    """The calls of a backend differ from those that the test requires."""


class OrderError(TestError):
    """Crossings did not happen in the order that the test requires."""


class ObservationError(TestError):
    """The crossings that a block observed differ from those that the test requires."""


class BudgetError(TestError):
    """A block sent more than its budget allows, or has no budget yet."""


class BenchmarkError(TestError):
    """The arguments of a benchmark are wrong: it cannot run no rounds, for example."""


class UnknownMethodError(TestError, AttributeError):
    """The test asks for a method that the real class does not have, or a handle's control."""


class UnknownBackendError(TestError, AttributeError):
    """The test asks for a backend that ``ITKIT["BACKENDS"]`` does not name."""


class UnprogrammedReturnError(TestError):
    """Code used the return value of a call for which the test programmed none."""


class UnexpectedCallError(TestError):
    """A strict fake was called, and the test has programmed no answer for the call."""


class ImpossibleReturnError(TestError):
    """A test programs a return value that the annotation of the real method does not allow."""


class NotRunError(TestError):
    """Tests were found but did not run, although nothing failed."""


class ScopeError(TestError):
    """A test begins while another one runs in the same process, in another thread."""


class ProcessLeftError(TestError):
    """A test would have replaced the process of the tests by another program."""


class FaultError(TestError):
    """A fault that a test, or an option, asks for is not possible, or was never reached."""


class SweepError(TestError):
    """A swept test fails under a fault, or with a schedule of a race.

    The message has each fault, or schedule, and its crossing.
    """


class RaceError(TestError):
    """Concurrent acts left a state that no serial order of them leaves."""


class HangError(TestError):
    """An act of a swept test does not end; the message has the line where it waits."""


class RepeatError(TestError):
    """A repeated act had an effect again, although the test says that it has none."""


class StateError(TestError):
    """An act was not refused in a state, or wrote data although it was refused."""


class AtomicityError(TestError):
    """The state after a failed act is neither the state before it nor that after a success."""


class ElsewhereError(TestError):
    """A process that the test started raised an error that fails the test."""


class FoundError(TestError):
    """A failure that itkit finds after a test, and that was not raised while the test ran.

    Attributes:
        is_seen: whether the test has examined it nevertheless.
        behind: the error that caused it, which the test may have caught.
        remedy: the last line of the message, which findings of one test share.
    """

    is_seen = False
    behind: BaseException | None = None
    remedy: str = ""


class LeakedMarkError(FoundError):
    """A value of a bystander, or a secret, turned up where it must not be."""


class NeverRunError(FoundError):
    """A fake returned a coroutine, generator or context manager, and nothing ran it."""


class OpenTransactionError(FoundError):
    """A test left a transaction open."""


class TaskCrashError(FoundError):
    """A task that a built-in backend ran has crashed, and the test did not examine the crash."""


class EffectError(TestError):
    """An effect left the process while a transaction was open, which the settings forbid."""


class UnusedAnswerError(TestError):
    """A test programmed an answer that no call used."""


class LateCallError(TestError):
    """Code that a test started called a backend, or wrote data, after the test had ended."""


class SwallowedError(TestError):
    """The application swallowed an error that fails the test in any case."""


class BindingError(TestError):
    """The container has no binding for an interface that the test or a constructor requests."""


class DataError(TestError):
    """The data manager does not know a model, factory, field or alias that the test names."""


class UnknownAliasError(DataError, AttributeError):
    """The data manager has no method for an alias, because there is no such alias."""
