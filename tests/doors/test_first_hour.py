"""What somebody meets who has just begun: short tracebacks, hints, readable objects."""

import re
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.doors import DOORS, SERIAL, enter, write_tests
from tests.support.projects import Project

TESTS = """
    from django.test import TestCase, TransactionTestCase

    from itkit import Backends, TestDataManager, Timeline, observe
    from itkit.test import IntegrationTestCase
    from shop import gateways, services
    from shop.models import Customer


    class Mistakes(IntegrationTestCase):
        def test_in_the_test(self):
            self.backends.payments.charge.assert_called_once()

        def test_in_a_block(self):
            with observe() as seen:
                pass
            seen.assert_queries(1)

        def test_in_the_application(self):
            services.pay()

        def test_in_a_factory(self):
            self.data.create("shop.Customer", emial="x")

        def test_none_of_ours(self):
            services.fail()

        def test_the_objects_say_what_they_are(self):
            self.data.create(Customer)
            self.assertIsInstance(self.backends, Backends)
            self.assertIsInstance(self.data, TestDataManager)
            self.assertIsInstance(self.timeline, Timeline)
            self.assertEqual(repr(self.backends), "<Backends: payments, sms>")
            self.assertEqual(repr(self.data), "<TestDataManager: 1 of shop.Customer>")
"""
SERVICES = """
    from shop import gateways


    def pay():
        return gateways.Stripe().charge(1, token="t").upper()


    def fail():
        raise KeyError("of the application")
"""


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize("door", SERIAL)
def test_a_traceback_ends_with_the_users_own_line(door: str, project: Project) -> None:
    project.write("shop/services.py", SERVICES)
    write_tests(project, TESTS)
    result = enter(door, project)
    assert result.counts["passed"] == 1, result.output
    for line in (
        "self.backends.payments.charge.assert_called_once()",
        "seen.assert_queries(1)",
        'return gateways.Stripe().charge(1, token="t").upper()',
        'self.data.create("shop.Customer", emial="x")',
        'raise KeyError("of the application")',
    ):
        assert line in result.output
    frames = [line for line in result.output.splitlines() if "itkit/" in line and "line " in line]
    assert frames == [], result.output
    assert "factory/base.py" not in result.output


WITHOUT = """
    import pytest
    from django.test import TestCase


    class Plain(TestCase):
        def test_needs_a_database(self):
            pass
"""


@pytest.mark.parametrize("door", SERIAL)
def test_without_integration_a_refused_connection_says_what_brings_a_server(
    door: str, project: Project
) -> None:
    write_tests(project, WITHOUT)
    result = project.test() if door == "django" else project.pytest()
    assert result.code != 0
    command = f"{Path(sys.executable).name} manage.py test" if door == "django" else "pytest"
    assert f"this brings one, for the tests only: {command} --integration" in result.output
    assert f"this brings one, for the tests only: {command} --integration" not in (
        enter(door, project).output
    )


NO_REDIS = """
    import pytest
    from django.core.cache import cache
    from redis import Redis


    def test_a_cache_without_its_server():
        cache.set("k", "v")


    def test_a_host_that_there_is_not():
        Redis(host="redis.invalid").ping()


    def test_errors_in_a_circle():
        first, second = OSError("a"), OSError("b")
        first.__cause__, second.__cause__ = second, first
        raise first


    @pytest.mark.django_db
    def test_a_database_on_a_host_that_there_is_not():
        pass
"""


def test_without_integration_each_server_that_does_not_answer_is_named(project: Project) -> None:
    """django-redis raises errors that came from each other in a circle."""
    project.settings("""
        DATABASES["default"]["HOST"] = "db.invalid"
        CACHES["default"]["LOCATION"] = "redis://localhost:1/0"
    """)
    project.write("test_no_redis.py", NO_REDIS)
    result = project.pytest("test_no_redis.py")
    assert result.counts == {"failed": 3, "error": 1}, result.output
    brings = "server answers there; this brings one, for the tests only: pytest --integration"
    assert result.output.count(f"no Redis {brings}") == 2, result.output
    assert result.output.count(f"no database {brings}") == 1, result.output


FORGOTTEN = """
    from django.test import TestCase

    from shop.models import Customer


    class Forgotten(TestCase):
        def test_uses_the_new_field(self):
            Customer.objects.create(email="a@example.com", nick="a")

        def test_fails_otherwise(self):
            self.fail("on purpose")
"""


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize("door", SERIAL)
def test_forgotten_migrations_are_named_in_each_run(door: str, project: Project) -> None:
    models = project.path / "shop/models.py"
    text = models.read_text()
    field = "    nick = models.CharField(max_length=9)\n"
    models.write_text(text.replace("(unique=True)\n", f"(unique=True)\n{field}", 1))
    write_tests(project, FORGOTTEN)
    for _ in range(2):
        result = enter(door, project)
        assert result.counts == {"failed": 2}, result.output
        assert result.output.count("manage.py makemigrations shop") == 1, result.output


OTHERWISE = """
    class Parcel(models.Model):
        code = models.CharField(max_length=30, unique=True)
        weight = models.DecimalField(max_digits=9, decimal_places=2, null=True)
        label = models.JSONField(default=dict)
        zone = models.CharField(max_length=9)
"""
BEFORE = """
    from django.db import migrations, models


    class Migration(migrations.Migration):
        dependencies = [("shop", "0001_initial")]
        operations = [
            migrations.CreateModel(
                "Parcel",
                [
                    ("id", models.AutoField(primary_key=True)),
                    ("code", models.CharField(max_length=3)),
                    ("weight", models.DecimalField(max_digits=4, decimal_places=2)),
                    ("label", models.IntegerField(default=0)),
                    ("zone", models.IntegerField(default=0)),
                    ("gone", models.CharField(max_length=9)),
                ],
            )
        ]
"""
ALTERED = """
    from django.db import connection
    from django.test import TestCase

    from shop.models import Parcel


    class Altered(TestCase):
        @classmethod
        def setUpTestData(cls):
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE shop_parcel ALTER gone SET DEFAULT ''")

        def test_a_longer_text(self):
            Parcel.objects.create(code="longer", weight=1, label=1, zone=1)

        def test_a_larger_number(self):
            Parcel.objects.create(code="a", weight=5_000_000, label=1, zone=1)

        def test_null(self):
            Parcel.objects.create(code="a", label=1, zone=1)

        def test_another_type(self):
            Parcel.objects.create(code="a", weight=1, label=1, zone="north")

        def test_a_json(self):
            Parcel.objects.create(code="a", weight=1, label={}, zone=1)

        def test_a_new_constraint(self):
            Parcel.objects.bulk_create(
                [Parcel(code="a", weight=1, label=1, zone=1)],
                update_conflicts=True, unique_fields=["code"], update_fields=["weight"],
            )

        def test_a_comparison(self):
            list(Parcel.objects.filter(zone="north"))


    class Removed(TestCase):
        def test_a_field_that_is_gone(self):
            Parcel.objects.create(code="a", weight=1, label=1, zone=1)
"""


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize("door", SERIAL)
def test_forgotten_migrations_are_named_for_what_differs_otherwise(
    door: str, project: Project
) -> None:
    models = project.path / "shop/models.py"
    models.write_text(f"{models.read_text()}\n\n{dedent(OTHERWISE)}")
    project.write("shop/migrations/0002_parcel.py", BEFORE)
    write_tests(project, ALTERED)
    result = enter(door, project)
    assert result.counts == {"failed": 8}, result.output
    assert result.output.count("manage.py makemigrations shop") == 8, result.output


BLOCKED = """
    import socket

    import pytest

    class SocketBlockedError(RuntimeError):
        pass

    @pytest.fixture(autouse=True)
    def no_sockets(request, monkeypatch):
        class Refused(socket.socket):
            def __init__(self, *args, **kwargs):
                raise SocketBlockedError("A test tried to use socket.socket.")

        if "refused" in request.node.name:
            monkeypatch.setattr(socket, "socket", Refused)
"""
SOCKETS = """
    import socket

    import pytest
    from django.core.cache import cache

    def test_refused_by_the_cache():
        cache.client.get_client().connection_pool.disconnect()
        cache.set("k", "v")

    @pytest.mark.integration
    def test_the_others_are_run(data):
        cache.set("k", "v")
        data.create("shop.Customer")
"""


@pytest.mark.usefixtures("shared_servers")
def test_refused_sockets_do_not_end_the_run(project: Project) -> None:
    """As pytest-socket refuses them."""
    project.write("conftest.py", BLOCKED)
    project.write("test_sockets.py", SOCKETS)
    project.settings("""
        ITKIT["BACKENDS"]["tasks"] = {"BUILTIN": "celery"}
    """)
    project.write(
        "shop/__init__.py",
        """
        from celery import Celery

        app = Celery("shop")
        app.conf.task_always_eager = True
        app.set_default()
        """,
    )
    result = project.pytest("--integration", "test_sockets.py")
    assert result.counts == {"failed": 1, "passed": 1}, result.output
    assert "does not answer any more" not in result.output
    assert "--allow-unix-socket" in result.output
    assert "task_always_eager of Celery has no effect" in result.output


THROUGH = """
    import asyncio

    import pytest
    from django.db import connection

    from shop import gateways
    from shop.models import Customer


    @pytest.fixture
    def two_of_one_address(data):
        data.create("shop.Customer", email="a@example.com")
        data.create("shop.Customer", email="a@example.com")


    @pytest.mark.integration
    def test_an_error_of_a_library_that_itkit_calls(two_of_one_address):
        pass


    @pytest.mark.integration
    def test_an_error_of_the_database():
        with connection.cursor() as cursor:
            cursor.execute("SELECT nothing")


    @pytest.mark.integration
    def test_arguments_that_the_real_one_does_not_take():
        gateways.Stripe().charge(1, 2, 3)


    @pytest.mark.integration
    def test_an_error_that_the_test_has_programmed(backends):
        backends.payments.charge.raises(ConnectionError("down"))
        gateways.Stripe().charge(1, token="t")


    @pytest.mark.integration
    def test_an_answer_with_other_arguments(backends):
        backends.payments.charge.does(lambda: "txn_1")
        gateways.Stripe().charge(1, token="t")


    @pytest.mark.integration
    def test_a_library_that_uses_what_no_test_has_programmed(db):
        Customer.objects.filter(email=gateways.Stripe().charge(1, token="t")).update(email="b")


    @pytest.mark.integration
    def test_a_host_that_nobody_has_faked():
        import urllib.request

        urllib.request.urlopen("http://api.example.com")


    @pytest.mark.integration
    def test_data_in_a_coroutine(data):
        async def create():
            data.create("shop.Customer")

        asyncio.run(create())


    @pytest.mark.integration
    def test_a_group(data):
        try:
            data.create("shop.Custmer")
        except Exception as error:
            raise ExceptionGroup("all", [error]) from error
"""


@pytest.mark.usefixtures("shared_servers")
def test_frames_that_a_call_goes_through_are_hidden(project: Project) -> None:
    project.write("test_through.py", THROUGH)
    result = project.pytest("--integration", "test_through.py")
    assert result.counts == {"failed": 8, "error": 1}, result.output
    frames = re.findall(r"^(?:.*/)?itkit/.*:\d+: .*$", result.output, re.MULTILINE)
    assert frames == [], result.output
    assert 'itkit/data/manager.py", line' not in result.output
    assert "takes 3 positional arguments but 4 were given" in result.output
    assert "UnprogrammedReturnError" in result.output
    full = project.pytest("--integration", "test_through.py", "--full-trace", "-k", "arguments")
    assert "itkit/fakes/methods.py" in full.output


IN_DJANGO = """
    from django.db import connection
    from django.test import TestCase

    from itkit.test import IntegrationTestCase
    from shop import gateways
    from shop.models import Customer


    class Prepared(IntegrationTestCase):
        @classmethod
        def setUpTestData(cls):
            Customer.objects.create(email="a@example.com", nick="a")

        def test_prepared(self):
            pass


    class Through(TestCase):
        def test_the_database(self):
            with connection.cursor() as cursor:
                cursor.execute("SELECT nothing")

        def test_arguments(self):
            gateways.Stripe().charge(1, 2, 3)

        def test_in_a_subtest(self):
            with self.subTest():
                gateways.Stripe().charge(1, 2, 3)
"""


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize("door", ["django", "django, two forked workers"])
def test_frames_are_hidden_under_djangos_runner(door: str, project: Project) -> None:
    models = project.path / "shop/models.py"
    field = "    nick = models.CharField(max_length=9)\n"
    models.write_text(models.read_text().replace("(unique=True)\n", f"(unique=True)\n{field}", 1))
    write_tests(project, IN_DJANGO)
    result = enter(door, project)
    assert "errors=4" in result.output, result.output
    frames = [line for line in result.output.splitlines() if "itkit/" in line and ", line " in line]
    assert frames == [], result.output
    assert "manage.py makemigrations shop" in result.output


WITHOUT_TEXT = """
    from itkit.test import IntegrationTestCase
    from shop import gateways


    class Refused(ValueError):
        def __str__(self):
            raise AttributeError("not set up")

        __repr__ = __str__


    class Token(str):
        def __repr__(self):
            raise AttributeError("not set up")


    class Texts(IntegrationTestCase):
        def test_a_raised(self):
            gateways.Stripe().charge(1, token=Token("x"))
            raise Refused(lambda: "cannot be pickled")

        def test_b_required(self):
            gateways.Stripe().charge(1, token=Token("x"))
            self.backends.payments.charge.assert_called_once_with(1, token="t")

        def test_c_programmed(self):
            self.backends.payments.charge.raises(Refused())
            gateways.Stripe().charge(1, token="t")

        def test_d_answered(self):
            self.backends.payments.charge.when(2, token=Token("x")).returns("other")
            self.backends.payments.charge.returns(Token("x"))
            gateways.Stripe().charge(1, token="t")
            self.fail(repr(self.timeline))

        def test_e_goes_on(self):
            pass
"""


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize("door", DOORS)
def test_an_object_whose_text_cannot_be_made_is_shown_in_words(
    door: str, project: Project, tmp_path: Path
) -> None:
    write_tests(project, WITHOUT_TEXT)
    result = enter(door, project, f"--itkit-report={tmp_path / 'report'}")
    assert result.counts == {"passed": 1, "failed": 4}, result.output
    assert "token=<Token whose repr() raises AttributeError>" in result.output
    assert "!! <Refused whose repr() raises AttributeError>" in result.output
    assert "-> <Token whose repr() raises AttributeError>" in result.output
    assert "to repeat it: " in result.output
