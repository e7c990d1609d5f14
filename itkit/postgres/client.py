"""``dbshell`` in a worker's place: psql is told the startup options, which Django leaves out."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.client import BaseDatabaseClient


def place_client(connection: BaseDatabaseWrapper) -> BaseDatabaseClient:
    """Return what takes the place of a connection's ``client``.

    It is mixed into the class that the connection has, so that what another backend adds there
    stays.
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
