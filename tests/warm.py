"""Commands of projects, run in forks of a Python that has imported Django and its like already.

Half of what a small project's command takes is to import packages that are the same for all of
them. One process for each process of pytest imports these and forks for each command. itkit, the
project, and whatever has a plugin for pytest is imported by each command as ever, and everything
that a command starts in turn is an ordinary process. With ``ITKIT_TEST_PLAIN=1`` the commands are
ordinary processes as well: the gate tests the wheel so.

This module is both ends: pytest imports it, and runs it as a script for the other one.
"""

import contextlib
import gc
import importlib
import json
import os
import random
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

IMPORTED = [
    *("_pytest.config", "_pytest.main", "_pytest.python", "_pytest.runner", "_pytest.terminal"),
    *("asyncio", "concurrent.futures.thread", "django.contrib.postgres.fields"),
    *("django.core.cache.backends.redis", "django.core.management", "django.core.serializers.json"),
    *(
        "django.db.backends.postgresql.base",
        "django.db.backends.sqlite3.base",
        "django.db.migrations",
    ),
    *("django.forms", "django.http", "django.template", "django.test.runner", "django.urls"),
    *("django.views.generic", "filelock", "multiprocessing.pool", "psycopg"),
    *("psycopg_pool", "redis", "rich.progress", "sqlparse", "tblib.pickling_support", "unittest"),
]
"""None of these reads settings, and none belongs to a distribution with a plugin for pytest."""

_READ_AT_START = ("PYTHON", "LANG", "LC_")  # a Python that runs already does not read them again
_MESSAGE = 1 << 20


class Command:
    """A command that runs in a fork, with those methods of ``subprocess.Popen`` that tests use."""

    def __init__(self, server: "Server", pid: int, output: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._server = server
        self._output = output
        self._read = bytearray()

    def poll(self) -> int | None:
        """Return the exit code, or None while the command runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the command, and return its exit code."""
        if self._ended(timeout) is None:
            raise subprocess.TimeoutExpired(f"pid {self.pid}", timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Return all that the command has written, once nobody can write any more."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            while selector.select(_left(deadline)):
                if not (chunk := os.read(self._output, 1 << 16)):
                    break
                self._read += chunk
            else:
                raise subprocess.TimeoutExpired(f"pid {self.pid}", timeout or 0)
        self.wait(_left(deadline))
        return self._read.decode(errors="replace"), None

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the command has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the command."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            os.close(self._output)
        self.wait()

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.status(self.pid, timeout)
        return self.returncode


class Server:
    """The process that forks, as the process of pytest sees it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._ended: dict[int, int] = {}
        self._environment = _read_at_start(environment)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def can_run(self, command: Sequence[str], environment: Mapping[str, str]) -> bool:
        """Whether a fork is what a process of its own would be."""
        is_known = command[0] == "manage.py" or command[:2] == ("-m", "pytest")
        return is_known and _read_at_start(environment) == self._environment

    def start(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> Command:
        """Start a command: a script with its arguments, or ``-m`` with a module and arguments."""
        request = json.dumps({"command": command, "cwd": str(cwd), "environment": environment})
        output, theirs = os.pipe()
        socket.send_fds(self._socket, [request.encode()], [theirs])
        os.close(theirs)
        while "pid" not in (answer := self._receive()):
            self._note(answer)
        return Command(self, answer["pid"], output)

    def status(self, pid: int, timeout: float | None) -> int | None:
        """Return the exit code of a command, or None when it runs on after some seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            while pid not in self._ended and selector.select(_left(deadline)):
                self._note(self._receive())
        return self._ended.get(pid)

    def stop(self) -> None:
        """End the process, which ends when nobody can ask it any more."""
        self._socket.close()
        self._process.wait()

    def _note(self, answer: dict[str, int]) -> None:
        self._ended[answer["ended"]] = answer["code"]

    def _receive(self) -> dict[str, int]:
        message = self._socket.recv(_MESSAGE)
        assert message, "the process that forks has died"
        answer: dict[str, int] = json.loads(message)
        return answer


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in environment.items() if name.startswith(_READ_AT_START)}


def serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork for each request; return it in the fork, and None when nobody asks any more."""
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not requests:
                    requests.send(json.dumps(_reaped(selector, key)).encode())
                    continue
                message, descriptors, _, _ = socket.recv_fds(requests, _MESSAGE, 1)
                if not message:
                    return None
                pid = os.fork()
                if pid == 0:
                    for other in selector.get_map().values():
                        os.close(other.fd)
                    requests.detach()
                    return {**json.loads(message), "output": descriptors[0]}
                os.close(descriptors[0])
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
                requests.send(json.dumps({"pid": pid}).encode())


def _reaped(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> dict[str, int]:
    selector.unregister(key.fileobj)
    os.close(key.fd)
    _, status = os.waitpid(key.data, 0)
    return {"ended": key.data, "code": os.waitstatus_to_exitcode(status)}


def become(request: dict[str, Any]) -> None:
    """Turn into the process that a shell would have started."""
    os.dup2(request["output"], 1)
    os.dup2(request["output"], 2)
    os.close(request["output"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    random.seed()
    if (process := sys.modules.get("multiprocessing.process")) is not None:
        process.ORIGINAL_DIR = request["cwd"]  # type: ignore[attr-defined]
    sys.path[0] = request["cwd"]


def forked(descriptor: int) -> dict[str, Any] | None:
    """Import what is the same for all commands; return the request of each fork, in the fork."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy all of these pages
    request = serve(socket.socket(fileno=descriptor))
    if request is not None:
        become(request)
    return request


if __name__ == "__main__" and (_request := forked(int(sys.argv[1]))) is not None:
    # Here and not in a function, so that a command ends as any Python does.
    _command = _request["command"]
    if _command[0] == "-m":
        sys.argv = _command[1:]
        runpy.run_module(_command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = _command
        runpy.run_path(str(Path(_command[0]).absolute()), run_name="__main__")
