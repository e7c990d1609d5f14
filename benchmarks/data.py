"""What test data costs, against the libraries that make it and Django that removes it.

The factories are ordinary ones of factory_boy. What creates is in one transaction that is rolled
back, as in a TestCase; cases alternate, and of each the best round counts. Their time is the CPU
time of this process and of its Postgres backend, since waiting for one another is the same for all.
The removal is committed, as the rows are, and its time is wall time.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
from django.core.management import call_command
from django.db import connection, transaction

from benchmarks.database import own_database
from benchmarks.rows import Row

ORDERS = 1_000
ROUNDS = 5
SINGLE_ROUNDS = 15
SINGLES = 300
CUSTOMERS = 2_500
DRAWS = 1_000_000
BUDGET_OF_DRAW = 25

Work = Callable[[], object]


def measure() -> list[Row]:
    """Measure creation, then removal, then unique values."""
    with own_database(
        INSTALLED_APPS=["itkit", "benchmarks.datashop"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    ):
        call_command("migrate", run_syncdb=True, verbosity=0)
        from benchmarks.datashop import made_by

        made_by.ProductFactory.create_batch(2)  # that all lines refer to
        return [*_graphs(), _scenario(), _bakery(), _single(), *_removal(), _unique()]


def _graphs() -> Iterator[Row]:
    from benchmarks.datashop import made_by, models
    from itkit.data import TestDataManager

    for name, values, target in (
        ("with names of Faker's", {}, 3.5),
        ("with values that cost nothing", {"customer__name": "Ada"}, 4),
    ):

        def ours(values: Any = values) -> None:
            TestDataManager().create_batch(made_by.OrderFactory, ORDERS, **values)
            _check(models)

        def peer(values: Any = values) -> None:
            made_by.OrderFactory.create_batch(ORDERS, **values)
            _check(models)

        yield _row(f"1,000 orders {name}, against create_batch", ours, peer, target)


def _scenario() -> Row:
    from benchmarks.datashop import made_by, models
    from benchmarks.datashop.scenarios import crowd
    from itkit.data import TestDataManager

    def ours() -> None:
        TestDataManager().scenario(crowd)
        _check(models)

    def peer() -> None:
        made_by.OrderFactory.create_batch(ORDERS)
        _check(models)

    with transaction.atomic():
        ours()  # is made, and kept in this process
        transaction.set_rollback(True)
    name = "a kept scenario of 4,000 rows, against create_batch"
    return _row(name, ours, peer, 40)


def _bakery() -> Row:
    from model_bakery import baker

    from benchmarks.datashop import models
    from itkit.data import TestDataManager

    products = baker.make(models.Product, 2)

    def ours() -> None:
        items = [{"product": product} for product in products]
        TestDataManager().create_batch("order", ORDERS, items=items)
        _check(models)

    def peer() -> None:
        for _ in range(ORDERS):
            order = baker.make(models.Order)
            for product in products:
                baker.make(models.Line, order=order, product=product)
        _check(models)

    return _row("1,000 orders without factories, against baker.make", ours, peer, 3)


def _check(models: Any) -> None:
    assert models.Order.objects.count() == models.Customer.objects.count() == ORDERS
    assert models.Line.objects.count() == 2 * ORDERS


def _single() -> Row:
    from benchmarks.datashop import made_by
    from itkit.data import TestDataManager

    def ours() -> None:
        data = TestDataManager()
        for _ in range(SINGLES):
            data.create(made_by.CustomerFactory, name="Ada")

    def peer() -> None:
        for _ in range(SINGLES):
            made_by.CustomerFactory(name="Ada")

    seconds, seconds_of_peer = _best([ours, peer], SINGLE_ROUNDS)
    return Row(name="a single create, against the factory's call", unit="us", bound="max",
               ours=seconds / SINGLES * 1e6, peer=seconds_of_peer / SINGLES * 1e6,
               target=1.10)  # fmt: skip


def _row(name: str, ours: Work, peer: Work, target: float) -> Row:
    seconds, seconds_of_peer = _best([ours, peer], ROUNDS)
    return Row(name=name, ours=seconds, peer=seconds_of_peer, unit="s", bound="min",
               target=target)  # fmt: skip


def _best(works: list[Work], rounds: int) -> list[float]:
    """Return the least CPU time of each, taken in turns, each in a transaction of its own."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, own in zip(works, times, strict=True):
            with transaction.atomic():
                own.append(_seconds(work))
                transaction.set_rollback(True)
    return [min(own) for own in times]


def _seconds(work: Work) -> float:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        backend = psutil.Process(cursor.fetchone()[0])
    before = time.process_time() + _cpu(backend)
    work()
    return time.process_time() + _cpu(backend) - before


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _removal() -> Iterator[Row]:
    """Remove 10,000 rows from among 4,000 of others'."""
    from benchmarks.datashop import made_by, models
    from itkit.data import TestDataManager

    TestDataManager().create_batch(made_by.OrderFactory, 1_000, customer__name="Ada")
    data = TestDataManager()
    own: list[Any] = []

    def prepare() -> None:
        nonlocal data
        data = TestDataManager()
        orders = data.create_batch(made_by.OrderFactory, CUSTOMERS, customer__name="Ada")
        lines = models.Line.objects.filter(order__in=orders)
        own[:] = [*lines, *orders, *(order.customer for order in orders)]

    for name, peer, rounds, target in (
        ("Model.delete() of each", _delete_each, 1, 100),
        ("Collector", _collect, ROUNDS, 4),
    ):

        def by_peer(peer: Any = peer) -> None:
            peer(own)

        times = []
        for work in (lambda: data.cleanup(), by_peer):  # noqa: PLW0108 - data is another each time
            taken = []
            for _ in range(rounds):
                prepare()
                started = time.perf_counter()
                work()
                taken.append(time.perf_counter() - started)
                assert models.Line.objects.count() == 2_000
            times.append(min(taken))
        yield Row(name=f"clean-up of 10,000 rows, against {name}", ours=times[0], peer=times[1],
                  unit="s", bound="min", target=target)  # fmt: skip


def _delete_each(instances: list[Any]) -> None:
    for instance in instances:
        instance.delete()


def _collect(instances: list[Any]) -> None:
    from django.db.models.deletion import Collector

    collector = Collector(using="default", origin=instances[0])
    for model in dict.fromkeys(type(instance) for instance in instances):
        collector.collect([instance for instance in instances if type(instance) is model])
    collector.delete()


def _unique() -> Row:
    from itkit.data import TestDataManager

    unique = TestDataManager(seed="benchmark").unique
    started = time.process_time()
    drawn = {unique.number() for _ in range(DRAWS)}
    seconds = time.process_time() - started
    assert len(drawn) == DRAWS, f"{DRAWS - len(drawn)} collisions"
    return Row(name="a unique value of 1,000,000, against the budget", ours=seconds / DRAWS * 1e6,
               peer=BUDGET_OF_DRAW, unit="us", bound="max", target=1)  # fmt: skip
