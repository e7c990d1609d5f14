"""The rows of a benchmark: what was measured, against whom, and whether the promise is kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Bound = Literal["min", "max"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measure.

    ``ratio`` is peer / ours where more is better (``bound="min"``), ours / peer where less is
    (``bound="max"``); ``target`` is the ratio that was promised.
    """

    name: str
    ours: float
    peer: float
    unit: str
    bound: Bound
    target: float

    @property
    def ratio(self) -> float:
        """How ours compares to the peer's."""
        return self.peer / self.ours if self.bound == "min" else self.ours / self.peer

    @property
    def met(self) -> bool:
        """Whether the ratio is what was promised."""
        return self.ratio >= self.target if self.bound == "min" else self.ratio <= self.target

    def as_dict(self) -> dict[str, object]:
        """Return the row for JSON."""
        return {
            "name": self.name,
            "ours": round(self.ours, 4),
            "peer": round(self.peer, 4),
            "unit": self.unit,
            "ratio": round(self.ratio, 3),
            "bound": self.bound,
            "target": self.target,
            "met": self.met,
        }


def linear(name: str, measure: str, small: Mapping[str, float], large: Mapping[str, float]) -> Row:
    """Return how much more a measure is of a larger schema, against how much larger that is.

    The target leaves room for noise.
    """
    return Row(
        name=name,
        ours=large[measure] / small[measure],
        peer=large["objects"] / small["objects"],
        unit="x",
        bound="max",
        target=1.3,
    )
