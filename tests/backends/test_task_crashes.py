"""A task that a built-in backend has run, and that has crashed, fails the test unless it looks."""

import django
import pytest

from tests.support.doors import SERIAL
from tests.support.projects import Project
from tests.support.verdicts_project import judged, section

pytestmark = pytest.mark.usefixtures("shared_servers")

APP = """
    from celery import Celery, shared_task

    celery = Celery("shop", set_as_current=True)


    @shared_task
    def crash(number):
        raise ValueError(f"task {number}")


    @shared_task
    def work(number):
        return number


    def send(number=5):
        return crash.delay(number)


    def send_and_ask():
        return send().failed()


    def send_and_swallow():
        try:
            send().get()
        except ValueError:
            pass
"""

TESTS = """
    from itkit.test import IntegrationTestCase
    from shop import app


    class Crashes(IntegrationTestCase):
        def sent(self):
            result = app.send()
            if MODE == "never":
                self.backends.tasks.run()
            return result

        def test_red_a_nobody_looks(self):
            self.sent()

        def test_red_b_the_test_looks_at_the_number_of_calls_only(self):
            self.sent()
            self.backends.tasks.apply_async.assert_called_once_with("shop.app.crash", (5,), {})

        def test_red_c_the_second_one_is_sent_after_the_look(self):
            self.sent()
            self.assertEqual(len(self.backends.tasks.results), 1)
            self.sent()

        def test_green_the_test_asks_for_results(self):
            self.sent()
            self.assertEqual([result.state for result in self.backends.tasks.results], ["FAILURE"])

        def test_green_the_test_asks_for_the_error_of_the_call(self):
            self.sent()
            [call] = self.backends.tasks.apply_async.calls
            self.assertEqual(str(call.error), "task 5")
            self.assertIn("!! ValueError('task 5')", str(self.timeline))

        def test_green_a_task_that_works(self):
            app.work.delay(5)
            self.backends.tasks.run()
"""

NOW = """
        def test_red_e_the_application_asks(self):
            self.assertTrue(app.send_and_ask())

        def test_red_d_the_application_swallows(self):
            app.send_and_swallow()

        def test_green_the_test_asks_what_it_has_sent(self):
            self.assertEqual(app.send().state, "FAILURE")

        def test_green_the_test_catches(self):
            with self.assertRaises(ValueError):
                app.send().get()

        def test_green_the_test_catches_by_try(self):
            try:
                app.send().get()
            except ValueError:
                pass
"""

NEVER = """
        def test_green_the_test_reads_what_run_returns(self):
            app.send()
            [result] = self.backends.tasks.run()
            self.assertTrue(result.failed())
"""


TASKS_OF_DJANGO = """
    from django.tasks import TaskResultStatus, task


    @task
    def crash(number):
        raise ValueError(f"task {number}")


    @task
    def work(number):
        return number


    def send(number=5):
        return crash.enqueue(number)


    def send_and_ask():
        return send().status == TaskResultStatus.FAILED
"""
TESTS_OF_DJANGO = """
    from django.db import transaction
    from django.tasks import TaskResultStatus
    from itkit.test import IntegrationTestCase
    from shop import app


    class Crashes(IntegrationTestCase):
        def sent(self):
            result = app.send()
            if MODE == "never":
                self.backends.django_tasks.run()
            return result

        def test_red_a_nobody_looks(self):
            self.sent()

        def test_red_b_the_test_looks_at_the_number_of_calls_only(self):
            self.sent()
            self.backends.django_tasks.enqueue.assert_called_once_with("shop.app.crash", 5)

        def test_red_c_the_second_one_is_sent_after_the_look(self):
            self.sent()
            self.assertEqual(len(self.backends.django_tasks.results), 1)
            self.sent()

        def test_red_d_in_a_transaction(self):
            with transaction.atomic():
                self.sent()

        def test_green_the_test_asks_for_results(self):
            self.sent()
            [result] = self.backends.django_tasks.results
            self.assertEqual(result.status, TaskResultStatus.FAILED)
            self.assertIn("ValueError", result.errors[0].exception_class_path)

        def test_green_the_test_asks_for_the_error_of_the_call(self):
            self.sent()
            [call] = self.backends.django_tasks.enqueue.calls
            self.assertEqual(str(call.error), "task 5")
            self.assertIn("!! ValueError('task 5')", str(self.timeline))

        def test_green_a_task_that_works(self):
            app.work.enqueue(5)
            self.backends.django_tasks.run()
            self.assertEqual(self.backends.tasks.results, [])  # of Celery, which is beside it
"""


@pytest.mark.skipif(django.VERSION < (6, 0), reason="tasks came with Django 6.0")
@pytest.mark.parametrize(
    ("run", "door"), [("now", "django"), ("commit", "pytest"), ("never", "django")]
)
def test_a_crash_of_a_task_of_django_fails_it_too(run, door, project: Project):
    project.settings(f"""
        ITKIT["BACKENDS"]["tasks"] = {{"BUILTIN": "celery"}}
        ITKIT["BACKENDS"]["django_tasks"] = {{"BUILTIN": "tasks", "OPTIONS": {{"RUN": "{run}"}}}}
        ITKIT["EFFECTS"] = "off"
    """)
    result = judged(door, project, TESTS_OF_DJANGO.replace("MODE", repr(run)), app=TASKS_OF_DJANGO)

    told = section(result.output, "test_red_a_nobody_looks")
    assert "The task 'shop.app.crash' has crashed, and the test did not look at that: " in told
    assert "ValueError('task 5')" in told
    assert "sent at shop/app.py:16 in send" in told


@pytest.mark.parametrize("door", SERIAL)
@pytest.mark.parametrize(("run", "more"), [("now", NOW), ("commit", ""), ("never", NEVER)])
def test_a_crash_fails_the_test_that_does_not_look(door, run, more, project: Project):
    project.settings(f"""
        ITKIT["BACKENDS"]["tasks"] = {{"BUILTIN": "celery", "OPTIONS": {{"RUN": "{run}"}}}}
        ITKIT["EFFECTS"] = "off"
    """)
    tests = TESTS.replace("MODE", repr(run))
    result = judged(door, project, tests + more, app=APP)

    told = section(result.output, "test_red_a_nobody_looks")
    assert "The task 'shop.app.crash' has crashed, and the test did not look at that: " in told
    assert "ValueError('task 5')" in told
    assert "sent at shop/app.py:18 in send" in told
