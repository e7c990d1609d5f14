"""A worker that dies: the run goes on, says in words who has died in which test, and is red."""

import os
import signal
from contextlib import suppress

import psutil
import pytest

from tests.support.doors import slow, write_tests
from tests.support.projects import Project, Result, wait_until

pytestmark = pytest.mark.usefixtures("shared_servers")

TESTS = """
    import ctypes
    import os
    import signal
    import sys
    import time
    import unittest

    import psutil
    from django.core.cache import cache
    from django.test import SimpleTestCase
    from itkit.test import IntegrationTestCase
    from shop.models import Customer


    def kill():
        os.kill(os.getpid(), signal.SIGKILL)


    class Dying(IntegrationTestCase):
        def test_a_before(self):
            self.assertFalse(Customer.objects.exists())

        def test_b_dies(self):
            Customer.objects.create(email="left@example.com")
            cache.set("left", 1)
            self.die()

        def test_c_after(self):
            pass

        def die(self):
            pass


    class Exits0(Dying):
        def die(self):
            os._exit(0)


    class Exits3(Dying):
        def die(self):
            os._exit(3)


    class Killed(Dying):
        def die(self):
            kill()


    class Crashes(Dying):
        def die(self):
            ctypes.string_at(0)


    class HasChild(Dying):
        def die(self):
            command = psutil.Process(os.getppid())
            if os.fork() == 0:  # which has the files of its parent, and outlives it and the run
                os.close(1)
                os.close(2)
                open(f"child-{os.getpid()}", "w").close()
                while command.is_running() and command.status() != psutil.STATUS_ZOMBIE:
                    time.sleep(0.05)
                os._exit(0)
            while not any(name.startswith("child-") for name in os.listdir()):
                time.sleep(0.01)
            kill()


    class CutOff(Dying):
        def die(self):
            from itkit.runner import workers

            def send(main, kind, content=b""):
                main._channel.sendall(workers._HEADER.pack(kind, 1000) + b"not all")
                kill()

            workers._Main.send = send


    class Between(IntegrationTestCase):
        def test_a_before(self):
            pass

        @classmethod
        def tearDownClass(cls):
            kill()


    class Unsendable(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")
            self.file = open(os.devnull)
            self.file.close()


    class Errors(SimpleTestCase):
        def test_a_cannot_be_sent(self):
            raise Unsendable("apples", "pears")

        def test_b_in_a_subtest(self):
            with self.subTest(given=lambda: None):
                self.fail("in a subtest")

        @unittest.expectedFailure
        def test_c_is_expected(self):
            raise Unsendable("plums", "cherries")

        def test_d_after(self):
            pass


    class Leaves(SimpleTestCase):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            sys.exit(0)

        def test_a(self):
            pass


    class LeavesBefore(SimpleTestCase):
        @classmethod
        def _pre_setup(cls):
            sys.exit(0)

        def test_a(self):
            pass


    class Interrupted(SimpleTestCase):
        def test_a(self):
            raise KeyboardInterrupt

        def test_b(self):
            pass


    class Asynchronous(unittest.IsolatedAsyncioTestCase):
        async def test_a(self):
            pass


    class RunsTwice(SimpleTestCase):
        def run(self, result=None):
            super().run(unittest.TestResult())  # as a test that may fail once
            return super().run(result)

        def test_a(self):
            pass

        def test_b(self):
            pass


    class Innocent(IntegrationTestCase):
        def test_a(self):
            self.assertFalse(Customer.objects.exists())
            self.assertIsNone(cache.get("left"))
            Customer.objects.create(email="left@example.com")
            cache.set("left", 1)

        def test_b(self):
            self.test_a()


    for number in range(8):
        name = f"Innocent{number}"
        globals()[name] = type(name, (Innocent,), {"__module__": __name__})


    class Sleeps(SimpleTestCase):
        def test_a(self):
            open("asleep", "w").close()
            signal.pause()
            time.sleep(60)


    del Dying
"""

MODULE = "shop.tests.test_shop"
DEATHS = {
    "Exits0": "has ended itself with the exit code 0 while it ran {}.Exits0.test_b_dies",
    "Exits3": "has ended itself with the exit code 3 while it ran {}.Exits3.test_b_dies",
    "Killed": "was killed by SIGKILL while it ran {}.Killed.test_b_dies",
    "Crashes": "was killed by SIGSEGV while it ran {}.Crashes.test_b_dies",
    "HasChild": "was killed by SIGKILL while it ran {}.HasChild.test_b_dies",
    "CutOff": "was killed by SIGKILL while it ran {}.CutOff.test_b_dies",
    "Between": "was killed by SIGKILL after {}.Between.test_a_before had ended",
}
OTHERS = [
    "Errors",
    "Leaves",
    "LeavesBefore",
    "Interrupted",
    "RunsTwice",
    "Asynchronous",
    *(f"Innocent{number}" for number in range(8)),
]


@pytest.mark.parametrize("method", ["fork", slow("spawn")])
def test_the_run_goes_on_and_tells(method: str, project: Project) -> None:
    write_tests(project, TESTS)
    labels = [f"{MODULE}.{name}" for name in [*DEATHS, *OTHERS]]
    result = project.test("--integration", "--parallel", "9", *labels, START_METHOD=method)

    said = result.output
    assert result.code == 1, said
    for death in DEATHS.values():
        assert said.count(death.format(MODULE)) == 1, said
    not_run = said.partition("were not run: ")[2].partition("\n----")[0]
    missing = [f"{MODULE}.{name}.test_c_after" for name in DEATHS if name != "Between"]
    missing.append(f"{MODULE}.Interrupted.test_b")
    assert not_run.splitlines()[1:] == [f"  {test}" for test in sorted(missing)], said
    assert "Unsendable: apples and pears" in said
    assert "in the subtest" in said
    assert f"ERROR: setUpClass ({MODULE}.Leaves)" in said
    assert f"ERROR: test_a ({MODULE}.LeavesBefore.test_a)" in said
    assert "SystemExit: 0" in said
    assert f"was stopped by an error after {MODULE}.Interrupted.test_a had ended" in said
    errors = ["not run", "apples", "subtest", "Leaves", "LeavesBefore", "Interrupted", *DEATHS]
    assert f"FAILED (errors={len(errors)}, expected failures=1)" in said, said
    assert "Innocent" not in said
    assert "RunsTwice" not in said
    assert "Asynchronous" not in said

    # Nothing of it is left for the next run.
    again = project.test("--integration", "--parallel", "2", *labels[-2:], START_METHOD=method)
    assert again.counts == {"passed": 4}, again.output


def test_workers_that_cannot_start(project: Project) -> None:
    write_tests(project, TESTS)
    project.settings("""
        import multiprocessing, os
        if multiprocessing.parent_process() is not None:
            if multiprocessing.current_process().name.endswith("1"):
                raise RuntimeError("no start today")
            os._exit(4)
    """)
    labels = [f"{MODULE}.Innocent1", f"{MODULE}.Innocent2"]
    result = project.test("--integration", "--parallel", "2", *labels, START_METHOD="spawn")
    assert result.code == 1, result.output
    silent = "worker 2 has ended itself with the exit code 4, and was running no test"
    assert silent in result.output, result.output
    assert "RuntimeError: no start today" in result.output, result.output
    assert "4 of the tests that were found were not run" in result.output, result.output


@pytest.mark.parametrize("targets", ["the command", "all processes"])
@pytest.mark.parametrize("method", ["fork", slow("spawn")])
def test_ctrl_c_after_a_death(method: str, targets: str, project: Project) -> None:
    write_tests(project, TESTS)
    labels = [f"{MODULE}.{name}" for name in ("Killed", "Sleeps", "Innocent1")]
    process = project.start(
        *("manage.py", "test", "--integration", "--parallel", "2", *labels), START_METHOD=method
    )
    command = psutil.Process(process.pid)
    assert wait_until((project.path / "asleep").exists)
    # The other one has died, and the command has found that out.
    assert wait_until(lambda: len(_workers(command)) == 1 and not _unread(command))
    others = _workers(command) if targets == "all processes" else []
    for pressed in (command, *others):
        os.kill(pressed.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    result = Result(process.returncode, output)

    assert result.code == 1, result.output
    assert DEATHS["Killed"].format(MODULE) in result.output, result.output
    assert f"  {MODULE}.Killed.test_c_after\n" in result.output, result.output
    assert project.processes() == []


def _workers(command: psutil.Process) -> list[psutil.Process]:
    """Return the workers that have not ended; one that is about to has no command line any more."""
    kinds = ([], command.cmdline())
    found = []
    for child in command.children():
        with suppress(psutil.NoSuchProcess):
            is_ours = child.cmdline() in kinds or "spawn_main" in " ".join(child.cmdline())
            if is_ours and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


def _unread(command: psutil.Process) -> list[int]:
    """Return the children that have ended, and whose exit codes the command has not read yet."""
    zombies = []
    for child in command.children():
        with suppress(psutil.NoSuchProcess):
            if child.status() == psutil.STATUS_ZOMBIE:
                zombies.append(child.pid)
    return zombies


def test_workers_of_pytest_that_die(project: Project) -> None:
    write_tests(project, TESTS)
    chosen = " or ".join(["Exits0", "Killed", "Innocent1"])
    result = project.pytest("--integration", "-n", "2", "-k", chosen)
    assert result.code == 1, result.output
    for name in ("Exits0", "Killed"):
        path = f"shop/tests/test_shop.py::{name}::test_b_dies"
        assert f"crashed while running '{path}'" in result.output, result.output
    assert "FAILED shop/tests/test_shop.py::Innocent" not in result.output
    assert result.counts == {"passed": 6, "failed": 2}, result.output
