"""The record of one call of a backend."""

from typing import Any

from itkit.boundary import Crossing
from itkit.conf import did_you_mean
from itkit.fakes.members import Member

_FRAMES_OF_ITKIT = 3  # Crossing.__init__, Call.__init__ and Fake.begin lie above the replacement
_KEYS = ("args", "arguments", "duration", "error", "kwargs", "name", "result", "site", "thread")


class Call(Crossing):
    """One call that a fake recorded; its fields are attributes and keys alike.

    Attributes:
        args: the positional arguments as they were passed.
        kwargs: the keyword arguments as they were passed.
        result: what the call returned; None while it is under way or when it raised.

    Arguments that can change are copied when the call happens.
    """

    __slots__ = ("args", "fake", "kwargs", "member", "result")

    def __init__(
        self,
        name: str,
        fake: object,
        member: Member,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        super().__init__(name, _FRAMES_OF_ITKIT)
        self.fake = fake
        self.member = member
        self.args = args
        self.kwargs = kwargs
        self.result: Any = None

    @property
    def arguments(self) -> dict[str, Any]:
        """All arguments by name, however they were passed, with defaults filled in."""
        return self.member.arguments(self.args, self.kwargs)

    def __getitem__(self, key: str) -> Any:
        if key not in _KEYS:
            raise KeyError(f"A call has no {key!r}. {did_you_mean(key, list(_KEYS))}")
        return getattr(self, key)

    def __repr__(self) -> str:
        positional = [repr(value) for value in self.args]
        named = [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{self.name}({', '.join(positional + named)}){self._outcome()}"

    def _outcome(self) -> str:
        if self.duration is None:
            return ""
        return f" !! {self.error!r}" if self.error is not None else f" -> {self.result!r}"
