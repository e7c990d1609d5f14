"""The guard by itself: its sweep of what killed guards left, and its choice of a root."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from itkit.services import guard


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A run directory whose guard is gone."""
    path = tmp_path / f"{guard.PREFIX}0badcafe"
    path.mkdir(mode=0o700)
    (path / "Redis.log").touch()
    return path


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with the run directory."""
    with sleeper("/elsewhere") as process:
        yield process
        process.kill()


def sleeper(argument: Path | str) -> subprocess.Popen[bytes]:
    script = "import time; print(flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", script, argument], stdout=subprocess.PIPE, start_new_session=True
    )
    process.stdout.readline()  # until then the system may not show its command line
    return process


def note_started(left: Path, process: subprocess.Popen[bytes]) -> None:
    (left / "started").write_text(f"{process.pid} {int(signal.SIGTERM)}\n")


def test_a_directory_that_a_killed_guard_left_is_swept(left: Path):
    guard.sweep(left.parent)
    assert not left.exists()


def test_a_server_that_outlived_its_guard_is_ended_by_the_sweep(left: Path):
    with sleeper(left / "pg") as server:
        note_started(left, server)
        guard.sweep(left.parent)
        assert server.wait(20) == -signal.SIGTERM
    assert not left.exists()


def test_a_process_that_got_the_id_of_an_old_server_is_left_alone(
    left: Path, other: subprocess.Popen[bytes]
):
    note_started(left, other)
    guard.sweep(left.parent)
    assert other.poll() is None
    assert not left.exists()


def test_the_directory_of_a_living_guard_is_left_alone(left: Path):
    descriptor = os.open(left, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    guard.sweep(left.parent)
    assert left.exists()
    os.close(descriptor)


def test_a_directory_that_another_guard_is_just_making_is_left_alone(tmp_path: Path):
    newborn = tmp_path / f"{guard.PREFIX}00000000"
    newborn.mkdir()
    guard.sweep(tmp_path)
    assert newborn.exists()

    long_ago = time.time() - 2 * guard.NEWBORN
    os.utime(newborn, (long_ago, long_ago))
    guard.sweep(tmp_path)
    assert not newborn.exists()


def test_a_link_in_place_of_a_run_directory_is_not_followed(tmp_path: Path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (tmp_path / f"{guard.PREFIX}11111111").symlink_to(precious)
    guard.sweep(tmp_path)
    assert (precious / "file").exists()


def test_what_is_not_ours_is_left_alone(tmp_path: Path):
    foreign = [tmp_path / "itkit-cache", tmp_path / f"itkit-{os.geteuid() + 1}-0badcafe"]
    for path in foreign:
        path.mkdir()
        (path / "file").touch()
    guard.sweep(tmp_path)
    assert all((path / "file").exists() for path in foreign)


def test_a_run_directory_is_private_and_locked(tmp_path: Path):
    path, descriptor = guard.make_directory([tmp_path])
    assert path.name.startswith(guard.PREFIX)
    assert path.stat().st_mode & 0o777 == (0o711 if os.geteuid() == 0 else 0o700)
    second = os.open(path, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(second)
    os.close(descriptor)


def test_a_root_without_room_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    missing = tmp_path / "missing"
    path, descriptor = guard.make_directory([missing, tmp_path])
    os.close(descriptor)
    assert path.parent == tmp_path

    monkeypatch.setattr(guard, "ROOM", 1 << 62)
    last = tmp_path / "last"
    last.mkdir()
    path, descriptor = guard.make_directory([tmp_path, last])
    os.close(descriptor)
    assert path.parent == last


def test_a_guard_whose_parent_is_already_gone_makes_nothing_that_stays(tmp_path: Path):
    argv = [sys.executable, "-I", "-S", guard.__file__, "1", str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as orphan:
        assert orphan.wait(20) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_guard_outlives_the_signals_that_end_a_test_run(tmp_path: Path, number: signal.Signals):
    argv = [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert b"directory" in process.stdout.readline()
        process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.stdin.close()
        assert process.wait(20) == 0
    assert list(tmp_path.iterdir()) == []
