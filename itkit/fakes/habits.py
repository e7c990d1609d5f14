"""What tests write by habit, and what a handle has in its place."""

from collections.abc import Sequence
from typing import Final

from itkit.conf import did_you_mean

_OF_MOCK: Final = {
    "assert_any_call": "assert_called_with(...)",
    "assert_called_once": "assert_called(times=1)",
    "assert_has_calls": "calls",
    "assert_not_called": "assert_never_called()",
    "call_args": "calls",
    "call_args_list": "calls",
    "called": "call_count",
    "mock_calls": "calls",
    "return_value": "returns(value)",
    "side_effect": "raises(error), returns_each(a, b) or does(function)",
}
_OF_BACKEND: Final = {
    "configure_delay": "delays(seconds)",
    "configure_exception": "raises(error)",
    "configure_return": "returns(value)",
    "get_calls": "calls",
}


def is_habit(attribute: str) -> bool:
    """Tell whether tests write an attribute by habit, which no handle has."""
    return attribute in _OF_MOCK or attribute in _OF_BACKEND


def unknown_method(name: str, attribute: str, methods: Sequence[str]) -> str:
    """Say that a backend has no such method, and which one may be meant."""
    if attribute in _OF_MOCK:
        return f"{name} has no {attribute!r}: use {_OF_MOCK[attribute]} of one of its methods"
    return f"{name} has no method {attribute!r}. {did_you_mean(attribute, list(methods))}"


def unknown_control(
    name: str, attribute: str, controls: Sequence[str], *, is_function: bool
) -> str:
    """Say that the handle of a method or function has no such control, and what to use."""
    if is_function and attribute in _OF_BACKEND:
        return f"{name} is a function: use backends.{name}.{_OF_BACKEND[attribute]}"
    instead = (_OF_MOCK | _OF_BACKEND).get(attribute)
    if instead is not None:
        return f"{name} has no {attribute!r}: use {instead}"
    return f"{name} has no {attribute!r}. {did_you_mean(attribute, list(controls))}"
