"""Fakes that stand alone: objects of an interface that has no implementation at hand."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import new_class
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from itkit.exceptions import ConfigurationError
from itkit.fakes.classes.members import Kind, Member, attributes_of, members_of
from itkit.fakes.fake import Fake
from itkit.fakes.handles import Controls, Handle, MethodHandle, method_handle, programming_line
from itkit.fakes.methods import Method
from itkit.fakes.swap.replacements import mock_replacement

Interface = TypeVar("Interface")


class _Mock:
    """Base of all objects that carry a fake of their own."""

    _itkit_fake: Fake
    _itkit_members: dict[str, Member]

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        """Do nothing instead of the real ``__init__``: an interface has nothing to configure."""


class RecordingFake(_Mock, Controls, Generic[Interface]):
    """A fake that is made without a container and carries its own controls.

    ```python
    class MockPaymentGateway(RecordingFake[IPaymentGateway]):
        pass


    payments = MockPaymentGateway()
    payments.configure_return("charge_card", "txn_1")
    container.bind(IPaymentGateway, payments)
    ```

    It is an instance of its interface, which may be an ABC, a Protocol or any class.
    ``call_count``, ``was_called_with`` and ``get_calls`` report its calls; ``handle_of(payments)``
    returns the handle with everything else.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    else:

        def __class_getitem__(cls, interface: Any) -> Any:
            return _mock_class(interface, cls) if isinstance(interface, type) else cls

    def __new__(cls, *_args: Any, **_kwargs: Any) -> "RecordingFake[Interface]":
        """Make a fake with a record and answers of its own."""
        if not hasattr(cls, "_itkit_members"):
            raise TypeError(
                f"{cls.__name__} does not say what it is a fake of. "
                f"Write: class {cls.__name__}(RecordingFake[IPaymentGateway])"
            )
        self = super().__new__(cls)
        _give_fake(self, cls.__name__, lambda name: f'mock.configure_return("{name}", ...)')
        return self

    def _itkit_method(self, name: str) -> MethodHandle:
        return method_handle(self._itkit_fake, name)


def mock_object(interface: Callable[..., Interface], address: str) -> Interface:
    """Return an object of the interface whose calls are recorded and answered by a fake.

    Args:
        interface: an ABC, a Protocol or any class; its ``__init__`` is not run.
        address: how the test reaches the handle, for messages.
    """
    made_from: Any = interface  # mypy does not know that the class is hashable
    mock = _mock_class(made_from, _Mock)()
    _give_fake(mock, interface.__name__, lambda name: programming_line(address, name))
    return mock  # type: ignore[no-any-return]  # a class made above


def is_mock(thing: object) -> bool:
    """Return whether an object carries a fake of its own."""
    return isinstance(thing, _Mock)


def handle_of(mock: object) -> Handle[Any]:
    """Return the handle of an object that carries a fake of its own.

    Raises:
        TypeError: the object carries no fake.
    """
    if not isinstance(mock, _Mock):
        raise TypeError(f"{mock!r} is not a mock.")
    return Handle(mock._itkit_fake)


def _give_fake(mock: Any, name: str, advice: Callable[[str], str]) -> None:
    # The interface may define __setattr__.
    object.__setattr__(mock, "_itkit_fake", Fake(name, mock._itkit_members, advice))


@cache
def _mock_class(interface: Any, base: Any) -> Any:
    members = _members_of(interface)
    hidden = sorted(name for name in members if hasattr(base, name) and not name.startswith("__"))
    if hidden:
        raise ConfigurationError(
            f"{interface.__name__}.{hidden[0]} has the name of a control of RecordingFake. "
            f"Use TestContainer.bind_mock({interface.__name__}), whose handle is apart."
        )
    namespace = {name: mock_replacement(member, _finder(name)) for name, member in members.items()}
    namespace |= {"_itkit_members": members, "__module__": interface.__module__}
    name = f"Mock{interface.__name__}"
    return new_class(name, (base, interface), {}, lambda body: body.update(namespace))


def _members_of(interface: type) -> dict[str, Member]:
    members = attributes_of(interface) | members_of(interface)
    for name, member in members.items():
        if member.kind is Kind.PROPERTY:
            # The real getter would read a value that only the real __init__ stores.
            members[name] = replace(member, otherwise=None)
    return members


def _finder(name: str) -> Callable[[_Mock], Method]:
    return lambda mock: mock._itkit_fake.methods[name]
