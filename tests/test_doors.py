"""One table of scenarios through both doors: whole projects under Django's runner and pytest."""

import os
import random
import signal
import textwrap
import time
from pathlib import Path

import psycopg
import pytest

from tests.projects import Project, Result

TESTS = """
    import threading

    from django.core.cache import cache, caches
    from django.db import connection, transaction
    from django.test import LiveServerTestCase, SimpleTestCase, TestCase, TransactionTestCase, tag
    from django_redis import get_redis_connection

    from itkit.test import IntegrationTestCase
    from shop import gateways
    from shop.models import Currency, Customer


    class Rows(IntegrationTestCase):
        def test_a_row_is_committed_for_other_threads(self):
            self.data.create(Customer, email="a@example.com")
            seen = []

            def look():
                seen.append(Customer.objects.count())
                connection.close()

            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            self.assertEqual(seen, [1])

        def test_b_rows_of_another_test_are_gone(self):
            self.assertFalse(Customer.objects.exists())
            self.data.create(Customer, email="a@example.com")

        def test_c_rows_of_migrations_are_there(self):
            self.assertEqual([currency.code for currency in Currency.objects.all()], ["EUR"])

        def test_on_commit_hooks_run(self):
            ran = []
            with transaction.atomic():
                transaction.on_commit(lambda: ran.append(1))
            self.assertEqual(ran, [1])

        def test_the_schema_is_ours_and_public_is_not_on_the_path(self):
            with connection.cursor() as cursor:
                cursor.execute("SELECT current_schema(), current_setting('search_path')")
                schema, path = cursor.fetchone()
            self.assertRegex(schema, r"^itkit_[0-9a-f]{8}_g?w[0-9]+$")
            self.assertNotIn("public", path)


    class Keys(IntegrationTestCase):
        def test_a_keys_are_prefixed_and_seen_by_all_clients(self):
            cache.set("k", "v")
            caches["plain"].set("k", "w")
            self.assertEqual((cache.get("k"), caches["plain"].get("k")), ("v", "w"))
            self.assertEqual(get_redis_connection().keys("*"), [b":1:k"])

        def test_b_keys_of_another_test_are_gone(self):
            self.assertIsNone(cache.get("k"))
            cache.set("k", "v")
            cache.clear()
            self.assertIsNone(cache.get("k"))


    class Fakes(IntegrationTestCase):
        def test_a_a_fake_answers_and_records(self):
            self.backends.payments.charge.returns("txn")
            self.assertEqual(gateways.Stripe().charge(5, token="t"), "txn")
            self.backends.payments.charge.assert_called_once_with(amount=5, token="t")
            gateways.send_sms("1", "hello")

        def test_b_calls_of_another_test_are_gone(self):
            self.assertEqual(self.backends.payments.call_count("charge"), 0)


    class Plain(TestCase):
        def test_a_rollback_case_runs_in_the_schema(self):
            Customer.objects.create(email="b@example.com")
            self.assertEqual(Customer.objects.count(), 1)


    class Live(LiveServerTestCase):
        databases = "__all__"

        @tag("integration")
        def test_a_live_server_sees_the_rows(self):
            from urllib.request import urlopen

            Customer.objects.create(email="c@example.com")
            with urlopen(self.live_server_url + "/count/") as answer:
                self.assertEqual(answer.read(), b"1")


    class Nothing(SimpleTestCase):
        def test_needs_no_database(self):
            self.assertEqual(1 + 1, 2)
"""

DOORS = {
    "django": lambda project, *args, **env: project.test("--integration", *args, **env),
    "django, two forked workers": lambda project, *args, **env: project.test(
        "--integration", "--parallel", "2", *args, START_METHOD="fork", **env
    ),
    "django, two spawned workers": lambda project, *args, **env: project.test(
        "--integration", "--parallel", "2", *args, START_METHOD="spawn", **env
    ),
    "pytest": lambda project, *args, **env: project.pytest("--integration", *args, **env),
    "pytest, two xdist workers": lambda project, *args, **env: project.pytest(
        "--integration", "-n", "2", *args, **env
    ),
}
SERIAL = ["django", "pytest"]


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    return request.param


def enter(door: str, project: Project, *args: str, **env: str) -> Result:
    return DOORS[door](project, *args, **env)


def write_tests(project: Project, text: str) -> None:
    project.write("shop/tests/__init__.py", "")
    project.write("shop/tests/test_shop.py", text)


def test_every_scenario_passes_and_nothing_is_left(door: str, project: Project) -> None:
    write_tests(project, TESTS)
    result = enter(door, project)
    assert result.counts == {"passed": 12}, result.output
    assert "itkit: Postgres 18" in result.output
    assert project.leftovers() == []


@pytest.mark.parametrize("door", ["django", "django, two forked workers", "pytest"])
def test_a_given_server_gets_back_what_it_had(
    door: str, project: Project, postgres_url: str, redis_url: str
) -> None:
    import redis

    write_tests(project, TESTS)
    client = redis.Redis.from_url(redis_url)
    client.set("foreign", "kept")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS public.shop_customer (mine text)")
        connection.execute("INSERT INTO public.shop_customer VALUES ('kept')")
        databases = connection.execute("SELECT datname FROM pg_database").fetchall()
        result = enter(door, project, ITKIT_POSTGRES_URL=postgres_url, ITKIT_REDIS_URL=redis_url)
        rows = connection.execute("SELECT mine FROM public.shop_customer").fetchall()
        left = connection.execute("SELECT datname FROM pg_database").fetchall()
        schemas = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'itkit%'"
        ).fetchall()
        connection.execute("DROP TABLE public.shop_customer")
    assert result.counts == {"passed": 12}, result.output
    assert rows == [("kept",)]
    assert left == databases
    assert schemas == []
    assert client.keys("*") == [b"foreign"]
    client.delete("foreign")
    client.close()


@pytest.mark.parametrize("runner", ["test", "pytest"])
def test_without_integration_nothing_starts_and_the_tests_say_why_they_are_skipped(
    runner: str, project: Project
) -> None:
    # The project's Postgres does not exist: setting a database up would fail.
    write_tests(
        project,
        TESTS.replace("class Plain(TestCase)", "class Plain(SimpleTestCase)", 1).replace(
            'Customer.objects.create(email="b@example.com")\n', "return\n"
        ),
    )
    result = project.test("-v2") if runner == "test" else project.pytest()
    assert result.code == 0, result.output
    assert result.counts == {"passed": 2, "skipped": 10}
    assert "run with --integration" in result.output
    assert "itkit: Postgres" not in result.output
    assert list(project.data_root.iterdir()) == []


def test_djangos_own_options_keep_working(project: Project) -> None:
    write_tests(project, TESTS)
    for options, passed in (
        (["--tag", "integration"], 10),
        (["--exclude-tag", "integration"], 2),
        (["-k", "on_commit"], 1),
        (["shop.tests.test_shop.Keys"], 2),
        (["--shuffle", "1", "--buffer", "--debug-sql", "--failfast", "--timing"], 12),
        (["--keepdb", "--reverse", "--noinput", "-v", "2"], 12),
        (["--debug-mode", "--pdb", "--no-faulthandler", "shop.tests.test_shop.Rows"], 5),
    ):
        result = project.test("--integration", *options)
        assert result.counts == {"passed": passed}, f"{options}\n{result.output}"


def test_pytest_functions_have_the_same_semantics(project: Project) -> None:
    project.write(
        "test_functions.py",
        """
        import threading

        import pytest
        from django.core.cache import cache
        from django.db import connection

        from shop import gateways
        from shop.models import Currency, Customer


        @pytest.mark.integration
        def test_commits_for_real(data):
            data.create("shop.Customer", email="a@example.com")
            assert not connection.in_atomic_block

        @pytest.mark.integration
        def test_rows_are_gone_and_seeds_are_there(test_data_manager):
            assert Customer.objects.count() == 0
            assert Currency.objects.get().code == "EUR"
            test_data_manager.create(Customer)

        @pytest.mark.integration
        def test_rolls_back_when_it_asks_for_db(db, data):
            data.create(Customer)
            assert connection.in_atomic_block

        @pytest.mark.integration
        @pytest.mark.django_db(transaction=False)
        def test_keeps_its_own_marker(data):
            assert connection.in_atomic_block

        @pytest.mark.integration
        def test_live_server(live_server, data):
            from urllib.request import urlopen

            data.create(Customer)
            with urlopen(live_server.url + "/count/") as answer:
                assert answer.read() == b"1"

        @pytest.mark.integration
        def test_client(client, transactional_db):
            Customer.objects.create(email="x@example.com")
            assert client.get("/count/").content == b"1"

        @pytest.mark.integration
        class TestGrouped:
            def test_backends(self, backends):
                backends.payments.configure_return("charge", "txn")
                assert gateways.Stripe().charge(1, "t") == "txn"
                assert backends.payments.was_called_with("charge", amount=1, token="t")
                cache.set("k", 1)

            def test_backends_are_reset(self, backends):
                assert backends.payments.call_count("charge") == 0
                assert cache.get("k") is None

        def test_plain_db(db):
            assert Currency.objects.count() == 1
        """,
    )
    for options in ([], ["-n", "2"]):
        result = project.pytest("--integration", *options)
        assert result.counts == {"passed": 9}, result.output
    result = project.pytest("--deselect", "test_functions.py::test_plain_db")
    assert result.counts == {"skipped": 8}, result.output


@pytest.mark.parametrize("door", SERIAL)
def test_a_wrong_setting_stops_the_run_before_anything_starts(door: str, project: Project) -> None:
    write_tests(project, TESTS)
    project.settings('ITKIT["POSTGRESS"] = {}')
    result = enter(door, project)
    assert result.code != 0
    assert "itkit.E001" in result.output
    assert "Did you mean 'POSTGRES'?" in result.output
    assert "Traceback" not in result.output
    assert project.leftovers(0) == []


@pytest.mark.parametrize("door", SERIAL)
def test_a_given_server_that_does_not_answer_is_no_reason_to_use_another(
    door: str, project: Project
) -> None:
    write_tests(project, TESTS)
    result = enter(door, project, ITKIT_POSTGRES_URL="postgresql://u:verysecret@127.0.0.1:1/shop")
    assert result.code != 0
    assert "ITKIT_POSTGRES_URL" in result.output
    assert "verysecret" not in result.output
    assert "Traceback" not in result.output
    assert project.leftovers() == []


@pytest.mark.parametrize(
    "door", ["django", "django, two forked workers", "pytest", "pytest, two xdist workers"]
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


@pytest.mark.parametrize("door", SERIAL)
def test_ctrl_c_leaves_nothing(door: str, project: Project, tmp_path: Path) -> None:
    started = tmp_path / "started"
    write_tests(
        project,
        f"""
        import pathlib
        import time

        from itkit.test import IntegrationTestCase

        class Slow(IntegrationTestCase):
            def test_slow(self):
                pathlib.Path({str(started)!r}).touch()
                time.sleep(60)
        """,
    )
    command = ["manage.py", "test"] if door == "django" else ["-m", "pytest"]
    process = project.start(*command, "--integration")
    while not started.exists():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    if door == "django":
        # The first lets the running test finish, as unittest has it; the second does not.
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in output
    assert project.leftovers() == []


def test_two_runs_at_once_on_one_server_do_not_meet(
    project: Project, postgres_url: str, redis_url: str
) -> None:
    write_tests(project, TESTS)
    env = {"ITKIT_POSTGRES_URL": postgres_url, "ITKIT_REDIS_URL": redis_url}
    commands = [["manage.py", "test", "--shuffle"], ["-m", "pytest"], ["manage.py", "test"]]
    processes = [project.start(*command, "--integration", **env) for command in commands]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    for output in outputs:
        assert Result(0, output.strip()).counts == {"passed": 12}, output
    with psycopg.connect(postgres_url) as connection:
        left = connection.execute(
            "SELECT datname FROM pg_database WHERE datname = 'test_shop' UNION ALL"
            " SELECT nspname FROM pg_namespace WHERE nspname LIKE 'itkit%'"
        ).fetchall()
    assert left == []


def test_what_a_killed_run_left_on_a_given_server_is_swept_by_the_next(
    project: Project, postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    write_tests(
        project,
        f"""
        import pathlib
        import time

        from django.core.cache import cache

        from itkit.test import IntegrationTestCase

        class Slow(IntegrationTestCase):
            def test_slow(self):
                cache.set("k", "v")
                if not pathlib.Path({str(started)!r}).exists():
                    pathlib.Path({str(started)!r}).touch()
                    time.sleep(60)
        """,
    )
    env = {"ITKIT_POSTGRES_URL": postgres_url, "ITKIT_REDIS_URL": redis_url}
    process = project.start("manage.py", "test", "--integration", **env)
    while not started.exists():
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    url = postgres_url.replace("/postgres?", "/test_shop?")
    ours = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'itkit%'"
    with psycopg.connect(url) as connection:
        assert len(connection.execute(ours).fetchall()) == 3  # rows, seeds, extensions
    assert project.test("--integration", **env).code == 0
    with psycopg.connect(postgres_url) as connection:
        found = connection.execute("SELECT FROM pg_database WHERE datname = 'test_shop'")
        assert found.fetchall() == []


def test_a_project_runner_keeps_its_own_options(project: Project) -> None:
    write_tests(project, TESTS)
    project.write(
        "runners.py",
        """
        from django.test.runner import DiscoverRunner

        class Loud(DiscoverRunner):
            def __init__(self, *args, shout=False, **kwargs):
                super().__init__(*args, **kwargs)
                self.shout = shout

            @classmethod
            def add_arguments(cls, parser):
                super().add_arguments(parser)
                parser.add_argument("--shout", action="store_true")

            def run_tests(self, *args, **kwargs):
                print("LOUD" if self.shout else "quiet")
                return super().run_tests(*args, **kwargs)
        """,
    )
    result = project.test("--integration", "--testrunner", "runners.Loud", "--shout")
    assert "LOUD" in result.output
    assert result.counts == {"passed": 12}, result.output
    project.settings('TEST_RUNNER = "runners.Loud"')
    result = project.test("--integration", "--shout", "--parallel", "2")
    assert "LOUD" in result.output
    assert result.counts == {"passed": 12}, result.output
    project.settings('TEST_RUNNER = "itkit.runner.IntegrationRunner"')
    assert project.test("--integration").counts == {"passed": 12}
    assert "--integration" in project.manage("help", "test").output


def test_pytest_djangos_runner_hands_the_option_on(project: Project) -> None:
    write_tests(project, TESTS)
    project.settings('TEST_RUNNER = "pytest_django.runner.TestRunner"')
    # pytest warns about plugins that are imported before it starts, as this runner must be.
    configuration = project.path / "pytest.ini"
    configuration.write_text(configuration.read_text().replace("filterwarnings = error", ""))
    result = project.test("--integration")
    assert result.counts == {"passed": 12}, result.output


def test_another_apps_test_command_is_reported(project: Project) -> None:
    project.write("other/__init__.py", "")
    project.write("other/management/__init__.py", "")
    project.write("other/management/commands/__init__.py", "")
    project.write(
        "other/management/commands/test.py",
        "from django.core.management.commands.test import Command",
    )
    project.settings('INSTALLED_APPS = ["other", *INSTALLED_APPS]')
    result = project.manage("check")
    assert "itkit.W001" in result.output
    project.settings('TEST_RUNNER = "itkit.runner.IntegrationRunner"')
    assert "itkit.W001" not in project.manage("check").output


def test_other_databases_are_left_to_django_and_the_start_line_says_so(project: Project) -> None:
    write_tests(
        project,
        textwrap.dedent("""
        from django.db import connections
        from itkit.test import IntegrationTestCase
        from shop.models import Customer

        class Both(IntegrationTestCase):
            def test_each_alias_is_a_database_of_its_own(self):
                Customer.objects.create(email="a@example.com")
                Customer.objects.using("second").create(email="b@example.com")
                for alias in ("default", "second", "lite"):
                    self.assertEqual(
                        Customer.objects.using(alias).count(), 0 if alias == "lite" else 1
                    )
                self.assertEqual(connections["replica"].settings_dict["OPTIONS"]["options"],
                                 connections["default"].settings_dict["OPTIONS"]["options"])
        """),
    )
    project.settings("""
        DATABASES["second"] = {**DATABASES["default"], "HOST": "127.0.0.2"}
        DATABASES["replica"] = {**DATABASES["default"], "TEST": {"MIRROR": "default"}}
        DATABASES["lite"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    """)
    for options in ([], ["--parallel", "2"]):
        result = project.test("--integration", *options)
        assert result.counts == {"passed": 1}, result.output
        assert "database 'lite' is sqlite: left to Django" in result.output


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
        process.wait()
        assert project.leftovers() == [], f"killed after {moment:.2f} s"
        process.communicate(timeout=5)


REDIS_CLIENTS = """
    import redis
    from django.conf import settings
    from django.core.cache import cache

    from itkit import EscapeError
    from itkit.test import IntegrationTestCase

    from shop.clients import mine

    stray = redis.Redis(port=STRAY)


    class Clients(IntegrationTestCase):
        def test_a_client_of_the_projects_own_address_is_redirected(self):
            cache.set("k", "v")
            self.assertEqual(mine.keys("*"), [b":1:k"])

        def test_the_named_setting_points_at_the_tests_redis(self):
            self.assertNotIn("127.0.0.1:1/", settings.QUEUE_URL)
            client = redis.Redis.from_url(settings.QUEUE_URL)
            client.set("a", 1)
            self.assertEqual(mine.get("a"), b"1")

        def test_a_client_of_another_address_is_refused(self):
            with self.assertRaisesRegex(EscapeError, 'ITKIT."REDIS"...SETTINGS'):
                stray.set("k", "v")

        def test_what_reaches_everybody_is_refused(self):
            for command in (["FLUSHALL"], ["CONFIG", "SET", "maxmemory", "1"], ["NO.SUCH"]):
                with self.assertRaises(EscapeError):
                    mine.execute_command(*command)
"""


def test_no_client_reaches_a_developers_own_redis(project: Project) -> None:
    import redis

    from tests.redis_server import on_port

    with on_port() as developers:
        port = developers.url.rpartition(":")[2].partition("/")[0]
        write_tests(project, REDIS_CLIENTS.replace("STRAY", port))
        project.write(
            "shop/clients.py",
            "import redis\nfrom django.conf import settings\n"
            "mine = redis.Redis.from_url(settings.QUEUE_URL)  # before the run begins\n",
        )
        models = project.path / "shop/models.py"
        models.write_text(f"import shop.clients\n{models.read_text()}")
        project.settings("""
            QUEUE_URL = "redis://127.0.0.1:1/1"
            ITKIT["REDIS"] = {"SETTINGS": ["QUEUE_URL"]}
        """)
        for args in (["--integration"], ["--integration", "--parallel", "2"]):
            result = project.test(*args)
            assert result.counts == {"passed": 4}, result.output
        with redis.Redis.from_url(developers.url) as client:
            assert client.dbsize() == 0


def test_a_project_without_redis_reaches_none(project: Project) -> None:
    write_tests(
        project,
        """
        import redis
        from itkit import EscapeError
        from itkit.test import IntegrationTestCase

        class Stray(IntegrationTestCase):
            def test_a_stray_client_is_refused(self):
                with self.assertRaisesRegex(EscapeError, "no setting names a Redis"):
                    redis.Redis().set("k", "v")
        """,
    )
    project.settings("del CACHES")
    result = project.test("--integration")
    assert result.counts == {"passed": 1}, result.output
    assert "Valkey" not in result.output
