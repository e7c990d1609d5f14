"""Another user of the shop's own Redis database: a raw socket, of which itkit knows nothing."""

import socket
from contextlib import contextmanager
from uuid import uuid4

from django_redis import get_redis_connection


@contextmanager
def neighbours_key(value):
    """Yield a function that reads a key which does not belong to the tests."""
    name = f"neighbour-{uuid4()}"  # each run of the example has its own: several may go on at once
    address, family, database = _where_the_shop_is_connected()
    with socket.socket(family) as connection, connection.makefile("rw", newline="\r\n") as stream:
        connection.connect(address)
        _send(stream, f"SELECT {database}")
        _send(stream, f"SET {name} {value}")
        try:
            yield lambda: _send(stream, f"GET {name}")
        finally:
            _send(stream, f"DEL {name}")


def _where_the_shop_is_connected():
    # Asked of the socket, as the settings name the developer's own server.
    pool = get_redis_connection().connection_pool
    connection = pool.get_connection()
    try:
        return connection._sock.getpeername(), connection._sock.family, connection.db
    finally:
        pool.release(connection)


def _send(stream, command):
    stream.write(f"{command}\n")
    stream.flush()
    reply = stream.readline().strip()
    if reply.startswith("$"):
        return None if reply == "$-1" else stream.readline().strip()
    return reply
