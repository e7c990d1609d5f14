"""Our end of the guard: asks it to run programs, and reads how they do."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from itkit.core.processes import is_there
from itkit.core.urls import redact
from itkit.exceptions import ServiceUnavailableError
from itkit.services.errors import ProgramFailedError, SearchEndedError, SourceUnusableError
from itkit.services.user import ServerUser

_LONGEST = 103 if sys.platform == "darwin" else 107

_GUARD: Final = Path(__file__).with_name("guard.py")
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - only a candidate; the guard makes a private directory in it
_PAUSE: Final = 0.005
_FAREWELL: Final = 15.0
_LOG_LINES: Final = 20
_MORE_TIME: Final = (
    'more seconds in ITKIT_START_TIMEOUT (ITKIT["START_TIMEOUT"]), for all sources together'
)
_INTERRUPTED: Final = "The servers have been stopped."
_INHERITED: Final = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")


def environment() -> dict[str, str]:
    """Return the environment of our programs.

    It has only a few variables: some, such as PGPORT, would change a server, and other programs of
    the same unprivileged user could read our secrets from the server's environment.
    """
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return inherited | {"LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class ServerProgram:
    """A program that the guard runs."""

    name: str
    pid: int
    log: Path

    @property
    def last_lines(self) -> str:
        """The end of the program's output, indented for a message."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        shown = lines[-_LOG_LINES:] or ["(its log is empty)"]
        return redact("\n".join(f"    {line}" for line in shown))


class Supervisor:
    """The guard process of one run, and the requests to it. Threads may share it."""

    def __init__(self, data_root: str | None = None) -> None:
        roots = _roots(data_root)
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._ended = False
        self._process = subprocess.Popen(  # noqa: S603 - our own file, run by our interpreter
            [sys.executable, "-I", "-S", str(_GUARD), str(self._owner), *map(str, roots)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=environment(),
            start_new_session=True,
        )
        try:
            self.directory = self._greeting(roots)
        except ServiceUnavailableError:
            self.stop()
            raise

    def run(
        self,
        name: str,
        argv: Sequence[str | Path],
        user: ServerUser,
        stop_signal: signal.Signals = signal.SIGKILL,
    ) -> ServerProgram:
        """Start a program whose output goes to a log in the run directory.

        Args:
            name: The name of the program in messages, and of its log.
            argv: The program and its arguments.
            user: The user who runs the program.
            stop_signal: The signal that ends it at the end of the run, or when the guard dies.

        Raises:
            SourceUnusableError: the program cannot be started.
        """
        log = self.directory / f"{name}.log"
        identity = {
            "uid": user.uid if user.switch else None,
            "gid": user.gid if user.switch else None,
        }
        program = {"argv": [*map(str, argv)], "log": str(log), "stop_signal": stop_signal}
        answer = self._ask({"do": "run", "program": program | identity})
        if "error" in answer:
            raise SourceUnusableError(f"{name} cannot be started: {answer['error']}")
        return ServerProgram(name, answer["pid"], log)

    def run_to_end(
        self, name: str, argv: Sequence[str | Path], user: ServerUser, deadline: float
    ) -> None:
        """Run a program until it ends.

        Raises:
            ProgramFailedError: the program failed.
            SourceUnusableError: the program cannot be started.
            SearchEndedError: the program did not end before the deadline, and was ended.
        """
        program = self.run(name, argv, user)
        try:
            while (code := self.exit_code(program)) is None:
                self.pause(deadline, program)
        except SearchEndedError:
            # Ended, as others may now remove or build the directory to which it writes.
            self._ask({"do": "end", "pid": program.pid})
            raise
        if code:
            raise ProgramFailedError(failure(program, code))

    def wait_until_ready(
        self, program: ServerProgram, is_ready: Callable[[], bool], deadline: float
    ) -> None:
        """Wait until a server can be used.

        Raises:
            ProgramFailedError: the server has ended.
            SearchEndedError: the deadline has passed.
        """
        while not is_ready():
            code = self.exit_code(program)
            if code is not None:
                raise ProgramFailedError(failure(program, code))
            self.pause(deadline, program)

    def exit_code(self, program: ServerProgram) -> int | None:
        """Return how a program ended, or None while it runs.

        A forked process cannot talk to the guard. It only sees whether the program exists, and
        returns -9 if it does not.
        """
        if os.getpid() == self._owner:
            code: int | None = self._ask({"do": "poll", "pid": program.pid})["code"]
            return code
        return None if is_there(program.pid) else -signal.SIGKILL

    def pause(self, deadline: float, program: ServerProgram | None = None) -> None:
        """Sleep a moment.

        Raises:
            SearchEndedError: the deadline has passed.
            ServiceUnavailableError: the run is being stopped.
        """
        if self._ended:
            raise ServiceUnavailableError(_INTERRUPTED)
        if time.monotonic() > deadline:
            late = f"{program.name} was not ready" if program else "another run was not done"
            log = f"; its log ends with:\n{program.last_lines}" if program else ""
            raise SearchEndedError(f"{late} in time (ITKIT_START_TIMEOUT){log}", _MORE_TIME)
        time.sleep(_PAUSE)

    def add_scratch(self, path: Path) -> None:
        """Let a directory outside of the run directory be removed at the end, if it exists."""
        self._ask({"do": "scratch", "path": str(path)})

    def stop(self) -> None:
        """End all programs and remove their files; a second call does nothing."""
        if self._ended:
            return
        self._ended = True
        with self._lock:
            self._send({"do": "stop"})
        try:
            self._process.wait(_FAREWELL)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()

    def _greeting(self, roots: Sequence[Path]) -> Path:
        answer = self._answer()
        if "error" not in answer:
            return Path(answer["directory"])
        raise ServiceUnavailableError(
            f"No run directory can be made in {' or '.join(map(str, roots))}: {answer['error']}. "
            "Name a directory that you may write to in ITKIT_DATA_ROOT."
        )

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self._send(request)
            return self._answer()

    def _send(self, request: dict[str, Any]) -> None:
        pipe = self._process.stdin
        if pipe is None or pipe.closed:
            return
        with suppress(BrokenPipeError):  # the guard has ended, as the missing answer shows
            # Not through the pipe's own buffer, which would try to write again when it is closed.
            os.write(pipe.fileno(), json.dumps(request).encode() + b"\n")

    def _answer(self) -> dict[str, Any]:
        pipe = self._process.stdout
        line = b"" if pipe is None or pipe.closed else pipe.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        if self._ended:
            raise ServiceUnavailableError(_INTERRUPTED)
        raise ServiceUnavailableError(
            f"The guard process of itkit ended with {outcome(self._process.wait())}, and the "
            f"servers with it; run the tests again. {self._last_words()}".rstrip()
        )

    def _last_words(self) -> str:
        stderr = self._process.stderr
        return "" if stderr is None else stderr.read().decode(errors="replace")


def _roots(data_root: str | None) -> list[Path]:
    if data_root is not None:
        return [Path(data_root).absolute()]  # the guard works in another directory
    return [_SHARED_MEMORY, Path(tempfile.gettempdir())]


def outcome(code: int) -> str:
    """Return an exit code in words."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def failure(program: ServerProgram, code: int) -> str:
    """Return how a program failed, with the end of its log, as the log itself will be removed."""
    return f"{program.name} ended with {outcome(code)}; its log ends with:\n{program.last_lines}"


def require_fit(path: Path) -> Path:
    """Return the path if the system can bind a socket to it.

    Raises:
        SourceUnusableError: the path is too long.
    """
    length = len(os.fsencode(path))
    if length > _LONGEST:
        raise SourceUnusableError(
            f"the path of its socket, {path}, has {length} bytes and the system allows {_LONGEST}; "
            "name a shorter directory in ITKIT_DATA_ROOT"
        )
    return path
