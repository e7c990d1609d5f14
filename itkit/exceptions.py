"""Every error that itkit raises.

ItkitError
├── ConfigurationError          a setting is wrong; also an ImproperlyConfigured
├── ServiceUnavailableError     no server can be found, or ours has died
├── RelayError                  a process that a test has started cannot reach the test
├── MigrationError              a migration has failed, so there is no database for the tests
├── WorkerError                 a process that runs tests has died, or could not hand on a result
├── IsolationError              itkit cannot keep the tests apart, so it refuses
│   └── EscapeError             code reached for something outside of the isolation
│       └── RunOverError        code that outlives the tests reached for anything at all
└── TestError                   a mistake of the test's author; also an AssertionError
    ├── LeakedKeysError         keys are left in Redis, which the settings do not allow; the same as
    │                           LeftKeysError, its earlier name
    ├── LeakedPatchError        something is left over a fake, and would answer in its place
    ├── LeakedRowsError         rows that the data manager does not know, which is not allowed
    ├── CallMismatchError       a backend was not called as the test says
    ├── OrderError              things did not happen in the order that the test says
    ├── ObservationError        what was observed is not what the test says
    ├── BudgetError             more has left the process than was kept for a block
    ├── BenchmarkError          a benchmark was asked for what it cannot do
    ├── UnknownMethodError      the real class has no such method
    ├── UnknownBackendError     ITKIT["BACKENDS"] has no such name
    ├── UnprogrammedReturnError what a fake returned was used, but never programmed
    ├── UnexpectedCallError     a call for which nothing is programmed, of a strict fake
    ├── ImpossibleReturnError   a fake is to return what the real method cannot
    ├── NotRunError              tests were found and not run
    ├── ScopeError               two tests run at once in one process
    ├── ProcessLeftError         a test would have replaced the process of the tests
    ├── ElsewhereError          an error in a process that the test has started, which fails it
    ├── FoundError               something was found after a test that fails it, raised to nobody
    │   ├── LeakedMarkError      a bystander's value, or a secret, has turned up elsewhere
    │   ├── NeverRunError        a call of a backend was made, and never awaited or consumed
    │   ├── OpenTransactionError a test has left a transaction open
    │   └── TaskCrashError       a task that a built-in backend has run has crashed
    ├── EffectError              something has left the process while a transaction was open
    ├── UnusedAnswerError        a test has programmed an answer that no call has used
    ├── FaultError              a fault that a test, or an option, asks for is not possible
    ├── SweepError              a test does not survive faults of what it does, or a race
    ├── HangError               an act of a swept test does not come to its end
    ├── RepeatError             an act has had an effect a second time
    ├── StateError              an act was not refused, or has written although it was
    ├── RaceError               acts at once have left what no order of them leaves
    ├── AtomicityError          what an act has left under a fault is neither nothing nor all
    ├── LateCallError           a backend was called by a test that had ended
    ├── SwallowedError          the application has swallowed an error that fails the test
    ├── BindingError            the container has nothing for what it was asked for
    └── DataError               the data manager does not know what it was asked for
        └── UnknownAliasError   there is no such alias
"""

from django.core.exceptions import ImproperlyConfigured


class ItkitError(Exception):
    """Base of all errors of itkit."""


class ConfigurationError(ItkitError, ImproperlyConfigured):
    """A setting is wrong; the message names it, its value and the line to change."""


class ServiceUnavailableError(ItkitError):
    """No Postgres or Redis can be found or started, or one that was started has died."""


class MigrationError(ItkitError):
    """A migration has failed, so that there is no database for the tests."""


class RelayError(ItkitError):
    """A process that a test has started cannot reach the test, or what it sends cannot be read."""


class WorkerError(ItkitError):
    """A process that runs tests has died, could not start, or could not hand on what it has."""


class IsolationError(ItkitError):
    """Tests cannot be kept apart from other data, so nothing is run."""


class EscapeError(IsolationError):
    """Code reached for a server, key or command outside of its isolation and was refused."""


class RunOverError(EscapeError):
    """Code that outlives the tests reached for a server, a backend or the network."""


class TestError(ItkitError, AssertionError):
    """A mistake of the test's author; runners report it as a failure, and in set-up as an error."""

    __test__ = False  # pytest would collect the class for its name


class LeakedKeysError(TestError):
    """A test has left keys in Redis, and ``ITKIT["REDIS"]["LEAKS"]`` is ``"fail"``."""


LeftKeysError = LeakedKeysError
"""The earlier name, for projects that import it."""


class LeakedPatchError(TestError):
    """A test has left a mock, or anything else, in the place of a fake or of a setting."""


class LeakedRowsError(TestError):
    """A test has made rows that its data manager does not know, and ``leaks`` forbids it."""


class CallMismatchError(TestError):
    """A backend was not called as the test says."""


class OrderError(TestError):
    """Things did not happen in the order that the test says."""


class ObservationError(TestError):
    """What was observed is not what the test says."""


class BudgetError(TestError):
    """More has left the process within a block than was kept for it, or nothing was ever kept."""


class BenchmarkError(TestError):
    """A benchmark was asked for what it cannot do, such as no rounds."""


class UnknownMethodError(TestError, AttributeError):
    """The test asks for a method that the real class does not have, or a handle's control."""


class UnknownBackendError(TestError, AttributeError):
    """The test asks for a backend that ``ITKIT["BACKENDS"]`` does not name."""


class UnprogrammedReturnError(TestError):
    """Code used the return value of a call for which the test programmed none."""


class UnexpectedCallError(TestError):
    """A strict fake was called, and the test programs nothing for the call."""


class ImpossibleReturnError(TestError):
    """A fake is to return what the real method, by its annotation, cannot."""


class NotRunError(TestError):
    """Tests were found and not run, although nothing has failed."""


class ScopeError(TestError):
    """A test begins while another one runs in the same process, in another thread."""


class ProcessLeftError(TestError):
    """A test would have replaced the process of the tests by another program."""


class FaultError(TestError):
    """A fault that a test, or an option, asks for is not possible, or was never reached."""


class SweepError(TestError):
    """A test does not survive faults of what it does, or does not hold in a race of it.

    The message has each fault, or schedule, and its crossing.
    """


class RaceError(TestError):
    """Acts at once have left what no order of them leaves."""


class HangError(TestError):
    """An act of a swept test does not come to its end; the message has the line where it waits."""


class RepeatError(TestError):
    """An act has had an effect a second time, and is said to have none."""


class StateError(TestError):
    """An act was not refused in a state, or has written although it was."""


class AtomicityError(TestError):
    """What an act has left under a fault is neither what was before it nor what it leaves else."""


class ElsewhereError(TestError):
    """An error that fails the test was raised in a process that the test has started."""


class FoundError(TestError):
    """Something that fails a test and was raised to nobody while the test ran.

    Attributes:
        is_seen: whether the test has looked at it all the same.
        behind: the error that it comes from, which the test may have caught.
    """

    is_seen = False
    behind: BaseException | None = None


class LeakedMarkError(FoundError):
    """A value of a bystander, or a secret, has turned up where it must not be."""


class NeverRunError(FoundError):
    """A coroutine, generator or context manager of a fake was made, and nobody ran it."""


class OpenTransactionError(FoundError):
    """A test has left a transaction open."""


class TaskCrashError(FoundError):
    """A task that a built-in backend has run has crashed, and the test did not look at that."""


class EffectError(TestError):
    """Something has left the process while a transaction was open, which is not allowed."""


class UnusedAnswerError(TestError):
    """A test has programmed an answer that no call has used."""


class LateCallError(TestError):
    """What a test has started called a backend, or wrote, after that test had ended."""


class SwallowedError(TestError):
    """The application has swallowed an error that fails the test whatever becomes of it."""


class BindingError(TestError):
    """The container has nothing for what the test or a constructor asks of it."""


class DataError(TestError):
    """The data manager does not know the model, factory, field or alias that it was asked for."""


class UnknownAliasError(DataError, AttributeError):
    """The data manager has no method for an alias, because there is no such alias."""
