"""One table of scenarios through both doors: whole projects under Django's runner and pytest."""

import psycopg
import pytest
import redis

from tests.support.doors import DOORS, SERIAL, TESTS, enter, write_tests
from tests.support.projects import Project, Result
from tests.support.redis_server import on_port


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    return request.param


def test_every_scenario_passes_and_nothing_is_left(door: str, project: Project) -> None:
    write_tests(project, TESTS)
    result = enter(door, project)
    assert result.counts == {"passed": 13}, result.output
    assert "itkit: Postgres 18" in result.output
    assert project.leftovers() == []


@pytest.mark.parametrize("door", ["django", "django, two forked workers", "pytest"])
def test_a_given_server_gets_back_what_it_had(
    door: str, project: Project, postgres_url: str, redis_url: str
) -> None:
    write_tests(project, TESTS)
    client = redis.Redis.from_url(redis_url)
    client.flushall()  # what a run killed by another test has left until its lease expires
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
    assert result.counts == {"passed": 13}, result.output
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
    assert result.counts == {"passed": 2, "skipped": 11}
    assert "run with --integration" in result.output
    assert "itkit: Postgres" not in result.output
    assert list(project.data_root.iterdir()) == []


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


@pytest.mark.usefixtures("no_databases")  # of earlier tests, which are not looked for here
def test_two_runs_at_once_on_one_server_do_not_meet(
    project: Project, postgres_url: str, redis_url: str
) -> None:
    write_tests(project, TESTS)
    env = {"ITKIT_POSTGRES_URL": postgres_url, "ITKIT_REDIS_URL": redis_url}
    commands = [["manage.py", "test", "--shuffle"], ["-m", "pytest"], ["manage.py", "test"]]
    processes = [project.start(*command, "--integration", **env) for command in commands]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    for output in outputs:
        assert Result(0, output.strip()).counts == {"passed": 13}, output
    with psycopg.connect(postgres_url) as connection:
        left = connection.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE 'itkit%' UNION ALL"
            " SELECT nspname FROM pg_namespace WHERE nspname LIKE 'itkit%'"
        ).fetchall()
    assert left == []


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
            for command in (["SWAPDB", "0", "1"], ["CONFIG", "SET", "maxmemory", "1"]):
                with self.assertRaises(EscapeError):
                    mine.execute_command(*command)


    class ClientsOfAnotherWorker(Clients):
        pass
"""


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize("door", ["django", "django, two forked workers"])
def test_no_client_reaches_a_developers_own_redis(door: str, project: Project) -> None:
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
        result = enter(door, project)
        assert result.counts == {"passed": 8}, result.output
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
