"""Budgets: limits for what may leave the process within a block, kept in a committed file.

```python
with budget("checkout"):
    place_order(user)
```
"""

import inspect
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TypeVar, overload

from django.conf import settings
from filelock import FileLock

from itkit import conf
from itkit.core import caches
from itkit.core.handshake import Payload
from itkit.core.text import did_you_mean
from itkit.exceptions import BudgetError, ItkitError
from itkit.observation.observe import Observation, observe
from itkit.redis.crossings import RedisCommand
from itkit.timeline import core
from itkit.timeline.core import Crossing

Function = TypeVar("Function", bound=Callable[..., Any])
Figures = dict[str, dict[str, int]]
"""The numbers by kind and then by what was sent, in the form of the file."""

UPDATE: Final = "--itkit-budgets=update"
_QUERIES: Final = "queries"
_COMMANDS: Final = "commands"
_CALLS: Final = "calls"
_MOST_SITES: Final = 5


class _Item(NamedTuple):
    """A countable thing: a statement by its verb and table, a command, a call."""

    kind: str
    name: str


class Budget:
    """A block that may send no more than the file allows.

    It is also a decorator for functions and coroutine functions.

    Args:
        name: the name of its figures in the file of budgets.

    Attributes:
        name: the name of its figures in the file of budgets.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._blocks: list[tuple[Any, Observation]] = []

    def __enter__(self) -> Self:
        if not core.current().test:
            raise ItkitError("budget() is for a test that runs with --integration.")
        # Rows that Django itself caches depend on earlier tests.
        caches.forget_rows()
        block = observe()
        self._blocks.append((block, block.__enter__()))
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        block, seen = self._blocks.pop()
        block.__exit__(kind, error, trace)
        timeline = core.current()
        if kind is None and not timeline.is_disturbed:
            _check(self.name, _counted(seen), timeline)

    def __call__(self, function: Function) -> Function:
        """Return a function for which each call has to keep within the budget."""
        decorated: Function = _decorated(function, self.name)
        return decorated


@overload
def budget(name: str) -> Budget: ...
@overload
def budget(name: Function) -> Function: ...
def budget(name: str | Callable[..., Any]) -> Any:
    """Let a block, or each call of a function, send no more than the file allows.

    If more is sent, the test fails; if less is sent, the end of the run reports it.
    ``--itkit-budgets=update`` updates the file, ``budgets.json``.

    Args:
        name: the name of the budget. With ``@budget`` it is the function, whose module and name are
            the budget's name.

    Raises:
        BudgetError: more was sent, or the file has no such budget.
        ItkitError: no test runs with ``--integration``.
    """
    if isinstance(name, str):
        return Budget(name)
    return _decorated(name, f"{name.__module__}.{name.__qualname__}")


def _decorated(function: Any, name: str) -> Any:
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            with Budget(name):
                return await function(*args, **kwargs)

        return awaited

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        with Budget(name):
            return function(*args, **kwargs)

    return called


def _counted(seen: Observation) -> dict[_Item, list[Crossing]]:
    found: dict[_Item, list[Crossing]] = {}
    for query in seen.queries:
        found.setdefault(_Item(_QUERIES, query.name), []).append(query)
    for command in _without_loading(seen.commands):
        found.setdefault(_Item(_COMMANDS, _word(command)), []).append(command)
    for call in seen.calls:
        found.setdefault(_Item(_CALLS, call.method.name), []).append(call)
    return found


def _without_loading(commands: list[RedisCommand]) -> Iterator[RedisCommand]:
    """Yield the commands without those that load scripts, which only the first test sends.

    A client sends EVALSHA, then SCRIPT LOAD if the server does not know the script, and EVALSHA
    again.
    """
    last: dict[int, RedisCommand] = {}
    loaded: set[int] = set()
    for command in commands:
        thread = id(command.strand)
        if " ".join(command.words[:2]).upper().startswith("SCRIPT LOAD"):
            before = last.get(thread)
            loaded.add(id(command))
            if before is not None and _word(before) == "EVALSHA":
                loaded.add(id(before))
        last[thread] = command
    yield from (command for command in commands if id(command) not in loaded)


def _word(command: RedisCommand) -> str:
    return command.words[0].partition(" ")[0].upper()


def _check(name: str, found: Mapping[_Item, list[Crossing]], timeline: core.Timeline) -> None:
    """Compare what was sent with the file, or write it to the file if the option says so."""
    path = file()
    measured = Counter({item: len(crossings) for item, crossings in found.items()})
    if scratch := Payload.from_environment().budgets:
        _keep(path, Path(scratch), name, measured)
        return
    budgets = _read(path)
    if name not in budgets:
        hint = did_you_mean(name, sorted(budgets)) if budgets else ""
        raise BudgetError(
            f"{_shown(path)} has no budget {name!r}. {hint}\n"
            f"  Run the test once with {UPDATE}, and commit the file. It would keep:\n"
            + ("\n".join(f"    {item.name}: {number}" for item, number in sorted(measured.items())))
        )
    kept = _items(budgets[name])
    exceeded = [item for item in sorted(measured) if measured[item] > kept[item]]
    if exceeded:
        lines = [f"The budget {name!r} in {_shown(path)} is exceeded:"]
        for item in exceeded:
            lines.append(f"  {item.name}: {measured[item]}, kept {_are(kept[item])}")
            lines += _sites(found[item])
        lines.append(f"If that is meant, run the test with {UPDATE}, and commit the file.")
        raise BudgetError("\n".join(lines))
    spared = [item for item in sorted(kept) if measured[item] < kept[item]]
    for item in spared:
        timeline.spared.append(
            (
                f"budget {name!r}",
                f"{item.name}: {measured[item]}, kept {_are(kept[item])}; {UPDATE} lowers it",
            )
        )


def _keep(path: Path, scratch: Path, name: str, measured: Counter[_Item]) -> None:
    """Write the figures of a budget, the highest of all its blocks in this run.

    Args:
        path: the path of the file.
        scratch: a directory of this run for the figures that it has measured.
        name: the name of the budget.
        measured: the figures of one block.
    """
    with FileLock(scratch / "lock"):
        here = scratch / "measured.json"
        of_run = _read(here)
        highest = _items(of_run.get(name, {})) | measured
        of_run[name] = _figures(highest)
        _write(here, of_run)
        _write(path, _read(path) | {name: of_run[name]})


def file() -> Path:
    """Return the path of the file of budgets."""
    root = Path(getattr(settings, "BASE_DIR", None) or Path.cwd())
    return root / conf.get().report.budgets


def _read(path: Path) -> dict[str, Figures]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): _figures(_items(figures)) for name, figures in found.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError, TypeError) as error:
        raise BudgetError(
            f"{_shown(path)} cannot be read ({error}). Take it back from version control, or delete"
            f" it and run the tests with {UPDATE}."
        ) from error


def _write(path: Path, budgets: dict[str, Figures]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(f"{json.dumps(budgets, indent=2, sort_keys=True)}\n", encoding="utf-8")
    partial.replace(path)


def _items(figures: Mapping[str, Mapping[str, int]]) -> Counter[_Item]:
    return Counter(
        {
            _Item(kind, name): int(number)
            for kind, numbers in figures.items()
            for name, number in numbers.items()
        }
    )


def _figures(items: Counter[_Item]) -> Figures:
    figures: Figures = {}
    for (kind, name), number in sorted(items.items()):
        figures.setdefault(kind, {})[name] = number
    return figures


def _sites(crossings: list[Crossing]) -> Iterator[str]:
    sites = Counter(str(crossing.site or "?") for crossing in crossings)
    for site, number in sorted(sites.items(), key=lambda pair: (-pair[1], pair[0]))[:_MOST_SITES]:
        yield f"      {number} x at {site}"


def _are(number: int) -> str:
    return f"is {number}" if number == 1 else f"are {number}"


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
