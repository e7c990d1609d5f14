"""A project of small workflows, each with a mistake that only a race shows, and without it."""

from tests.support.projects import Project

SETTINGS = """
    ITKIT = {"BACKENDS": {"payments": {"SETTING": "PAYMENT_GATEWAY"}}, "UNUSED": "off", "EFFECTS": "off"}
"""

MODELS = """
    from django.db import models

    class Product(models.Model):
        name = models.CharField(max_length=20)
        stock = models.IntegerField(default=1)

    class Sale(models.Model):
        product = models.ForeignKey(Product, models.CASCADE)
        buyer = models.CharField(max_length=20)

    class Voucher(models.Model):
        code = models.CharField(max_length=20)
        is_spent = models.BooleanField(default=False)

    class Tag(models.Model):
        name = models.CharField(max_length=20)

    class Slot(models.Model):
        name = models.CharField(max_length=20, unique=True)
        owner = models.CharField(max_length=20, default="")

    class Doctor(models.Model):
        name = models.CharField(max_length=20)
        is_on_call = models.BooleanField(default=True)

    class Job(models.Model):
        name = models.CharField(max_length=20)
        done_by = models.CharField(max_length=20, default="")
"""

MIGRATION = """
    from django.db import migrations, models

    def key():
        return models.BigAutoField(primary_key=True, auto_created=True, serialize=False, verbose_name="ID")

    def text(**options):
        return models.CharField(max_length=20, **options)

    class Migration(migrations.Migration):
        initial = True
        dependencies = []
        operations = [
            migrations.CreateModel("Product", [
                ("id", key()), ("name", text()), ("stock", models.IntegerField(default=1)),
            ]),
            migrations.CreateModel("Sale", [
                ("id", key()), ("product", models.ForeignKey("shop.Product", models.CASCADE)), ("buyer", text()),
            ]),
            migrations.CreateModel("Voucher", [
                ("id", key()), ("code", text()), ("is_spent", models.BooleanField(default=False)),
            ]),
            migrations.CreateModel("Tag", [("id", key()), ("name", text())]),
            migrations.CreateModel("Slot", [
                ("id", key()), ("name", text(unique=True)), ("owner", text(default="")),
            ]),
            migrations.CreateModel("Doctor", [
                ("id", key()), ("name", text()), ("is_on_call", models.BooleanField(default=True)),
            ]),
            migrations.CreateModel("Job", [("id", key()), ("name", text()), ("done_by", text(default=""))]),
        ]
"""

FLOWS = '''
    """Each workflow is a class: ``acts`` are done at once; ``broken`` has a mistake."""

    from django.core.cache import cache
    from django.db import IntegrityError, OperationalError, connection, transaction
    from django.db.models import F
    from django_redis import get_redis_connection
    from redis import WatchError

    from shop.gateways import Stripe
    from shop.models import Doctor, Job, Product, Sale, Slot, Tag, Voucher


    class Refused(Exception):
        pass


    class Flow:
        def __init__(self, case, is_broken):
            case.backends.payments.charge.returns("txn")
            self.is_broken = is_broken
            self.arrange()

        def arrange(self):
            self.product = Product.objects.create(name="lamp", stock=5)

        def acts(self):
            return [lambda: self.act("ann"), lambda: self.act("bob")]

        def lock(self, rows):
            return rows if self.is_broken else rows.select_for_update()


    class LostUpdate(Flow):
        def act(self, who):
            with transaction.atomic():
                product = self.lock(Product.objects).get(pk=self.product.pk)
                product.stock -= 1
                product.save()


    class Expression(Flow):
        """An F() update needs no lock."""

        def act(self, who):
            if self.is_broken:
                product = Product.objects.get(pk=self.product.pk)
                Product.objects.filter(pk=product.pk).update(stock=product.stock - 1)
            else:
                Product.objects.filter(pk=self.product.pk).update(stock=F("stock") - 1)


    class LastPiece(Flow):
        """Check, then act."""

        def arrange(self):
            self.product = Product.objects.create(name="lamp", stock=1)

        def act(self, who):
            with transaction.atomic():
                product = self.lock(Product.objects).get(pk=self.product.pk)
                if Sale.objects.filter(product=product).count() >= product.stock:
                    raise Refused
                sale = Sale.objects.create(product=product, buyer=who)
            Stripe().charge(5, f"sale {sale.pk}")
            return True


    class OrderFirst(Flow):
        """What is taken back has used a key, so that the other one has another key each time."""

        def arrange(self):
            self.product = Product.objects.create(name="lamp", stock=1)

        def act(self, who):
            with transaction.atomic():
                sale = Sale.objects.create(product=self.product, buyer=who)
                left = Product.objects.filter(pk=self.product.pk)
                if self.is_broken:
                    if not left.get().stock:
                        raise Refused
                    left.update(stock=F("stock") - 1)
                elif not left.filter(stock__gt=0).update(stock=F("stock") - 1):
                    raise Refused
            Stripe().charge(5, f"sale {sale.pk}")
            return sale


    class DoubleSpend(Flow):
        def arrange(self):
            self.voucher = Voucher.objects.create(code="gift")
            self.product = Product.objects.create(name="lamp")

        def act(self, who):
            with transaction.atomic():
                unspent = Voucher.objects.filter(pk=self.voucher.pk, is_spent=False)
                if self.is_broken:
                    if not unspent.exists():
                        return False
                    Voucher.objects.filter(pk=self.voucher.pk).update(is_spent=True)
                elif not unspent.update(is_spent=True):
                    return False
                Sale.objects.create(product=self.product, buyer=who)
                return True


    class GetOrCreate(Flow):
        """Without a constraint there are two; with one, Django reads again."""

        def act(self, who):
            if self.is_broken:
                Tag.objects.get_or_create(name="new")
            else:
                Slot.objects.get_or_create(name="new")


    class WriteSkew(Flow):
        """Each sees the other one on call."""

        def arrange(self):
            for name in ("ann", "bob"):
                Doctor.objects.create(name=name)

        def act(self, who):
            with transaction.atomic():
                on_call = list(self.lock(Doctor.objects.filter(is_on_call=True).order_by("pk")))
                if len(on_call) < 2:
                    return False
                Doctor.objects.filter(name=who).update(is_on_call=False)
                return True


    class Serializable(Flow):
        """The server refuses one of two transactions; whoever is refused begins again."""

        arrange = WriteSkew.arrange

        def act(self, who):
            for _ in range(1 if self.is_broken else 5):
                try:
                    with transaction.atomic():
                        with connection.cursor() as cursor:
                            cursor.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                        if Doctor.objects.filter(is_on_call=True).count() < 2:
                            return False
                        Doctor.objects.filter(name=who).update(is_on_call=False)
                        return True
                except OperationalError:
                    if self.is_broken:
                        raise
            raise Refused


    class NoWait(Flow):
        def act(self, who):
            with transaction.atomic():
                rows = Product.objects if self.is_broken else Product.objects.select_for_update(nowait=True)
                product = rows.get(pk=self.product.pk)
                product.stock -= 1
                product.save()


    class SkipLocked(Flow):
        def arrange(self):
            for name in ("one", "two"):
                Job.objects.create(name=name)

        def act(self, who):
            with transaction.atomic():
                rows = Job.objects.filter(done_by="").order_by("pk")
                job = (rows if self.is_broken else rows.select_for_update(skip_locked=True)).first()
                if job is None:
                    return None
                Stripe().charge(5, job.name)
                job.done_by = who
                job.save()

        def acts(self):
            return [lambda: self.act("worker"), lambda: self.act("worker")]


    class Constraint(Flow):
        """A unique constraint is the guard of who is first."""

        def act(self, who):
            if self.is_broken:
                if Slot.objects.filter(name="nine").exists():
                    raise Refused
                Slot.objects.update_or_create(name="nine", defaults={"owner": who})
            else:
                try:
                    Slot.objects.create(name="nine", owner=who)
                except IntegrityError:
                    raise Refused from None
            Stripe().charge(5, who)


    class RedisLock(Flow):
        def act(self, who):
            if self.is_broken:
                self.work()
                return
            with get_redis_connection().lock("stock", timeout=60, sleep=0.001):
                self.work()

        def work(self):
            client = get_redis_connection()
            client.set("sold", int(client.get("sold") or 0) + 1)


    class CacheAdd(Flow):
        def act(self, who):
            if self.is_broken:
                if cache.get("lock"):
                    raise Refused
                cache.set("lock", 1, timeout=60)
            elif not cache.add("lock", 1, timeout=60):
                raise Refused
            try:
                product = Product.objects.get(pk=self.product.pk)
                product.stock -= 1
                product.save()
            finally:
                cache.delete("lock")


    class Watch(Flow):
        def act(self, who):
            client = get_redis_connection()
            while True:
                with client.pipeline() as pipe:
                    if not self.is_broken:
                        pipe.watch("sold")
                    sold = int(client.get("sold") or 0)
                    pipe.multi()
                    pipe.set("sold", sold + 1)
                    try:
                        pipe.execute()
                        return
                    except WatchError:
                        continue


    class Deadlock(Flow):
        """Two that lock in two orders."""

        def arrange(self):
            self.products = [Product.objects.create(name=name) for name in ("lamp", "chair")]

        def acts(self):
            return [lambda: self.act(1), lambda: self.act(-1)]

        def act(self, direction):
            with transaction.atomic():
                for product in self.products[:: direction if self.is_broken else 1]:
                    Product.objects.filter(pk=product.pk).update(stock=F("stock") + 1)


    class HalfRead(Flow):
        """A report that reads what belongs together at two moments."""

        def arrange(self):
            for name in ("ann", "bob"):
                Product.objects.create(name=name, stock=5)

        def acts(self):
            return [self.move, self.total]

        def move(self):
            with transaction.atomic():
                Product.objects.filter(name="ann").update(stock=0)
                Product.objects.filter(name="bob").update(stock=10)

        def total(self):
            if self.is_broken:
                return [Product.objects.get(name=name).stock for name in ("ann", "bob")]
            return list(Product.objects.order_by("name").values_list("stock", flat=True))


    FLOWS = [flow for flow in Flow.__subclasses__()]
'''

TESTS = """
    from itkit import sweep
    from itkit.test import IntegrationTestCase
    from shop.flows import FLOWS


    def raced(flow, is_broken):
        @sweep.races
        def test(self, race):
            race(*flow(self, is_broken).acts())

        return test


    class Broken(IntegrationTestCase):
        pass


    class Right(IntegrationTestCase):
        pass


    for flow in FLOWS:
        setattr(Broken, f"test_{flow.__name__}", raced(flow, True))
        setattr(Right, f"test_{flow.__name__}", raced(flow, False))
"""


def write(project: Project) -> None:
    """Make a project the zoo."""
    project.settings(SETTINGS)
    project.write("urls.py", "urlpatterns = []")
    project.write("shop/models.py", MODELS)
    project.write("shop/migrations/0001_initial.py", MIGRATION)
    project.write("shop/flows.py", FLOWS)
    project.write("shop/tests/__init__.py", "")
    project.write("shop/tests/test_zoo.py", TESTS)
