"""Suites of other projects, run plain and under itkit, and compared test by test.

``python -m tests.strangers [name ...] [--keep DIR]``, from the root of the repository. Each suite is
taken from its sdist, in a virtual environment and a directory of its own. A settings file of ours
takes the project's settings and names a Postgres (and a Redis); nothing else is changed. The suite
runs twice:

- plain, on the Postgres and Redis of the system, with the settings that they have by default and
  their data on a disk;
- with ``"itkit"`` in ``INSTALLED_APPS`` and ``--integration``, on the embedded servers.

Each run is measured from the start of its servers to their end. The CPU time is the user and system
time of all processes of the run, the servers' included. This is no test of pytest's and no part of
the gate: it takes minutes and installs packages.
"""

import argparse
import contextlib
import ctypes
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import time
import venv
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from itkit import postgres, redis, services
from itkit.core.urls import POSTGRES_SCHEMES, parse
from itkit.services.programs import postgres_server

REPOSITORY = Path(__file__).parent.parent
ALIASES_PLACE = "STRANGERS_POSTGRES"
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A suite of another project.

    Attributes:
        distribution: Its name on the package index.
        settings: The module of its settings.
        tests: What pytest is given.
        needs: What its tests need besides the distribution itself.
        path: Directories, within the sdist, that its tests import from.
        aliases: The aliases of ``DATABASES`` that its tests use.
        more: Further lines of the settings file.
        uses_redis: Whether the plain run needs a Redis.
        runs_plain: Whether there is a plain run; not where the tests themselves name servers at
            addresses which need not be free here.
    """

    distribution: str
    settings: str
    tests: tuple[str, ...]
    needs: tuple[str, ...] = ()
    path: tuple[str, ...] = (".",)
    aliases: tuple[str, ...] = ("default",)
    more: str = ""
    uses_redis: bool = False
    runs_plain: bool = True


SUITES: Mapping[str, Suite] = {
    "guardian": Suite(
        distribution="django-guardian",
        settings="guardian.testapp.testsettings",
        tests=("guardian/testapp/tests",),
        needs=("django-environ",),
    ),
    "treebeard": Suite(
        distribution="django-treebeard", settings="tests.settings", tests=("tests",)
    ),
    "filter": Suite(
        distribution="django-filter",
        settings="tests.settings",
        tests=("tests",),
        needs=("djangorestframework", "django-crispy-forms", "pytz"),
    ),
    "celery-beat": Suite(
        distribution="django-celery-beat",
        settings="t.proj.settings",
        tests=("t/unit",),
        needs=("pytest<9", "pytest-timeout", "ephem"),
    ),
    "rest-framework": Suite(
        distribution="djangorestframework",
        settings="django.conf.global_settings",
        tests=("tests",),
        needs=(
            *("dj-database-url", "django-filter", "inflection", "legacy-cgi"),
            *("markdown", "psycopg2-binary", "pygments", "pyyaml", "uritemplate", "pytz", "httpx"),
        ),
        aliases=("default", "secondary"),
        # Its settings are made by its conftest.py, which can be given no app: what these tests need
        # stands here, and what conftest.py makes is left out.
        more="""
            from django.conf import LazySettings

            LazySettings.configure = lambda self, **options: None
            DEBUG_PROPAGATE_EXCEPTIONS = True
            DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
            SECRET_KEY = "x"
            SITE_ID = 1
            STATIC_URL = "/static/"
            ROOT_URLCONF = "tests.urls"
            PASSWORD_HASHERS = ("django.contrib.auth.hashers.MD5PasswordHasher",)
            TEMPLATES = [
                {
                    "BACKEND": "django.template.backends.django.DjangoTemplates",
                    "APP_DIRS": True,
                    "OPTIONS": {"debug": True},
                }
            ]
            MIDDLEWARE = (
                "django.middleware.common.CommonMiddleware",
                "django.contrib.sessions.middleware.SessionMiddleware",
                "django.contrib.auth.middleware.AuthenticationMiddleware",
                "django.contrib.messages.middleware.MessageMiddleware",
            )
            contrib = ("admin", "auth", "contenttypes", "sessions", "sites", "staticfiles", "postgres")


            class Apps(tuple):
                # conftest.py adds django.contrib.postgres, after pytest-django has set Django up.
                def __iadd__(self, more):
                    return Apps(dict.fromkeys((*self, *more)))


            INSTALLED_APPS = Apps([
                *(f"django.contrib.{app}" for app in contrib),
                *("rest_framework", "rest_framework.authtoken"),
                *("tests.authentication", "tests.generic_relations", "tests.importable", "tests"),
            ])
        """,
    ),
    "cacheops": Suite(
        distribution="django-cacheops",
        settings="tests.settings",
        tests=("tests",),
        needs=("before_after", "jinja2", "dill"),
        aliases=("default", "slave"),
        uses_redis=True,
        more="""
            os.environ["CACHEOPS_DB"] = "postgresql"  # its tests define models for it
            CACHEOPS_REDIS = os.environ.get("STRANGERS_REDIS", "redis://127.0.0.1:1/0")
            ITKIT = {"REDIS": {"SETTINGS": ["CACHEOPS_REDIS"]}}
        """,
    ),
    "import-export": Suite(
        distribution="django-import-export",
        settings="settings",
        tests=("tests/core",),
        needs=("tablib[all]", "chardet", "pytz"),
        path=(".", "tests"),
    ),
    "reversion": Suite(
        distribution="django-reversion",
        settings="test_project.settings",
        tests=("tests/test_app/tests",),
        path=(".", "tests"),
        aliases=("default", "postgres", "mysql"),
    ),
    "wagtail": Suite(
        distribution="wagtail",
        settings="wagtail.test.settings",
        # The tests of the project that `wagtail start` makes have no settings here.
        tests=("-o", "python_files=test*.py", "--ignore=wagtail/project_template", "wagtail"),
        needs=(
            *("Jinja2<3.2", "boto3", "freezegun", "django-pattern-library", "responses<1", "polib"),
            *("azure-identity<2", "azure-mgmt-cdn<15", "azure-mgmt-frontdoor<3"),
            "azure-mgmt-subscription<4",
        ),
        # Its settings add this app where they are given a Postgres by variables of their own.
        more="""
            INSTALLED_APPS.append("django.contrib.postgres")
        """,
    ),
    "channels-redis": Suite(
        distribution="channels_redis",
        settings="django.conf.global_settings",
        tests=("-o", "addopts=", "tests"),  # it leaves pytest-django out
        needs=("pytest-asyncio", "pytest-timeout", "async-timeout", "cryptography"),
        aliases=(),
        runs_plain=False,
        more="""
            SECRET_KEY = "x"
            REDIS_OF_TESTS = [f"redis://localhost:6379/{number}" for number in range(10)]
            SENTINELS_OF_TESTS = {"sentinels": [("localhost", 26379)], "master_name": "sentinel"}
            ITKIT = {"REDIS": {"SETTINGS": ["REDIS_OF_TESTS", "SENTINELS_OF_TESTS"]}}
        """,
    ),
}

HEAD = """
| suite | tests | pass plain | the same | CPU s, itkit / plain | wall s, itkit / plain | load |
|---|---|---|---|---|---|---|""".lstrip()

SETTINGS = """
# The project's settings on our Postgres. Written by tests/strangers.py of itkit.
import json
import os

from {settings} import *

{more}
DATABASES = {{
    alias: {{
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "stranger_" + alias,
        **json.loads(os.environ["STRANGERS_POSTGRES"]),
    }}
    for alias in {aliases}
}}
INSTALLED_APPS = type(INSTALLED_APPS)([*INSTALLED_APPS, *os.environ["STRANGERS_APPS"].split()])
"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one run of a suite has shown: the tests, and what all of its processes have used.

    Attributes:
        tests: ``passed``, ``failed`` or ``skipped`` by the id of each test.
        cpu: Seconds of user and system time.
        wall: Seconds.
        exit_code: That of pytest.
    """

    tests: Mapping[str, str] = field(default_factory=dict)
    cpu: float
    wall: float
    exit_code: int


def main() -> None:
    """Run the suites that are named, or all, and print the table and each difference."""
    parser = argparse.ArgumentParser(prog="python -m tests.strangers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(SUITES)}")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in DIR, and leave it")
    parser.add_argument("--one", choices=("plain", "itkit"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in SUITES]
    if unknown:
        parser.error(f"no suite is named {', '.join(unknown)}: there are {', '.join(SUITES)}")
    with _directory(arguments.keep) as directory:
        if arguments.one:
            _measure(arguments.names[0], arguments.one, directory)
            return
        _tell(HEAD)
        for name in arguments.names or SUITES:
            for line in _compared(name, directory):
                _tell(line)


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="strangers-", dir="/var/tmp") as name:
        yield Path(name)


def _compared(name: str, directory: Path) -> Iterator[str]:
    """Run one suite both ways, each in a process of its own: its row, and each test that differs."""
    _prepare(SUITES[name], directory / name)
    _write_settings(SUITES[name], directory / name / "settings")
    load = os.getloadavg()[0]
    if not SUITES[name].runs_plain:
        yield _alone(name, _run_in_own_process(name, "itkit", directory), load)
        return
    plain, ours = (_run_in_own_process(name, how, directory) for how in ("plain", "itkit"))
    tests = sorted({*plain.tests, *ours.tests})
    outcomes = {test: [run.tests.get(test, "not run") for run in (plain, ours)] for test in tests}
    differing = {test: both for test, both in outcomes.items() if both[0] != both[1]}
    passed = sum(outcome == "passed" for outcome in plain.tests.values())
    cpu = f"{ours.cpu:.1f} / {plain.cpu:.1f} = {ours.cpu / plain.cpu:.2f}"
    wall = f"{ours.wall:.1f} / {plain.wall:.1f} = {ours.wall / plain.wall:.2f}"
    same = len(tests) - len(differing)
    yield f"| {name} | {len(tests)} | {passed} | {same} | {cpu} | {wall} | {load:.1f} |"
    for test, (without, under) in differing.items():
        yield f"    {test}: {without} plain, {under} under itkit"
    if not tests:
        yield f"    no test has run: see plain.log and itkit.log in {directory / name}"


def _alone(name: str, ours: Outcome, load: float) -> str:
    """Return the row of a suite that does not run plain, where what passes is that under itkit."""
    passed = sum(outcome == "passed" for outcome in ours.tests.values())
    numbers = f"{len(ours.tests)} | not run | {passed} pass | {ours.cpu:.1f} | {ours.wall:.1f}"
    return f"| {name} | {numbers} | {load:.1f} |"


def _run_in_own_process(name: str, how: str, directory: Path) -> Outcome:
    subprocess.run(
        [sys.executable, "-m", "tests.strangers", name, "--one", how, "--keep", directory],
        cwd=REPOSITORY,
        check=True,
    )
    home = directory / name
    measured = json.loads((home / f"{how}.json").read_text())
    return Outcome(tests=_tests(home / f"{how}.xml"), **measured)


def _tests(report: Path) -> dict[str, str]:
    """Return the outcome of each test from a JUnit report. A report that is missing has none."""
    outcomes: dict[str, str] = {}
    if not report.exists():
        return outcomes
    for case in ET.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "passed"
        if "skipped" in kinds:
            outcome = "skipped"
        test = f"{case.get('classname')}.{case.get('name')}"
        if outcomes.get(test) != "failed":  # a test whose tear-down fails is there twice
            outcomes[test] = outcome
    return outcomes


def _prepare(suite: Suite, home: Path) -> None:
    """Unpack the sdist and install what the suite needs, unless an earlier call has done so."""
    if (home / "ready").exists():
        return
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    name = re.sub(r"\[.*\]", "", suite.distribution)
    pip = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--no-binary", name]
    subprocess.run([*pip, "--dest", home / "sdist", name], check=True)
    [archive] = (home / "sdist").iterdir()
    with tarfile.open(archive) as packed:
        packed.extractall(home / "unpacked", filter="data")
    _install(suite, home, version=re.split(r"-(?=\d)", archive.name)[-1].removesuffix(".tar.gz"))
    (home / "ready").touch()


def _write_settings(suite: Suite, directory: Path) -> None:
    more = textwrap.dedent(suite.more)
    text = SETTINGS.format(settings=suite.settings, aliases=suite.aliases, more=more)
    directory.mkdir(exist_ok=True)
    (directory / "strangers_settings.py").write_text(text)


def _install(suite: Suite, home: Path, version: str) -> None:
    copy = home / "itkit"  # pip would leave its files in the repository
    shutil.copytree(REPOSITORY / "itkit", copy / "itkit")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy)
    venv.create(home / "venv", with_pip=True)
    packages = [f"{copy}[all]", f"{suite.distribution}=={version}", *suite.needs]
    python = home / "venv" / "bin" / "python"
    install: list[str | Path] = [python, "-m", "pip", "install", "-qq", *packages]
    subprocess.run(install, check=True)


def _measure(name: str, how: str, directory: Path) -> None:
    """Run one suite one way in this process, and leave what it has used beside its report.

    What is orphaned becomes a child of this process, so that nothing escapes the measure.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    home = directory / name
    (home / f"{how}.xml").unlink(missing_ok=True)
    started = time.monotonic()
    with _servers(SUITES[name], how, directory) as places:
        exit_code = _run(
            SUITES[name], home, how, {**places, "ITKIT_CACHE_DIR": f"{directory}/cache"}
        )
    wall = time.monotonic() - started
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    measured = {"cpu": used.ru_utime + used.ru_stime, "wall": wall, "exit_code": exit_code}
    (home / f"{how}.json").write_text(json.dumps(measured))


@contextlib.contextmanager
def _servers(suite: Suite, how: str, directory: Path) -> Iterator[dict[str, str]]:
    """The servers of the system for the plain run. itkit finds its own."""
    if how == "itkit":
        yield {ALIASES_PLACE: json.dumps({"HOST": "127.0.0.1", "PORT": "1", "USER": "nobody"})}
        return
    # What a server that is not thrown away has by default, durability before all.
    ours = ("listen_addresses", "unix_socket_permissions", "max_connections", "timezone")
    postgres_server.SETTINGS = {key: postgres_server.SETTINGS[key] for key in ours}  # type: ignore[misc]
    needs = [services.Need(kind="postgres", probe=postgres.probe)]
    if suite.uses_redis:
        needs.append(services.Need(kind="redis", probe=redis.probe))
    data = tempfile.mkdtemp(prefix="strangers-", dir="/var/tmp")
    Path(data).chmod(0o755)
    started = services.start(
        needs,
        services.Options(source="system", cache_dir=str(directory / "cache"), data_root=data),
    )
    try:
        assert started.postgres is not None
        server = parse(started.postgres.url, POSTGRES_SCHEMES)
        places = {ALIASES_PLACE: json.dumps({"HOST": server.host, "USER": server.user})}
        if started.redis is not None:
            places["STRANGERS_REDIS"] = started.redis.url
        yield places
    finally:
        started.stop()
        shutil.rmtree(data)


def _run(suite: Suite, home: Path, how: str, more: Mapping[str, str]) -> int:
    [unpacked] = (home / "unpacked").iterdir()
    project = home / "project"  # anew, as tests leave files behind that others find
    shutil.rmtree(project, ignore_errors=True)
    shutil.copytree(unpacked, project)
    path = [home / "settings", *(project / name for name in suite.path)]
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("ITKIT_")},
        **more,
        "DJANGO_SETTINGS_MODULE": "strangers_settings",
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "PYTHONHASHSEED": "0",
        "STRANGERS_APPS": "itkit" if how == "itkit" else "",
        "ITKIT_SOURCE": "embedded",
    }
    command: list[str | Path] = [home / "venv" / "bin" / "python", "-m", "pytest", *suite.tests]
    command += ["--ds=strangers_settings", f"--junitxml={home / how}.xml", "-p", "no:randomly"]
    command += ["--integration"] if how == "itkit" else ["--create-db"]
    with Path(home, f"{how}.log").open("wb") as log:
        return subprocess.run(
            command, cwd=project, env=environment, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, check=False,
        ).returncode  # fmt: skip


if __name__ == "__main__":
    main()
