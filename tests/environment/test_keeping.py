"""``--itkit-keep`` stops a run at each failed test, and at the last one."""

import subprocess
import sys

import pytest

from tests.support.doors import SERIAL, write_tests
from tests.support.projects import Project, wait_until

pytestmark = pytest.mark.usefixtures("shared_servers")

TESTS = """
    from django.core.cache import cache
    from django.test import TestCase

    from itkit.test import IntegrationMixin, IntegrationTestCase
    from shop.models import Customer


    class A(IntegrationMixin, TestCase):
        def test_fails(self):
            self.data.create(Customer, email="unseen@example.com")
            self.fail("rolled back")


    class B(IntegrationTestCase):
        def tearDown(self):
            cache.clear()

        def test_a_passes(self):
            self.data.create(Customer, email="gone@example.com")

        def test_b_fails(self):
            self.data.create(Customer, email="kept@example.com")
            cache.set("mine", "v")
            self.assertEqual("pending", "paid")

        def test_c_skipped(self):
            self.skipTest("for a reason")


    class C(IntegrationTestCase):
        def setUp(self):
            self.data.create(Customer, email="early@example.com")
            self.data.create("shop.Custmer")

        def test_set_up(self):
            pass


    class Class(IntegrationTestCase):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            cls.data.create(Customer, email="class@example.com")
            raise ValueError("in the class")

        def test_never_runs(self):
            pass


    class D(IntegrationTestCase):
        def test_is_last(self):
            self.data.create(Customer, email="last@example.com")
"""
FUNCTIONS = """
    import pytest
    from shop.models import Customer


    @pytest.fixture
    def customer(data):
        return data.create(Customer, email="fixture@example.com")


    @pytest.mark.integration
    def test_function_fails(customer, capsys):
        assert customer.email == ""


    @pytest.mark.integration
    def test_zz_is_last(customer):
        pass
"""
LOOK = """
from django.core.cache import cache
from shop.models import Customer
print("sees", sorted(found.email for found in Customer.objects.all()), cache.get("mine"))
"""


class Kept:
    """A command with --itkit-keep, at a terminal that is a pipe."""

    def __init__(self, project: Project, *command: str) -> None:
        self.project = project
        self.said = ""
        python = sys.executable if project.warm is None else project.warm.executable
        self._process = subprocess.Popen(
            [python, *command, "--integration", "--itkit-keep"],
            cwd=project.path,
            env=project.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> "Kept":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def stop(self) -> str:
        """Wait until it stands still, and return what it says of that."""
        before = len(self.said)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said += line
            if line.startswith("Enter lets the run continue"):
                return self.said[before:]
        raise AssertionError(self.said)

    def look(self) -> str:
        """Return what another terminal sees."""
        output = self.project.manage("itkit", "shell", "-c", LOOK).output
        return output.rpartition("sees ")[2] or output

    def enter(self) -> None:
        """Press Enter."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> int:
        """Return the exit code."""
        rest, _ = self._process.communicate(timeout=120)
        self.said += rest
        return self._process.returncode


@pytest.mark.parametrize("door", SERIAL)
def test_a_run_stands_at_each_failure_and_at_its_last_test(door: str, project: Project) -> None:
    write_tests(project, TESTS)
    is_django = door == "django"
    command = (
        ["manage.py", "test"] if is_django else ["-m", "pytest", "shop", "-p", "no:cacheprovider"]
    )
    if not is_django:
        project.write("shop/tests/test_shop_functions.py", FUNCTIONS)
    with Kept(project, *command) as kept:
        assert "A.test_fails has failed, AssertionError: rolled back." in kept.stop().replace(
            "::", "."
        )
        assert "whose rows no other session sees" in kept.said
        assert kept.look() == "[] None"
        kept.enter()
        told = kept.stop()
        assert "test_b_fails has failed, AssertionError: 'pending' != 'paid'" in told
        assert "whose rows" not in told
        assert kept.look() == "['kept@example.com'] v"
        kept.enter()
        assert "test_set_up has failed, DataError: No installed model" in kept.stop()
        assert kept.look() == "['early@example.com'] None"
        kept.enter()
        assert "has failed, ValueError: in the class." in kept.stop()
        assert kept.look() == "['class@example.com'] None"
        kept.enter()
        if not is_django:
            kept.said += kept.stop()
            assert "D::test_is_last" not in kept.said
            assert kept.look() == "['fixture@example.com'] None"
            kept.enter()
        assert "is_last is the last test" in kept.stop()
        email = "last@example.com" if is_django else "fixture@example.com"
        assert kept.look() == f"['{email}'] None"
        kept.enter()
        assert kept.end() == 1
    assert kept.said.count("Enter lets the run continue") == (5 if is_django else 6)
    assert not project.leftovers()


@pytest.mark.parametrize("door", SERIAL)
@pytest.mark.slow
def test_clean_lets_it_go_on_without_a_terminal(door: str, project: Project) -> None:
    write_tests(project, TESTS)
    command = ["manage.py", "test"] if door == "django" else ["-m", "pytest", "shop"]
    started = project.start(*command, "--integration", "--itkit-keep")

    def stands() -> bool:
        return "would go on" in project.manage("itkit", "clean", "--dry-run").output

    assert wait_until(stands)
    cleaned = project.manage("itkit", "clean")
    assert "test_fails: goes on" in cleaned.output, cleaned.output
    result = project.finish(started)
    # unittest counts the error of the class, but none of its tests.
    assert result.counts["passed"] == (1 if door == "django" else 2), result.output
    assert result.output.count("Enter lets the run continue") == 1
    assert "would go on" not in project.manage("itkit", "clean", "--dry-run").output


@pytest.mark.parametrize("door", ["django", "pytest"])
def test_one_process_stands_still(door: str, project: Project) -> None:
    write_tests(project, TESTS)
    run = project.test if door == "django" else project.pytest
    several = run("--integration", "--itkit-keep", "--parallel" if door == "django" else "-n", "2")
    alone = "--itkit-keep has one process stand still: leave out --parallel, or with pytest-xdist"
    assert f"{alone} add -n0." in several.output
    plain = run("--itkit-keep")
    told = "--itkit-keep changes nothing without --integration: add it, or leave it out."
    assert told in plain.output
    assert several.code != 0
    assert plain.code != 0
