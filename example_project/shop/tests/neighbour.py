"""Another user of the shop's own Redis: a process that knows nothing of itkit."""

import json
import subprocess
import sys
from contextlib import contextmanager
from uuid import uuid4

from django_redis import get_redis_connection

SEND = """
import json, socket, sys

address, database, *commands = json.loads(sys.argv[1])
family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
with socket.socket(family) as connection, connection.makefile("rw", newline="\\r\\n") as stream:
    connection.connect(address if isinstance(address, str) else tuple(address[:2]))
    for command in (f"SELECT {database}", *commands):
        stream.write(f"{command}\\n")
        stream.flush()
        reply = stream.readline().strip()
        if reply.startswith("$") and reply != "$-1":
            reply = stream.readline().strip()
print(reply)
"""


@contextmanager
def neighbours_key(value):
    """Yield a function that reads a key which does not belong to the tests."""
    name = f"neighbour-{uuid4()}"  # each run of the example has its own: several may go on at once
    where = _where_the_shop_is_connected()
    _send(*where, f"SET {name} {value}")
    try:
        yield lambda: _send(*where, f"GET {name}")
    finally:
        _send(*where, f"DEL {name}")


def _where_the_shop_is_connected():
    # Asked of the socket, as the settings name the developer's own server.
    pool = get_redis_connection().connection_pool
    connection = pool.get_connection()
    try:
        return connection._sock.getpeername(), connection.db
    finally:
        pool.release(connection)


def _send(*arguments):
    command = [sys.executable, "-c", SEND, json.dumps(arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
