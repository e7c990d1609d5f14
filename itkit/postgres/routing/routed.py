"""The attributes that Django's connections get from itkit: their ``creation`` and their ``client``.

Each thread has its own connection objects, and so has code in an event loop. So these attributes
are set on the class, and not on the objects that exist when a run begins.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final, cast

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.client import BaseDatabaseClient

from itkit.postgres.routing import kept

_NAMES: Final = ("creation", "client")


class _Routed:
    """An attribute that itkit provides for routed aliases, and Django for all others.

    Args:
        name: the name of the attribute.
        aliases: the aliases that are routed.
        make: returns the replacement of Django's attribute for a connection.
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
        # Django makes copies with other settings to reach the server, which are not routed.
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
    """Give all connections to some aliases, also existing ones, our ``creation`` and ``client``.

    Django makes a new connection in each thread and has no hook before its first use, so both are
    attributes of the class. Checked with Django 5.2, 6.0 and 6.1.

    Args:
        aliases: the aliases that are routed; an alias that is removed from the collection later is
            not routed any more.
        creation: makes the ``creation`` of a connection.
        client: makes the ``client`` of a connection.
    """
    for name, make in zip(_NAMES, (creation, client), strict=True):
        setattr(BaseDatabaseWrapper, name, _Routed(name, aliases, make))


def uninstall() -> None:
    """Give all connections Django's own attributes back."""
    for name in _NAMES:
        if name in vars(BaseDatabaseWrapper):
            delattr(BaseDatabaseWrapper, name)


def close(connection: BaseDatabaseWrapper) -> None:
    """Close a connection, its kept session and its pool, which would keep the old settings."""
    connection.close()
    kept.drop(connection)
    if connection.alias in pools(connection):
        connection.close_pool()  # type: ignore[attr-defined]  # Postgres' only


def pools(connection: BaseDatabaseWrapper) -> dict[str, object]:
    """Return the pools of psycopg by alias, which all threads of the process share."""
    found: dict[str, object] = getattr(connection, "_connection_pools", {})
    return found


def place_client(connection: BaseDatabaseWrapper) -> BaseDatabaseClient:
    """Return the replacement of a connection's ``client``.

    Its class is a mixin over the connection's own class, so that additions of other backends stay.
    """
    kind = type("PlaceClient", (_PlaceClient, type(vars(connection)["client"])), {})
    return cast("BaseDatabaseClient", kind(connection))


class _PlaceClient(BaseDatabaseClient):
    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: dict[str, Any], parameters: Iterable[str]
    ) -> tuple[Sequence[str], dict[str, str] | None]:
        arguments, env = super().settings_to_cmd_args_env(settings_dict, parameters)
        options = settings_dict["OPTIONS"].get("options")
        if options:
            env = {**(env or {}), "PGOPTIONS": options}
        return arguments, env
