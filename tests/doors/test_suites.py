"""The suites of redis-py and of django-redis, from their sdists, through the prefix.

They run on a server that has keys of others, with an ACL user. What fails there has to be on the
list below, with the reason: everything else works under the prefix as it does without.
"""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import pytest

from itkit.redis.server.server import connected
from tests.support import redis_server

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
PLUGIN = REPOSITORY / "tests/support/suites/itkit_suite.py"  # beside no other package "tests"
REDIS_PY = {
    "commands": [
        *("test_commands.py", "test_pipeline.py", "test_scripting.py", "test_lock.py"),
        *("test_encoding.py", "test_function.py", "test_multiprocessing.py"),
    ],
    "messages": ["test_pubsub.py", "test_connection_pool.py"],
    "asyncio": [
        *("test_asyncio/test_commands.py", "test_asyncio/test_pipeline.py"),
        *("test_asyncio/test_scripting.py", "test_asyncio/test_lock.py"),
        *("test_asyncio/test_encoding.py", "test_asyncio/test_connection_pool.py"),
    ],
}

# What runs in asyncio with a pool as well. A client that has a connection of its own sends the same
# commands, but for the state of the connection, which pipelines and locks have.
REPEATED = "test_asyncio and test_commands and [single"

# What waits for keys to expire, once by the herd's client too: it sends the same times to live.
WAITING = "test_setnx_timeout or test_timeout or test_touch"

REFUSED = {
    "A connection to Redis at localhost:6380": "is another server",
    "A connection to Redis at localhost:6390": "is another server",
    "A connection to Redis at /socket": "is another server",
    "BGSAVE": "concerns the whole server",
    "CLIENT REPLY": "itkit could no longer assign replies to commands",
    "DEBUG": "concerns the whole server",
    "MODULE LOAD": "concerns the whole server",
    "MODULE LOADEX": "concerns the whole server",
    "MONITOR": "shows the keys of others",
    "REPLICAOF": "concerns the whole server",
    "RESET": "the connection would lose its login",
}
OTHERWISE = {
    "test_auth$": "a connection has the login of the worker, whatever it asks for",
    "test_acl_log": "as before",
    "test_acl_getuser_setuser": "fails without the prefix too: Valkey names databases as well",
    "test_slowlog_get": "the log is the server's, and has names with their prefix",
    "test_push_handler": "a handler of RESP3's own gets names with their prefix",
    "test_memoryviews_are_not_packed": "several commands are packed into one piece",
    "test_lolwut$": "fails without the prefix too: Valkey does not say that it is Redis",
    "test_readonly_invalid_cluster_state": "fails without the prefix too: Valkey allows it",
    "test_xgroup_create_entriesread": "fails without the prefix too: Valkey tells another lag",
}


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with what the suites need beside what this one has."""
    directory = tmp_path_factory.mktemp("suites") / "venv"
    venv.create(directory)  # pip is one of the packages that this Python has
    python = directory / "bin" / "python"
    site = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    Path(site.strip(), "ours.pth").write_text(sysconfig.get_path("purelib"))
    needed = ["pytest-asyncio", "pytest-mock", "pytest-timeout"]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *needed], check=True)
    return python


def source(distribution: str, directory: Path) -> Path:
    """Download and unpack the sdist of a distribution in the version that is installed."""
    wanted = f"{distribution}=={version(distribution)}"
    options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(directory)]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, wanted], check=True)
    archive = next(directory.glob("*.tar.gz"))
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")
    return directory / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def server() -> Iterator[redis_server.Server]:
    """A server with keys of others, which have to be the same afterwards."""
    with redis_server.on_port() as running:
        with connected(running.url) as client:
            client.mset({f"foreign:{number}": number for number in range(1000)})
            before = checksum(running)
        yield running
        assert checksum(running) == before


def checksum(server: redis_server.Server) -> str:
    with connected(server.url) as client:
        found = [(name, client.get(name)) for name in sorted(client.keys())]
    return sha256(repr(found).encode()).hexdigest()


def run(
    python: Path,
    suite: Path,
    server: redis_server.Server,
    *arguments: str,
    settings: str | None = None,
) -> dict[str, str]:
    """Run a suite, and return what its failed tests say, by their names."""
    report = suite / "report.xml"
    path = f"{PLUGIN.parent}:{REPOSITORY}:{suite}/tests"
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": path,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "SUITE_SERVER": server.url,
    }
    if settings is not None:
        env["DJANGO_SETTINGS_MODULE"] = settings
    plugins = [
        option
        for name in (
            PLUGIN.stem,
            "pytest_asyncio.plugin",
            "pytest_mock",
            "pytest_timeout",
            "xdist.plugin",
        )
        for option in ("-p", name)
    ]
    # For a traceback of its own, pytest parses all of a file: seconds for each test that fails.
    options = ["-q", "--tb=native", "-W", "ignore", "-o", "addopts=", f"--junitxml={report}"]
    done = subprocess.run(
        [python, "-m", "pytest", *plugins, *options, *arguments],
        check=False,
        cwd=suite,
        env=env,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    cases = list(ET.parse(report).iter("testcase"))
    assert len(cases) > 100
    return {
        f"{case.get('classname')}.{case.get('name')}": f"{problem.get('message')} {problem.text}"
        for case in cases
        for problem in [*case.findall("failure"), *case.findall("error")]
    }


def unexplained(failed: dict[str, str]) -> list[str]:
    """Return the failed tests that are not on the list."""
    return [
        f"{name}: {said[:200]}"
        for name, said in failed.items()
        if not (_refused(said) in REFUSED or any(re.search(known, name) for known in OTHERWISE))
    ]


def _refused(said: str) -> str | None:
    found = re.search(r"EscapeError: (.+?) was refused: ", said, re.DOTALL)
    return found[1] if found else None


@pytest.mark.parametrize("part", REDIS_PY)
def test_redis_py(
    part: str, interpreter: Path, server: redis_server.Server, tmp_path: Path
) -> None:
    suite = source("redis", tmp_path)
    files = [f"tests/{name}" for name in REDIS_PY[part]]
    urls = [f"--redis-url={server.url}/0", f"--redis-mod-url={server.url}/0"]
    chosen = ["-m", "not onlycluster", "-k", f"not ({REPEATED})"]
    failed = run(interpreter, suite, server, *urls, *chosen, *files)
    assert unexplained(failed) == []


@pytest.mark.parametrize("settings", ["sqlite", "sqlite_herd"])
def test_django_redis(
    settings: str,
    interpreter: Path,
    server: redis_server.Server,
    tmp_path: Path,
) -> None:
    suite = source("django-redis", tmp_path)
    chosen = f"([{settings}] or [{settings}-)"
    if settings != "sqlite":
        chosen += f" and not ({WAITING})"
    failed = run(interpreter, suite, server, "-k", chosen, "tests", settings=f"settings.{settings}")
    assert unexplained(failed) == []
