"""Mail, tasks of Django and Celery, and storages: recorded, programmed, gone after each test."""

import django
import pytest
from django.test import override_settings

from itkit import conf
from itkit.backends import presets, resolve
from itkit.exceptions import ConfigurationError
from tests.support.doors import SERIAL, enter, write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

SINCE_6_0 = django.VERSION >= (6, 0)

MAIL = """
    import smtplib
    import warnings

    from django.core import mail
    from django.db import transaction
    from django.test import SimpleTestCase, override_settings

    from itkit.test import IntegrationTestCase


    def send(subject="Hello", **options):
        return mail.send_mail(subject, "text", "from@example.com", ["to@example.com"], **options)


    class Mail(IntegrationTestCase):
        def test_a_message_is_a_call_and_in_the_outbox(self):
            self.assertEqual(send(), 1)
            self.assertEqual([message.subject for message in mail.outbox], ["Hello"])
            self.assertEqual(self.backends.email.outbox, mail.outbox)
            self.backends.email.send.assert_called_once_with(lambda message: message.subject == "Hello")
            self.timeline.assert_order("email.send")
            (call,) = self.backends.email.send.calls
            self.assertRegex(str(call.site), r"test_shop.py:[0-9]+ in send$")

        def test_each_message_of_many_is_a_call(self):
            message = ("s", "b", "from@example.com", ["to@example.com"])
            self.assertEqual(mail.send_mass_mail([message, message]), 2)
            self.assertEqual(self.backends.email.send.call_count, 2)

        def test_a_failure_is_programmed(self):
            self.backends.email.send.raises(smtplib.SMTPServerDisconnected("down"), times=1)
            with self.assertRaises(smtplib.SMTPServerDisconnected):
                send()
            self.assertEqual(mail.outbox, [])
            self.assertEqual(send(), 1)

        def test_a_silent_failure_is_silent(self):
            self.backends.email.send.raises(smtplib.SMTPServerDisconnected("down"))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Django 6.1 has deprecated it
                self.assertEqual(send(fail_silently=True), 0)
            self.assertEqual(self.backends.email.send.call_count, 1)

        def test_a_message_is_sent_after_the_commit(self):
            with transaction.atomic():
                transaction.on_commit(send)
            self.timeline.assert_order("COMMIT", "email.send")

        def test_a_bad_header_is_refused_as_ever(self):
            with self.assertRaises(ValueError):
                send("a\\nb")
            self.assertEqual(mail.outbox, [])

        def test_the_outbox_has_copies(self):
            message = mail.EmailMessage("one", "b", "from@example.com", ["to@example.com"])
            message.send()
            message.subject = "two"
            self.assertEqual(mail.outbox[0].subject, "one")


    class Without(SimpleTestCase):
        def test_nothing_of_another_test_is_left(self):
            self.assertEqual(mail.outbox, [])
"""


@pytest.mark.parametrize("door", SERIAL)
def test_mail(door, project: Project):
    project.settings('ITKIT["BACKENDS"]["email"] = {"BUILTIN": "mail"}')
    if django.VERSION >= (6, 1):  # which warns where there is none
        project.settings('MAILERS = {"default": {}}')
    write_tests(project, MAIL)
    result = enter(door, project)

    assert result.counts == {"passed": 8}, result.output


@pytest.mark.skipif(django.VERSION < (6, 1), reason="MAILERS came with Django 6.1")
@pytest.mark.parametrize("door", SERIAL)
def test_mailers(door, project: Project):
    project.settings("""
        SMTP = "django.core.mail.backends.smtp.EmailBackend"
        MAILERS = {"default": {"BACKEND": SMTP}, "bulk": {"BACKEND": SMTP}}
        ITKIT["BACKENDS"]["email"] = {"BUILTIN": "mail"}
    """)
    write_tests(
        project,
        """
        from django.core import mail
        from itkit.test import IntegrationTestCase


        class Mailers(IntegrationTestCase):
            def test_each_goes_through_the_same_backend(self):
                for alias in ("default", "bulk"):
                    message = mail.EmailMessage("s", "b", "from@example.com", ["to@example.com"])
                    message.send(using=alias)
                self.assertEqual(self.backends.email.send.call_count, 2)
                self.assertEqual([one.sent_using for one in mail.outbox], ["default", "bulk"])
    """,
    )
    result = enter(door, project)

    assert result.counts == {"passed": 1}, result.output


TASKS_APP = """
    from django.tasks import task

    from shop.models import Customer


    @task
    def greet(email, *, loud=False):
        return Customer.objects.create(email=email).pk

    @task
    def fail():
        raise LookupError("no")

    @task
    def chain():
        greet.enqueue("chained@example.com")

    @task
    async def wait(seconds):
        return seconds
"""

TASKS = """
    import asyncio
    import threading

    from django.db import transaction
    from django.tasks import TaskResultStatus
    from itkit.test import IntegrationTestCase
    from shop.models import Customer
    from shop.tasks import chain, fail, greet, wait


    class Tasks(IntegrationTestCase):
        def test_a_task_is_recorded_and_not_run(self):
            result = greet.enqueue("a@example.com", loud=True)
            self.assertEqual(result.status, TaskResultStatus.READY)
            self.backends.tasks.enqueue.assert_called_once_with(
                "shop.tasks.greet", "a@example.com", loud=True
            )
            self.assertFalse(Customer.objects.exists())
            self.assertEqual(greet.get_result(result.id).id, result.id)

        def test_the_test_runs_them_with_those_that_they_enqueue(self):
            chain.enqueue()
            ran = self.backends.tasks.run()
            self.assertEqual([one.task.module_path for one in ran], ["shop.tasks.chain", "shop.tasks.greet"])
            self.assertEqual(Customer.objects.get().email, "chained@example.com")
            self.assertEqual(self.backends.tasks.run(), [])

        def test_a_task_that_fails(self):
            result = fail.enqueue()
            self.backends.tasks.run()
            result.refresh()
            self.assertEqual(result.status, TaskResultStatus.FAILED)
            self.assertEqual(result.errors[0].exception_class, LookupError)

        def test_from_a_thread_and_from_a_coroutine(self):
            thread = threading.Thread(target=wait.enqueue, args=(1,))
            thread.start()
            thread.join()
            asyncio.run(wait.aenqueue(2))
            self.backends.tasks.run()
            self.assertEqual([one.return_value for one in self.backends.tasks.results], [1, 2])

        def test_a_queue_that_is_down(self):
            self.backends.tasks.enqueue.raises(ConnectionError("down"))
            with self.assertRaises(ConnectionError):
                greet.enqueue("a@example.com")
            self.assertEqual(self.backends.tasks.results, [])

        def test_another_queue_of_another_alias(self):
            result = greet.using(backend="other", queue_name="slow").enqueue("a@example.com")
            self.assertEqual(result.backend, "other")

        def test_nothing_of_another_test_is_left(self):
            self.assertEqual(self.backends.tasks.results, [])
"""

COMMIT = """
    from django.db import transaction
    from itkit.test import IntegrationTestCase
    from shop.models import Customer
    from shop.tasks import greet


    class Commit(IntegrationTestCase):
        def test_a_task_is_run_when_the_transaction_is_committed(self):
            with transaction.atomic():
                greet.enqueue("a@example.com")
                self.assertFalse(Customer.objects.exists())
            self.assertTrue(Customer.objects.exists())
            self.timeline.assert_order("tasks.enqueue", "COMMIT", "INSERT shop_customer")

        def test_a_task_of_a_transaction_that_is_rolled_back_is_not(self):
            try:
                with transaction.atomic():
                    greet.enqueue("a@example.com")
                    raise LookupError
            except LookupError:
                pass
            self.assertFalse(Customer.objects.exists())
"""

NOW = """
    from itkit.test import IntegrationTestCase
    from shop.models import Customer
    from shop.tasks import greet


    class Now(IntegrationTestCase):
        def test_a_task_is_run_at_once(self):
            result = greet.enqueue("a@example.com")
            self.assertEqual(result.return_value, Customer.objects.get().pk)
"""


def tasks_of(project: Project, tests: str, run: str, builtin: str, app: str) -> None:
    project.settings(
        f'ITKIT["BACKENDS"]["tasks"] = {{"BUILTIN": {builtin!r}, "OPTIONS": {{"RUN": {run!r}}}}}'
    )
    project.write("shop/tasks.py", app)
    write_tests(project, tests)


@pytest.mark.skipif(not SINCE_6_0, reason="tasks came with Django 6.0")
@pytest.mark.parametrize("door", SERIAL)
def test_tasks_of_django(door, project: Project):
    project.settings("""
        DUMMY = "django.tasks.backends.dummy.DummyBackend"
        TASKS = {"default": {"BACKEND": DUMMY}, "other": {"BACKEND": DUMMY, "QUEUES": ["slow"]}}
    """)
    tasks_of(project, TASKS, "never", "tasks", TASKS_APP)
    result = enter(door, project)

    assert result.counts == {"passed": 7}, result.output


@pytest.mark.skipif(not SINCE_6_0, reason="tasks came with Django 6.0")
@pytest.mark.parametrize(("run", "tests", "count"), [("commit", COMMIT, 2), ("now", NOW, 1)])
@pytest.mark.parametrize("door", SERIAL)
def test_tasks_of_django_are_run_when_the_option_says(door, run, tests, count, project: Project):
    tasks_of(project, tests, run, "tasks", TASKS_APP)
    result = enter(door, project)

    assert result.counts == {"passed": count}, result.output


@pytest.mark.skipif(SINCE_6_0, reason="tasks came with Django 6.0")
def test_tasks_of_an_older_django_are_a_mistake_in_the_settings():
    with override_settings(ITKIT={"BACKENDS": {"jobs": {"BUILTIN": "tasks"}}}):
        (mistake,) = resolve.mistakes()
    assert mistake.id == "itkit.E011"
    assert mistake.message == (
        'ITKIT["BACKENDS"]["jobs"] is the BUILTIN \'tasks\': Tasks came with Django 6.0, and this'
        " one is older."
    )


CELERY_APP = """
    from celery import Celery, shared_task

    from shop.models import Customer

    app = Celery("shop", broker="redis://127.0.0.1:1/9")  # there is none
    app.set_default()


    @shared_task
    def greet(email, *, loud=False):
        return Customer.objects.create(email=email).pk

    @shared_task
    def fail():
        raise LookupError("no")

    @shared_task
    def chain_of_them():
        greet.delay("chained@example.com")

    @app.task(bind=True)
    def who(self):
        return self.request.id
"""

CELERY = """
    from celery import chain, group
    from itkit.test import IntegrationTestCase
    from shop.models import Customer
    from shop.tasks import app, chain_of_them, fail, greet, who


    class Tasks(IntegrationTestCase):
        def test_a_task_is_recorded_and_not_run(self):
            result = greet.delay("a@example.com", loud=True)
            self.assertEqual(len(result.id), 36)
            self.backends.tasks.apply_async.assert_called_once_with(
                "shop.tasks.greet", ("a@example.com",), {"loud": True}
            )
            self.assertFalse(Customer.objects.exists())

        def test_options_are_recorded(self):
            greet.apply_async(("a@example.com",), countdown=60, queue="slow", task_id="t-1")
            (call,) = self.backends.tasks.apply_async.calls
            self.assertEqual(
                call.arguments["options"], {"countdown": 60, "queue": "slow", "task_id": "t-1"}
            )

        def test_the_test_runs_them_with_those_that_they_send(self):
            chain_of_them.delay()
            self.assertEqual(len(self.backends.tasks.run()), 2)
            self.assertEqual(Customer.objects.get().email, "chained@example.com")
            self.assertEqual(self.backends.tasks.run(), [])

        def test_a_task_that_fails(self):
            fail.delay()
            (result,) = self.backends.tasks.run()
            self.assertIsInstance(result.result, LookupError)

        def test_the_id_is_that_of_the_sender(self):
            sent = who.delay()
            (result,) = self.backends.tasks.run()
            self.assertEqual(result.get(), sent.id)

        def test_wrong_arguments_are_refused(self):
            with self.assertRaises(TypeError):
                greet.delay()

        def test_a_broker_that_is_down(self):
            self.backends.tasks.apply_async.raises(ConnectionError("down"))
            with self.assertRaises(ConnectionError):
                greet.delay("a@example.com")

        def test_by_name_only(self):
            app.send_task("shop.tasks.greet", ("a@example.com",))
            app.send_task("elsewhere.task", (1,))
            names = [call.arguments["task"] for call in self.backends.tasks.apply_async.calls]
            self.assertEqual(names, ["shop.tasks.greet", "elsewhere.task"])
            self.assertEqual(len(self.backends.tasks.run()), 1)

        def test_a_group_and_a_chain(self):
            group(greet.s("a@example.com"), greet.s("b@example.com")).apply_async()
            chain(greet.si("c@example.com"), greet.si("d@example.com")).apply_async()
            self.backends.tasks.run()
            self.assertEqual(Customer.objects.count(), 4)

        def test_nothing_of_another_test_is_left(self):
            self.assertEqual(self.backends.tasks.run(), [])
"""


@pytest.mark.parametrize("door", SERIAL)
def test_tasks_of_celery(door, project: Project):
    tasks_of(project, CELERY, "never", "celery", CELERY_APP)
    result = enter(door, project)

    assert result.counts == {"passed": 10}, result.output


@pytest.mark.parametrize(("run", "tests", "count"), [("commit", COMMIT, 2), ("now", NOW, 1)])
@pytest.mark.parametrize("door", SERIAL)
def test_tasks_of_celery_are_run_when_the_option_says(door, run, tests, count, project: Project):
    adapted = (
        tests.replace(".enqueue(", ".delay(")
        .replace("tasks.enqueue", "tasks.apply_async")
        .replace("result.return_value", "result.get()")
    )
    tasks_of(project, adapted, run, "celery", CELERY_APP)
    result = enter(door, project)

    assert result.counts == {"passed": count}, result.output


STORAGE = """
    from django.core.files.base import ContentFile
    from django.core.files.storage import FileSystemStorage, default_storage, storages
    from django.test import SimpleTestCase

    from itkit.test import IntegrationTestCase
    from shop.files import HELD


    class Files(IntegrationTestCase):
        def test_what_is_saved_is_in_memory_only(self):
            name = default_storage.save("a/b.txt", ContentFile(b"text"))
            self.assertEqual(name, "a/b.txt")
            self.assertEqual(self.backends.files.names, ["a/b.txt"])
            self.assertEqual(self.backends.files.read("a/b.txt"), b"text")
            self.assertTrue(default_storage.exists("a/b.txt"))
            self.assertEqual(default_storage.open("a/b.txt").read(), b"text")
            self.assertEqual(default_storage.url("a/b.txt"), "/media/a/b.txt")
            with self.assertRaises(NotImplementedError):
                default_storage.path("a/b.txt")
            self.timeline.assert_order("files.save", "files.open")

        def test_whoever_holds_the_storage_is_led_there(self):
            HELD.save("held.txt", ContentFile(b"x"))
            self.assertIsInstance(HELD, FileSystemStorage)
            self.assertEqual(self.backends.files.names, ["held.txt"])
            self.backends.files.save.assert_called_once_with("held.txt", lambda content: True)

        def test_two_files_of_one_name(self):
            names = [default_storage.save("a.txt", ContentFile(b"x")) for _ in range(2)]
            self.assertEqual(len(set(names)), 2)
            default_storage.delete(names[0])
            self.assertEqual(self.backends.files.names, [names[1]])

        def test_a_full_disk(self):
            self.backends.files.save.raises(OSError(28, "No space left on device"))
            with self.assertRaises(OSError):
                default_storage.save("a.txt", ContentFile(b"x"))

        def test_another_object_of_the_class_is_real(self):
            self.assertFalse(FileSystemStorage("/nowhere/at/all").exists("a.txt"))
            self.assertEqual(FileSystemStorage("/nowhere").path("a"), "/nowhere/a")

        def test_nothing_of_another_test_is_left(self):
            self.assertEqual(self.backends.files.names, [])
            self.assertEqual(default_storage.listdir(""), ([], []))
"""


@pytest.mark.parametrize("door", SERIAL)
def test_a_storage(door, project: Project):
    project.settings("""
        MEDIA_ROOT = "/nowhere/in/particular"
        MEDIA_URL = "/media/"
        ITKIT["BACKENDS"]["files"] = {"BUILTIN": "storage"}
    """)
    project.write(
        "shop/files.py",
        """
        from django.core.files.storage import storages

        HELD = storages["default"]
    """,
    )
    write_tests(project, STORAGE)
    result = enter(door, project)

    assert result.counts == {"passed": 6}, result.output


@pytest.mark.parametrize(
    ("entry", "mistake"),
    [
        (
            {"BUILTIN": "mails"},
            (
                'itkit.E002 ITKIT["BACKENDS"]["b"]["BUILTIN"] is \'mails\', expected one of'
                " 'celery', 'mail', 'storage', 'tasks'."
            ),
        ),
        (
            {"BUILTIN": "mail", "TARGET": "a.b"},
            (
                'itkit.E003 ITKIT["BACKENDS"]["b"] has TARGET and BUILTIN of SETTING, TARGET, CONTAINER'
                " and BUILTIN, expected one."
            ),
        ),
        (
            {"BUILTIN": "celery", "OPTIONS": {"RUN": "later"}},
            (
                'itkit.E011 ITKIT["BACKENDS"]["b"] is the BUILTIN \'celery\': The option RUN is'
                " 'later', expected one of 'never', 'now', 'commit'."
            ),
        ),
        (
            {"BUILTIN": "celery", "OPTIONS": {"RAN": "now"}},
            (
                'itkit.E011 ITKIT["BACKENDS"]["b"] is the BUILTIN \'celery\': CeleryTasks has no'
                " option 'RAN'. Did you mean 'RUN'?"
            ),
        ),
        (
            {"BUILTIN": "mail", "OPTIONS": {"RUN": "now"}},
            (
                'itkit.E011 ITKIT["BACKENDS"]["b"] is the BUILTIN \'mail\': Mail has no option'
                " 'RUN'. It takes none."
            ),
        ),
        (
            {"BUILTIN": "storage", "OPTIONS": {"ALIAS": "s3"}},
            (
                'itkit.E011 ITKIT["BACKENDS"]["b"] is the BUILTIN \'storage\': STORAGES has no alias'
                " 's3'."
            ),
        ),
    ],
)
def test_a_mistake_in_the_settings_is_told(entry, mistake):
    with override_settings(ITKIT={"BACKENDS": {"b": entry}}):
        found = conf.mistakes() or resolve.mistakes()
    assert [f"{one.id} {one.message}" for one in found] == [mistake]


def test_all_that_the_settings_may_name_are_known():
    assert sorted(presets.KNOWN) == sorted(conf.BUILTINS)
    with pytest.raises(ConfigurationError):
        presets.make("mail", {"no": "option"})
