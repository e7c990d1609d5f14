"""Whole small Django projects in a temporary directory, run in subprocesses like a user's."""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from tests.support.warm import Command, Server

_MEMORY = Path("/dev/shm")
_ROOM = 4 << 30  # bytes, for the caches and the servers of all workers
_PR_SET_PDEATHSIG = 1

SETTINGS = """
SECRET_KEY = "x"
ROOT_URLCONF = "urls"
USE_TZ = True
STATIC_URL = "/static/"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "shop", "itkit"]
DATABASES = {
    "default": {"ENGINE": "django.db.backends.postgresql", "NAME": "shop", "HOST": "127.0.0.1", "PORT": "1"}
}
CACHES = {
    "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/1"},
    "plain": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1/2"},
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
PAYMENT_GATEWAY = "shop.gateways.Stripe"
ITKIT = {"BACKENDS": {"payments": {"SETTING": "PAYMENT_GATEWAY"}, "sms": {"TARGET": "shop.gateways.send_sms"}}}
"""

FILES = {
    "urls.py": """
        from django.http import HttpResponse
        from django.urls import path

        from shop.models import Customer

        urlpatterns = [path("count/", lambda request: HttpResponse(str(Customer.objects.count())))]
    """,
    "shop/__init__.py": "",
    "shop/models.py": """
        from django.db import models

        class Customer(models.Model):
            email = models.EmailField(unique=True)

        class Currency(models.Model):
            code = models.CharField(max_length=3, unique=True)
    """,
    "shop/migrations/__init__.py": "",
    "shop/migrations/0001_initial.py": """
        from django.db import migrations, models

        def seed(apps, schema_editor):
            apps.get_model("shop", "Currency").objects.using(schema_editor.connection.alias).create(code="EUR")

        class Migration(migrations.Migration):
            initial = True
            dependencies = []
            operations = [
                migrations.CreateModel("Customer", [
                    ("id", models.BigAutoField(primary_key=True, auto_created=True, serialize=False, verbose_name="ID")),
                    ("email", models.EmailField(unique=True, max_length=254)),
                ]),
                migrations.CreateModel("Currency", [
                    ("id", models.BigAutoField(primary_key=True, auto_created=True, serialize=False, verbose_name="ID")),
                    ("code", models.CharField(unique=True, max_length=3)),
                ]),
                migrations.RunPython(seed, migrations.RunPython.noop),
            ]
    """,
    "shop/gateways.py": """
        class Stripe:
            def charge(self, amount: int, token: str) -> str:
                raise RuntimeError("the real gateway was called")

        def send_sms(number: str, text: str) -> str:
            raise RuntimeError("the real SMS gateway was called")
    """,
    "manage.py": """
        import multiprocessing
        import os
        import sys

        if __name__ == "__main__":
            os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
            if method := os.environ.get("START_METHOD"):
                multiprocessing.set_start_method(method)
            from django.core.management import execute_from_command_line
            execute_from_command_line(sys.argv)
    """,
    "pytest.ini": """
        [pytest]
        DJANGO_SETTINGS_MODULE = settings
        addopts =
            --strict-markers -p no:cacheprovider
            -p no:anyio -p no:faker -p no:hypothesispytest -p no:randomly -p no:respx -p no:valkey
        filterwarnings = error
    """,
}


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """Make a directory that a server's user can reach and whose path leaves room for a socket.

    It is in memory where there is room, as the run directories of itkit are: to copy a cluster
    there takes a tenth of the time.
    """
    has_room = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM
    path = Path(tempfile.mkdtemp(prefix="it-", dir=_MEMORY if has_room else None))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let the processes that a block starts answer to Ctrl-C, although this one may ignore it.

    A shell starts its background jobs with SIGINT ignored, and children inherit that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def ending_with_this_process(by: signal.Signals) -> Callable[[], None]:
    """Return what has a process that is being started end with this one, whichever way that ends.

    A worker of pytest-xdist is killed by Ctrl-C, and then ends none of the servers of its tests.

    Args:
        by: the signal that the process is sent then.
    """
    prctl = ctypes.CDLL(None).prctl  # here, as nothing is to be loaded between fork and exec
    return lambda: prctl(_PR_SET_PDEATHSIG, by.value, 0, 0, 0)


def environment(**own: str) -> dict[str, str]:
    """Return the environment of a user's command: nothing of this run of pytest is in it.

    Nor is it told that it runs in CI, where pytest prints its summary in another way.
    """
    prefixes = ("ITKIT_", "DJANGO_", "PYTEST_")
    inherited = {
        k: value
        for k, value in os.environ.items()
        if not k.startswith(prefixes) and k not in ("BUILD_NUMBER", "CI")
    }
    # Of two edits within a second Python would see the first only.
    return inherited | {"PYTHONDONTWRITEBYTECODE": "1"} | own


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    output: str

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of tests: ``{"passed": 3, "skipped": 1}``, the same for both runners."""
        if ran := re.search(r"^Ran (\d+) tests?", self.output, re.MULTILINE):
            return _django_counts(int(ran[1]), self.output)
        found = re.findall(r"(\d+) (passed|failed|skipped|errors?)", self.output.splitlines()[-1])
        return {"error" if kind == "errors" else kind: int(number) for number, kind in found}


class Project:
    """A project's directory, and the commands that a user would type in it.

    Args:
        path: of the directory, which is empty.
        cache: directory of itkit's cache.
        data_root: directory for itkit's servers.
        warm: what runs the commands where it can; without it each is a process of its own, as a
            test needs of which process another is a child, or how an interpreter ends.
    """

    def __init__(
        self, path: Path, *, cache: Path, data_root: Path, warm: Server | None = None
    ) -> None:
        self.path = path
        self.warm = warm
        self.data_root = data_root
        self.kept_url = ""
        """A Postgres on which this and other projects keep what they have migrated."""
        self._started: list[subprocess.Popen[str] | Command] = []
        self.env = environment(
            ITKIT_DATA_ROOT=str(self.data_root),
            ITKIT_CACHE_DIR=str(cache),
            ITKIT_SOURCE="embedded",
            ITKIT_START_TIMEOUT="120",  # the machine may be busy with other tests
        )
        self.write("settings.py", SETTINGS)
        for name, text in FILES.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        """Write a file of the project."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))

    def settings(self, text: str) -> None:
        """Append to the settings."""
        file = self.path / "settings.py"
        file.write_text(f"{file.read_text()}\n{textwrap.dedent(text)}")

    def go_on_after_warnings(self) -> None:
        """Have pytest make no errors of warnings; plugins that no test needs stay out."""
        file = self.path / "pytest.ini"
        file.write_text(file.read_text().replace("filterwarnings = error", ""))

    def start(self, *command: str, **env: str) -> "subprocess.Popen[str] | Command":
        """Start a Python command in the project's directory.

        On a server that other tests look at nothing is kept, if the test does not ask for it.
        """
        environment = self.env | env
        if environment.get("ITKIT_POSTGRES_URL", self.kept_url) != self.kept_url:
            environment = {"ITKIT_POSTGRES_KEEP": "0"} | environment
        if self.warm is not None and self.warm.can_run(command, environment):
            process = self.warm.start(command, self.path, environment)
        else:
            process = self._start_plainly(command, environment)
        self._started.append(process)
        return process

    def _start_plainly(
        self, command: tuple[str, ...], environment: dict[str, str]
    ) -> "subprocess.Popen[str]":
        with interruptible():
            return subprocess.Popen(
                [sys.executable, *command],
                cwd=self.path,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def run(self, *command: str, **env: str) -> Result:
        """Run a Python command in the project's directory."""
        return self.finish(self.start(*command, **env))

    def finish(self, process: "subprocess.Popen[str] | Command") -> Result:
        """Wait for a command that was started."""
        try:
            output, _ = process.communicate(timeout=180)
        except subprocess.TimeoutExpired:
            hanging = self._abort()
            output, _ = process.communicate(timeout=60)
            output += f"\n(timed out, with these processes)\n{hanging}"
        return Result(process.returncode, output.strip())

    def _abort(self) -> str:
        """End all processes of the project, those first that others wait for; describe them.

        Each of them prints where its threads are, as Django and pytest enable ``faulthandler``. One
        that cannot is killed.
        """
        found = sorted(_processes(str(self.path)), key=lambda process: -process.pid)
        lines = []
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess, OSError):
                waits_in = Path(f"/proc/{process.pid}/wchan").read_text()
                opened = Path(f"/proc/{process.pid}/fd").iterdir()
                files = sorted(str(path.readlink()) for path in opened)
                lines.append(f"{process.pid} of {process.ppid()}, {waits_in}: {', '.join(files)}")
                process.send_signal(signal.SIGABRT)
        for process in psutil.wait_procs(found, timeout=20)[1]:
            lines.append(f"{process.pid} did not end by SIGABRT")
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return "\n".join(lines)

    def manage(self, *arguments: str, **env: str) -> Result:
        """Run a management command."""
        return self.run("manage.py", *arguments, **env)

    def test(self, *arguments: str, **env: str) -> Result:
        """Run ``manage.py test``."""
        return self.manage("test", *arguments, **env)

    def pytest(self, *arguments: str, **env: str) -> Result:
        """Run ``pytest``."""
        return self.run("-m", "pytest", "-rs", *arguments, **env)

    def leftovers(self, seconds: float = 20.0) -> list[str]:
        """Return what is left of itkit's after a moment: directories, servers, guards."""
        return after(seconds, self._leftovers)

    def processes(self, seconds: float = 60.0) -> list[str]:
        """Return the processes that are left after a while, those of the test runner included.

        A worker that pytest-xdist is just starting ends when it finds its controller gone, which
        is as soon as it has imported pytest: no concern of ours, and slow on a busy machine.
        """
        return after(seconds, lambda: processes_with(str(self.path)))

    def kill(self) -> None:
        """Kill all processes of the project that are left, for the tests that come after."""
        for started in self._started:
            started.kill()
            with started:  # waits for it, and closes its pipe
                pass
        if left := list(_processes(str(self.path), str(self.data_root))):
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            after(5, lambda: processes_with(str(self.data_root)))

    def _leftovers(self) -> list[str]:
        directories = [str(path) for path in self.data_root.iterdir()]
        return directories + processes_with(str(self.data_root))


def copy_example(project: Project) -> None:
    """Put a copy of the example shop into the directory of a project, and its settings in force."""
    shutil.copytree(
        Path(__file__).parents[2] / "example_project",
        project.path / "example_project",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    project.env["DJANGO_SETTINGS_MODULE"] = "example_project.settings"


def own_databases(url: str) -> list[str]:
    """Return the databases that itkit has created on a server for schemas of tests."""
    query = "SELECT datname FROM pg_database WHERE datname LIKE 'itkit\\_tests\\_%' ORDER BY 1"
    with psycopg.connect(url) as connection:
        return [name for (name,) in connection.execute(query).fetchall()]


def after(seconds: float, found: Callable[[], list[str]]) -> list[str]:
    """Return what is still found when the seconds are over, or nothing as soon as that is so."""
    deadline = time.monotonic() + seconds
    while (left := found()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Wait until a condition holds; return whether it does in that time."""
    return after(seconds, lambda: [] if condition() else ["not yet"]) == []


def processes_with(text: str) -> list[str]:
    """Return the command lines of processes that mention a text, this one excepted."""
    found = []
    for process in _processes(text):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            found.append(f"{process.pid} {' '.join(process.cmdline())}")
    return found


def _processes(*texts: str) -> Iterator[psutil.Process]:
    """Yield the processes with one of the texts in their command line or their directory."""
    for process in psutil.process_iter():
        try:
            places = [*process.cmdline(), process.cwd()]
            found = any(text in place for text in texts for place in places)
            if found and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def _django_counts(ran: int, output: str) -> dict[str, int]:
    found = dict(re.findall(r"(failures|errors|skipped)=(\d+)", output))
    counts = {
        "failed": int(found.get("failures", 0)) + int(found.get("errors", 0)),
        "skipped": int(found.get("skipped", 0)),
    }
    counts["passed"] = ran - counts["failed"] - counts["skipped"]
    return {kind: number for kind, number in counts.items() if number}
