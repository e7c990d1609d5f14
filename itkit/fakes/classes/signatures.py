"""Binds arguments as the real function would, at the speed of a plain call."""

import inspect
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

from itkit.fakes.snapshots import IMMUTABLE, are_immutable

Binder = Callable[..., dict[str, Any]]
"""Takes what the real function takes, returns the arguments by name with defaults filled in."""

_ANYTHING = Signature(
    [
        Parameter("args", Parameter.VAR_POSITIONAL),
        Parameter("kwargs", Parameter.VAR_KEYWORD),
    ]
)


def signature_of(function: Callable[..., Any]) -> Signature:
    """Return the signature of a function, or one that takes anything where it has none."""
    try:
        return inspect.signature(function)
    except ValueError:  # some functions in C have no signature that can be read
        return _ANYTHING


def compile_binder(qualified_name: str, signature: Signature, *, has_owner: bool) -> Binder:
    """Compile a function with the given signature that returns its arguments by name.

    Args:
        qualified_name: the name of the function in the TypeError for wrong arguments.
        signature: the signature of the real function.
        has_owner: whether the first argument is ``self`` or ``cls``, which the result leaves out.
    """
    items = _items(list(signature.parameters.values()), has_owner)
    return _compile(qualified_name, signature, f"return {{{items}}}")


def compile_checker(
    qualified_name: str, signature: Signature, *, has_owner: bool
) -> Callable[..., bool]:
    """Compile a function with the given signature that returns whether an argument can change.

    CPython itself raises the TypeError of wrong arguments, in the words that the real function
    would have used, at a twentieth of the cost of ``Signature.bind``.

    Args:
        qualified_name: the name of the function in messages.
        signature: the signature of the real function.
        has_owner: whether the first parameter is ``self`` or ``cls``, which is not checked.
    """
    parameters = list(signature.parameters.values())
    conditions = [_can_change(item) for item in parameters[has_owner:]]
    return _compile(qualified_name, signature, f"return {' or '.join(conditions) or False}")


def _can_change(parameter: Parameter) -> str:
    if parameter.kind is parameter.VAR_POSITIONAL:
        return f"not _itkit_are_immutable({parameter.name})"
    if parameter.kind is parameter.VAR_KEYWORD:
        return f"not _itkit_are_immutable({parameter.name}.values())"
    return f"_itkit_type({parameter.name}) not in _itkit_immutable"


def _compile(qualified_name: str, signature: Signature, body: str) -> Callable[..., Any]:
    parameters = list(signature.parameters.values())
    source = f"def compiled{_header(parameters)}:\n {body}"
    # The prefix keeps these names apart from parameters, one of which may be called "type".
    namespace: dict[str, Any] = {
        "_itkit_are_immutable": are_immutable,
        "_itkit_immutable": IMMUTABLE,
        "_itkit_type": type,
    }
    exec(compile(source, "<itkit signature>", "exec"), namespace)  # noqa: S102 - as dataclasses do
    compiled: Any = namespace["compiled"]
    compiled.__qualname__ = qualified_name
    _set_defaults(compiled, parameters)
    return compiled  # type: ignore[no-any-return]  # compiled above


def _header(parameters: list[Parameter]) -> str:
    bare = [item.replace(default=item.empty, annotation=item.empty) for item in parameters]
    return str(Signature(bare))


def _items(parameters: list[Parameter], has_owner: bool) -> str:  # noqa: FBT001 - private
    items = {item.name: item.name for item in parameters}
    if has_owner and parameters:
        owner = parameters[0]
        if owner.kind is owner.VAR_POSITIONAL:
            items[owner.name] += "[1:]"
        else:
            del items[owner.name]
    return ", ".join(f"{name!r}: {value}" for name, value in items.items())


def _set_defaults(compiled: Any, parameters: list[Parameter]) -> None:
    given = [item for item in parameters if item.default is not item.empty]
    keyword_only = {item.name: item.default for item in given if item.kind is item.KEYWORD_ONLY}
    compiled.__defaults__ = tuple(item.default for item in given if item.name not in keyword_only)
    compiled.__kwdefaults__ = keyword_only
