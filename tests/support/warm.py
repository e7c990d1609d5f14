"""Commands of projects, run in forks of a Python that has imported Django and its like already.

Most of what a small project's command takes is to import packages that are the same for all of
them. One process for each process of pytest imports these and itkit, and forks for each command.
The project is imported by each command as ever.

What a command starts in turn by ``sys.executable`` is a fork as well, such as the workers of
pytest-xdist. ``sys.executable`` is ``tests/support/proxy.py`` there: a process that asks for a fork, hands
its signals on, ends as the fork does, and takes the fork along when it is killed. With
``ITKIT_TEST_PLAIN=1`` all of them are ordinary processes: the gate tests the wheel so.

This module is both ends: pytest imports it, and runs it as a script for the other one.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import importlib.metadata
import itertools
import json
import marshal
import os
import pkgutil
import random
import runpy
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

IMPORTED = [
    *("_pytest.config", "_pytest.main", "_pytest.python", "_pytest.runner", "_pytest.terminal"),
    *("asyncio", "concurrent.futures.thread", "dateutil.parser", "django.contrib.auth.apps"),
    *("django.contrib.auth.hashers", "django.contrib.auth.password_validation"),
    *("django.contrib.auth.signals", "django.contrib.contenttypes.apps"),
    *("django.contrib.postgres.fields", "django.contrib.postgres.operations"),
    *("django.contrib.postgres.signals", "django.contrib.staticfiles.storage"),
    *("django.core.cache.backends.locmem", "django.core.cache.backends.redis"),
    *("django.core.mail.backends.locmem", "django.core.management"),
    *("django.core.management.commands.flush", "django.core.management.commands.makemigrations"),
    *("django.core.management.commands.migrate", "django.core.management.commands.shell"),
    *("django.core.management.commands.test", "django.core.serializers.json"),
    *("django.db.backends.postgresql.base", "django.db.backends.sqlite3.base"),
    *("django.db.migrations", "django.db.migrations.executor", "django.forms", "django.http"),
    *("django.middleware.csrf", "django.shortcuts", "django.template", "django.test.runner"),
    *("django.urls", "django.utils.translation.reloader", "django.views.generic", "filelock"),
    *(
        "multiprocessing.pool",
        "multiprocessing.spawn",
        "psycopg",
        "psycopg.types.hstore",
        "psycopg_pool",
        "redis",
    ),
    *("rich.progress", "sqlalchemy.orm", "sqlparse", "tarfile", "tblib.pickling_support"),
    *("unittest", "valkey", "xml.etree.ElementTree"),
]
"""None of these reads settings, and none belongs to a distribution with a plugin for pytest."""

REWRITTEN = {
    "pytest_django": ["pytest_django.plugin", "pytest_django.live_server_helper"],
    "xdist": [
        *("xdist.dsession", "xdist.looponfail", "xdist.plugin"),
        *("xdist.scheduler", "xdist.workermanage"),
    ],
    "faker": ["factory"],
    "platformdirs": ["platformdirs.pytest_plugin", "platformdirs.unix"],
    "teamcity": ["teamcity.pytest_plugin"],
    "time_machine": ["time_machine"],
}
"""Modules by the package that pytest rewrites, as its distribution has a plugin for pytest."""

_EXECUTABLE = """#!/bin/sh
case "$1" in
-[cmu] | -B | *.py) exec {python} -I -S {proxy} {python} {address} "$@" ;;
*) exec {python} "$@" ;;
esac
"""
_READ_AT_START = ("PYTHON", "LANG", "LC_")  # a Python that runs already does not read them again
_MESSAGE = 1 << 20


class Command:
    """A command that runs in a fork, with those methods of ``subprocess.Popen`` that tests use."""

    def __init__(self, server: "Server", number: int, pid: int, output: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._server = server
        self._number = number
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
            self.returncode = self._server.status(self._number, timeout)
        return self.returncode


class Server:
    """The process that forks, as the process of pytest sees it.

    Attributes:
        executable: a Python whose processes are forks where they can be, for a command whose input
            a test writes.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._started = 0
        self._ended: dict[int, int] = {}  # by number: a process id comes again in a long session
        self._environment = _read_at_start(environment)
        self._directory = Path(tempfile.mkdtemp(prefix="it-"))
        self._directory.chmod(0o711)
        self.executable = executable = self._directory / Path(sys.executable).name
        address = self._directory / "socket"
        proxy = Path(__file__).with_name("proxy.py")
        words = {"python": sys.executable, "proxy": str(proxy), "address": str(address)}
        executable.write_text(
            _EXECUTABLE.format(**{name: shlex.quote(word) for name, word in words.items()})
        )
        executable.chmod(0o755)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(address))
            listener.listen(64)
            sockets = [theirs.fileno(), listener.fileno()]
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(executable), *map(str, sockets)],
                pass_fds=sockets,
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
        self._started = number = self._started + 1
        asked = {"command": command, "cwd": str(cwd), "environment": environment, "number": number}
        output, theirs = os.pipe()
        socket.send_fds(self._socket, [json.dumps(asked).encode()], [theirs])
        os.close(theirs)
        while "pid" not in (answer := self._receive()):
            self._note(answer)
        return Command(self, number, answer["pid"], output)

    def status(self, number: int, timeout: float | None) -> int | None:
        """Return the exit code of a command, or None when it runs on after some seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            while number not in self._ended and selector.select(_left(deadline)):
                self._note(self._receive())
        return self._ended.get(number)

    def stop(self) -> None:
        """End the process, which ends when nobody can ask it any more."""
        self._socket.close()
        self._process.wait()
        shutil.rmtree(self._directory)

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


class Forking:
    """The process that forks.

    Args:
        executable: what is ``sys.executable`` in the forks.
        requests: socket by which the process of pytest asks for forks, and is told how they end.
        listener: socket to which each ``tests/support/proxy.py`` connects, which asks for one.
    """

    def __init__(self, executable: str, requests: socket.socket, listener: socket.socket) -> None:
        self._executable = executable
        self._requests = requests
        self._listener = listener
        self._environment = _read_at_start(os.environ)
        self._selector = selectors.DefaultSelector()
        self._selector.register(requests, selectors.EVENT_READ)
        self._selector.register(listener, selectors.EVENT_READ)
        self._proxies: dict[int, socket.socket] = {}  # by process id of the fork

    def serve(self) -> dict[str, Any] | None:
        """Fork for each request; return it in the fork, and None when nobody asks any more."""
        while True:
            for key, _ in self._selector.select():
                forked = None
                if isinstance(key.fileobj, int):
                    self._reap(key)
                elif key.fileobj is self._listener:
                    self._selector.register(self._listener.accept()[0], selectors.EVENT_READ)
                elif key.fileobj is not self._requests:
                    forked = self._answer(key.fileobj)
                else:
                    message, descriptors, _, _ = socket.recv_fds(self._requests, _MESSAGE, 1)
                    if not message:
                        return None
                    forked = self._fork(json.loads(message), {1: descriptors[0], 2: descriptors[0]})
                if forked is not None:
                    return forked

    def _answer(self, proxy: Any) -> dict[str, Any] | None:
        """Fork for who will stand for the fork; kill the fork of one that has gone."""
        try:
            message, descriptors, _, _ = socket.recv_fds(proxy, _MESSAGE, 3)
        except ConnectionError:
            message, descriptors = b"", []
        if message:
            request = marshal.loads(message)
            request["command"] = _understood(request["command"])
            if request["command"] and _read_at_start(request["environment"]) == self._environment:
                return self._fork(request, dict(enumerate(descriptors)), proxy)
            for descriptor in descriptors:
                os.close(descriptor)
        for pid in [pid for pid, other in self._proxies.items() if other is proxy]:
            del self._proxies[pid]
            os.kill(pid, signal.SIGKILL)
        self._selector.unregister(proxy)
        proxy.close()
        return None

    def _fork(
        self,
        request: dict[str, Any],
        descriptors: dict[int, int],
        proxy: socket.socket | None = None,
    ) -> dict[str, Any] | None:
        pid = os.fork()
        if pid == 0:
            for other in list(self._selector.get_map().values()):
                if isinstance(other.fileobj, socket.socket):
                    other.fileobj.close()
                else:
                    os.close(other.fd)
            self._selector.close()
            return {**request, "descriptors": descriptors, "executable": self._executable}
        for descriptor in {*descriptors.values()}:
            os.close(descriptor)
        self._selector.register(
            os.pidfd_open(pid), selectors.EVENT_READ, (pid, request.get("number"))
        )
        if proxy is None:
            self._requests.send(json.dumps({"pid": pid}).encode())
        else:
            self._proxies[pid] = proxy
            proxy.send(str(pid).encode())
        return None

    def _reap(self, key: selectors.SelectorKey) -> None:
        self._selector.unregister(key.fileobj)
        os.close(key.fd)
        pid, number = key.data
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        proxy = self._proxies.pop(pid, None)
        with contextlib.suppress(ConnectionError):  # who has asked may have ended
            if proxy is None:
                self._requests.send(json.dumps({"ended": number, "code": code}).encode())
            else:
                proxy.send(str(code).encode())


def _understood(command: list[str]) -> list[str] | None:
    """Return what Python is to run, without the options of Python's that make no difference."""
    while command and command[0] in {"-u", "-B"}:
        command = command[1:]
    is_known = command and (command[0] in {"-c", "-m"} or command[0].endswith(".py"))
    return command if is_known else None


def become(request: dict[str, Any]) -> None:
    """Turn into the process that a shell would have started."""
    for number, descriptor in request["descriptors"].items():
        os.dup2(descriptor, number)
    for descriptor in {*request["descriptors"].values()} - {0, 1, 2}:
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    random.seed()
    if (process := sys.modules.get("multiprocessing.process")) is not None:
        process.ORIGINAL_DIR = request["cwd"]  # type: ignore[attr-defined]
    sys.executable = request["executable"]
    command = request["command"]
    sys.path[0] = {
        "-c": "",
        "-m": request["cwd"],
    }.get(command[0], str(Path(command[0]).absolute().parent))
    if "proxy" in request:
        os.umask(request["umask"])
        if request["leads"]:
            os.setsid()
        _take_parent_of(request["proxy"])


def _take_parent_of(proxy: int) -> None:
    """Have the parent of this process be that of another one, until this forks in turn."""
    getppid = os.getppid

    def parent() -> int:
        try:
            stat = Path(f"/proc/{proxy}/stat").read_text()
        except OSError:
            return 1
        return int(stat.rpartition(")")[2].split()[1])

    os.getppid = parent
    os.register_at_fork(after_in_child=lambda: setattr(os, "getppid", getppid))


def remember_what_is_installed() -> None:
    """Have the forks know what pytest and redis-py look up, at each start, of what is installed."""

    @functools.cache
    def found(name: str, path: Path, _changed: int) -> Any:
        return getattr(importlib.metadata.Distribution, name).__get__(distribution.at(path))

    def remembered(name: str) -> property:
        return property(lambda self: found(name, self._path, self._path.stat().st_mtime_ns))

    distribution = importlib.metadata.PathDistribution
    for name in ("entry_points", "files", "metadata"):
        setattr(distribution, name, remembered(name))
    for each in importlib.metadata.distributions():
        if {entry.group for entry in each.entry_points} & {"pytest11"} or each.name == "redis":
            _ = each.files, each.metadata


def import_all() -> None:
    """Import what is the same for all commands."""
    for name in IMPORTED:
        importlib.import_module(name)
    remember_what_is_installed()
    from _pytest import assertion, config

    configuration = config.get_config()
    hook = assertion.install_importhook(configuration)
    hook.mark_rewrite(*REWRITTEN, "itkit")
    sys.dont_write_bytecode = False  # only the first process has to rewrite
    for name in [*itertools.chain(*REWRITTEN.values()), *modules_of_itkit()]:
        importlib.import_module(name)
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    configuration._ensure_unconfigure()


def modules_of_itkit() -> Iterator[str]:
    """Yield the modules of itkit, but for those that import what few projects have."""
    import itkit

    for module in pkgutil.walk_packages(itkit.__path__, "itkit."):
        if not module.name.startswith(
            ("itkit.management.factories", "itkit.backends.presets.", "itkit.mypy_plugin")
        ):
            yield module.name


def forked(executable: str, *descriptors: str) -> dict[str, Any] | None:
    """Import what is the same for all commands; return the request of each fork, in the fork."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import_all()
    gc.collect()
    gc.freeze()  # a collection in a fork would copy all of these pages
    requests, listener = (socket.socket(fileno=int(number)) for number in descriptors)
    request = Forking(executable, requests, listener).serve()
    if request is not None:
        become(request)
    return request


class End:
    """The end of a command, which does without that of thousands of modules.

    What Python does before it takes its modules apart is done as ever: it waits for threads, calls
    what is registered, and writes what it has buffered.
    """

    def __init__(self) -> None:
        self._code: int | None = None
        atexit.register(self._exit)  # the first to be registered is the last to be called

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, SystemExit):
            self._code = {None: 0}.get(error.code, error.code if isinstance(error.code, int) else 1)
        elif not isinstance(error, KeyboardInterrupt):  # which ends by the signal
            self._code = int(error is not None)

    def _exit(self) -> None:
        if self._code is None:
            return
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(self._code & 0xFF)


if __name__ == "__main__" and (_end := End()) and (_request := forked(*sys.argv[1:])) is not None:
    # Here and not in a function, so that a command ends as any Python does.
    _command = _request["command"]
    with _end:
        if _command[0] == "-m":
            sys.argv = _command[1:]
            runpy.run_module(_command[1], run_name="__main__", alter_sys=True)
        elif _command[0] == "-c":
            sys.argv = ["-c", *_command[2:]]
            sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(_command[1], "<string>", "exec"), vars(sys.modules["__main__"]))
        else:
            sys.argv = _command
            runpy.run_path(str(Path(_command[0]).absolute()), run_name="__main__")
