"""pytest's door alone: what a test function gets."""

import pytest

from tests.support.doors import DOORS, TESTS, enter, write_tests
from tests.support.projects import FILES, Project

pytestmark = pytest.mark.usefixtures("shared_servers")

PYTEST = [door for door in DOORS if "pytest" in door]


@pytest.mark.parametrize("door", PYTEST)
def test_pytest_functions_have_the_same_semantics(door: str, project: Project) -> None:
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
    result = enter(door, project)
    assert result.counts == {"passed": 9}, result.output
    result = project.pytest("--deselect", "test_functions.py::test_plain_db")
    assert result.counts == {"skipped": 8}, result.output


def test_pytest_djangos_runner_hands_the_option_on(project: Project) -> None:
    write_tests(project, TESTS)
    project.settings('TEST_RUNNER = "pytest_django.runner.TestRunner"')
    # pytest warns about plugins that are imported before it starts, as this runner must be.
    project.go_on_after_warnings()
    result = project.test("--integration", "shop/tests/test_shop.py::Keys")
    assert result.counts == {"passed": 2}, result.output


FOREIGN = """
    import pytest

    @pytest.fixture
    def data():
        return "mine"

    @pytest.mark.integration
    def test_runs(data):
        assert data == "mine"

    def test_has_no_fixture_of_ours(backends):
        pass
"""


@pytest.mark.parametrize("has_settings", [True, False])
def test_a_project_that_does_not_use_itkit_is_left_alone(
    project: Project, has_settings: bool
) -> None:
    project.settings('INSTALLED_APPS.remove("itkit")')
    setting = "DJANGO_SETTINGS_MODULE = settings"
    configuration = FILES["pytest.ini"].replace(
        setting, f"markers = integration\n        {setting if has_settings else ''}"
    )
    project.write("pytest.ini", configuration)
    project.write("test_foreign.py", FOREIGN)
    result = project.pytest()
    assert result.counts == {"passed": 1, "error": 1}, result.output
    assert "fixture 'backends' not found" in result.output
    refused = project.pytest("--integration")
    assert refused.code == 4
    assert "--integration needs" in refused.output
    assert "Traceback" not in refused.output


def test_a_fixture_without_integration_says_what_it_needs(project: Project) -> None:
    project.write("test_unmarked.py", "def test_unmarked(backends):\n    pass\n")
    result = project.pytest()
    assert result.counts == {"error": 1}
    assert "The fixture 'backends' needs --integration." in result.output


@pytest.mark.parametrize("door", PYTEST)
def test_a_pytest_inside_of_a_test_leaves_the_environment_alone(
    door: str, project: Project
) -> None:
    project.write("inner.py", "def test_inner():\n    pass\n")
    project.write(
        "test_outer.py",
        """
        import subprocess
        import sys

        import pytest
        from shop.models import Customer

        @pytest.mark.integration
        @pytest.mark.parametrize("options", [[], ["-p", "no:django"]])
        def test_in_process(data, backends, options):
            backends.payments.charge.returns("txn")
            pytest.main(["-q", *options, "inner.py"])  # Django refuses a second test environment
            assert backends.payments.charge.call_count == 0
            data.create(Customer)

        @pytest.mark.integration
        def test_two_runs_in_one_process(data):
            assert pytest.main(["-q", "--integration", "inner.py"]) == 4

        @pytest.mark.integration
        def test_in_a_process_of_its_own(data):
            command = [sys.executable, "-m", "pytest", "-q", "--integration", "inner.py"]
            assert subprocess.run(command).returncode == 0

        @pytest.mark.integration
        def test_the_schema_is_still_ours(data):
            assert not Customer.objects.exists()
            data.create(Customer)
        """,
    )
    result = enter(door, project, "-W", "default")
    assert result.counts["passed"] == 5, result.output
    assert "failed" not in result.counts, result.output
    assert project.leftovers() == []
