"""Recording fakes: they record each call of a backend and answer as the test programmed.

A real class or function is swapped in place (``ClassSwap``, ``FunctionSwap``); an interface
without an implementation gets an object of its own (``mock_object``, ``RecordingFake``). Either
way a ``Fake`` records and answers, and the test holds a ``Handle`` of it. What a client holds is
faked as well: ``parts`` says what a part is and looks like, ``reading`` how it is read from the
client, ``outline`` which names it has before any object is made, ``remains`` what stays real.
"""

from itkit.fakes.calls import Call
from itkit.fakes.drift import differences
from itkit.fakes.fake import ELSEWHERE, Fake, NotHereError
from itkit.fakes.handles import Handle, MethodHandle, programming_line
from itkit.fakes.members import Member, function_member, members_of
from itkit.fakes.mocks import RecordingFake, handle_of, is_mock, mock_object
from itkit.fakes.remains import stays_real
from itkit.fakes.swaps import ClassSwap, FunctionSwap, Patch, obstacle
from itkit.fakes.unprogrammed import UnprogrammedReturn

__all__ = [
    "ELSEWHERE",
    "Call",
    "ClassSwap",
    "Fake",
    "FunctionSwap",
    "Handle",
    "Member",
    "MethodHandle",
    "NotHereError",
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
