"""The projects that are measured, the servers they run on, and the commands that are run in them.

Each project has two settings: ``settings`` is the project without itkit, the peer's;
``settings_itkit`` adds ``"itkit"`` to its apps and nothing else. Both use the same Postgres and
Valkey, started for the benchmark, which is to itkit a server of the user's: what it keeps there
stays. Each set of measures uses a database of its own name, so that nothing of another is in it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import generated
from itkit import postgres, redis, services
from itkit.core.urls import POSTGRES_SCHEMES, parse

ROOT = Path(__file__).parent.parent
TABLES, MORE_TABLES = 80, 230

_SECONDS = re.compile(r"^Ran \d+ tests? in ([\d.]+)s", re.MULTILINE)
_INSTRUCTIONS = re.compile(r"I\s+refs:\s+([\d,]+)")

Measured = dict[str, float]
"""What a process has measured: seconds, MB or numbers, by name."""

_SETTINGS = """
import os

SECRET_KEY = "x"
ROOT_URLCONF = "urls"
USE_TZ = True
STATIC_URL = "/static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["BENCH_DATABASE"],
        "HOST": os.environ["BENCH_POSTGRES_HOST"],
        "USER": os.environ["BENCH_POSTGRES_USER"],
    }
}
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": os.environ["BENCH_REDIS_URL"],
    }
}
"""

_SETTINGS_ITKIT = """
from settings import *

INSTALLED_APPS = [*INSTALLED_APPS, "itkit"]
"""

_MANAGE = """
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
"""

_TRIVIAL_TESTS = """
from django.test import TestCase


class Trivial(TestCase):
    pass


for number in range(1000):
    setattr(Trivial, f"test_{number}", lambda self: None)
"""

_INTEGRATION_TESTS = """
from itkit.test import IntegrationTestCase


class Trivial(IntegrationTestCase):
    pass


for number in range(1000):
    setattr(Trivial, f"test_{number}", lambda self: None)
"""

_FAILING_TESTS = """
from django.contrib.auth.models import Group
from django.core.cache import cache

from itkit.test import IntegrationTestCase


class Failing(IntegrationTestCase):
    def fail_after_60_crossings(self):
        for number in range(20):
            group = Group.objects.create(name=f"group {number}")
            cache.set(f"group {number}", group.pk)
            Group.objects.get(pk=group.pk)
        self.fail("on purpose")


for number in range(100):
    setattr(Failing, f"test_{number}", Failing.fail_after_60_crossings)
"""

_COMMITTED_TESTS = """
import gc
import os
from pathlib import Path

import psutil
from django.test import TransactionTestCase

from writes import write

BEFORE = 0


def private_bytes():
    gc.collect()  # what is left of the migrations is none of the tests'
    return psutil.Process().memory_full_info().uss


def setUpModule():
    global BEFORE
    BEFORE = private_bytes()


def tearDownModule():
    Path(os.environ["BENCH_RESULT"]).write_text(str(private_bytes() - BEFORE))


class Committed(TransactionTestCase):
    def write(self):
        write()


for number in range(2000):
    setattr(Committed, f"test_{number}", Committed.write)
"""

_WAGTAIL_SETTINGS = """
INSTALLED_APPS = [
    "wagtail.contrib.forms",
    "wagtail.contrib.redirects",
    "wagtail.embeds",
    "wagtail.sites",
    "wagtail.users",
    "wagtail.snippets",
    "wagtail.documents",
    "wagtail.images",
    "wagtail.search",
    "wagtail.admin",
    "wagtail",
    "modelcluster",
    "taggit",
    "django_filters",
    "django.contrib.postgres",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "wagtail.contrib.redirects.middleware.RedirectMiddleware",
]
WAGTAIL_SITE_NAME = "bench"
WAGTAILADMIN_BASE_URL = "http://localhost"
"""

_WAGTAIL_WRITES = """
from django.contrib.auth.models import Group
from taggit.models import Tag
from wagtail.models import Collection

SEEDED = Group


def write():
    Group.objects.bulk_create([Group(name=f"group {n}") for n in range(3)])
    Tag.objects.bulk_create([Tag(name=f"tag {n}", slug=f"tag-{n}") for n in range(3)])
    Collection.objects.bulk_create(
        [Collection(name="c", path=f"9{n:03}", depth=1) for n in range(3)]
    )
"""

_GENERATED_WRITES = """
from app0 import models

SEEDED = models.Thing0


def write():
    for model in (models.Thing0, models.Thing1, models.Thing5):
        model.objects.bulk_create([model(name="n", slug=f"new-{n}") for n in range(3)])
"""


_PLAIN_TESTS = """
from {module} import {case}
from itkit.sweep.injection.fault import Fault

swept = {case}.{method}.__wrapped__


class Plain({case}):
    pass


for name in dir({case}):
    if name.startswith("test_"):
        setattr(Plain, name, None)
for number in range({count}):
    setattr(Plain, f"test_{{number}}", lambda self: swept(self, Fault()))
del {case}
"""


@dataclass(frozen=True)
class Servers:
    """The Postgres and the Valkey that a benchmark's projects run on."""

    postgres: str
    redis: str

    def environment(self, database: str) -> dict[str, str]:
        """Return the variables that name them, to the projects' settings and to itkit."""
        url = parse(self.postgres, POSTGRES_SCHEMES)
        return {
            "BENCH_DATABASE": database,
            "BENCH_POSTGRES_HOST": url.host,
            "BENCH_POSTGRES_USER": url.user,
            "BENCH_REDIS_URL": self.redis,
            "ITKIT_POSTGRES_URL": self.postgres,
            "ITKIT_REDIS_URL": self.redis,
        }


class Project:
    """One project in a directory, and the commands that are measured in it.

    Args:
        directory: where the project is.
        servers: what it runs on.
        cache: of what embedded servers need, and of nobody else.
        name: for the names of the rows.
    """

    def __init__(self, directory: Path, servers: Servers, cache: Path, name: str) -> None:
        self.name = name
        self._directory = directory
        self._servers = servers
        self._cache = cache
        self._log = directory / "valgrind.log"

    def django(self, *arguments: str, database: str = "peer") -> Measured:
        """Run the driver without itkit, and return what it has measured."""
        return self._drive(arguments, self._environment("settings", database))

    def itkit(self, *arguments: str, database: str = "ours") -> Measured:
        """Run the driver with itkit, on the given servers, and return what it has measured."""
        environment = self._environment("settings_itkit", database)
        return self._drive((*arguments, "--integration"), environment)

    def embedded(self, *arguments: str) -> Measured:
        """Run the driver with itkit on servers that it starts itself."""
        environment = self._embedded_environment()
        return self._drive((*arguments, "--integration"), environment)

    def check_migrations(self) -> None:
        """Make sure that the migrations make what the models say."""
        environment = self._environment("settings", "peer")
        # Django 6.1 asks the database for its version in a check, and there is none yet.
        command = ["manage.py", "makemigrations", "--check", "--dry-run", "--skip-checks"]
        self._run(command, environment)

    def seconds_of_trivial_tests(self, *, integration: bool) -> float:
        """Run 1,000 trivial tests by ``manage.py test``; return its own count of the seconds."""
        settings, database = ("settings_itkit", "ours") if integration else ("settings", "peer")
        # Without --keepdb, each round of the peer's would migrate before its tests.
        option = "--integration" if integration else "--keepdb"
        environment = self._environment(settings, database)
        output = self._run(["manage.py", "test", "trivial_tests", option], environment)
        line = next(line for line in output.splitlines() if line.startswith("Ran 1000 tests in"))
        return float(line.split()[-1].removesuffix("s"))

    def cost_of_tests(
        self,
        label: str,
        *options: str,
        choice: str = "with",
        by_instructions: bool,
        status: int = 0,
    ) -> float:
        """Run tests with or without verdicts; return what that cost their process.

        Args:
            label: of the tests.
            *options: for ``manage.py test``.
            choice: ``with`` or ``without``, as ``benchmarks.unjudged`` takes it.
            by_instructions: whether valgrind is to count them, else it is the CPU time.
            status: with which the process is to end.

        Returns:
            Billions of instructions, or seconds.
        """
        environment = self._environment("settings_itkit", "ours") | {"PYTHONHASHSEED": "0"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody compiles all in each run
        command = ["-m", "benchmarks.unjudged", choice, "test", label, "--integration", *options]
        if not by_instructions:
            output = self._run(command, environment, status=status)
            return float(output.rpartition("CPU ")[2])
        counting = ["valgrind", "--tool=cachegrind", "--cache-sim=no", f"--log-file={self._log}"]
        counting.append("--cachegrind-out-file=/dev/null")
        self._run(command, environment, counting, status=status)
        counted = _INSTRUCTIONS.findall(self._log.read_text())
        return max(int(number.replace(",", "")) for number in counted) / 1e9

    def write_plain_tests(self, label: str, count: int) -> None:
        """Write the module ``plain_tests``, which runs a swept test so many times without a sweep.

        Args:
            label: of the swept test.
            count: how many tests of the module there are.
        """
        module, case, method = label.rsplit(".", 2)
        text = _PLAIN_TESTS.format(module=module, case=case, method=method, count=count)
        (self._directory / "plain_tests.py").write_text(text)

    def sweep(self, label: str, *options: str) -> Measured:
        """Run tests; return the seconds that Django counts, and what their sweeps have tried.

        Args:
            label: of the tests.
            *options: for ``manage.py test``.
        """
        environment = self._environment("settings_itkit", "ours")
        command = ["-m", "benchmarks.swept", "test", label, "--integration", *options]
        output = self._run(command, environment)
        seconds = float(_SECONDS.findall(output)[-1])
        counts: Measured = json.loads(output.splitlines()[-1])
        if counts["found"]:
            raise RuntimeError(f"{label} is not to fail:\n{output}")
        return {"seconds": seconds, **counts}

    def growth_in_committed_tests(self) -> float:
        """Run 2,000 tests that commit, on embedded servers; return the MB the process grows by."""
        result = self._directory / "growth"
        environment = self._embedded_environment() | {"BENCH_RESULT": str(result)}
        self._run(["manage.py", "test", "committed_tests", "--integration"], environment)
        return int(result.read_text()) / 1e6

    def _drive(self, arguments: tuple[str, ...], environment: dict[str, str]) -> Measured:
        output = self._run(["-m", "benchmarks.driver", *arguments], environment)
        *said, last = output.splitlines()
        for line in said:  # such as the reason why itkit could not clone
            print(line, file=sys.stderr)
        measured: Measured = json.loads(last)
        return measured

    def _run(
        self,
        command: list[str],
        environment: dict[str, str],
        within: Sequence[str] = (),
        *,
        status: int = 0,
    ) -> str:
        done = subprocess.run(
            [*within, sys.executable, *command],
            cwd=self._directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != status:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def _environment(self, settings: str, database: str) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ITKIT_", "DJANGO_"))
        }
        return {
            **inherited,
            **self._servers.environment(f"{self.name}_{database}"),
            "DJANGO_SETTINGS_MODULE": settings,
            "PYTHONPATH": str(ROOT),
            "ITKIT_CACHE_DIR": str(self._cache),
        }

    def _embedded_environment(self) -> dict[str, str]:
        environment = self._environment("settings_itkit", "embedded")
        del environment["ITKIT_POSTGRES_URL"], environment["ITKIT_REDIS_URL"]
        return environment | {"ITKIT_SOURCE": "embedded"}


class Workshop:
    """A temporary directory with servers, where projects are written and measured."""

    def __init__(self, root: Path, servers: Servers) -> None:
        self._root = root
        self._servers = servers

    def wagtail(self) -> Project:
        """Return a project of wagtail's own apps."""
        apps = [
            "path('admin/', include('wagtail.admin.urls'))",
            "path('documents/', include('wagtail.documents.urls'))",
            "path('', include('wagtail.urls'))",
        ]
        urls = f"from django.urls import include, path\nurlpatterns = [{', '.join(apps)}]\n"
        return self._project(
            "wagtail", settings=_WAGTAIL_SETTINGS, urls=urls, writes=_WAGTAIL_WRITES
        )

    def generated(self, tables: int) -> Project:
        """Return a generated project of so many tables of models."""
        apps = ["contenttypes", "auth", "sessions"]
        installed = [*(f"django.contrib.{app}" for app in apps), *generated.apps(tables)]
        settings = f'INSTALLED_APPS = ["django.contrib.postgres", *{installed!r}]'
        project = self._project(
            f"generated{tables}", settings=settings, urls="urlpatterns = []",
            writes=_GENERATED_WRITES,
        )  # fmt: skip
        generated.write(self._root / project.name, tables)
        return project

    def plain(self, name: str = "plain") -> Project:
        """Return a project without apps of its own, so that its tests are most of a run."""
        settings = 'INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes"]'
        return self._project(name, settings=settings, urls="urlpatterns = []", writes="")

    def example(self) -> Project:
        """Return the example shop, of a copy that has the servers' settings as the others do."""
        directory = self._root / "example"
        shutil.copytree(ROOT / "example_project", directory / "example_project")
        (directory / "settings_itkit.py").write_text("from example_project.settings import *\n")
        return Project(directory, self._servers, self._root / "cache", "example")

    def _project(self, name: str, *, settings: str, urls: str, writes: str) -> Project:
        directory = self._root / name
        directory.mkdir()
        files = {
            "settings": _SETTINGS + settings,
            "settings_itkit": _SETTINGS_ITKIT,
            "urls": urls,
            "manage": _MANAGE,
            "writes": writes,
            "trivial_tests": _TRIVIAL_TESTS,
            "integration_tests": _INTEGRATION_TESTS,
            "failing_tests": _FAILING_TESTS,
            "committed_tests": _COMMITTED_TESTS,
        }
        for module, text in files.items():
            (directory / f"{module}.py").write_text(textwrap.dedent(text))
        return Project(directory, self._servers, self._root / "cache", name)


def medians(rounds: int, *measures: Callable[[], Measured]) -> list[Measured]:
    """Take several measures in turns, so many rounds, and return the medians of each."""
    taken = [[measure() for measure in measures] for _ in range(rounds)]
    return [
        {name: median(one[name] for one in of_one) for name in of_one[0]}
        for of_one in zip(*taken, strict=True)
    ]


@contextmanager
def workshop() -> Iterator[Workshop]:
    """Start servers, and make a directory for projects, for a block; leave nothing of either."""
    with tempfile.TemporaryDirectory(
        prefix="itkit-bench-",
        ignore_cleanup_errors=True,  # a killed process may still write
    ) as directory:
        root = Path(directory)
        root.chmod(0o755)
        (root / "cache").mkdir()
        running = services.start(
            [
                services.Need(kind="postgres", probe=postgres.probe),
                services.Need(kind="redis", probe=redis.probe),
            ],
            services.Options(source="embedded", start_timeout=60, cache_dir=str(root / "cache")),
        )
        try:
            assert running.postgres is not None
            assert running.redis is not None
            yield Workshop(root, Servers(running.postgres.url, running.redis.url))
        finally:
            running.stop()
