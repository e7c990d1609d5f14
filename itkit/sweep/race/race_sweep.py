"""Which schedules a raced test is run with, after its acts were done one after another."""

from collections.abc import Iterator, Sequence
from functools import cache
from heapq import heappop, heappush
from itertools import compress, count, groupby, permutations
from typing import Any, Final

from itkit import conf
from itkit.core import names
from itkit.core.text import counted
from itkit.environment import Environment
from itkit.exceptions import FaultError
from itkit.sweep.choosing import SchedulePart, ScheduleSpec
from itkit.sweep.race.actors import Step
from itkit.sweep.race.race import Known, Race
from itkit.sweep.variations import Sweep, Variation, Varying

_STOPS: Final = {names.SWEEP_QUICK: 2, names.SWEEP_FULL: 3}
_NO_RACE: Final = (
    "The test is swept with schedules, and there is no race in it: call"
    " race(first_act, second_act)."
)
_NO_SUCCESS: Final = (
    "Each act of the race has raised an error, even where it was done alone, so nothing was found"
    " out:\n{}"
)
_Parts = tuple[SchedulePart, ...]


class RaceSweep(Sweep):
    """The variations of one test, each with a schedule of its acts.

    Args:
        environment: the environment that the tests run in.
        *args: as all sweeps take them.
    """

    word = "schedule"
    failing = "The test does not hold in"
    when = "in"
    option = "schedule"

    def __init__(self, environment: Environment, *args: Any) -> None:
        super().__init__(environment, *args)
        self._known = Known()
        self._total = 0
        self._last: Race | None = None
        self._orders: list[list[Step]] = []

    def new(self, spec: ScheduleSpec | None = None) -> Race:
        """Return what the test holds in a run."""
        self._last = race = Race(spec, self._known)
        return race

    def _begin(self, first: Race) -> bool:
        """Return whether there are schedules to be tried.

        Raises:
            FaultError: there is no race in the test.
        """
        if first.stage is None:
            raise FaultError(_NO_RACE)
        self._orders.append(first.stage.steps)
        return True

    def variations(self) -> Iterator[Variation]:
        """Yield the orders of the acts, and then the schedules in which one is stopped."""
        self.count(1)  # the first run
        for spec in self._serial():
            is_whole = not (spec.is_alone or spec.is_second)
            if is_whole:
                self.count(self.tried + 1)
            yield Variation(spec, is_last=False)
            stage = self._last.stage if self._last is not None else None
            if stage is not None and is_whole:
                self._orders.append(stage.steps)
        if self._only:
            yield Variation(ScheduleSpec.parse(self._only), is_last=True, is_shown=True)
            return
        explorer = Explorer(_STOPS[self._mode], are_alike=self._known.are_alike)
        for steps in self._orders:
            explorer.add(steps)
        most = conf.get().sweep.variations
        while (found := explorer.next()) is not None:
            self.count(self.tried + 1 + explorer.left)
            yield Variation(found, is_last=False)
            if self._last is not None and self._last.stage is not None:
                explorer.add(self._last.stage.steps)
            if reason := self.bound(most):
                self.leave(explorer.left, self.tried + explorer.left, reason)
                break
        lengths = tuple(max((len(own) for own in owns), default=0) for owns in self._lengths())
        if self._known.are_alike:
            lengths = (max(lengths),) * len(lengths)
        self._total = sum(_number(lengths, -1, stops) for stops in range(_STOPS[self._mode] + 1))

    def _lengths(self) -> Iterator[Iterator[list[Step]]]:
        """Yield, for each act, its crossings in each order."""
        for act in range(self._known.count):
            yield ([step for step in steps if step.actor == act] for steps in self._orders)

    def not_tried(self) -> Iterator[str]:
        """Yield how many schedules have the effect of another."""
        if (left := self._total - self.tried) > 0:
            have = "it has" if left == 1 else "they have"
            yield f"{left} of {counted(self._total, 'schedule')}, as {have} the effect of another"
        yield f"more than {_STOPS[self._mode]} stops in one schedule" + (
            " (--itkit-sweep=full)" if self._mode == names.SWEEP_QUICK else ""
        )

    def mistake(self) -> str:
        """Return that no act has ever been done, which cannot be meant."""
        results = [one for left in self._known.expected.values() for one in left.results]
        ran = [result for result in results if result.text]
        if not ran or any(result.error is None for result in ran):
            return ""
        shown = dict.fromkeys(result.text.replace("\0", "") for result in ran)
        return _NO_SUCCESS.format("\n".join(f"  {text}" for text in shown))

    def find(self, spec: ScheduleSpec, varying: Varying, summary: str, text: str) -> None:
        """Note that the test has failed in a variation, but for those with fewer acts."""
        if not (spec.is_alone or spec.is_second):
            super().find(spec, varying, summary, text)

    def grid(self) -> tuple[list[str], list[tuple[str, str, list[str]]]]:
        """Return a row for each schedule of all acts."""
        heads, rows = super().grid()
        whole = [not (spec.is_alone or spec.is_second) for spec in dict.fromkeys(self._run)]
        return heads, list(compress(rows, whole))

    def close(self) -> None:
        """Close the connections that have seen who waits."""
        self._known.watcher.close()

    def _serial(self) -> Iterator[ScheduleSpec]:
        """Yield the orders of all acts but the first, of some acts, and the first order again."""
        acts = range(self._known.count)
        for size in range(len(acts), 0, -1):
            for order in permutations(acts, size):
                is_like_another = self._known.are_alike and order != tuple(range(size))
                if order != tuple(acts) and not is_like_another:
                    yield ScheduleSpec.serial(order, is_alone=size < len(acts))
        yield ScheduleSpec.serial(acts)._replace(is_second=True)


@cache
def _number(lengths: tuple[int, ...], stopped: int, stops: int) -> int:
    """Return how many schedules there are in which acts are stopped so many times.

    Args:
        lengths: how many crossings each act has left; 0 for one that has ended.
        stopped: the act that was stopped last; -1 for none.
        stops: how many times.
    """
    alive = [actor for actor, length in enumerate(lengths) if length]
    if not alive:
        return int(stops == 0)
    total = 0
    for actor in alive:
        if actor == stopped:
            continue
        before, length, after = lengths[:actor], lengths[actor], lengths[actor + 1 :]
        total += _number((*before, 0, *after), -1, stops)
        if stops and len(alive) > 1:
            total += sum(
                _number((*before, left, *after), actor, stops - 1) for left in range(1, length)
            )
    return total


class Explorer:
    """Finds schedules that can have another effect than those that were tried.

    Where two crossings of a run have to do with the same, and nothing between them says which of
    them comes first, the other order is tried: the run as far as the first one, and then the act of
    the second one. (Dynamic partial order reduction, with a bound of stops.)

    Args:
        stops: how often acts are stopped, at most, in one schedule.
        are_alike: whether the acts are the same, so that it does not matter which of them is which.

    Attributes:
        left: how many schedules are to be tried still.
    """

    def __init__(self, stops: int, *, are_alike: bool) -> None:
        self._stops = stops
        self._are_alike = are_alike
        self._seen: set[object] = set()
        self._expected: set[object] = set()
        self._queue: list[tuple[int, int, int, _Parts]] = []
        self._numbers = count()

    @property
    def left(self) -> int:
        """How many schedules are to be tried still."""
        return len(self._queue)

    def next(self) -> ScheduleSpec | None:
        """Return the next schedule, one with the fewest stops; None where there is none."""
        return ScheduleSpec(heappop(self._queue)[-1]) if self._queue else None

    def add(self, steps: Sequence[Step]) -> None:
        """Find what is to be tried, by the crossings of a run."""
        key = self._form(steps)
        if key in self._seen:
            return
        self._seen.add(key)
        for first, second in _races(steps):
            actor = steps[second].actor
            begun, rest = list(steps[:first]), steps[first:]
            parts = _parts(begun, actor, rest)
            stops = sum(
                part.steps is not None and part.actor in {later.actor for later in parts[at + 1 :]}
                for at, part in enumerate(parts)
            )
            is_serial = all(part.steps is None for part in parts)  # which has been run already
            if is_serial or stops > self._stops:
                continue
            own = [step for step in rest if step.actor == actor]
            others = [step for step in rest if step.actor != actor]
            form = self._form([*begun, *own, *others])
            renamed = self._renamed(parts)
            if form in self._seen or not self._expected.isdisjoint({form, renamed}):
                continue
            self._expected |= {form, renamed}
            heappush(self._queue, (stops, len(parts), next(self._numbers), renamed))

    def _form(self, steps: Sequence[Step]) -> object:
        """Return what is the same for runs that differ in nothing that matters.

        The crossings of an act keep their order, as do two that have to do with the same. Each gets
        a level, one more than all that has to come before it (Foata's normal form).
        """
        levels: list[int] = []
        for at, step in enumerate(steps):
            before = [
                levels[earlier] for earlier in range(at) if _are_ordered(steps[earlier], step)
            ]
            levels.append(1 + max(before, default=0))
        acts: dict[int, list[tuple[str, int]]] = {}
        for step, level in zip(steps, levels, strict=True):
            acts.setdefault(step.actor, []).append((step.name, level))
        if self._are_alike:
            return tuple(sorted(tuple(own) for own in acts.values()))
        return tuple(sorted((actor, tuple(own)) for actor, own in acts.items()))

    def _renamed(self, parts: _Parts) -> _Parts:
        """Return a schedule whose acts are numbered as they come, where they are alike."""
        if not self._are_alike:
            return parts
        numbers: dict[int, int] = {}
        return tuple(
            SchedulePart(numbers.setdefault(part.actor, len(numbers)), part.steps) for part in parts
        )


def _are_ordered(earlier: Step, later: Step) -> bool:
    return earlier.actor == later.actor or earlier.touched.conflicts(later.touched)


def _races(steps: Sequence[Step]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of crossings of which only chance has decided which one comes first."""
    before: list[set[int]] = []  # of each, all that has to come before it
    for at, step in enumerate(steps):
        known: set[int] = set()
        for earlier in range(at - 1, -1, -1):
            if earlier in known or not _are_ordered(steps[earlier], step):
                continue
            if steps[earlier].actor != step.actor:
                yield earlier, at
            known |= {earlier} | before[earlier]
        before.append(known)


def _parts(begun: Sequence[Step], actor: int, rest: Sequence[Step]) -> _Parts:
    """Return the schedule that goes on with another act after a beginning."""
    parts = [
        SchedulePart(own, len(list(steps))) for own, steps in groupby(step.actor for step in begun)
    ]
    if parts and parts[-1].actor == actor:
        parts.pop()
    left = dict.fromkeys([actor, *(step.actor for step in rest)])
    return (*parts, *map(SchedulePart, left))
