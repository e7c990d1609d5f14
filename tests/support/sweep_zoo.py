"""A project of small workflows, each with a mistake that only a fault shows, and without it."""

from tests.support.projects import Project

SETTINGS = """
    import celery

    celery.Celery("shop").set_default()
    ITKIT = {"BACKENDS": {
        "payments": {"SETTING": "PAYMENT_GATEWAY"},
        "ledger": {"TARGET": "shop.gateways.Ledger"},
        "email": {"BUILTIN": "mail"},
        "tasks": {"BUILTIN": "celery"},
    }, "POSTGRES": {}, "EFFECTS": "off", "UNUSED": "off"}
"""

MODELS = """
    from django.db import models

    class Order(models.Model):
        status = models.CharField(max_length=20, default="new")
        created = models.DateTimeField(auto_now_add=True)

    class Payment(models.Model):
        order = models.ForeignKey(Order, models.CASCADE)
        txn = models.CharField(max_length=20)

    class Event(models.Model):
        order = models.ForeignKey(Order, models.CASCADE)
        is_sent = models.BooleanField(default=False)
"""

MIGRATION = """
    from django.db import migrations, models

    KEY = models.BigAutoField(primary_key=True, auto_created=True, serialize=False, verbose_name="ID")

    class Migration(migrations.Migration):
        initial = True
        dependencies = []
        operations = [
            migrations.CreateModel("Order", [
                ("id", KEY.clone()),
                ("status", models.CharField(max_length=20, default="new")),
                ("created", models.DateTimeField(auto_now_add=True)),
            ]),
            migrations.CreateModel("Payment", [
                ("id", KEY.clone()),
                ("order", models.ForeignKey("shop.Order", models.CASCADE)),
                ("txn", models.CharField(max_length=20)),
            ]),
            migrations.CreateModel("Event", [
                ("id", KEY.clone()),
                ("order", models.ForeignKey("shop.Order", models.CASCADE)),
                ("is_sent", models.BooleanField(default=False)),
            ]),
        ]
"""

GATEWAYS = """
    class PaymentError(Exception):
        pass


    class CardDeclined(PaymentError):
        pass


    class Stripe:
        def charge(self, amount: int, token: str, key: str = "") -> str:
            raise PaymentError("the real gateway was called")

        def refund(self, txn: str, timeout: float | None = None) -> str:
            raise PaymentError("the real gateway was called")


    class Ledger:
        async def enter(self, entry: str) -> str:
            raise TimeoutError("the real ledger was called")
"""

FLOWS = '''
    """Each workflow is a class: ``act``, and what must hold afterwards; ``broken`` has a mistake."""

    from concurrent.futures import ThreadPoolExecutor
    from secrets import token_hex

    from celery import shared_task
    from django.core.cache import cache
    from django.core.mail import send_mail
    from django.db import DatabaseError, IntegrityError, connection, transaction
    from django_redis import get_redis_connection

    from shop.gateways import CardDeclined, Ledger, PaymentError, Stripe
    from shop.models import Event, Order, Payment


    class Refused(Exception):
        pass


    @shared_task
    def ship(order_id):
        Payment.objects.create(order_id=order_id, txn="shipped")


    @shared_task
    def ship_once(order_id):
        Order.objects.select_for_update().get(pk=order_id)
        Payment.objects.get_or_create(order_id=order_id, txn="shipped")


    class Flow:
        def __init__(self, case, fault, is_broken):
            self.case, self.fault, self.is_broken = case, fault, is_broken
            case.backends.payments.charge.returns("txn")
            case.backends.ledger.enter.returns("entered")
            self.order = Order.objects.create()

        def charges(self):
            done = self.fault.done(self.case.backends.payments.charge)
            return len({call["arguments"]["key"] or object() for call in done})

        def status(self):
            return Order.objects.get(pk=self.order.pk).status

        def afterwards(self):
            pass


    class DoubleCharge(Flow):
        def act(self):
            key = "" if self.is_broken else f"order-{self.order.pk}"
            txn = Stripe().charge(5, "tok", key)
            Payment.objects.get_or_create(order=self.order, txn=txn)

        def check(self):
            self.case.assertLessEqual(self.charges(), 1)


    class StuckClaim(Flow):
        """As the shop of the example was: whatever fails after the charge leaves it paid for ever."""

        def act(self):
            open_in = ["new"] if self.is_broken else ["new", "paying"]
            with transaction.atomic():
                if not Order.objects.filter(pk=self.order.pk, status__in=open_in).update(status="paying"):
                    raise Refused
            try:
                Stripe().charge(5, "tok", f"order-{self.order.pk}")
            except CardDeclined:
                Order.objects.filter(pk=self.order.pk).update(status="new")
                raise
            Order.objects.filter(pk=self.order.pk).update(status="paid")

        def check(self):
            self.case.assertEqual(self.status() == "paid", self.charges() == 1)


    class EarlyMail(Flow):
        def act(self):
            with transaction.atomic():
                if self.is_broken:
                    self.mail()
                else:
                    transaction.on_commit(self.mail)
                Event.objects.create(order=self.order)

        def mail(self):
            send_mail("Ordered", "", "a@example.com", ["b@example.com"])

        def check(self):
            mails = len(self.fault.done(self.case.backends.email.send))
            self.case.assertLessEqual(mails, Event.objects.count())


    class EarlyTask(Flow):
        def act(self):
            with transaction.atomic():
                event = Event.objects.create(order=self.order)
                if self.is_broken:
                    ship.delay(event.pk)
                else:
                    transaction.on_commit(lambda: ship.delay(event.pk))

        def check(self):
            for call in self.fault.done(self.case.backends.tasks.apply_async):
                self.case.assertTrue(Event.objects.filter(pk=call["arguments"]["args"][0]).exists())


    class LostEvent(Flow):
        """A task that is sent on commit is lost by a crash; one from an outbox is not."""

        def act(self):
            with transaction.atomic():
                if not Order.objects.filter(pk=self.order.pk, status="new").update(status="placed"):
                    raise Refused
                if self.is_broken:
                    transaction.on_commit(lambda: ship_once.delay(self.order.pk))
                else:
                    Event.objects.create(order=self.order)
            if not self.is_broken:
                self.afterwards()

        def afterwards(self):
            for event in Event.objects.filter(is_sent=False):
                ship_once.delay(event.order_id)
                Event.objects.filter(pk=event.pk).update(is_sent=True)

        def check(self):
            sent = self.fault.done(self.case.backends.tasks.apply_async)
            self.case.assertEqual(self.status() == "placed", len(sent) > 0)


    class TwiceRun(Flow):
        def act(self):
            (ship if self.is_broken else ship_once).delay(self.order.pk)

        def afterwards(self):
            with transaction.atomic():
                self.case.backends.tasks.run()

        def check(self):
            self.case.assertLessEqual(Payment.objects.count(), 1)


    class EarlyCache(Flow):
        def retry(self):
            pass

        def act(self):
            with transaction.atomic():
                Order.objects.filter(pk=self.order.pk).update(status="sold")
                if self.is_broken:
                    cache.set("status", "sold")
                else:
                    transaction.on_commit(lambda: cache.set("status", "sold"))

        def check(self):
            self.case.assertIn(cache.get("status"), (None, self.status()))


    class HeldLock(Flow):
        """A lock in the cache is held for ever by who has died; one of the transaction is not."""

        def act(self):
            if not self.is_broken:
                with transaction.atomic(), connection.cursor() as cursor:
                    cursor.execute("SELECT pg_advisory_xact_lock(hashtext(current_schema()))")
                    self.work()
                return
            if not cache.add("lock", 1, timeout=None):
                raise Refused
            try:
                self.work()
            finally:
                cache.delete("lock")

        def work(self):
            Order.objects.filter(pk=self.order.pk).update(status="worked")

        def check(self):
            self.case.assertEqual(self.status(), "worked")


    class Counter(Flow):
        def act(self):
            client = get_redis_connection()
            if self.is_broken:
                client.incr("sold")
            else:
                with client.pipeline() as pipe:
                    pipe.sadd("sold", self.order.pk)
                    pipe.expire("sold", 60)
                    pipe.execute()

        def check(self):
            client = get_redis_connection()
            sold = int(client.get("sold") or 0) if self.is_broken else client.scard("sold")
            self.case.assertEqual(sold, 1)


    class SwallowedInTransaction(Flow):
        """Postgres rolls all back where a statement has failed; COMMIT says nothing then.

        Nor does Django where the connection was lost within a savepoint, so that the right way is to
        catch no more than what is meant.
        """

        def act(self):
            with transaction.atomic():
                Order.objects.filter(pk=self.order.pk).update(status="paid")
                try:
                    if self.is_broken:
                        Event.objects.create(order=self.order)
                    else:
                        with transaction.atomic():
                            Event.objects.create(order=self.order)
                except (DatabaseError if self.is_broken else IntegrityError):
                    pass

        def check(self):
            if not self.fault.has_failed:
                self.case.assertEqual(self.status(), "paid")


    class HalfDone(Flow):
        """Beside a row that has another value in each variation, which no seed reaches."""

        def __init__(self, *args):
            super().__init__(*args)
            Payment.objects.create(order=self.order, txn=token_hex(4))

        def act(self):
            if self.is_broken:
                self.create()
            else:
                with transaction.atomic():
                    self.create()

        def create(self):
            order = Order.objects.create(status="half")
            for number in range(2):
                Payment.objects.create(order=order, txn=str(number))

        def retry(self):
            pass

        def check(self):
            self.fault.assert_atomic()


    class HalfMailed(Flow):
        def act(self):
            send_mail("Ordered", "", "a@example.com", ["b@example.com"])
            if self.is_broken:
                send_mail("Paid", "", "a@example.com", ["b@example.com"])

        def retry(self):
            pass

        def check(self):
            self.fault.assert_atomic()


    class InAThread(Flow):
        """Also in another thread, and whatever ``finally`` does after the crash."""

        def act(self):
            with ThreadPoolExecutor(1) as pool:
                pool.submit(self.work).result()

        def work(self):
            try:
                try:
                    Stripe().charge(5, "tok", "" if self.is_broken else "key")
                finally:
                    Order.objects.filter(pk=self.order.pk).update(status="ended")
            finally:
                connection.close()

        def check(self):
            self.case.assertLessEqual(self.charges(), 1)


    class Declined(Flow):
        """An error that the application handles, and one that it takes for the same."""

        def act(self):
            try:
                Stripe().charge(5, "tok", "key")
            except (PaymentError if self.is_broken else CardDeclined):
                Order.objects.filter(pk=self.order.pk).update(status="declined")

        def check(self):
            if self.status() == "declined":
                self.case.assertEqual(self.charges(), 0)


    FLOWS = [flow for flow in Flow.__subclasses__()]
'''

TESTS = """
    import asyncio

    from itkit import sweep
    from itkit.test import IntegrationTestCase
    from shop.flows import FLOWS
    from shop.gateways import Ledger


    def swept(flow, is_broken):
        @sweep.faults
        def test(self, fault):
            found = flow(self, fault, is_broken)
            with fault.injected():
                found.act()
                if flow.__name__ == "TwiceRun":
                    found.afterwards()
            getattr(found, "retry", lambda: fault.retry(found.act))()
            found.afterwards()
            found.check()

        return test


    class Broken(IntegrationTestCase):
        @sweep.faults(kinds=["lost_reply"])
        async def test_Async(self, fault):
            self.backends.ledger.enter.returns("ok")
            with fault.injected():
                await Ledger().enter("one")
            await fault.retry(Ledger().enter, "one")
            self.assertEqual(len(fault.done(self.backends.ledger.enter)), 1)


    class Right(IntegrationTestCase):
        @sweep.faults
        async def test_Async(self, fault):
            self.backends.ledger.enter.returns("ok")
            with fault.injected():
                await Ledger().enter("one")
            await fault.retry(Ledger().enter, "one")
            self.assertEqual(len({call["args"] for call in fault.done(self.backends.ledger.enter)}), 1)


    for flow in FLOWS:
        setattr(Broken, f"test_{flow.__name__}", swept(flow, True))
        setattr(Right, f"test_{flow.__name__}", swept(flow, False))
"""


def write(project: Project) -> None:
    """Make a project the zoo."""
    project.settings(SETTINGS)
    project.go_on_after_warnings()  # pytest-django sets EMAIL_BACKEND, of which Django 6.1 warns
    project.write("urls.py", "urlpatterns = []")
    project.write("shop/models.py", MODELS)
    project.write("shop/migrations/0001_initial.py", MIGRATION)
    project.write("shop/gateways.py", GATEWAYS)
    project.write("shop/flows.py", FLOWS)
    project.write("shop/tests/__init__.py", "")
    project.write("shop/tests/test_zoo.py", TESTS)
