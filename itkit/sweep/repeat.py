"""A test whose act is done once more: its argument ``repeat``, and its sweep."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from inspect import isawaitable
from typing import Any, Final

from asgiref.sync import async_to_sync

from itkit import environment
from itkit.exceptions import FaultError, RepeatError
from itkit.sweep import aftermath, rows
from itkit.sweep.act import apart, check_names, check_transactions, in_thread, variation
from itkit.sweep.aftermath import Aftermath, Beginning, Unstable
from itkit.sweep.variations import Sweep, Variation

TWICE: Final = "twice"
BY_ANOTHER: Final = "by_another"
_SECOND: Final = "repeat() was called a second time in one test: make a test of each act."
_NOT_CALLED: Final = "repeat.assert_idempotent() was called before repeat(act)."
_NO_ACT: Final = "The test is swept by repetition, and does nothing twice: call repeat(act, ...)."
_CHANGED: Final = "what is done {} has an effect once more: {}\n{}"
_HOW: Final = {TWICE: "twice", BY_ANOTHER: "a second time, by another thread"}


class Repeat:
    """The act of a test that is done once, and in variations once more.

    Attributes:
        result: the value that the second call has returned; None where there was none.
        error: the error of the second call, which may be right; None where it raised none.
        option: nothing, as the command of the test repeats all of it.
        was_called: whether the test has done its act.
    """

    option = ""
    columns = ()
    where = ""
    shown = ""

    def __init__(self, spec: str | None = None) -> None:
        self.result: Any = None
        self.error: Exception | None = None
        self.was_called = False
        self._spec = spec
        self._since = datetime.now(UTC)
        self._before: Aftermath | None = None
        self._after: Aftermath | None = None

    @property
    def has_fault(self) -> bool:
        """Whether the act is done once more."""
        return self._spec is not None

    def __call__(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call an act once; in a variation call it once more, at once or in a thread of its own.

        Args:
            act: called with the other arguments; where it is a coroutine function, the call is to
                be awaited.
            *args: positional arguments for the act.
            **kwargs: keyword arguments for the act.

        Returns:
            What the act has returned the first time.

        Raises:
            FaultError: this is the second call in the test, or a transaction is open.
        """
        if self.was_called:
            raise FaultError(_SECOND)
        check_transactions("An act cannot be repeated")
        self.was_called = True
        first = act(*args, **kwargs)
        if isawaitable(first):
            return self._awaited(first, act, args, kwargs)
        if self._spec is not None:
            self._do_again(act, args, kwargs)
        return first

    def assert_idempotent(self, *, allowed: Iterable[str] = ()) -> None:
        """Fail unless the second time has changed nothing, whether it was refused or not.

        Compared are the rows of all models, the keys in Redis, the mails, and calls of backends.

        Args:
            allowed: names or patterns of calls that may be made again, such as one with a key by
                which the service knows it.

        Raises:
            RepeatError: it has; the message has what differs.
            FaultError: the act was not done, or nothing is called as ``allowed`` says.
        """
        if not self.was_called:
            raise FaultError(_NOT_CALLED)
        patterns = tuple(allowed)
        check_names("allowed", patterns)
        if self._spec is None or self._before is None or self._after is None:
            return
        lines = self._after.differences(self._before, Unstable(), ())
        lines = [
            line
            for line in lines
            if not any(fnmatchcase(_called(line), pattern) for pattern in patterns)
        ]
        if lines:
            first = " ".join(lines[0].split())
            raise RepeatError(_CHANGED.format(_HOW[self._spec], first, rows.shown(lines)))

    def check(self) -> None:
        """Do nothing: the test says what must hold."""

    async def _awaited(
        self,
        first: Awaitable[Any],
        act: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        result = await first
        if self._spec == TWICE:
            begun = self._begin()
            try:
                self.result = await act(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - what the code under test raises
                self.error = error
            self._after = self._aftermath(begun)
        elif self._spec is not None:
            self._do_again(async_to_sync(act), args, kwargs)
        return result

    def _do_again(
        self, act: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        begun = self._begin()
        try:
            if self._spec == TWICE:
                self.result = act(*args, **kwargs)
            else:
                self.result = in_thread(act, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - as above
            self.error = error
        self._after = self._aftermath(begun)

    def _begin(self) -> Beginning:
        begun = Beginning.now()
        self._before = self._aftermath(begun)
        return begun

    def _aftermath(self, begun: Beginning) -> Aftermath:
        found = environment.current()
        if found is None:
            raise FaultError("repeat() needs --integration: the test is to be skipped without it.")
        left: Aftermath = apart(aftermath.left, (), begun, self._since, found)
        return left


class RepeatSweep(Sweep):
    """The variations of one test in which its act is done once more."""

    word = "repetition"
    failing = "The test does not hold after"
    when = "after"

    def new(self, spec: str | None = None) -> Repeat:
        """Return what the test holds in a run."""
        return Repeat(spec)

    def _begin(self, first: Repeat) -> bool:
        """Return whether the act is to be done once more.

        Raises:
            FaultError: the test has none.
        """
        if not first.was_called:
            raise FaultError(_NO_ACT)
        return True

    def variations(self) -> Iterator[Variation]:
        """Yield both ways to do an act once more."""
        for spec in (TWICE, BY_ANOTHER):
            self.count(2)
            yield Variation(spec, is_last=spec == BY_ANOTHER)

    def not_tried(self) -> Iterator[str]:
        """Yield what other sweeps are for."""
        yield "both at once (races), and a second time after a failure (faults)"


def current() -> Repeat:
    """Return the repetition of the running variation; one that does not repeat where none runs."""
    running = variation()
    return running if isinstance(running, Repeat) else Repeat()


def _called(line: str) -> str:
    """Return the name of the call that a line is about."""
    return line.partition(":")[2].strip().partition("(")[0]
