"""The guard: starts the servers of a run, and ends them when the run has ended in any way.

It is a separate process, run as ``python -I -S guard.py PARENT ROOT...``, so it uses only the
standard library. The guard makes everything that would outlive a killed test process: the run
directory, and every program that works in it. So it exists before any of these.

The first line on stdout names the run directory. After that each line of JSON on stdin is one
request, answered by one line: ``run`` a program, ``poll`` it, ``end`` it, take note of a
``scratch`` directory outside of the run directory, or ``stop``.
"""

import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

PREFIX: Final = f"itkit-{os.geteuid()}-"
TICK: Final = 0.1
"""Seconds between two checks whether the test process lives."""
GRACE: Final = 1.0
"""Seconds that a server gets to end before it is killed."""
REMOVAL: Final = 5.0
"""Seconds during which the removal of a directory is repeated."""
ROOM: Final = 512 * 1024 * 1024
"""Bytes that must be free in the directory for the data."""
NEWBORN: Final = 60.0
"""Seconds for which an empty directory may still belong to a guard that is about to lock it."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_STARTED = "started"


class ServerGuard:
    """One run directory, with the programs that work in it; it ends them as well."""

    def __init__(self, parent: int, directory: Path) -> None:
        self._parent = parent
        self._directory = directory
        self._programs: dict[int, subprocess.Popen[bytes]] = {}
        self._stop_signals: dict[int, int] = {}
        self._scratch: list[Path] = []
        self._unread = b""

    def serve(self) -> None:
        """Answer requests until the test process ends, closes the pipe, or sends ``stop``."""
        _answer({"directory": str(self._directory)})
        # Forked test workers hold the pipe open too, so the pipe alone does not show that the test
        # process has ended: only the id of the parent does.
        while os.getppid() == self._parent:
            readable, _, _ = select.select([sys.stdin.fileno()], [], [], TICK)
            self._running()  # reaps processes that have ended, so that they do not look alive
            if readable and not self._answer_requests():
                return

    def end(self) -> None:
        """End every program, and remove the files that they and the run have written."""
        self._end_programs(self._running())
        for path in self._scratch:
            remove(path)
        clear(self._directory)

    def _end_programs(self, running: list[int]) -> None:
        for pid in running:  # the ids of the others may belong to other processes by now
            # Not the group: a program that initdb has started frees its shared memory if it can end
            # by itself, which it does when initdb has ended.
            os.kill(pid, self._stop_signals[pid])
        if not _wait_until(lambda: self._have_ended(running), GRACE):
            for pid in running:
                _kill_group(pid)
            _wait_until(lambda: self._have_ended(running), GRACE)

    def _answer_requests(self) -> bool:
        received = os.read(sys.stdin.fileno(), 65536)
        *lines, self._unread = (self._unread + received).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if request["do"] == "stop":
                return False
            _answer(self._handle(request))
        return bool(received)

    def _handle(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "run":
            return self._run(request)
        if request["do"] == "poll":
            return {"code": self._programs[request["pid"]].poll()}
        if request["do"] == "end":
            self._end_programs([pid for pid in self._running() if pid == request["pid"]])
            return {}
        self._scratch.append(Path(request["path"]))
        return {}

    def _run(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            program = _spawn(**request["program"])
        except (OSError, subprocess.SubprocessError) as error:
            return {"error": str(error)}
        self._programs[program.pid] = program
        self._stop_signals[program.pid] = request["program"]["stop_signal"]
        with (self._directory / _STARTED).open("a") as started:
            started.write(f"{program.pid} {request['program']['stop_signal']}\n")
        return {"pid": program.pid}

    def _running(self) -> list[int]:
        return [pid for pid, program in self._programs.items() if program.poll() is None]

    def _have_ended(self, pids: list[int]) -> bool:
        """Return whether the programs and all processes that they have started have ended."""
        return not {*pids} & {*self._running()} and not any(map(_has_orphan_of, pids))


def _answer(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _spawn(
    argv: list[str], log: str, stop_signal: int, uid: int | None, gid: int | None
) -> subprocess.Popen[bytes]:
    identity: dict[str, Any] = {}
    if uid is not None:
        identity = {"user": uid, "group": gid, "extra_groups": []}
    with Path(log).open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - the program was chosen by itkit, no shell
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C must not end the servers before the tests
            preexec_fn=_end_with_guard(stop_signal),  # noqa: PLW1509 - the guard has one thread
            **identity,
        )


def _end_with_guard(stop_signal: int) -> Callable[[], None] | None:
    """Return a function that lets a child receive a signal when the guard dies, if possible.

    It must run after the change of the user, which resets the request; ``Popen`` does this.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    return partial(_request_signal, prctl, stop_signal, os.getpid())


def _request_signal(prctl: Callable[..., int], stop_signal: int, guard: int) -> None:
    prctl(_PR_SET_PDEATHSIG, stop_signal, 0, 0, 0)
    if os.getppid() != guard:  # the guard died before the request was made
        os._exit(1)


def make_directory(roots: list[Path]) -> tuple[Path, int]:
    """Make a run directory in the first root with enough space; the last root is always used.

    Returns:
        The directory and the descriptor that holds its lock.
    """
    root = next((root for root in roots if _has_room(root)), roots[-1])
    path = root / f"{PREFIX}{os.urandom(4).hex()}"
    path.mkdir(mode=0o700)
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    if os.geteuid() == 0:
        path.chmod(0o711)  # the servers run as another user and must reach their own directories
    return path, descriptor


def _has_room(root: Path) -> bool:
    try:
        volume = os.statvfs(root)
    except OSError:
        return False
    return os.access(root, os.W_OK | os.X_OK) and volume.f_bavail * volume.f_frsize >= ROOM


def sweep(root: Path) -> None:
    """Clear our run directories in a root whose guards were killed."""
    try:
        left = [path for path in root.iterdir() if path.name.startswith(PREFIX)]
    except OSError:
        return
    for path in left:
        with suppress(OSError):
            _sweep_directory(path)


def _sweep_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_abandoned(path, os.fstat(descriptor)):
            _end_strays(path)
            clear(path)
    finally:
        os.close(descriptor)


def _is_abandoned(path: Path, status: os.stat_result) -> bool:
    if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode):
        return False
    # Another guard may just have made the directory and not locked it yet.
    return any(path.iterdir()) or time.time() - status.st_mtime > NEWBORN


def _end_strays(path: Path) -> None:
    strays = [entry for entry in _started(path) if _works_in(entry[0], path)]
    for pid, stop_signal in strays:
        with suppress(ProcessLookupError):
            os.kill(pid, stop_signal)
    if not _wait_until(lambda: not any(_works_in(pid, path) for pid, _ in strays), GRACE):
        for pid, _ in strays:
            _kill_group(pid)


def _started(path: Path) -> list[tuple[int, int]]:
    try:
        lines = (path / _STARTED).read_text().splitlines()
    except OSError:
        return []
    return [(int(pid), int(stop_signal)) for pid, stop_signal in map(str.split, lines)]


def _works_in(pid: int, path: Path) -> bool:
    """Return whether the command line of a process names the directory, as ids are reused."""
    try:
        return os.fsencode(path) in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        if Path("/proc/self").exists():
            return False
    listing = subprocess.run(  # noqa: S603 - fixed arguments
        ["ps", "-ww", "-o", "command=", "-p", str(pid)],  # noqa: S607 - found on PATH
        capture_output=True,
        check=False,
    )
    return os.fsencode(path) in listing.stdout


def clear(path: Path) -> None:
    """Remove a run directory in which nothing works any more."""
    _free_shared_memory(path)
    remove(path)


def _free_shared_memory(path: Path) -> None:
    """Free the segment of a Postgres that was killed; after any other end there is no file."""
    with suppress(OSError, IndexError):
        # Line 7 is the key and the id of the segment.
        segment = (path / "pg" / "postmaster.pid").read_text().splitlines()[6].split()[1]
        subprocess.run(  # noqa: S603 - a number that Postgres wrote
            ["ipcrm", "-m", segment],  # noqa: S607 - found on PATH
            capture_output=True,
            check=False,
        )


def remove(path: Path) -> None:
    """Remove a directory to which a program that is just ending may still write."""
    _wait_until(lambda: _is_removed(path), REMOVAL)


def _is_removed(path: Path) -> bool:
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _has_orphan_of(leader: int) -> bool:
    """Return whether a process of a group whose leader has ended is a child of ours."""
    try:
        os.waitpid(-leader, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _adopt_orphans() -> None:
    """Become the parent of the processes that a program leaves, if the system supports it."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _ignore(number: int, frame: object) -> None:
    pass


def main(parent: int, roots: list[Path]) -> None:
    """Guard one run of the tests, whose process is the parent."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, _ignore)  # not SIG_IGN, which the servers would inherit
    os.umask(0o077)
    _adopt_orphans()
    for root in roots:
        sweep(root)
    try:
        directory, _lock = make_directory(roots)
    except OSError as error:
        _answer({"error": error.strerror or str(error)})  # without the directory's random name
        return
    guard = ServerGuard(parent, directory)
    with suppress(BrokenPipeError):  # the test process has ended before it got the answer
        try:
            guard.serve()
        finally:
            guard.end()


if __name__ == "__main__":
    main(int(sys.argv[1]), [Path(root) for root in sys.argv[2:]])
