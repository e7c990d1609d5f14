"""The messages of failed assertions: the expected call, how the closest one differs, call sites."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from itkit.core.text import did_you_mean, repr_of
from itkit.fakes import matching
from itkit.fakes.calls import Call

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

_MOST_SHOWN = 10
_MISSING: Any = type("_Missing", (), {"__repr__": lambda _self: "nothing"})()


def no_such_call(name: str, expected: Mapping[str, Any], calls: Sequence[Call]) -> str:
    """Return a message that no call had the expected arguments, with the closest call."""
    first = f"{name} was not called with {listed(expected)}"
    if not calls:
        return f"{first}\n  it was never called"
    found = {number: _differences(expected, call) for number, call in enumerate(calls, 1)}
    number = min(found, key=lambda number: len(found[number]))
    site = calls[number - 1].site
    lines = [first, f"  closest of {counted(len(calls))} (#{number}, {site}):"]
    return "\n".join([*lines, *_table(found[number])])


def wrong_count(name: str, wanted: str, calls: Sequence[Call]) -> str:
    """Return a message with the expected and the real number of calls, and their call sites."""
    if not calls:
        return f"{name} was never called, expected {wanted}"
    lines = [f"{name} was called {_times(len(calls))}, expected {wanted}"]
    return "\n".join([*lines, *_sites(calls)])


def counted(count: int) -> str:
    """Return a number of calls in words, such as ``3 calls``."""
    return "1 call" if count == 1 else f"{count} calls"


def listed(arguments: Mapping[str, Any]) -> str:
    """Return arguments as they are shown in every message."""
    return (
        ", ".join(f"{name}={repr_of(value)}" for name, value in arguments.items()) or "no arguments"
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _sites(calls: Sequence[Call]) -> list[str]:
    shown = [
        f"  #{number} at {call.site}: {listed(call.arguments)}"
        for number, call in enumerate(calls[:_MOST_SHOWN], 1)
    ]
    rest = len(calls) - _MOST_SHOWN
    return [*shown, f"  and {rest} more"] if rest > 0 else shown


def _table(differences: Sequence[tuple[str, Any, Any]]) -> Iterator[str]:
    width = max(len(path) for path, _, _ in differences)
    expected_width = max(len(repr_of(expected)) for _, expected, _ in differences)
    for path, expected, got in differences:
        shown = f"{repr_of(expected):<{expected_width}}"
        yield f"    {path:<{width}}  expected {shown}  got {repr_of(got)}"


def _differences(expected: Mapping[str, Any], call: Call) -> list[tuple[str, Any, Any]]:
    arguments = call.arguments
    return [
        found
        for name, value in expected.items()
        for found in _compare(name, value, arguments[name])
    ]


def _compare(path: str, expected: Any, got: Any) -> Iterator[tuple[str, Any, Any]]:
    if matching.matches(expected, got):
        return
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in [*expected, *(key for key in got if key not in expected)]:
            item = f"{path}[{key!r}]"
            yield from _compare(item, expected.get(key, _MISSING), got.get(key, _MISSING))
    elif _are_alike_lists(expected, got):
        for index, (left, right) in enumerate(zip(expected, got, strict=True)):
            yield from _compare(f"{path}[{index}]", left, right)
    else:
        yield path, expected, got


def _are_alike_lists(expected: Any, got: Any) -> bool:
    both = isinstance(expected, list | tuple) and type(expected) is type(got)
    return both and len(expected) == len(got)


def is_habit(attribute: str) -> bool:
    """Return whether an attribute is one of ``unittest.mock``, which tests use by habit."""
    return attribute in _OF_MOCK or attribute in _OF_BACKEND


def unknown_method(name: str, attribute: str, methods: Sequence[str]) -> str:
    """Return a message that a backend has no such method, with the name that may be meant."""
    if attribute in _OF_MOCK:
        return f"{name} has no {attribute!r}: use {_OF_MOCK[attribute]} of one of its methods"
    return f"{name} has no method {attribute!r}. {did_you_mean(attribute, list(methods))}"


def control_of_a_method(name: str, attribute: str, methods: Sequence[str]) -> str:
    """Return a message that a test programs the methods of a backend, and not the backend."""
    method = next((method for method in methods if not method.startswith("_")), "method")
    return (
        f"{name} has no method {attribute!r}: the methods have that, as in"
        f" backends.{name}.{method}.{attribute}"
    )


def called(name: str) -> str:
    """Return a message that a test has called what programs a method."""
    return (
        f"backends.{name} is for programming the fake, and is not called: call the real one, as the"
        " application does, and the fake answers"
    )


def unknown_control(
    name: str, attribute: str, controls: Sequence[str], *, is_function: bool
) -> str:
    """Return a message that a handle has no such control, with the one to use."""
    if is_function and attribute in _OF_BACKEND:
        return f"{name} is a function: use backends.{name}.{_OF_BACKEND[attribute]}"
    instead = (_OF_MOCK | _OF_BACKEND).get(attribute)
    if instead is not None:
        return f"{name} has no {attribute!r}: use {instead}"
    return f"{name} has no {attribute!r}. {did_you_mean(attribute, list(controls))}"
