"""Recording fakes: they record each call of a backend and answer as the test programmed.

A real class or function is swapped in place (``ClassSwap``, ``FunctionSwap``); an interface
without an implementation gets an object of its own (``mock_object``, ``RecordingFake``). Either
way a ``Fake`` records and answers, and the test holds a ``Handle`` of it.

Read in this order: ``classes`` (reads the real class), ``fake`` and ``methods``, ``answers`` (what
was programmed), ``calls`` with ``snapshots`` (what was recorded), ``unprogrammed``, ``handles``
with ``programming`` and ``matching``, ``messages`` (what a failure says), ``swap``.
"""

from itkit.fakes.calls import Call
from itkit.fakes.classes.drift import differences
from itkit.fakes.classes.members import Member, function_member, members_of
from itkit.fakes.fake import Fake
from itkit.fakes.handles import Handle, MethodHandle, programming_line
from itkit.fakes.swap.mocks import RecordingFake, handle_of, is_mock, mock_object
from itkit.fakes.swap.remains import stays_real
from itkit.fakes.swap.swaps import ClassSwap, FunctionSwap, Patch, obstacle
from itkit.fakes.unprogrammed import UnprogrammedReturn

__all__ = [
    "Call",
    "ClassSwap",
    "Fake",
    "FunctionSwap",
    "Handle",
    "Member",
    "MethodHandle",
    "Patch",
    "RecordingFake",
    "UnprogrammedReturn",
    "differences",
    "function_member",
    "handle_of",
    "is_mock",
    "members_of",
    "mock_object",
    "obstacle",
    "programming_line",
    "stays_real",
]
