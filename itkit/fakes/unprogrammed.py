"""The value that a fake returns where the test programs nothing: harmless until it is used."""

from collections.abc import Callable
from functools import cache
from typing import Any

from itkit.exceptions import UnprogrammedReturnError
from itkit.fakes.calls import Call
from itkit.timeline import core

Advice = Callable[[str], str]
"""Gives the line that programs a method's return value, to be shown to the test's author."""


def _refused(use: str) -> Callable[..., Any]:
    def refuse(self: "UnprogrammedReturn", *_args: Any, **_kwargs: Any) -> Any:
        call: Call = object.__getattribute__(self, "_call")
        advice: Advice = object.__getattribute__(self, "_advice")
        raise core.record_failure(
            UnprogrammedReturnError(
                f"The return value of {call.name} was {use}, but the test programs none.\n"
                f"  called at {call.site}\n"
                f"  add to the test: {advice(call.method.member.name)}"
            )
        )

    return refuse


class UnprogrammedReturn:
    """The return value of a call for which nothing was programmed.

    Code may drop it, pass it on and store it in a variable. Code that uses it in any way gets an
    ``UnprogrammedReturnError``, which names the call and the line to add to the test. Python has no
    hooks for ``x is None`` and ``isinstance(x, ...)``. Errors that show the name of its class, such
    as those of ``json`` and of database drivers, show the line as well.
    """

    __slots__ = ("_advice", "_call")

    def __new__(cls, call: Call, advice: Advice) -> "UnprogrammedReturn":
        """Make a value whose class is named after the call and the line to add."""
        return super().__new__(_named(call.name, advice(call.method.member.name)))

    def __init__(self, call: Call, advice: Advice) -> None:
        # Assignment is refused like every other use.
        object.__setattr__(self, "_call", call)
        object.__setattr__(self, "_advice", advice)

    def __repr__(self) -> str:
        # This one works, as debuggers and test runners call it at any time.
        return f"<unprogrammed return of {object.__getattribute__(self, '_call').name}>"

    def __getattr__(self, name: str) -> Any:
        return _refused(f"asked for its attribute {name!r}")(self)

    __setattr__ = _refused("given an attribute")
    __delattr__ = _refused("stripped of an attribute")

    __bool__ = _refused("tested for truth")
    __eq__ = __ne__ = _refused("compared")
    __lt__ = __le__ = __gt__ = __ge__ = _refused("compared")
    __hash__ = _refused("hashed")

    __str__ = __format__ = _refused("formatted")
    __bytes__ = __fspath__ = _refused("formatted")
    __reduce_ex__ = _refused("serialised")
    __copy__ = __deepcopy__ = _refused("copied")

    __iter__ = __next__ = __reversed__ = _refused("iterated")
    __aiter__ = __anext__ = _refused("iterated")
    __len__ = _refused("measured")
    __contains__ = _refused("searched")
    __getitem__ = __setitem__ = __delitem__ = _refused("indexed")

    __call__ = _refused("called")
    __await__ = _refused("awaited")
    __enter__ = __exit__ = __aenter__ = __aexit__ = _refused("entered")

    __int__ = __float__ = __complex__ = __index__ = __round__ = _refused("taken for a number")
    __neg__ = __pos__ = __abs__ = __invert__ = _refused("calculated with")
    __add__ = __radd__ = __sub__ = __rsub__ = _refused("calculated with")
    __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refused("calculated with")
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _refused("calculated with")
    __divmod__ = __rdivmod__ = __pow__ = __rpow__ = _refused("calculated with")
    __matmul__ = __rmatmul__ = __lshift__ = __rlshift__ = _refused("calculated with")
    __rshift__ = __rrshift__ = __and__ = __rand__ = _refused("calculated with")
    __or__ = __ror__ = __xor__ = __rxor__ = _refused("calculated with")


@cache
def _named(name: str, line: str) -> type[UnprogrammedReturn]:
    kind = f"UnprogrammedReturn of {name} (add to the test: {line})"
    return type(kind, (UnprogrammedReturn,), {"__slots__": ()})
