"""What outlives the tests reaches nothing of the developer's, is told, and makes the run red."""

import re

import pytest

from tests.support.doors import SERIAL, enter, write_tests
from tests.support.projects import Project
from tests.support.sentinel import Sentinel

LATE = """
    import asyncio
    import atexit
    import os
    import socket
    import sqlite3
    import threading
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    import psycopg
    import redis
    from django.conf import settings
    from django.core.cache import cache
    from django.db import connection, connections

    from itkit.exceptions import LateCallError, RunOverError
    from shop.gateways import Stripe
    from shop.models import Customer

    NOTES = Path(__file__).with_name("notes.txt")
    ended = threading.Event()  # the last test


    def note(name, outcome):
        with NOTES.open("a") as notes:
            notes.write(f"{name}: {outcome}\\n")


    def row():
        connection.close()
        Customer.objects.create(email="late@example.com")


    def row_by_an_open_connection():
        Customer.objects.filter(email="x").delete()


    def other_database():
        connections["legacy"].close()
        with connections["legacy"].cursor() as cursor:
            cursor.execute("DELETE FROM mine")


    def key():
        cache.set("late", 1)


    def key_by_a_client():
        redis.Redis(port=settings.REDIS_PORT).set("late", 1)


    def gateway():
        Stripe().charge(1, "late")


    def network():
        socket.create_connection(("192.0.2.1", 80), 0.1)


    def plain_port():
        socket.create_connection(("127.0.0.1", settings.OTHER_PORT), 0.1).sendall(b"late")


    ACTIONS = [
        row, row_by_an_open_connection, other_database, key, key_by_a_client, gateway, network,
        plain_port,
    ]


    def until_it_is_refused(action):
        ended.wait()
        try_again = threading.Event()
        while True:
            try:
                action()
            except (RunOverError, LateCallError) as error:
                note(action.__name__, type(error).__name__)
                return
            except Exception:
                pass
            try_again.wait(0.01)


    def raw_postgres():
        threading.main_thread().join()
        found = settings.DATABASES["default"]
        names = {"NAME": "dbname", "HOST": "host", "PORT": "port", "USER": "user"}
        try:
            psycopg.connect(**{names[key]: found[key] for key in names if found[key]})
        except psycopg.OperationalError as error:
            note("raw_postgres", "nowhere" if "the-run-is-over" in str(error) else error)


    def once(action):
        try:
            action()
        except Exception as error:
            note(action.__name__, type(error).__name__)
            raise
        note(action.__name__, "done")


    class Finalized:
        def __del__(self, kind=socket.socket, port=settings.OTHER_PORT, opened=open, path=str(NOTES)):
            try:
                with kind() as client:
                    client.connect(("127.0.0.1", port))
                    client.sendall(b"late")
            except Exception as error:
                outcome = type(error).__name__
            else:
                outcome = "done"
            with opened(path, "a") as notes:
                notes.write(f"finalizer: {outcome}\\n")
"""

THREADS = """
    import asyncio
    import threading
    from concurrent.futures import ThreadPoolExecutor

    from itkit.test import IntegrationTestCase
    from shop import late

    pool = ThreadPoolExecutor(2)


    def tearDownModule():
        late.ended.set()


    class Late(IntegrationTestCase):
        databases = "__all__"

        def test_threads(self):
            for action in late.ACTIONS:
                threading.Thread(target=late.until_it_is_refused, args=(action,)).start()

        def test_timer(self):
            def by_timer():
                late.row()

            threading.Timer(0.01, late.until_it_is_refused, (by_timer,)).start()

        def test_pool(self):
            def by_pool():
                late.row()

            pool.submit(late.until_it_is_refused, by_pool)

        def test_tasks(self):
            def by_task():
                late.row()

            async def task():
                await asyncio.to_thread(late.until_it_is_refused, by_task)

            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, daemon=True).start()
            asyncio.run_coroutine_threadsafe(task(), loop)
"""
SETTINGS = """
    REDIS_PORT = int(CACHES["default"]["LOCATION"].rpartition(":")[2].partition("/")[0])
    OTHER_PORT = PLAIN_PORT
    OTHER = ("localhost", PLAIN_PORT)
    DATABASES["legacy"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE / "legacy.sqlite3"}
"""


@pytest.fixture
def pointed(project: Project, sentinel: Sentinel) -> Project:
    sentinel.point(project, "boss")
    project.env["ITKIT_SOURCE"] = "embedded"
    project.settings("from pathlib import Path\nBASE = Path(__file__).parent")
    project.settings(SETTINGS)
    project.write("shop/late.py", LATE)
    return project


def notes(project: Project) -> dict[str, str]:
    lines = (project.path / "shop/notes.txt").read_text().splitlines()
    return dict(line.split(": ") for line in lines)


@pytest.mark.parametrize("door", SERIAL)
@pytest.mark.slow
def test_what_outlives_the_tests_is_refused_and_told(
    door: str, pointed: Project, sentinel: Sentinel
) -> None:
    write_tests(pointed, THREADS)
    before = sentinel.digest()
    result = enter(door, pointed)

    found = notes(pointed)
    assert len(found) == 11
    # What is on a timeline may also be refused because the thread's test has ended.
    told = {found.pop(name) for name in ("gateway", "key", "key_by_a_client")}
    assert told <= {"RunOverError", "LateCallError"}, result.output
    assert set(found.values()) == {"RunOverError"}, (found, result.output)
    assert result.code == 1, result.output
    for test in ("threads", "timer", "pool"):
        place = rf"started at shop/tests/test_shop\.py:\d+ in test_{test}, by shop.*test_{test}"
        assert re.search(place, result.output), (test, result.output)
    # A connection that is still open is refused its statement, another one is not made.
    assert re.search(r"(the database 'legacy'|A statement, .*) was refused: the run", result.output)
    assert not (pointed.path / "legacy.sqlite3").exists()
    assert sentinel.digest() == before
    assert pointed.leftovers() == []


WORKERS = """
    import threading

    from itkit.test import IntegrationTestCase
    from shop import late
    from shop.models import Customer


    class Other(IntegrationTestCase):
        def test_other(self):
            self.data.create(Customer)


    class Late(IntegrationTestCase):
        databases = "__all__"

        def test_threads(self):
            for action in (late.row, late.key, late.gateway, late.plain_port, late.network):
                threading.Thread(target=late.until_it_is_refused, args=(action,)).start()

        @classmethod
        def tearDownClass(cls):
            super().tearDownClass()
            late.ended.set()
"""


@pytest.mark.parametrize(
    "door",
    ["django, two forked workers", "django, two spawned workers", "pytest, two xdist workers"],
)
@pytest.mark.slow
def test_what_outlives_the_tests_of_a_worker_is_refused_and_told(
    door: str, pointed: Project, sentinel: Sentinel
) -> None:
    write_tests(pointed, WORKERS)
    before = sentinel.digest()
    result = enter(door, pointed)

    assert result.code == 1, result.output
    found = notes(pointed)
    assert set(found) == {"row", "key", "gateway", "plain_port", "network"}
    assert set(found.values()) <= {"RunOverError", "LateCallError"}, (found, result.output)
    assert {found[name] for name in ("plain_port", "network")} == {"RunOverError"}
    place = r"started at shop/tests/test_shop\.py:\d+ in test_threads, by shop.*test_threads"
    assert re.search(place, result.output), result.output
    assert sentinel.digest() == before
    assert pointed.leftovers() == []


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize("door", SERIAL)
def test_what_ends_with_the_interpreter_is_refused_and_told(
    door: str, pointed: Project, sentinel: Sentinel
) -> None:
    write_tests(
        pointed,
        """
        import atexit

        from django.test import SimpleTestCase
        from shop import late


        class Last(SimpleTestCase):
            def test_hooks(self):
                for action in late.ACTIONS:
                    atexit.register(late.once, action)
                late.finalized = late.Finalized()
    """,
    )
    pointed.settings("import atexit\natexit.register(print, 'the first hook has run')")
    pointed.warm = None  # a fork does not take its modules apart
    before = sentinel.digest()
    result = enter(door, pointed)

    found = notes(pointed)
    assert set(found.values()) == {"RunOverError"}, (found, result.output)
    assert len(found) == 9
    assert result.code == 1, result.output
    assert "the first hook has run" in result.output
    assert sentinel.digest() == before


@pytest.mark.usefixtures("shared_servers")
def test_a_thread_that_does_not_end_is_told_too(pointed: Project, sentinel: Sentinel) -> None:
    write_tests(
        pointed,
        """
        import threading

        from django.test import SimpleTestCase
        from itkit.environment import afterwards
        from shop import late

        afterwards._SECONDS = 0.2


        class Last(SimpleTestCase):
            def test_thread(self):
                threading.Thread(target=late.raw_postgres).start()
                threading.Thread(target=threading.Event().wait, daemon=True).start()
    """,
    )
    before = sentinel.digest()
    result = enter("django", pointed)

    assert result.code == 1
    assert result.output.count("A thread still runs 0 seconds after the tests.") == 1, result.output
    assert "in test_thread, by shop.tests.test_shop.Last.test_thread" in result.output
    assert notes(pointed) == {"raw_postgres": "nowhere"}
    assert sentinel.digest() == before


@pytest.mark.usefixtures("shared_servers")
def test_who_goes_on_after_a_run_is_told_so(pointed: Project, sentinel: Sentinel) -> None:
    write_tests(
        pointed,
        """
        from django.test import TestCase
        from shop.models import Customer


        class Fine(TestCase):
            def test_it(self):
                Customer.objects.create(email="a@example.com")
    """,
    )
    pointed.write(
        "script.py",
        """
        import os

        os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
        import django

        django.setup()
        from django.core.management import call_command
        from django.core.cache import cache
        from itkit.exceptions import RunOverError
        from shop.models import Customer

        call_command("test", "--integration")
        call_command("test", "--integration")
        for action in (Customer.objects.count, cache.clear):
            try:
                action()
            except RunOverError as error:
                print(error)
        """,
    )
    pointed.write(
        "conftest.py",
        """
        import pytest


        @pytest.hookimpl(trylast=True)
        def pytest_unconfigure(config):
            from pytest_django.plugin import blocking_manager_key
            from shop.models import Customer

            with config.stash[blocking_manager_key].unblock():
                Customer.objects.count()
        """,
    )
    before = sentinel.digest()
    result = pointed.run("script.py")
    assert result.output.count("\nOK\n") == 2, result.output
    assert "A connection to the database 'default' was refused: the run" in result.output
    assert "A connection to Redis at " in result.output
    assert "Code that comes after a run belongs in another process" in result.output
    assert result.code == 1

    result = pointed.pytest("--integration")
    assert "A connection to the database 'default' was refused: the run" in result.output
    assert result.code == 1
    assert sentinel.digest() == before


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize("door", SERIAL)
def test_threads_that_do_nothing_are_no_reason(door: str, pointed: Project) -> None:
    write_tests(
        pointed,
        """
        import threading
        from concurrent.futures import ThreadPoolExecutor

        from itkit.test import IntegrationTestCase
        from shop.models import Customer

        pool = ThreadPoolExecutor(1)


        class Idle(IntegrationTestCase):
            def test_idle(self):
                pool.submit(len, "x").result()
                done = threading.Event()
                threading.Thread(target=done.wait).start()
                self.addCleanup(done.set)
                self.data.create(Customer)
    """,
    )
    result = enter(door, pointed)
    assert result.code == 0, result.output
    assert "the run with --integration is over" not in result.output
