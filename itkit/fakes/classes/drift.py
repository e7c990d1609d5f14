"""How a hand-written fake differs from the real class or function that it stands for."""

import inspect
from collections.abc import Iterator
from inspect import Parameter, Signature
from types import FunctionType
from typing import Any

from itkit.fakes.classes.members import Kind, Member, function_member, members_of
from itkit.fakes.classes.signatures import signature_of

_MANY = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def differences(real: Any, stand_in: Any) -> list[str]:
    """Return a line for each part of the real one that the fake cannot replace.

    A fake may have additional methods, and additional parameters that are optional.

    Args:
        real: a class or a function.
        stand_in: the same kind of thing, written by hand.
    """
    if isinstance(real, FunctionType):
        return list(_of_function(function_member(real), stand_in))
    if not isinstance(stand_in, type):
        return ["it is no class"]
    if "__getattr__" in {name for kind in stand_in.__mro__ for name in vars(kind)}:
        return []  # such a fake accepts every name
    own = members_of(stand_in)
    found: list[str] = []
    for name, member in members_of(real).items():
        if name not in own:
            found.append(f"it has no {name!r}")
        else:
            found += [f"{name}{text}" for text in _of_member(member, own[name])]
    return found


def _of_function(member: Member, stand_in: Any) -> Iterator[str]:
    if not isinstance(stand_in, FunctionType):
        yield "it is no function"
        return
    yield from (text.strip() for text in _of_member(member, function_member(stand_in)))


def _of_member(real: Member, fake: Member) -> Iterator[str]:
    if Kind.PROPERTY in (real.kind, fake.kind):
        if real.kind is not fake.kind:
            yield f" is {_a(real.kind)} and not {_a(fake.kind)}"
        return
    if (real.kind is Kind.COROUTINE) is not (fake.kind is Kind.COROUTINE):
        yield f" is {_a(real.kind)} and not {_a(fake.kind)}"
    yield from _of_parameters(_callers(real), _callers(fake))


def _of_parameters(real: list[Parameter], fake: list[Parameter]) -> Iterator[str]:
    takes_any_name = any(item.kind is Parameter.VAR_KEYWORD for item in fake)
    takes_any_number = any(item.kind is Parameter.VAR_POSITIONAL for item in fake)
    named = {item.name: item for item in fake if item.kind not in _MANY}
    for item in real:
        taken = named.get(item.name)
        if item.kind is Parameter.VAR_POSITIONAL and not takes_any_number:
            yield f"() does not take *{item.name}"
        elif item.kind is Parameter.VAR_KEYWORD and not takes_any_name:
            yield f"() does not take **{item.name}"
        elif item.kind in _MANY:
            continue
        elif taken is None and not (takes_any_name or takes_any_number):
            yield f"() does not take {item.name!r}"
        elif taken is not None and _needs(taken) and not _needs(item):
            yield f"() needs {item.name!r}, which the real one does not"
    order = [item.name for item in real if item.kind is Parameter.POSITIONAL_OR_KEYWORD]
    positional = [item.name for item in fake if item.kind is Parameter.POSITIONAL_OR_KEYWORD]
    if any(
        name in positional and positional.index(name) != position
        for position, name in enumerate(order)
    ):
        yield f"() takes {', '.join(positional)} in another order than {', '.join(order)}"
    for item in fake:
        if item.kind not in _MANY and _needs(item) and item.name not in {one.name for one in real}:
            yield f"() needs {item.name!r}, which the real one does not have"


def _callers(member: Member) -> list[Parameter]:
    """Return the parameters that a caller gives, without ``self`` and ``cls``."""
    signature: Signature = signature_of(member.function)
    return list(signature.parameters.values())[member.has_owner :]


def _needs(parameter: Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty


def _a(kind: Kind) -> str:
    return {Kind.PROPERTY: "a property", Kind.COROUTINE: "a coroutine"}.get(kind, "a method")
