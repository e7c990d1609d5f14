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
        reason: why not in the best way; empty if it was.
    """

    model: str
    maker: str
    how: How
    reason: str = ""


class Hook(NamedTuple):
    """What a factory does after an instance has been created, which is done one by one."""

    factory: str
    name: str


@dataclass(eq=False)
class Explanation:
    """What ``TestDataManager.explain()`` says about the last batch.

    Attributes:
        rows: how many of each way.
        hooks: how many calls of each.
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
