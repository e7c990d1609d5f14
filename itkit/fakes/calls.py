"""The record of one call of a backend."""

from time import perf_counter
from types import FrameType
from typing import TYPE_CHECKING, Any

from itkit import boundary
from itkit.boundary import Crossing
from itkit.conf import did_you_mean

if TYPE_CHECKING:
    from itkit.fakes.methods import Method

_KEYS = ("args", "arguments", "duration", "error", "kwargs", "name", "result", "site", "thread")


class Call(Crossing):
    """One call that a fake recorded; its fields are attributes and keys alike.

    Attributes:
        method: of the fake that was called.
        args: the positional arguments as they were passed.
        kwargs: the keyword arguments as they were passed.
        result: what the call returned; None while it is under way or when it raised.

    Arguments that can change are copied when the call happens.
    """

    __slots__ = ("args", "kwargs", "method", "result")

    def __init__(
        self, method: "Method", args: tuple[Any, ...], kwargs: dict[str, Any], frame: FrameType
    ) -> None:
        # What Crossing would do in a call more, which is a tenth of a record's cost. The frame is
        # that of the caller, so there is nothing to skip.
        self.method = method
        self.args = args
        self.kwargs = kwargs
        self.result: Any = None
        self.duration: float | None = None
        self.error: BaseException | None = None
        self._thread = boundary.here.thread
        self._code = frame.f_code
        self._offset = frame.f_lasti
        self.at = perf_counter()

    @property
    def name(self) -> str:
        """What assertions and reports call it, such as ``payments.charge``."""
        return self.method.name

    @property
    def arguments(self) -> dict[str, Any]:
        """All arguments by name, however they were passed, with defaults filled in."""
        return self.method.member.arguments(self.args, self.kwargs)

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
        # A reply can be lost: then there is a result, and the caller has not seen it.
        result = f" -> {self.result!r}" if self.error is None or self.result is not None else ""
        return f"{result} !! {self.error!r}" if self.error is not None else result
