"""What a clean-up removed."""

from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Self

from asgiref.sync import sync_to_async


@dataclass(eq=False)
class CleanupReport:
    """What a clean-up removed, by the label of the model.

    It can be awaited. In a running event loop, awaiting it does the work, in the thread where
    Django's ORM may be used. Elsewhere the work is done already.

    Attributes:
        removed: rows that the manager knew.
        beyond: rows that the manager did not know and that referred to the removed ones, so that
            they had to be removed first.
        released: rows that referred to the removed ones by ``on_delete=SET_NULL``; they stay, with
            a null.
        forgotten: rows left to what takes them back after the test: a rollback, or itkit's reset.
        leaked: a line for each new row that the manager does not know.
    """

    removed: Counter[str] = field(default_factory=Counter)
    beyond: Counter[str] = field(default_factory=Counter)
    released: Counter[str] = field(default_factory=Counter)
    forgotten: Counter[str] = field(default_factory=Counter)
    leaked: list[str] = field(default_factory=list)
    _pending: Callable[[], None] | None = field(default=None, repr=False)

    def after(self, work: Callable[[], None]) -> Self:
        """Put off the work that fills this report until the report is awaited."""
        self._pending = work
        return self

    def __await__(self) -> Generator[Any, Any, Self]:
        pending, self._pending = self._pending, None
        if pending is not None:
            yield from sync_to_async(pending)().__await__()
        return self

    def __str__(self) -> str:
        parts = [
            f"{title} {_listed(counts)}"
            for title, counts in (
                ("removed", self.removed),
                ("removed beyond the tracked", self.beyond),
                ("set to null in", self.released),
                ("left to the rollback or reset", self.forgotten),
            )
            if counts
        ]
        parts += [f"leaked {each}" for each in self.leaked]
        return "; ".join(parts) or "nothing to remove"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {label}" for label, count in counts.items())
