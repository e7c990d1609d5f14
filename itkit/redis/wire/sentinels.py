"""Where a Sentinel of the project says that a server is: in the place of the tests' own.

No Sentinel is asked. Its own address is the answer, as a connection to that goes to the tests'
server like those to all addresses of the project.
"""

import functools
from collections.abc import Callable
from typing import Any

from itkit.redis.wire import wire

Method = Callable[..., Any]
_HostAndPort = tuple[str, int]


def methods(kind: type[Any]) -> dict[str, Method]:
    """Return what takes the place of the methods of a library's ``Sentinel``, by their names."""
    master, replicas = kind.discover_master, kind.discover_slaves

    @functools.wraps(master)
    def discover_master(self: Any, service_name: str) -> Any:
        return _address_of(self) or master(self, service_name)

    @functools.wraps(replicas)
    def discover_slaves(self: Any, service_name: str) -> Any:
        address = _address_of(self)
        return [address] if address is not None else replicas(self, service_name)

    return {"discover_master": discover_master, "discover_slaves": discover_slaves}


def async_methods(kind: type[Any]) -> dict[str, Method]:
    """Return the same for asyncio."""
    master, replicas = kind.discover_master, kind.discover_slaves

    @functools.wraps(master)
    async def discover_master(self: Any, service_name: str) -> Any:
        return _address_of(self) or await master(self, service_name)

    @functools.wraps(replicas)
    async def discover_slaves(self: Any, service_name: str) -> Any:
        address = _address_of(self)
        return [address] if address is not None else await replicas(self, service_name)

    return {"discover_master": discover_master, "discover_slaves": discover_slaves}


def _address_of(asking: Any) -> _HostAndPort | None:
    """Return the address of a Sentinel for which the tests' server stands, if there is one."""
    for sentinel in asking.sentinels:
        given = sentinel.connection_pool.connection_kwargs
        host, port = given.get("host", "localhost"), int(given.get("port", 0))
        if wire.current().stands_for(host, port):
            return host, port
    return None
