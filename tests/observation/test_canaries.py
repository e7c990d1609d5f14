"""A bystander's values and secrets that turn up where they must not be fail their test."""

import pytest

from tests.support.doors import SERIAL
from tests.support.projects import Project, Result
from tests.support.verdicts_project import judged, section

pytestmark = pytest.mark.usefixtures("shared_servers")

MODELS = """

class Note(models.Model):
    customer = models.ForeignKey("shop.Customer", models.CASCADE)
    text = models.TextField(blank=True)
    data = models.JSONField(default=dict)
    token = models.CharField(max_length=100, blank=True)
    total = models.DecimalField(max_digits=10, decimal_places=2, default=0)

class Tiny(models.Model):
    kind = models.CharField(max_length=20, choices=[("a", "A")], default="a")
    code = models.CharField(max_length=3, default="x")
"""

MIGRATION = """
    from django.db import migrations, models

    KEY = models.BigAutoField(primary_key=True, auto_created=True, serialize=False, verbose_name="ID")

    class Migration(migrations.Migration):
        dependencies = [("shop", "0001_initial")]
        operations = [
            migrations.CreateModel("Note", [
                ("id", KEY.clone()),
                ("customer", models.ForeignKey("shop.Customer", models.CASCADE)),
                ("text", models.TextField(blank=True)),
                ("data", models.JSONField(default=dict)),
                ("token", models.CharField(max_length=100, blank=True)),
                ("total", models.DecimalField(max_digits=10, decimal_places=2, default=0)),
            ]),
            migrations.CreateModel("Tiny", [
                ("id", KEY.clone()),
                ("kind", models.CharField(max_length=20, choices=[("a", "A")], default="a")),
                ("code", models.CharField(max_length=3, default="x")),
            ]),
        ]
"""

URLS = """
    import gzip
    import logging

    from django.http import Http404, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
    from django.urls import path

    from shop.models import Customer, Note


    def emails(request):
        return HttpResponse(", ".join(Customer.objects.values_list("email", flat=True)))


    def totals(request):
        return HttpResponse(", ".join(str(note.total) for note in Note.objects.all()))


    def packed(request):
        content = gzip.compress(Customer.objects.last().email.upper().encode())
        return HttpResponse(content, headers={"Content-Encoding": "gzip"})


    def streamed(request):
        text = Customer.objects.last().email
        return StreamingHttpResponse(iter([text[:9], text[9:]]))


    def asynchronous(request):
        async def chunks():
            yield "a"
            yield request.GET["text"]

        return StreamingHttpResponse(chunks())


    def page(request, email):
        logging.getLogger("shop.views").warning("nothing for %s", email)
        if request.method == "POST":
            return HttpResponse(f"shared with {request.POST['with']}")
        raise Http404


    urlpatterns = [
        path("emails/", emails),
        path("totals/", totals),
        path("packed/", packed),
        path("streamed/", streamed),
        path("asynchronous/", asynchronous),
        path("page/<str:email>/", page),
    ]
"""

APP = """
    import json
    import logging
    import threading

    from django.core.cache import cache
    from django.core.mail import send_mail
    from django.db import connection
    from django.db.models.signals import post_save
    from django.dispatch import receiver
    from django_redis import get_redis_connection

    from shop.gateways import Stripe, send_sms
    from shop.models import Customer, Note

    logger = logging.getLogger("shop.app")


    @receiver(post_save, sender=Customer)
    def note(instance, created, **_):
        if created:
            Note.objects.create(customer=instance, text=f"{instance.email} has come")
            cache.set(f"last-{instance.pk}", instance.email)


    class Redacting(logging.Filter):
        def filter(self, record):
            record.msg, record.args = "hidden", ()
            return True


    def tell(kind, text):
        if kind == "mail":
            send_mail("Hello", f"dear {text}", "a@example.com", ["b@example.com"])
        elif kind == "sms":
            send_sms("1", f"dear {text}")
        elif kind == "object":
            send_sms("1", Note(text=text))
        elif kind == "log":
            logger.warning("no %s", text)
        elif kind == "extra":
            logger.warning("no", extra={"who": [text]})
        elif kind == "error":
            try:
                raise ValueError(text)
            except ValueError:
                logger.exception("no")
        elif kind == "thread":
            thread = threading.Thread(target=tell, args=("log", text))
            thread.start()
            thread.join()
        elif kind == "key":
            get_redis_connection().set("a:1", json.dumps({"for": text}))
        elif kind == "name":
            get_redis_connection().set(f"seen:{text}", "1")
        elif kind == "pipeline":
            with get_redis_connection().pipeline() as pipe:
                pipe.set("a:1", "1")
                pipe.set("a:2", text)
                pipe.delete("a:2")
                pipe.execute()
        elif kind == "script":
            get_redis_connection().eval("return redis.call('SET', KEYS[1], ARGV[1]..ARGV[2])", 1, "a:3", text[:5], text[5:])
        elif kind == "column":
            Note.objects.create(customer=Customer.objects.first(), token=text)
        elif kind == "json":
            Note.objects.update(data={"by": [text]})
        elif kind == "sql":
            with connection.cursor() as cursor:
                cursor.execute("UPDATE shop_note SET text = %s", [text])
"""

TESTS = """
    import logging

    from django.db import IntegrityError
    from django.test import TestCase

    from itkit import sweep
    from itkit.exceptions import DataError
    from itkit.test import IntegrationMixin, IntegrationTestCase
    from shop import app
    from shop.models import Customer, Note, Tiny


    class Bystander(IntegrationMixin):
        def setUp(self):
            self.backends.sms.returns("ok")
            self.own = self.data.create(Customer, email="own@example.com")
            self.them = self.data.bystander("shop.Customer")

        def test_that_nobody_has_touched(self):
            app.tell("sms", "own@example.com")
            self.client.get("/totals/")
            self.assertRegex(self.them.email, r"^canary[0-9a-f]{8}@example.com$")
            self.them.save()
            app.cache.set(f"last-{self.them.pk}", self.them.email)

        def test_that_the_test_itself_asks_for(self):
            self.assertEqual(self.client.get(f"/page/{self.them.email}/").status_code, 404)
            self.client.get(f"/emails?next={self.them.email}")
            self.client.post("/page/me/", {"with": self.them.email})

        async def test_that_a_coroutine_asks_for(self):
            await self.async_client.get(f"/page/{self.them.email}/")

        def test_red_response(self):
            self.client.get("/emails/")

        async def test_red_async(self):
            await self.async_client.get("/emails/")

        def test_red_redirected(self):
            self.client.get("/emails/", follow=True)

        def test_red_packed(self):
            self.client.get("/packed/")

        def test_red_streamed(self):
            b"".join(self.client.get("/streamed/").streaming_content)

        def test_red_mail(self):
            app.tell("mail", self.them.email)

        def test_red_call(self):
            app.tell("sms", self.them.email)

        def test_red_object(self):
            app.tell("object", self.them.email)

        def test_red_log(self):
            app.tell("log", self.them.email)

        def test_red_extra(self):
            app.tell("extra", self.them.email)

        def test_red_error(self):
            app.tell("error", self.them.email)

        def test_red_thread(self):
            app.tell("thread", self.them.email)

        def test_red_key(self):
            app.tell("key", self.them.email)

        def test_red_name(self):
            app.tell("name", self.them.email)

        def test_red_pipeline(self):
            app.tell("pipeline", self.them.email)

        def test_red_script(self):
            app.tell("script", self.them.email)

        def test_red_column(self):
            app.tell("column", self.them.email)

        def test_red_json(self):
            Note.objects.exclude(customer=self.own).delete()
            app.tell("json", self.them.email)

        def test_red_own_note(self):
            Note.objects.filter(customer=self.own).update(text=self.them.email)

        def test_red_swallowed(self):
            try:
                app.tell("log", self.them.email)
                app.tell("sms", self.them.email)
                raise AssertionError
            except AssertionError:
                pass


    class Committed(Bystander, IntegrationTestCase):
        def test_a_number(self):
            note = self.data.bystander("shop.Note", customer=self.them)
            self.assertGreaterEqual(note.total, 100000)

        def test_red_number(self):
            self.data.bystander("shop.Note", customer=self.them)
            self.client.get("/totals/")

        def test_red_cleaned_up_by_hand(self):
            app.tell("column", self.them.email)
            self.data.cleanup()

        def test_cleaned_up_before(self):
            self.data.cleanup()
            app.tell("log", self.them.email)

        def test_without_a_text(self):
            with self.assertRaisesMessage(DataError, "shop.Tiny has no column left for a mark"):
                self.data.bystander(Tiny)


    class RolledBack(Bystander, TestCase):
        def test_a_transaction_that_is_over(self):
            with self.assertRaises(IntegrityError):
                Customer.objects.create(email="own@example.com")


    class Secret(IntegrationTestCase):
        def setUp(self):
            self.backends.sms.returns("ok")
            self.backends.payments.charge.returns("txn")
            self.data.create(Customer)

        def test_where_it_may_be(self):
            secret = self.data.secret(
                allowed=["payments.*", "shop.Note.token", "a:*", "log shop.*", "GET /asynchronous/", "mail"]
            )
            app.Stripe().charge(5, secret)
            for kind in ("column", "key", "log", "mail"):
                app.tell(kind, secret)
            self.client.get("/asynchronous/", {"text": secret})

        def test_red_another_column(self):
            secret = self.data.secret(allowed=["shop.Note.token"])
            app.tell("column", secret)
            app.tell("sql", secret)

        def test_red_another_backend(self):
            secret = self.data.secret(allowed=["payments.*"])
            app.Stripe().charge(5, secret)
            app.tell("sms", secret)

        async def test_red_stream(self):
            response = await self.async_client.get("/asynchronous/", {"text": self.data.secret()})
            [chunk async for chunk in response]

        def test_hidden_by_a_filter(self):
            handler = logging.StreamHandler()
            handler.addFilter(app.Redacting())
            app.logger.addHandler(handler)
            try:
                app.tell("log", self.data.secret())
            finally:
                app.logger.removeHandler(handler)

        def test_two_of_them(self):
            self.assertNotEqual(self.data.secret(), self.data.secret())

        def test_the_hooks_are_gone(self):
            from django.test.client import Client

            self.data.secret()
            self.assertIn("request_and_look", Client.request.__code__.co_name)
            self.data.cleanup()
            self.assertEqual(Client.request.__code__.co_name, "request")

        def test_a_text_for_a_list(self):
            with self.assertRaisesMessage(DataError, "write allowed=['mail']"):
                self.data.secret(allowed="mail")


    class Swept(IntegrationTestCase):
        @sweep.faults(at=["payments.*"], kinds=["error"])
        def test_red_under_a_fault(self, fault):
            self.backends.payments.charge.returns("txn")
            secret = self.data.secret(allowed=["payments.*"])
            with fault.injected():
                try:
                    app.Stripe().charge(5, secret)
                except Exception:
                    app.tell("log", secret)


    class OfAClass(IntegrationMixin, TestCase):
        @classmethod
        def setUpTestData(cls):
            cls.them = cls.data.bystander(Customer)

        def test_a_red_response(self):
            self.client.get("/emails/")

        def test_b_nothing(self):
            self.client.get("/totals/")

        def test_c_red_once_more(self):
            self.client.get("/emails/")
"""

FIXTURES = """

    import asyncio

    import pytest


    @pytest.mark.integration
    def test_red_of_a_function(data, client):
        data.bystander("shop.Customer")
        client.get("/emails/")


    @pytest.mark.django_db
    @pytest.mark.integration
    def test_red_of_a_function_that_is_rolled_back(data):
        app.tell("log", data.secret())


    @pytest.mark.integration
    def test_red_by_a_coroutine(data, backends):
        backends.sms.returns("ok")

        async def act():
            them = await data.abystander("shop.Customer")
            app.tell("sms", them.email)

        asyncio.run(act())


    @pytest.mark.integration
    def test_of_a_function(data):
        data.create("shop.Note", customer=data.bystander("shop.Customer"))
"""


def prepare(project: Project) -> None:
    models = project.path / "shop/models.py"
    models.write_text(models.read_text() + MODELS)
    project.write("shop/migrations/0002_note.py", MIGRATION)
    project.write("urls.py", URLS)
    project.go_on_after_warnings()  # Django 6.1 warns of send_mail() without MAILERS
    project.settings("""
        ALLOWED_HOSTS = ["*"]
        ITKIT["UNUSED"] = "off"
        ITKIT["EFFECTS"] = "off"
    """)


def check_messages(result: Result) -> None:
    """Look at the place, the line and the remedy of a finding of each kind."""
    for test, *texts in (
        ("test_red_response", "The shop.Customer.email of the bystander made at shop/tests/test_shop.py:", "in setUp",
         "has turned up in the response to GET /emails/ at shop/tests/test_shop.py:", "in test_red_response",
         "own@example.com, canary", "The values of a bystander stay in its own row."),
        ("test_red_call", "in a call of sms at shop/app.py:", "in tell"),
        ("test_red_mail", "in a mail at shop/app.py:", "in tell"),
        ("test_red_log", "in a record of log shop.app at shop/app.py:", "no canary"),
        ("test_red_key", "in SET a:1 in Redis at shop/app.py:"),
        ("test_red_pipeline", "in SET a:2 in Redis at shop/app.py:"),
        ("test_red_script", "in the key a:3 in Redis"),
        ("test_red_column", "in the column shop.Note.token of the row", "at shop/app.py:", "in tell"),
        ("test_red_under_a_fault", "after this fault:", "'payments.charge#1:ConnectionError'", "in a record of log shop.app"),
        ("test_red_another_column", "The secret made at", "in the column shop.Note.text of the row",
         "allow it: data.secret(allowed=['shop.Note.text'])"),
    ):  # fmt: skip
        shown = section(result.output, test)
        for text in texts:
            assert text in shown, f"{text}\n{shown}"


@pytest.mark.parametrize("door", SERIAL)
def test_marks_are_found_wherever_they_turn_up(door: str, project: Project) -> None:
    prepare(project)
    tests = TESTS + FIXTURES if door == "pytest" else TESTS
    check_messages(judged(door, project, tests, app=APP))


def test_mail_that_is_a_backend(project: Project) -> None:
    prepare(project)
    project.settings('ITKIT["BACKENDS"]["post"] = {"BUILTIN": "mail"}')
    tests = """
        from itkit.test import IntegrationTestCase
        from shop import app


        class Tests(IntegrationTestCase):
            def test_red_mail(self):
                app.tell("mail", self.data.secret())

            def test_that_is_allowed(self):
                app.tell("mail", self.data.secret(allowed=["mail"]))
                app.tell("mail", self.data.secret(allowed=["post.send"]))
    """
    assert "in a mail at shop/app.py:" in judged("django", project, tests, app=APP).output
