"""The timeline for tests: assertions about the order of crossings, and the printed table."""

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import Final

from itkit.core.text import counted, did_you_mean
from itkit.exceptions import OrderError, printable
from itkit.timeline import core
from itkit.timeline.core import Crossing

_HEADING: Final = "timeline of the test:"
_MOST_SHOWN: Final = 40
_WIDTH: Final = 88


class TimelineReader:
    """The timeline of the running test: ``self.timeline``, or the fixture ``timeline``.

    It is a sequence of all crossings in the order in which they began: calls of the backends,
    statements of SQL, COMMIT and ROLLBACK, hooks of on_commit, writes to Redis.
    """

    def __iter__(self) -> Iterator[Crossing]:
        return _noted(core.current())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __str__(self) -> str:
        return shown(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} crossings>"

    def assert_order(self, *names: str) -> None:
        """Fail unless these crossings happened one after another; others may be between them.

        Args:
            names: the names of crossings, such as ``"payments.charge"``, ``"COMMIT"``,
                ``"INSERT shop_order"`` or only ``"INSERT"``, ``"SET key"``, ``"on_commit"``.

        Raises:
            OrderError: the timeline does not have the crossings in this order.
        """
        crossings = list(self)
        start = 0
        for position, name in enumerate(names):
            found = next(
                (index for index in range(start, len(crossings)) if _is(crossings[index], name)),
                None,
            )
            if found is None:
                raise OrderError(_out_of_order(names, position, start, crossings))
            start = found + 1


def shown(crossings: Iterable[Crossing]) -> str:
    """Return a table with a line for each crossing; equal ones in a row share a line."""
    rows = list(_rows(crossings))
    cut = rows[-_MOST_SHOWN:]
    width = min(max((len(text) for _, text, _ in cut), default=0), _WIDTH)
    form = f"  {{:>{len(cut[-1][0]) if cut else 0}}}  {{:<{width}}}  {{}}"
    lines = [form.format(*row).rstrip() for row in cut]
    if len(rows) > len(cut):
        lines.insert(0, f"  … {counted(len(rows) - len(cut), 'line')} before")
    return "\n".join(lines)


def report(timeline: core.Timeline) -> str:
    """Return the text of a timeline for its failed test; an empty text if it has no crossings.

    It ends where the test has failed, if that is noted.
    """
    table = shown(_noted(islice(timeline, timeline.failed_at)))
    return f"{_HEADING}\n{table}" if table else ""


def is_shown(message: str) -> bool:
    """Return whether a message shows a timeline already."""
    return _HEADING in message


def _noted(crossings: Iterable[Crossing]) -> Iterator[Crossing]:
    return (crossing for crossing in crossings if crossing.is_noted)


def _rows(crossings: Iterable[Crossing]) -> Iterator[tuple[str, str, str]]:
    numbered = enumerate(crossings, 1)
    for (text, site), group in groupby(
        numbered, lambda item: (_text(item[1]), str(item[1].site or ""))
    ):
        same = list(group)
        times = f" ({len(same)} times)" if len(same) > 1 else ""
        yield f"#{same[0][0]}", f"{text}{times}", site


def _described(crossing: Crossing) -> tuple[str, str]:
    return _text(crossing), str(crossing.site or "")


def _text(crossing: Crossing) -> str:
    text = printable(" ".join(crossing.shown.split()))
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def _is(crossing: Crossing, name: str) -> bool:
    return crossing.name == name or crossing.name.startswith(f"{name} ")


def _out_of_order(
    names: tuple[str, ...], position: int, start: int, crossings: list[Crossing]
) -> str:
    name = names[position]
    after = f" after {names[position - 1]!r} (#{start})" if position else ""
    lines = [f"The timeline has no {name!r}{after}.", f"  expected order: {', '.join(names)}"]
    if not any(_is(crossing, name) for crossing in crossings):
        lines.append(f"  {did_you_mean(name, sorted({crossing.name for crossing in crossings}))}")
    return "\n".join([*lines, _HEADING, shown(crossings) or "  empty"])
