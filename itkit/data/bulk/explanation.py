"""How the rows of a batch have been written, and why not all of them in bulk."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

How = Literal["by COPY", "by INSERT", "one by one"]


class Way(NamedTuple):
    """One way in which rows of a model were written.

    Attributes:
        model: the label of the model.
        maker: the factory that made the instances, or ``model_bakery``.
        how: ``"by COPY"`` or ``"by INSERT"`` for many rows in one statement, or each on its own.
        reason: why they were not written in the best way; empty if they were.
    """

    model: str
    maker: str
    how: How
    reason: str = ""


class Hook(NamedTuple):
    """A hook that a factory calls after creation, for one instance at a time."""

    factory: str
    name: str


@dataclass(eq=False)
class Explanation:
    """What ``TestDataManager.explain()`` says about the last batch.

    Attributes:
        rows: the number of rows that were written in each way.
        hooks: the number of calls of each hook.
    """

    rows: Counter[Way] = field(default_factory=Counter)
    hooks: Counter[Hook] = field(default_factory=Counter)

    def __str__(self) -> str:
        lines = [
            f"{count:>7} {way.model} of {way.maker} {way.how}" + (way.reason and f": {way.reason}")
            for way, count in sorted(self.rows.items())
        ]
        lines += [
            f"{count:>7} calls of {hook.factory}.{hook.name}, after its rows have been written"
            for hook, count in sorted(self.hooks.items())
        ]
        return "\n".join(lines) or "nothing created in a batch"
