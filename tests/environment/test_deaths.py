"""A run, or a server, that dies: a clear message where there can be one, and nothing left."""

import os
import random
import signal
import subprocess
import time

import psycopg
import pytest

from tests.support.doors import SERIAL, TESTS, enter, write_tests
from tests.support.projects import Project, own_databases, wait_until

pytestmark = pytest.mark.usefixtures("no_databases", "beside_a_developer")


@pytest.mark.parametrize(
    "door",
    ["django", "django, two forked workers", "pytest", "pytest, two xdist workers"],
)
@pytest.mark.parametrize("server", ["postgres", "redis"])
def test_a_server_that_dies_ends_the_run_with_a_message(
    door: str, server: str, project: Project
) -> None:
    write_tests(
        project,
        """
        import os
        import signal
        import time

        import psutil
        from django.core.cache import cache

        from itkit.test import IntegrationTestCase
        from shop.models import Customer

        def make(number):
            class Killing(IntegrationTestCase):
                def test_one(self):
                    root = os.environ["ITKIT_DATA_ROOT"]
                    for process in psutil.process_iter():
                        try:
                            if KILL in process.name() and root in " ".join(process.cmdline()):
                                process.kill()
                        except psutil.Error:
                            pass  # it has just ended
                    time.sleep(0.2)
                    Customer.objects.count()
                    cache.get("k")

                def test_two(self):
                    Customer.objects.count()
                    cache.get("k")

            Killing.__qualname__ = Killing.__name__ = f"Killing{number}"
            return Killing

        KILL = NAME
        for number in range(20):
            globals()[f"Killing{number}"] = make(number)
        """.replace("NAME", repr({"postgres": "postgres", "redis": "valkey"}[server])),
    )
    result = enter(door, project)
    assert result.code != 0
    name = {"postgres": "Postgres", "redis": "Valkey"}[server]
    assert name in result.output
    assert "timed out" not in result.output
    assert sum(result.counts.values()) < 40, result.output  # the run ended early
    assert project.leftovers() == []


def start_sleeping(project: Project, *command: str, **env: str) -> "subprocess.Popen[str]":
    """Start a run and return when its test, which has written a key, sleeps: the first time only."""
    started = project.path / "started"
    write_tests(
        project,
        f"""
        import pathlib
        import signal
        import time

        from django.core.cache import cache

        from itkit.test import IntegrationTestCase

        class Slow(IntegrationTestCase):
            def test_slow(self):
                cache.set("k", "v")
                interrupt = signal.getsignal(signal.SIGINT)

                def interrupted(*arguments):
                    pathlib.Path("interrupted").touch()
                    interrupt(*arguments)

                signal.signal(signal.SIGINT, interrupted)
                if not pathlib.Path({str(started)!r}).exists():
                    pathlib.Path({str(started)!r}).touch()
                    time.sleep(60)
        """,
    )
    process = project.start(*command, "--integration", **env)
    assert wait_until(lambda: started.exists() or process.poll() is not None)
    assert process.poll() is None
    return process


@pytest.mark.parametrize("door", SERIAL)
def test_ctrl_c_leaves_nothing(door: str, project: Project) -> None:
    command = ["manage.py", "test"] if door == "django" else ["-m", "pytest"]
    process = start_sleeping(project, *command)
    process.send_signal(signal.SIGINT)
    if door == "django":
        # The first lets the running test finish, as unittest has it; the second does not.
        assert wait_until((project.path / "interrupted").exists)
        process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in output
    assert project.leftovers() == []


def test_what_a_killed_run_left_on_a_given_server_is_swept_by_the_next(
    project: Project, postgres_url: str, redis_url: str
) -> None:
    env = {"ITKIT_POSTGRES_URL": postgres_url, "ITKIT_REDIS_URL": redis_url}
    process = start_sleeping(project, "manage.py", "test", **env)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    [own] = own_databases(postgres_url)
    url = postgres_url.replace("/postgres?", f"/{own}?")
    ours = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'itkit%'"
    with psycopg.connect(url) as connection:
        assert (
            len(connection.execute(ours).fetchall()) == 4
        )  # clone, template, its script, extensions
    assert project.test("--integration", **env).code == 0
    assert own_databases(postgres_url) == []


RACING = """
    import pathlib
    import threading

    from django.db import transaction

    from itkit import sweep
    from itkit.test import IntegrationTestCase
    from shop.models import Customer


    class Racing(IntegrationTestCase):
        @sweep.races
        def test_race(self, race):
            customer = Customer.objects.create(email="a@example.com")

            def act():
                with transaction.atomic():
                    found = Customer.objects.get(pk=customer.pk)
                    found.email = f"b-{found.email}"
                    found.save()
                    if race.option:  # another act is at the same
                        pathlib.Path("racing").touch()
                        threading.Event().wait()

            race(act, times=2)
"""


def test_a_run_killed_in_the_middle_of_a_race_leaves_nothing(project: Project) -> None:
    write_tests(project, RACING)
    project.settings('ITKIT["SWEEP"] = {"ACT_SECONDS": 600}')
    process = project.start("manage.py", "test", "--integration")
    racing = project.path / "racing"
    assert wait_until(lambda: racing.exists() or process.poll() is not None)
    assert racing.exists(), process.communicate()[0]
    process.kill()
    with process:
        process.wait()
        assert project.leftovers() == []
        assert project.processes() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["manage.py", "test", "--integration"],
        ["manage.py", "test", "--integration", "--parallel", "2"],
        ["-m", "pytest", "--integration", "-n", "2"],
    ],
    ids=" ".join,
)
def test_a_run_killed_at_any_moment_leaves_nothing(command: list[str], project: Project) -> None:
    write_tests(project, TESTS)
    moments = random.Random(str(command))
    for number in range(7):
        moment = moments.uniform(0.2, 4.0)
        cache = {"ITKIT_CACHE_DIR": str(project.path / "cold")} if number % 3 == 0 else {}
        process = project.start(*command, **cache)
        time.sleep(moment)
        process.kill()
        with process:
            process.wait()
            assert project.leftovers() == [], f"killed after {moment:.2f} s"
            assert project.processes() == [], f"killed after {moment:.2f} s"


KILLS_MAIN = """
    import contextlib
    import multiprocessing
    import os
    import signal
    import time

    from django.test.runner import DiscoverRunner, ParallelTestSuite
    from django.test.runner import _init_worker as begin

    def init_worker(*args, **kwargs):
        # Not os.getppid(): the other worker may have killed the main process before this one starts.
        main = multiprocessing.parent_process().pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(main, signal.SIGKILL)
        while os.getppid() == main:
            time.sleep(0.01)
        begin(*args, **kwargs)

    class Suite(ParallelTestSuite):
        init_worker = init_worker

    class Runner(DiscoverRunner):
        parallel_test_suite = Suite
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_end_whose_main_process_dies_while_they_start(
    method: str, project: Project
) -> None:
    write_tests(project, TESTS)
    project.write("killing.py", KILLS_MAIN)
    project.settings('TEST_RUNNER = "killing.Runner"')
    result = project.test("--integration", "--parallel", "2", START_METHOD=method)
    assert result.code == -signal.SIGKILL, result.output
    assert project.leftovers() == []
    assert project.processes() == []
