"""What Django's connections have of ours: their ``creation`` and their ``client``.

A connection is another object in each thread, and in a thread in which a loop runs. So these are
attributes of their class, and not of the object that happens to be there when a run begins.
"""

from collections.abc import Callable, Collection
from typing import Any, Final

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

_NAMES: Final = ("creation", "client")


class _Routed:
    """An attribute that connections to routed aliases have from us, and others as Django made it.

    Args:
        name: of the attribute.
        aliases: which are routed.
        make: returns what a connection has in the place of what Django has made.
    """

    def __init__(
        self, name: str, aliases: Collection[str], make: Callable[[BaseDatabaseWrapper], Any]
    ) -> None:
        self._name = name
        self._ours = f"_itkit_{name}"
        self._aliases = aliases
        self._make = make

    def __get__(self, connection: BaseDatabaseWrapper | None, owner: type | None = None) -> Any:
        if connection is None:
            raise AttributeError(self._name)
        own = vars(connection)
        # A copy with settings of its own, which Django makes to reach the server, is not routed.
        alias = connection.alias
        if (
            alias not in self._aliases
            or connection.settings_dict is not connections.settings[alias]
        ):
            return own[self._name]
        maker, made = own.get(self._ours, (None, None))
        if maker is not self:
            made = self._make(connection)
            own[self._ours] = (self, made)
        return made

    def __set__(self, connection: BaseDatabaseWrapper, value: Any) -> None:
        vars(connection)[self._name] = value


def install(
    aliases: Collection[str],
    creation: Callable[[BaseDatabaseWrapper], Any],
    client: Callable[[BaseDatabaseWrapper], Any],
) -> None:
    """Have all connections to some aliases, also those that are there, get both from us.

    Args:
        aliases: which; what is taken out of it later is routed no more.
        creation: makes the one for a connection.
        client: makes the other.
    """
    for name, make in zip(_NAMES, (creation, client), strict=True):
        setattr(BaseDatabaseWrapper, name, _Routed(name, aliases, make))


def uninstall() -> None:
    """Have all connections what Django has made for them."""
    for name in _NAMES:
        if name in vars(BaseDatabaseWrapper):
            delattr(BaseDatabaseWrapper, name)
