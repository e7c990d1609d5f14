"""What a test that is swept with schedules holds: the argument ``race``."""

import copy
import linecache
import random
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import permutations
from typing import Any, Final

from django.test.client import AsyncClient, Client

from itkit import conf, environment
from itkit.core.text import counted
from itkit.exceptions import FaultError, HangError, RaceError
from itkit.sweep import aftermath, rows
from itkit.sweep.act import apart, check_transactions, variation
from itkit.sweep.aftermath import Aftermath, Beginning, Result, Unstable
from itkit.sweep.choosing import ScheduleSpec
from itkit.sweep.gate import calls, commands, statements
from itkit.sweep.race.actors import Stage, Step, Watcher

_TWICE: Final = (
    "race() was called a second time in one test. One call is one race: make a test of each."
)
_FEW: Final = "race() needs two acts at least: race(first, second), or race(act, times=2)."
_UNKNOWN: Final = "The schedule {!r} names the act {}, and race() was given {}: 0 to {}."
_NO_ORDER: Final = "no order of the acts leaves what these have left: {}"
_HANGING: Final = (
    "the acts do not come to their end: nothing has happened for {}"
    ' (ITKIT["SWEEP"]["ACT_SECONDS"])\n{}'
)
_WIDTH: Final = 58
_MOST_SHOWN: Final = 80
_MOST_SUMMARY: Final = 160


class Known:
    """What the runs of the acts one after another have shown, for those at once.

    Attributes:
        since: when the sweep has begun.
        expected: the aftermath of each order of acts, in which some may be missing.
        unstable: the columns and kinds whose values differ from run to run.
        are_alike: whether all acts are the same.
        count: the number of acts.
        watcher: sees who waits in the server.
    """

    def __init__(self) -> None:
        self.since = datetime.now(UTC)
        self.expected: dict[tuple[int, ...], Aftermath] = {}
        self.unstable = Unstable()
        self.are_alike = False
        self.count = 0
        self.watcher = Watcher()


class Race:
    """The acts that a test does at once, by the schedule of one variation.

    Attributes:
        results: the value of each act; None for an act that has raised an error.
        errors: the error of each act; None for an act that has raised none.
        option: the option of the command line that repeats this variation.
        stage: the stage that has run the acts; None until then.
    """

    def __init__(self, spec: ScheduleSpec | None = None, known: Known | None = None) -> None:
        self.results: list[Any] = []
        self.errors: list[BaseException | None] = []
        self.option = ""
        if spec is not None and not (spec.is_alone or spec.is_second):
            self.option = f"--itkit-schedule {shlex.quote(str(spec))}"
        self.stage: Stage | None = None
        self._spec = spec
        self._known = known or Known()
        self._aftermath: Aftermath | None = None
        self._labels: list[str] = []

    @property
    def has_fault(self) -> bool:
        """Whether this is another run than the first, of which alone all is expected."""
        return self._spec is not None

    @property
    def is_compared(self) -> bool:
        """Whether the acts were at once, so that what they leave is compared with their orders."""
        return self._spec is not None and not self._spec.is_serial

    def __call__(self, *acts: Callable[[], Any], times: int = 1) -> list[Any]:
        """Do acts at once, each in a thread with connections of its own.

        In the first runs they are done one after another. An error that one of them raises is kept
        in ``race.errors``, as it may be right to refuse an act.

        Args:
            *acts: functions without arguments, or coroutine functions.
            times: how often each of them is done at once.

        Returns:
            What each act has returned; None for one that has raised an error.

        Raises:
            FaultError: there are fewer than two acts, this is the second race of the test, or the
                test has a transaction open.
            HangError: an act has not come to its end.
        """
        made = [act for act in acts for _ in range(times)]
        if len(made) < 2:
            raise FaultError(_FEW)
        if self.stage is not None:
            raise FaultError(_TWICE)
        check_transactions("Acts cannot be done at once")
        spec = self._spec or ScheduleSpec.serial(range(len(made)))
        wrong = [number for number in spec.order if number >= len(made)]
        if wrong:
            raise FaultError(_UNKNOWN.format(str(spec), wrong[0], len(made), len(made) - 1))
        self._labels = [_label(act) for act in made]
        known = self._known
        known.count, known.are_alike = len(made), len(acts) == 1
        if spec.is_second:
            random.seed(0)  # so that what comes of it is another value
        bound = conf.get().sweep.act_seconds
        self.stage = stage = Stage(made, spec, known.watcher, bound=bound)
        apart(self._run, stage)
        self.results = [actor.result for actor in stage.actors]
        self.errors = [actor.error for actor in stage.actors]
        if stage.hangs:
            raise HangError(self._hanging(stage))
        if spec.is_serial:
            self._learn(spec, stage)
        return self.results

    def requests(self, send: Callable[..., Any], *args: Any, times: int = 2, **kwargs: Any) -> Any:
        """Send the same request several times at once, each by a client of its own.

        Args:
            send: a method of Django's test client, such as ``self.client.post``. Each request has
                a copy of the client, with the same session.
            *args: positional arguments for the method.
            times: how many requests there are.
            **kwargs: keyword arguments for the method.

        Returns:
            The responses; None for a request in which an error was raised.
        """
        client = getattr(send, "__self__", None)
        if not isinstance(client, Client | AsyncClient):
            raise FaultError(
                f"race.requests() takes a method of Django's test client, not {send!r}:"
                ' race.requests(self.client.post, "/buy/").'
            )
        name = send.__name__

        def request() -> Any:
            own = copy.copy(client)
            own.cookies = copy.deepcopy(client.cookies)
            return getattr(own, name)(*args, **kwargs)

        request.__qualname__ = f"{name} {args[0] if args else ''}".strip()
        return self(request, times=times)

    def check(self) -> None:
        """Check that the acts at once have left the same as one of their orders.

        Raises:
            RaceError: they have not; the message has what differs.
        """
        if not self.is_compared or self.stage is None or self._aftermath is None:
            return
        known, left = self._known, self._aftermath
        refused = frozenset(
            number
            for number, result in enumerate(left.results)
            if result.may_refuse and (result.error is not None or self._is_new(number, result))
        )
        order, lines = aftermath.nearest(left, known.expected, refused, known.unstable)
        if lines:
            shown = ", ".join(map(str, order))
            raise RaceError(
                f"{self._summary(lines)}\n  compared with {shown} one after another:\n"
                f"{rows.shown(lines)}"
            )

    @property
    def shown(self) -> str:
        """The crossings of the acts in columns, in their order; nothing for acts not at once."""
        if self.stage is None or not (self.is_compared or self.stage.hangs):
            return ""
        return "\n".join(["who was let on when:", *map(_line, self.columns)])

    @property
    def columns(self) -> list[list[str]]:
        """The names of the acts, their crossings in columns, and how each has ended.

        There is nothing for acts that were not at once.
        """
        if self.stage is None or not (self.is_compared or self.stage.hangs):
            return []
        return list(self._columns(self.stage))

    @property
    def where(self) -> str:
        """Where the acts were stopped, as the schedule says."""
        if self.stage is None:
            return ""
        return ", ".join(
            f"{step.actor} stops before {step.name} at {step.site}" for step in self.stage.preempted
        )

    def _run(self, stage: Stage) -> None:
        found = environment.current()
        if found is None:
            raise FaultError("A race needs --integration: the test is to be skipped without it.")
        begun = Beginning.now()
        with ExitStack() as releases:
            releases.enter_context(statements.led(stage, set()))
            releases.enter_context(commands.led(stage))
            releases.enter_context(calls.led(stage, found.backends, set()))
            stage.run()
        hanging = {one.actor for one in stage.hangs}
        results = tuple(
            aftermath.result_of(actor.result, actor.error, self._known.since)
            if actor.thread is not None and actor.number not in hanging
            else Result()
            for actor in stage.actors
        )
        self._aftermath = aftermath.left(results, begun, self._known.since, found)

    def _learn(self, spec: ScheduleSpec, stage: Stage) -> None:
        known, left = self._known, self._aftermath
        assert left is not None  # noqa: S101 - it was run
        if spec.is_second:
            known.unstable = left.unstable(known.expected[spec.order])
            return
        known.expected[spec.order] = left
        if known.are_alike:
            known.expected |= _permuted(spec.order, left)

    def _is_new(self, number: int, result: Result) -> bool:
        """Return whether no order of the acts has had this one end so."""
        return all(
            aftermath.differ(result, one.results[number])
            for order, one in self._known.expected.items()
            if number in order
        )

    def _summary(self, lines: list[str]) -> str:
        """Return what is wrong in one line."""
        assert self.stage is not None and self._aftermath is not None  # noqa: S101, PT018 - as above
        if self.stage.deadlocks:
            waiting = ", ".join(
                f"{step.actor} at {step.name} at {step.site}" for step in self.stage.deadlocks[0]
            )
            return f"a deadlock: the acts wait for each other, {waiting}"
        for number, result in enumerate(self._aftermath.results):
            if result.misfortune:
                return (
                    f"act {number} has met {result.misfortune}, and has not begun again:"
                    f" {result.text}"
                ).replace(rows.LOOSE, "")
        first = " ".join(lines[0].split())
        more = f", and {len(lines) - 1} more" if len(lines) > 1 else ""
        return _NO_ORDER.format(f"{_cut(first, _MOST_SUMMARY)}{more}")

    def _hanging(self, stage: Stage) -> str:
        return _HANGING.format(
            counted(conf.get().sweep.act_seconds, "second"),
            "\n".join(f"  {one.actor} waits at {one.where}" for one in stage.hangs),
        )

    def _columns(self, stage: Stage) -> Iterator[list[str]]:
        heads = [f"{number} {label}" for number, label in enumerate(self._labels)]
        yield heads
        for index, step in enumerate(stage.steps[:_MOST_SHOWN]):
            waits = " (waits)" if index in stage.waits else ""
            cells = [""] * len(heads)
            cells[step.actor] = f"{step.name}{waits}  {_short(step)}"
            yield cells
        if len(stage.steps) > _MOST_SHOWN:
            yield [f"and {len(stage.steps) - _MOST_SHOWN} more", *[""] * (len(heads) - 1)]
        assert self._aftermath is not None or stage.hangs  # noqa: S101 - it was run
        if self._aftermath is not None:
            yield [result.text.replace(rows.LOOSE, "") for result in self._aftermath.results]


def current() -> Race:
    """Return the race of the running variation; one act after another where none is running."""
    running = variation()
    return running if isinstance(running, Race) else Race()


def _permuted(order: tuple[int, ...], left: Aftermath) -> dict[tuple[int, ...], Aftermath]:
    """Return the aftermath of all orders of acts that are alike, by that of one of them."""
    found = {}
    for other in permutations(range(len(left.results)), len(order)):
        results = [Result()] * len(left.results)
        for was, now in zip(order, other, strict=True):
            results[now] = left.results[was]
        found[other] = replace(left, results=tuple(results))
    return found


def _label(act: Any) -> str:
    while isinstance(act, partial):
        act = act.func
    name = str(getattr(act, "__qualname__", type(act).__qualname__)).rpartition(".<locals>.")[2]
    if name != "<lambda>":
        return name
    # The lines and columns of what it returns: the source of a lambda is its whole statement.
    spans = [span for span in act.__code__.co_positions() if None not in span]
    line = min((span[0] for span in spans), default=0)
    columns = [span[2:] for span in spans if span[:2] == (line, line) and span[2] < span[3]]
    text = linecache.getline(act.__code__.co_filename, line)
    if not columns or not text.isascii():  # the columns are of bytes
        return name
    return text[min(start for start, _ in columns) : max(end for _, end in columns)]


def _short(step: Step) -> str:
    site = step.site
    return f"{site.path.rpartition('/')[2]}:{site.line}"


def _line(cells: Sequence[str]) -> str:
    return "  " + "".join(f"{_cut(cell, _WIDTH - 2):<{_WIDTH}}" for cell in cells).rstrip()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
