"""Starts Valkey or Redis on a socket that only we can reach, without writing to the disk."""

import re
import signal
import socket
from pathlib import Path

from itkit.core.urls import ServerURL
from itkit.services.errors import SourceUnusableError
from itkit.services.programs.binaries import version
from itkit.services.run import Launched, ServerRun
from itkit.services.supervisor import require_fit
from itkit.services.user import current_user

_OLDEST = (6, 2)


def launch(binary: Path, run: ServerRun) -> Launched:
    """Start a server.

    Raises:
        SourceUnusableError: the server does not run here, or is too old.
        SearchEndedError: the server was not ready before the deadline.
    """
    product = _product(binary)
    path = require_fit(run.supervisor.directory / "redis.sock")
    program = run.supervisor.run("Redis", _arguments(binary, path), current_user(), signal.SIGTERM)
    run.supervisor.wait_until_ready(program, lambda: _answers(path), run.deadline)
    url = ServerURL("unix", "", None, "", "", "", {"db": "0"}, socket=str(path))
    return Launched(url=str(url), product=product, address=str(path), program=program)


def _product(binary: Path) -> str:
    try:
        said = version(binary, current_user())
    except PermissionError as error:
        raise SourceUnusableError(f"{binary} may not be executed: {error}") from error
    match = re.search(r"(?P<name>Valkey|Redis) server v=(?P<version>[\d.]+)", said)
    if match is None:
        raise SourceUnusableError(f"{binary} says it is {said!r}, not Redis or Valkey")
    if (*map(int, match["version"].split(".")),) < _OLDEST:
        raise SourceUnusableError(f"{binary} is {match['version']}, itkit needs Redis 6.2 or newer")
    return f"{match['name']} {match['version']}"


def _arguments(binary: Path, path: Path) -> list[str]:
    return [
        *(str(binary), "--port", "0"),
        *("--unixsocket", str(path), "--unixsocketperm", "700"),
        *("--save", "", "--appendonly", "no"),
        *("--dir", str(path.parent), "--daemonize", "no"),
    ]


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False
