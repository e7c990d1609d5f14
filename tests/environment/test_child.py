"""Processes that a test starts are in its schema and under its prefix, and end with it."""

import json
import os
import signal

import pytest
import redis

from itkit.core.handshake import Invitation
from itkit.exceptions import ItkitError
from itkit.redis import JoinedIsolation
from itkit.redis.prefix.namespace import GenerationCounter, GenerationReader
from tests.support.doors import DOORS, SERIAL, enter, write_tests
from tests.support.projects import Project, wait_until

pytestmark = pytest.mark.usefixtures("shared_servers")

BASE = """
    import os
    import subprocess
    import sys

    from django.core.cache import cache, caches

    from itkit.test import IntegrationTestCase
    from shop.models import Customer


    def manage(*arguments):
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments], capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout + done.stderr
"""
SEES = """
    LOOK = '''
    from django.core.cache import cache, caches
    from shop import gateways
    from shop.models import Customer
    print("sees", sorted(Customer.objects.values_list("email", flat=True)), cache.get("mine"))
    Customer.objects.create(email="theirs@example.com")
    caches["plain"].set("theirs", 2)
    gateways.send_sms("1", "faked")
    '''


    def saying(name):
        code = f"from shop import gateways; open({name!r}, 'w').write(gateways.send_sms('1', 'x'))"

        def said():
            with open(name) as file:
                return file.read()

        return [sys.executable, "manage.py", "shell", "-v0", "-c", code], said


    class Becoming(IntegrationTestCase):  # first, as its worker has started no process yet
        def test_a_forked_process_becomes_another_program(self):
            self.backends.sms.returns("programmed")
            command, said = saying("becoming.txt")
            reader, writer = os.pipe()
            pid = os.fork()
            if not pid:
                os.dup2(writer, 2)
                try:
                    os.execv("/nowhere", command)  # as those do that try one directory after another
                except OSError:
                    os.execv(sys.executable, command)
            os.close(writer)
            with open(reader) as file:
                output = file.read()  # its end comes with that of the program
            self.assertEqual((os.waitpid(pid, 0)[1], output), (0, ""))
            self.assertEqual(said(), "programmed")

        def test_so_does_one_that_the_standard_library_forks(self):
            self.backends.sms.returns("another")
            command, said = saying("library.txt")
            for environment in (dict(os.environ), {"PATH": os.environ["PATH"], "HOME": "/nowhere"}):
                status = os.spawnve(os.P_WAIT, sys.executable, command, environment)
                self.assertEqual(status, 0)
                self.assertEqual(said(), "another")
                os.remove("library.txt")
            self.assertEqual(os.spawnv(os.P_WAIT, sys.executable, command), 0)
            self.assertEqual(said(), "another")


    class Subprocess(IntegrationTestCase):
        def look(self, name):
            Customer.objects.create(email=name)
            cache.set("mine", name)
            code, output = manage("shell", "-c", LOOK)
            self.assertEqual(code, 0, output)
            self.assertIn(f"sees ['{name}'] {name}", output)
            self.assertEqual(Customer.objects.count(), 2)
            self.assertEqual(caches["plain"].get("theirs"), 2)

        def test_a_process_sees_its_test(self):
            self.look("a@example.com")

        def test_b_the_next_sees_nothing_of_the_first(self):
            self.look("b@example.com")


    class Other(IntegrationTestCase):
        def test_a_process_with_an_empty_variable_stays_out(self):
            env = {**os.environ, "ITKIT_TEST": ""}
            code = "from django.db import connection; print(connection.settings_dict['NAME'])"
            command = [sys.executable, "manage.py", "shell", "-v", "0", "-c", code]
            done = subprocess.run(command, env=env, capture_output=True, text=True)
            self.assertIn(done.stdout, ("dev\\n", "shop\\n"))  # the project's own

        def test_a_process_of_another_worker_sees_its_own(self):
            Subprocess.look(self, "c@example.com")

        def test_a_forked_process_hands_the_invitation_on(self):
            pid = os.fork()
            if not pid:
                code, output = manage("shell", "-c", LOOK)
                os._exit(code or "does not answer" in output)
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
            self.assertEqual(caches["plain"].get("theirs"), 2)

"""


@pytest.mark.usefixtures("beside_a_developer")
@pytest.mark.parametrize("door", DOORS)
def test_a_process_is_in_the_schema_and_under_the_prefix_of_its_test(
    door: str, project: Project
) -> None:
    write_tests(project, BASE + SEES)
    result = enter(door, project)
    assert result.counts == {"passed": 7}, result.output
    assert project.leftovers() == []


@pytest.mark.slow
def test_a_process_is_in_the_database_of_its_test(project: Project) -> None:
    write_tests(project, BASE + SEES)
    result = project.test("--integration", ITKIT_POSTGRES_ISOLATION="database")
    assert result.counts == {"passed": 7}, result.output


@pytest.mark.slow
def test_on_a_server_of_the_users_nothing_of_a_process_is_left(
    project: Project, postgres_url: str, redis_url: str
) -> None:
    write_tests(project, BASE + SEES)
    given = {"ITKIT_POSTGRES_URL": postgres_url, "ITKIT_REDIS_URL": redis_url}
    result = project.test("--integration", "--parallel", "2", **given)
    assert result.counts == {"passed": 7}, result.output
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys("*") == []
        assert client.acl_users() == ["default"]


CELERY_SETTINGS = """
    CELERY_BROKER_URL = "redis://127.0.0.1:1/3"
    CELERY_RESULT_BACKEND = "redis://127.0.0.1:1/4"
    ITKIT["REDIS"] = {"SETTINGS": ["CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"]}
"""
CELERY_APP = """
    import os

    from celery import Celery

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
    app = Celery("shop")
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.autodiscover_tasks()
"""
CELERY_TASKS = """
    from celery import shared_task
    from shop.models import Customer


    @shared_task
    def register(email):
        return Customer.objects.create(email=email).pk
"""
CELERY_TESTS = """
    from shop.tasks import register


    class Tasks(IntegrationTestCase):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            command = [sys.executable, "-W", "ignore", "-m", "celery", "-A", "shop", "worker"]
            cls.worker = subprocess.Popen([*command, "-c", "1", "--without-mingle"])
            cls.addClassCleanup(cls.worker.wait, 20)
            cls.addClassCleanup(cls.worker.terminate)

        def register(self, email):
            key = register.delay(email).get(timeout=30)
            self.assertEqual(Customer.objects.get().pk, key)
            self.assertEqual(Customer.objects.get().email, email)

        def test_a_task_is_run_by_the_worker(self):
            self.register("a@example.com")

        def test_b_the_worker_follows_to_the_next_test(self):
            self.register("b@example.com")

        def test_c_several_tasks(self):
            results = [register.delay(f"{number}@example.com") for number in range(5)]
            self.assertEqual(len({result.get(timeout=30) for result in results}), 5)
            self.assertEqual(Customer.objects.count(), 5)
"""


@pytest.mark.parametrize("door", SERIAL)
@pytest.mark.slow
def test_a_worker_of_celery_serves_one_test_after_another(door: str, project: Project) -> None:
    project.settings(CELERY_SETTINGS)
    project.write("shop/__init__.py", "from shop.celery import app")
    project.write("shop/celery.py", CELERY_APP)
    project.write("shop/tasks.py", CELERY_TASKS)
    write_tests(project, BASE + CELERY_TESTS)
    result = enter(door, project)
    assert result.counts == {"passed": 3}, result.output
    assert project.leftovers() == []


RQ_TESTS = """
    import redis
    from rq import Queue, SimpleWorker

    from shop.jobs import register


    class Jobs(IntegrationTestCase):
        def setUp(self):
            self.connection = redis.Redis.from_url("redis://127.0.0.1:1/5")
            self.queue = Queue(connection=self.connection)

        def test_a_job_in_this_process(self):
            job = self.queue.enqueue(register, "a@example.com")
            SimpleWorker([self.queue], connection=self.connection).work(burst=True)
            self.assertEqual(job.return_value(refresh=True), Customer.objects.get().pk)

        def test_b_a_job_in_a_worker(self):
            job = self.queue.enqueue(register, "b@example.com")
            subprocess.run([sys.executable, "rq_worker.py"], check=True, timeout=60)
            self.assertEqual(job.return_value(refresh=True), Customer.objects.get().pk)
            self.assertEqual(Customer.objects.get().email, "b@example.com")
"""
RQ_WORKER = """
    import os

    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
    django.setup()

    import redis
    from rq import Queue, Worker

    connection = redis.Redis.from_url("redis://127.0.0.1:1/5")
    Worker([Queue(connection=connection)], connection=connection).work(burst=True)
"""


@pytest.mark.parametrize("door", SERIAL)
@pytest.mark.slow
def test_a_worker_of_rq_and_the_processes_that_it_forks(door: str, project: Project) -> None:
    project.settings(
        """
        RQ_URL = "redis://127.0.0.1:1/5"
        ITKIT["REDIS"] = {"SETTINGS": ["RQ_URL"]}
        """
    )
    project.write(
        "shop/jobs.py",
        """
        def register(email):
            from shop.models import Customer
            return Customer.objects.create(email=email).pk
        """,
    )
    project.write("rq_worker.py", RQ_WORKER)
    write_tests(project, BASE + RQ_TESTS)
    result = enter(door, project, PYTHONWARNINGS="ignore")
    assert result.counts == {"passed": 2}, result.output
    assert project.leftovers() == []


NESTED = """
    class Nested(IntegrationTestCase):
        def run_each(self, *commands):
            for command in commands:
                done = subprocess.run(
                    [sys.executable, *command.split()], capture_output=True, text=True, timeout=60
                )
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

        def test_runs_of_their_own(self):
            Customer.objects.create(email="outer@example.com")
            self.run_each(
                "manage.py test --integration nested",
                "manage.py test --integration --parallel 2 nested",
                "-m pytest --integration nested",
                "-m pytest --integration -n 2 nested",
            )
            self.assertEqual(Customer.objects.get().email, "outer@example.com")

        def test_one_without_the_option_reaches_what_it_would_without_us(self):
            self.run_each("manage.py test nested.plain", "-m pytest nested/plain.py")
"""
INNER = """
    from django.core.cache import cache

    from itkit.test import IntegrationTestCase
    from shop.models import Customer


    class Inner(IntegrationTestCase):
        def test_sees_nothing(self):
            self.assertFalse(Customer.objects.exists())
            self.assertIsNone(cache.get("k"))
            cache.set("k", 1)


    class Twin(Inner):
        pass
"""
PLAIN = """
    from django.conf import settings
    from django.db import connection
    from django.test import SimpleTestCase


    class Plain(SimpleTestCase):
        def test_reaches_the_projects_own(self):
            self.assertEqual(connection.settings_dict["PORT"], "1")
            self.assertEqual(settings.CACHES["default"]["LOCATION"], "redis://127.0.0.1:1/1")
"""


@pytest.mark.parametrize("door", SERIAL)
@pytest.mark.slow
def test_runs_within_a_test_are_runs_of_their_own(door: str, project: Project) -> None:
    write_tests(project, BASE + NESTED)
    project.write("nested/__init__.py", "")
    project.write("nested/test_inner.py", INNER)
    project.write("nested/plain.py", PLAIN)
    result = enter(door, project, "shop")
    assert result.counts == {"passed": 2}, result.output
    assert project.leftovers() == []


ENDLESS = """
    import time


    class Endless(IntegrationTestCase):
        def test_starts_a_process(self):
            look = "import pathlib, time; pathlib.Path('joined').touch(); time.sleep(300)"
            self.process = subprocess.Popen([sys.executable, "manage.py", "shell", "-v", "0", "-c", look])
            time.sleep(300)
"""


def test_a_process_ends_with_the_run_that_was_killed(project: Project) -> None:
    write_tests(project, BASE + ENDLESS)
    run = project.start("manage.py", "test", "--integration")
    assert wait_until((project.path / "joined").exists)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert project.processes() == []
    assert project.leftovers() == []


def test_a_process_that_finds_its_run_gone_says_so(project: Project) -> None:
    write_tests(
        project,
        BASE
        + """
    class Daemon(IntegrationTestCase):
        def test_writes_its_environment_down(self):
            import json
            with open("environment.json", "w") as file:
                json.dump({name: os.environ[name] for name in ("ITKIT_PAYLOAD", "ITKIT_TEST")}, file)
""",
    )
    assert project.test("--integration").counts == {"passed": 1}
    late = json.loads((project.path / "environment.json").read_text())
    result = project.manage("shell", "-c", "print('ran')", **late)
    assert result.code != 0
    assert "ran" not in result.output


APPS = """
    from django.test import modify_settings


    class Apps(IntegrationTestCase):
        @modify_settings(INSTALLED_APPS={"append": "django.contrib.sessions"})
        def test_apps_are_loaded_again_within_a_test(self):
            Customer.objects.create(email="a@example.com")
            cache.set("k", 1)
            self.assertEqual((Customer.objects.count(), cache.get("k")), (1, 1))
            pid = os.fork()
            if not pid:
                with modify_settings(INSTALLED_APPS={"append": "django.contrib.messages"}):
                    os._exit(cache.get("k") - 1)
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
"""


@pytest.mark.parametrize("door", DOORS)
def test_a_test_that_loads_apps_again_does_not_join_itself(door: str, project: Project) -> None:
    write_tests(project, BASE + APPS)
    result = enter(door, project)
    assert result.counts == {"passed": 1}, result.output


WAITING = """
    import contextlib
    import threading

    import redis

    CONSUMER = '''
    import redis
    client = redis.Redis.from_url("redis://127.0.0.1:1/5")
    while True:
        found = client.blpop("queue", 0)
        if found:
            client.rpush("done", found[1])
    '''


    class Waiting(IntegrationTestCase):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            cls.queues = redis.Redis.from_url("redis://127.0.0.1:1/5")
            command = [sys.executable, "manage.py", "shell", "-v", "0", "-c", CONSUMER]
            cls.consumer = subprocess.Popen(command)
            cls.addClassCleanup(cls.consumer.wait)
            cls.addClassCleanup(cls.consumer.kill)
            threading.Thread(target=cls.consume, daemon=True).start()

        @classmethod
        def consume(cls):
            with contextlib.suppress(Exception):  # when the run ends
                while True:
                    found = cls.queues.blpop("thread", 0)
                    if found:
                        cls.queues.rpush("done", found[1])

        def test_a_a_process_waits_without_end(self):
            self.queues.rpush("queue", "job")
            self.assertEqual(self.queues.blpop("done", 30), (b"done", b"job"))

        def test_b_and_is_there_for_the_next_test(self):
            self.test_a_a_process_waits_without_end()

        def test_c_a_thread_waits_without_end(self):
            self.queues.rpush("thread", "job")
            self.assertEqual(self.queues.blpop("done", 30), (b"done", b"job"))

        def test_d_and_is_there_for_the_next_test(self):
            self.test_c_a_thread_waits_without_end()
"""


@pytest.mark.parametrize("door", SERIAL)
def test_who_waits_for_a_key_follows_as_well(door: str, project: Project) -> None:
    project.settings(
        """
        QUEUE_URL = "redis://127.0.0.1:1/5"
        ITKIT["REDIS"] = {"SETTINGS": ["QUEUE_URL"]}
        """
    )
    write_tests(project, BASE + WAITING)
    result = enter(door, project)
    assert result.counts == {"passed": 4}, result.output


def test_other_processes_read_the_number_of_the_generation() -> None:
    counter = GenerationCounter()
    assert counter.next() == 1
    assert not counter.is_read
    reader = GenerationReader(counter.path)
    assert counter.is_read
    assert reader.now() == 1
    for number in range(2, 1000):
        assert counter.next() == number
        assert reader.now() == number
    path = counter.path
    del counter
    assert reader.now() == 999
    with pytest.raises(OSError, match=path):
        GenerationReader(path)


def test_without_such_memory_the_generation_is_that_of_the_start() -> None:
    invitation = Invitation(worker="w1", process=os.getpid(), generation=7, generations="")
    isolation = JoinedIsolation(
        invitation, server="redis://127.0.0.1:1", run="0123abcd", owned=True, project=[]
    )
    isolation.install()
    try:
        assert isolation.prefix == "itkit:0123abcd:w1:7:"
    finally:
        isolation.uninstall()


def test_an_invitation_is_read_as_it_was_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITKIT_TEST", "")
    assert Invitation.from_environment() is None
    invitation = Invitation(worker="w1", process=1, generation=7, generations="/proc/1/fd/3")
    invitation.export()
    assert Invitation.from_environment() == invitation
    Invitation.withdraw()
    assert "ITKIT_TEST" not in os.environ


@pytest.mark.parametrize("found", ["nonsense", "[1]", "{}", '{"worker": "w1"}'])
def test_nonsense_in_its_place_says_what_to_do(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITKIT_TEST", found)
    with pytest.raises(ItkitError, match="start this process without it"):
        Invitation.from_environment()
