"""How a raced test is run and reported: acts of each kind, mistakes of the author, both doors."""

import re

import pytest

from tests.support import race_zoo
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

URLS = """
    from django.db import transaction
    from django.http import HttpResponse
    from django.urls import path

    from shop.models import Product


    def take(request, pk):
        with transaction.atomic():
            product = Product.objects.get(pk=pk)
            if request.GET.get("safe"):
                product = Product.objects.select_for_update().get(pk=pk)
            if not product.stock:
                return HttpResponse("sold out", status=409)
            product.stock -= 1
            product.save()
        return HttpResponse("taken")


    urlpatterns = [path("take/<int:pk>/", take)]
"""

RACED = """
    import threading
    import unittest
    from pathlib import Path

    import pytest
    from django.db import transaction
    from django.db.models import F
    from django_redis import get_redis_connection

    from itkit import sweep
    from itkit.test import IntegrationTestCase
    from shop.gateways import Stripe
    from shop.models import Product, Sale, Tag


    def note(what):
        with Path("runs.txt").open("a") as file:
            file.write(f"{what}\\n")


    def add(name="new"):
        Tag.objects.create(name=name)
        return name


    class Right(IntegrationTestCase):
        @sweep.races
        def test_results(self, race):
            def refuse():
                raise KeyError("no")

            returned = race(add, refuse)
            self.assertIn(returned, (["new", None], [None, None]))  # one act alone, to compare with
            note(f"results {race.option} {race.results} {race.errors}")

        @sweep.races
        def test_three(self, race):
            product = Product.objects.create(name="lamp", stock=0)

            def act():
                Product.objects.filter(pk=product.pk).update(stock=F("stock") + 1)

            race(act, times=3)
            note(f"three {race.option}")

        @sweep.races
        def test_requests(self, race):
            product = Product.objects.create(name="lamp", stock=1)
            responses = race.requests(self.client.get, f"/take/{product.pk}/?safe=1")
            note(f"requests {[response and response.status_code for response in responses]}")

        @sweep.races
        async def test_coroutines(self, race):
            product = await Product.objects.acreate(name="lamp", stock=0)

            async def act():
                await Product.objects.filter(pk=product.pk).aupdate(stock=F("stock") + 1)
                await Tag.objects.acreate(name="new")

            race(act, act)

        @sweep.races
        def test_one_that_waits_for_what_the_other_sends(self, race):
            def receive():
                return get_redis_connection().blpop("queue", timeout=20) is not None

            def send():
                add()
                get_redis_connection().rpush("queue", "x")

            race(send, receive)

        @sweep.races
        def test_a_lock_of_this_process(self, race):
            lock = threading.Lock()
            product = Product.objects.create(name="lamp", stock=0)

            def act():
                with lock:
                    found = Product.objects.get(pk=product.pk)
                    found.stock += 1
                    found.save()

            race(act, times=2)


    class Wrong(IntegrationTestCase):
        @sweep.races
        def test_requests(self, race):
            product = Product.objects.create(name="lamp", stock=1)
            race.requests(self.client.get, f"/take/{product.pk}/")

        @sweep.races
        def test_coroutines(self, race):
            product = Product.objects.create(name="lamp", stock=0)

            async def act():
                found = await Product.objects.aget(pk=product.pk)
                found.stock += 1
                await found.asave()

            race(act, act)

        @sweep.races
        def test_own_assertion(self, race):
            race(lambda: add("a"), lambda: add("b"))
            self.assertEqual(Tag.objects.order_by("pk").first().name, "a")

        @sweep.races
        def test_that_hangs(self, race):
            def wait():
                add()
                threading.Event().wait()  # for ever

            race(wait, add)

        @sweep.races
        def test_without_a_race(self, race):
            pass

        @sweep.races
        def test_one_act(self, race):
            race(add)

        @sweep.races
        def test_two_races(self, race):
            race(add, add)
            race(add, add)

        @sweep.races
        def test_in_a_transaction(self, race):
            with transaction.atomic():
                race(add, add)

        @sweep.races
        def test_that_never_succeeds(self, race):
            race(lambda: missing, lambda: missing)

        @sweep.races
        def test_no_request(self, race):
            race.requests(add)


    @pytest.fixture(scope="module")
    def shared():
        note("shared begins")
        yield
        note("shared ends")


    @pytest.mark.integration
    def test_of_pytest(race, data, backends, shared):
        product = data.create("shop.Product", name="lamp", stock=1)

        def buy():
            found = Product.objects.get(pk=product.pk)
            if not found.stock:
                return False
            Sale.objects.create(product=found, buyer="x")
            Product.objects.filter(pk=product.pk).update(stock=0)
            return True

        race(buy, times=2)
        assert Sale.objects.count() <= 1


    class TestOwnFixture:
        @pytest.fixture
        def race(self):
            return "of the project"

        @pytest.mark.integration
        def test_of_a_fixture_of_the_project(self, race, backends):
            assert race == "of the project"
"""

TOLD = (
    "The test is swept with schedules, and there is no race in it",
    "race() needs two acts at least",
    "race() was called a second time in one test",
    "within a transaction that the test has opened",
    "Each act of the race has raised an error, even where it was done alone",
    "raised NameError: name 'missing' is not defined",
    "race.requests() takes a method of Django's test client",
    "the acts do not come to their end: nothing has happened for 0.5 seconds",
    "0 waits at shop/tests/test_raced.py:{} in wait",
    "AssertionError: 'b' != 'a'",
)


def write(project: Project) -> None:
    race_zoo.write(project)
    project.settings('ITKIT["SWEEP"] = {"ACT_SECONDS": 0.5}')
    (project.path / "shop/tests/test_zoo.py").unlink()
    project.write("urls.py", URLS)
    project.write("shop/tests/test_raced.py", RACED)


def check(output: str, project: Project) -> None:
    lines = (project.path / "shop/tests/test_raced.py").read_text().splitlines()
    hangs_at = next(number for number, line in enumerate(lines, 1) if "# for ever" in line)
    for told in TOLD:
        assert told.format(hangs_at) in output, output


def test_each_kind_of_act_and_mistake(project: Project) -> None:
    write(project)
    result = project.test("--integration", "shop.tests.test_raced")
    assert result.counts == {"passed": 6, "failed": 10}, result.output
    check(result.output, project)
    assert "'1,0'" in result.output  # the order in which the assertion does not hold
    runs = (project.path / "runs.txt").read_text()
    # The orders, with one act and with none of the others, and the first once more.
    assert "results  ['new', None] [None, KeyError('no')]" in runs, runs
    assert "results --itkit-schedule 1,0 ['new', None] [None, KeyError('no')]" in runs, runs
    assert "results  [None, None] [None, KeyError('no')]" in runs, runs
    # All three, two of them, one, and all again; in another order they would do the same.
    assert runs.count("three ") == 4, runs
    assert "requests [200, 409]" in runs, runs


REFERRING = """
    from functools import partial

    from django.db import transaction
    from django.db.models import F

    from itkit import sweep
    from itkit.test import IntegrationTestCase
    from shop.models import Product, Sale


    def sell(key, buyer):
        with transaction.atomic():
            Sale.objects.create(product_id=key, buyer=buyer)
            Product.objects.filter(pk=key).update(stock=F("stock") - 1)


    def withdraw(key):
        with transaction.atomic():
            if not Sale.objects.filter(product_id=key).exists():
                Product.objects.filter(pk=key)._raw_delete("default")


    class Referring(IntegrationTestCase):
        @sweep.races
        def test_sell(self, race):
            product = Product.objects.create(name="lamp", stock=2)
            with open("runs.txt", "a") as runs:
                print("sell", race.option, file=runs)
            race(partial(sell, product.pk, "ann"), partial(sell, product.pk, "bob"))

        @sweep.races
        def test_withdraw(self, race):
            product = Product.objects.create(name="lamp", stock=2)
            race(partial(withdraw, product.pk), partial(sell, product.pk, "ann"))
            with open("runs.txt", "a") as runs:
                print("withdraw", race.option, [type(one).__name__ for one in race.errors], file=runs)
"""


def test_what_a_new_row_refers_to_is_locked_when_it_is_committed(project: Project) -> None:
    race_zoo.write(project)
    project.write("shop/tests/test_zoo.py", REFERRING)
    result = project.test("--integration", "shop.tests.test_zoo")
    runs = (project.path / "runs.txt").read_text()
    # Both orders, one act alone, the first order again, and a stop of either act before its COMMIT:
    # who adds a sale is not in the way of who changes the product.
    assert len(re.findall("^sell", runs, re.MULTILINE)) == 7, runs
    assert "withdraw  ['NoneType', 'IntegrityError']" in runs, "one after another"
    assert "withdraw --itkit-schedule 0x1,1,0 ['IntegrityError', 'NoneType']" in runs, result.output


@pytest.mark.slow
def test_the_same_under_pytest_with_workers(project: Project) -> None:
    write(project)
    result = project.pytest("--integration", "-n", "2")
    counts = re.search(r"(\d+) failed, (\d+) passed", result.output)
    assert counts is not None, result.output
    assert counts.groups() == ("11", "7"), result.output
    check(result.output, project)
    assert "assert 2 <= 1" in result.output
    runs = (project.path / "runs.txt").read_text()
    assert runs.count("shared begins") == runs.count("shared ends") == 1, runs


def test_races_in_workers_of_django(project: Project) -> None:
    write(project)
    result = project.test(
        "--integration", "--parallel", "2", "-k", "requests", "-k", "coroutines",
        "shop.tests.test_raced.Right", "shop.tests.test_raced.Wrong",
    )  # fmt: skip
    assert result.counts == {"passed": 2, "failed": 2}, result.output
    assert result.output.count("no order of the acts leaves what these have left") >= 2
    assert result.output.count(" manage.py test shop.tests.test_raced.Wrong") == 2


@pytest.mark.slow
def test_options(project: Project) -> None:
    write(project)
    chosen = "shop.tests.test_raced.Wrong.test_requests"
    off = project.test("--integration", "--itkit-sweep=off", chosen)
    assert off.counts == {"passed": 1}, off.output
    one = project.test("--integration", "--itkit-schedule=0x1,1,0", chosen)
    assert one.counts == {"failed": 1}, one.output
    assert "does not hold" not in one.output, one.output
    right = project.test("--integration", "--itkit-schedule=1,0", chosen)
    assert right.counts == {"passed": 1}, right.output
    beyond = project.test("--integration", "--itkit-schedule=5,0", chosen)
    assert "names the act 5, and race() was given 2: 0 to 1" in beyond.output, beyond.output
    for run in (project.test, project.pytest):
        for option, told in (
            ("--itkit-schedule=nonsense", "'nonsense' is no schedule. Write who is let on"),
            ("--itkit-fault=nonsense", "'nonsense' names no fault. Write the crossing"),
        ):
            result = run("--integration", option)
            assert f"{option.partition('=')[0]}: {told}" in result.output, result.output
            assert "Ran " not in result.output, result.output
            assert "collected" not in result.output, result.output
        sweep_is_off = run("--integration", "--itkit-schedule=0,1", "--itkit-sweep=off")
        told = "--itkit-schedule is one variation of a sweep, and --itkit-sweep is off: leave out"
        assert f"{told} --itkit-sweep=off." in sweep_is_off.output, sweep_is_off.output
        both = run("--integration", "--itkit-schedule=0,1", "--itkit-state=free")
        told = "--itkit-schedule and --itkit-state are variations of different sweeps: leave all"
        assert f"{told} but one of them out." in both.output, both.output
