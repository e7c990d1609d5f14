"""The decorator that makes a test a swept one. Test modules import it, so it imports no Django."""

from collections.abc import Callable, Iterable
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, overload
from unittest import TestCase

from itkit.exceptions import FaultError
from itkit.sweep.choosing import (
    ATTRIBUTE,
    Choice,
    RaceChoice,
    RepeatChoice,
    StatesChoice,
    StateSpec,
)

if TYPE_CHECKING:
    from django.db.models import Model

_NO_FIELD: Final = "@sweep.states: {} has no field {!r}. Its fields with choices are: {}."
_NO_CHOICES: Final = (
    "@sweep.states: the field {} has no choices, which are the states. Its model's fields with"
    " choices are: {}."
)
_UNKNOWN_STATE: Final = "@sweep.states: allowed has {!r}, and the choices of {} are: {}."


@overload
def faults(test: Callable[..., Any], /) -> Callable[..., Any]: ...
@overload
def faults(
    *, at: Iterable[str] = (), kinds: Iterable[str] = (), skip: Iterable[str] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
def faults(
    test: Callable[..., Any] | None = None,
    /,
    *,
    at: Iterable[str] = (),
    kinds: Iterable[str] = (),
    skip: Iterable[str] = (),
) -> Any:
    """Run a test once without a fault, and then once for each fault of what it does.

    The test receives the argument ``fault``, an ``itkit.sweep.Fault``. A method of a test case gets
    it from this decorator, a function of pytest from the fixture of that name. Without
    ``--integration``, and with ``--itkit-sweep=off``, it runs once, without a fault.

    Args:
        test: the method or function, where the decorator is written without arguments.
        at: names or patterns of the crossings that fail, such as ``"payments.*"`` or ``"COMMIT"``.
            Reads and savepoints fail only where they are named here, or with
            ``--itkit-sweep=full``.
        kinds: the kinds of faults: ``"error"``, ``"lost_reply"``, ``"timeout"``, ``"crash"``,
            ``"run_twice"``, or the name of an exception. By default, no two of them have the same
            effect.
        skip: names or patterns of crossings that do not fail.

    Raises:
        FaultError: an argument is a string where a list of strings is expected.
    """
    for name, value in (("at", at), ("kinds", kinds), ("skip", skip)):
        if isinstance(value, str):
            raise FaultError(f"{name} is {value!r}, expected a list: write {name}=[{value!r}].")
    choice = Choice(tuple(at), tuple(kinds), tuple(skip))

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        decorated: Any = _given(function, _fault)
        setattr(decorated, ATTRIBUTE, choice)
        return decorated  # type: ignore[no-any-return]  # a function, as the test was

    return decorate if test is None else decorate(test)


def races(test: Callable[..., Any]) -> Callable[..., Any]:
    """Run a test once for each order of the acts of its race, and once for each schedule of them.

    The test receives the argument ``race``, an ``itkit.sweep.Race``: a method of a test case by
    this decorator, a function of pytest by the fixture of that name. Without ``--integration``, and
    with ``--itkit-sweep=off``, the acts are done one after another.
    """
    decorated: Any = _given(test, _race)
    setattr(decorated, ATTRIBUTE, RaceChoice())
    return decorated  # type: ignore[no-any-return]  # as it was given


def repeats(test: Callable[..., Any]) -> Callable[..., Any]:
    """Run a test once, and then once for each way to do its act once more.

    The test receives the argument ``repeat``, an ``itkit.sweep.Repeat``: a method of a test case by
    this decorator, a function of pytest by the fixture of that name.
    """
    decorated: Any = _given(test, _repeat)
    setattr(decorated, ATTRIBUTE, RepeatChoice())
    return decorated  # type: ignore[no-any-return]  # as it was given


def states(
    model: "type[Model] | str",
    field: str,
    *,
    allowed: Iterable[Any],
    refusal: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Run a test once for each state that a field's choices have.

    The test receives the argument ``state``, an ``itkit.sweep.SweptState``: a method of a test case
    by this decorator, a function of pytest by the fixture of that name. It arranges
    ``state.value``, and does its act within ``state.act()``. With ``--itkit-sweep=off`` it runs
    from the first allowed state.

    Args:
        model: the model, or its label, such as ``"shop.Order"``.
        field: the name of its field.
        allowed: the values from which the act must succeed; from all others it must be refused.
        refusal: the exceptions that are a refusal.

    Raises:
        FaultError: the model has no such field, the field has no choices, or no such ones.
    """
    if isinstance(allowed, str):
        raise FaultError(f"allowed is {allowed!r}, expected a list: write allowed=[{allowed!r}].")
    choice = _states_of(model, field, list(allowed), refusal)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        decorated: Any = _given(function, partial(_state, choice))
        setattr(decorated, ATTRIBUTE, choice)
        return decorated  # type: ignore[no-any-return]  # as it was given

    return decorate


def _states_of(
    model: Any,
    name: str,
    allowed: list[Any],
    refusal: type[Exception] | tuple[type[Exception], ...],
) -> StatesChoice:
    from django.apps import apps

    found = apps.get_model(model) if isinstance(model, str) else model
    fields = {one.name: one for one in found._meta.concrete_fields}
    known = ", ".join(key for key, one in fields.items() if one.flatchoices) or "none"
    field, full = fields.get(name), f"{found._meta.label}.{name}"
    if field is None:
        raise FaultError(_NO_FIELD.format(found._meta.label, name, known))
    if not field.flatchoices:
        raise FaultError(_NO_CHOICES.format(full, known))
    values = [value for value, _ in field.flatchoices if value is not None or field.null]
    for value in allowed:
        if value not in values:
            raise FaultError(_UNKNOWN_STATE.format(value, full, ", ".join(map(repr, values))))
    listed = [StateSpec(value, is_allowed=True) for value in dict.fromkeys(allowed)]
    listed += [StateSpec(value, is_allowed=False) for value in values if value not in allowed]
    return StatesChoice(full, tuple(listed), refusal)


def _state(choice: StatesChoice) -> Any:
    from itkit.sweep.state import current

    return current(choice)


def _repeat() -> Any:
    from itkit.sweep.repeat import current

    return current()


def _fault() -> Any:
    from itkit.sweep.injection.fault import current

    return current()


def _race() -> Any:
    from itkit.sweep.race.race import current

    return current()


def _given(function: Callable[..., Any], current: Callable[[], Any]) -> Callable[..., Any]:
    """Return a test that receives what varies it, where it is a method of a test case."""

    def given(args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*args, current()) if args and isinstance(args[0], TestCase) else args

    if iscoroutinefunction(function):

        @wraps(function)
        async def swept_async(*args: Any, **kwargs: Any) -> Any:
            return await function(*given(args), **kwargs)

        return swept_async

    @wraps(function)
    def swept(*args: Any, **kwargs: Any) -> Any:
        return function(*given(args), **kwargs)

    return swept
