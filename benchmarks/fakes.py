"""What a recorded call costs, and what a test pays for its fakes.

The peers are those of ``unittest.mock``: an object of ``create_autospec``, which checks arguments
as ours does, and a ``MagicMock``, which checks none. A call of ours records its arguments, result,
time, thread and the line that called, and copies what can change. It is measured as in a run: while
itkit hears Python's audit events, of which each call causes one. The time is CPU time, the best of
the rounds, as all of it is Python.
"""

import statistics
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import MagicMock, create_autospec  # noqa: TID251 - the peer

from django.db import connection

from benchmarks.database import own_database
from benchmarks.rows import Row
from itkit.backends.registry import Registry
from itkit.timeline import core, sql, threads

METHODS = 60
CALLS = 1_000
ROUNDS = 25
MANY = 20_000
THREADS = 16
IN_THREADS = 1_000_000
TESTS = 1_000
BACKENDS = 10
BUDGET_MICROSECONDS = 60
BUDGET_OF_SQL = 8

Call = Callable[[], object]


def measure() -> list[Row]:
    """Measure single calls, fresh fakes, memory, threads, and SQL on the timeline."""
    return [*_calls(), _fresh(), _memory(), _lost(), _overhead(), _statements()]


def _gateway(number: int = 0) -> type:
    """Return a class of many methods with four parameters each, which do nothing."""

    def method(self: Any, amount: int, token: str, currency: str = "eur", memo: str = "") -> str:
        raise NotImplementedError

    return type(f"Gateway{number}", (), {f"method_{index}": method for index in range(METHODS)})


@contextmanager
def _swapped(count: int = 1) -> Iterator[tuple[Registry, list[type]]]:
    classes = [_gateway(number) for number in range(count)]
    registry = Registry({f"gateway_{number}": kind for number, kind in enumerate(classes)})
    registry.swap()
    core.new_timeline("benchmark")
    try:
        with threads.followed():
            yield registry, classes
    finally:
        registry.restore()
        core.new_timeline()


def _calls() -> Iterator[Row]:
    autospec = create_autospec(_gateway(), instance=True)
    magic = MagicMock()
    with _swapped() as (registry, (kind,)):
        registry.gateway_0.method_7.returns("txn_1")
        ours, by_autospec, by_magic = [], [], []
        for _ in range(ROUNDS):
            core.new_timeline("benchmark")
            ours.append(_seconds(_calling(kind())))
            for mock, times in ((autospec, by_autospec), (magic, by_magic)):
                mock.reset_mock()
                times.append(_seconds(_calling(mock)))
    name = "a call with its record, against"
    for peer, word, target in ((by_autospec, "create_autospec", 8), (by_magic, "MagicMock", 6)):
        yield Row(name=f"{name} {word}", ours=_each(ours), peer=_each(peer), unit="us",
                  bound="min", target=target)  # fmt: skip


def _fresh() -> Row:
    kind = _gateway()
    peer = min(_seconds(lambda: create_autospec(kind)) for _ in range(5))
    with _swapped() as (registry, _):
        ours = min(_seconds(lambda: _tests(registry)) for _ in range(ROUNDS)) / TESTS
    return Row(name=f"a fresh fake for a test, {METHODS} methods, against create_autospec",
               ours=ours * 1e6, peer=peer * 1e6, unit="us", bound="min", target=5_000)  # fmt: skip


def _memory() -> Row:
    with _swapped() as (registry, (kind,)):
        registry.gateway_0.method_7.returns("txn_1")
        ours = _bytes(_calling(kind(), MANY))
    peer = _bytes(_calling(MagicMock(), MANY))
    return Row(name="memory of a recorded call, against MagicMock", ours=ours / MANY,
               peer=peer / MANY, unit="bytes", bound="max", target=1 / 6)  # fmt: skip


def _lost() -> Row:
    magic = MagicMock()
    with _swapped() as (registry, (kind,)):
        registry.gateway_0.method_7.returns("txn_1")
        _in_threads(kind(), IN_THREADS)
        ours = IN_THREADS - registry.gateway_0.method_7.call_count
    _in_threads(magic, IN_THREADS // 10)
    peer = IN_THREADS // 10 - magic.method_7.call_count
    return Row(name=f"calls lost of {IN_THREADS:,} by {THREADS} threads, MagicMock: of a 10th",
               ours=ours, peer=max(peer, 1), unit="calls", bound="max", target=0)  # fmt: skip


def _overhead() -> Row:
    with _swapped(BACKENDS) as (registry, _):
        ours = min(_seconds(lambda: _tests(registry)) for _ in range(ROUNDS)) / TESTS
    return Row(name=f"{BACKENDS} backends, for each test, against the budget", ours=ours * 1e6,
               peer=BUDGET_MICROSECONDS, unit="us", bound="max", target=1)  # fmt: skip


def _statements() -> Row:
    with_record, without = [], []
    with own_database(), connection.cursor() as cursor:
        for _ in range(ROUNDS):
            without.append(_seconds(lambda: _queries(cursor)))
            with sql.recorded():
                core.new_timeline("benchmark")
                with_record.append(_seconds(lambda: _queries(cursor)))
                core.new_timeline()
    more = [recorded - plain for recorded, plain in zip(with_record, without, strict=True)]
    each = statistics.median(more) / CALLS * 1e6
    return Row(name="SQL on the timeline, for each statement, against the budget", ours=each,
               peer=BUDGET_OF_SQL, unit="us", bound="max", target=1)  # fmt: skip


def _queries(cursor: Any) -> None:
    for _ in range(CALLS):
        cursor.execute('SELECT 1 AS "id" FROM (SELECT 1) "shop_order" WHERE 1 = %s', [1])


def _calling(gateway: Any, calls: int = CALLS) -> Call:
    def run() -> None:
        method = gateway.method_7
        for number in range(calls):
            method(number, token="tok_visa", memo="an order")

    return run


def _tests(registry: Registry) -> None:
    for _ in range(TESTS):
        registry.reset()
        core.new_timeline("benchmark")
        registry.check()
        registry.reset()
        core.new_timeline()


def _in_threads(gateway: Any, calls: int) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads that take turns all the time are what loses calls
    threads = [threading.Thread(target=_calling(gateway, calls // THREADS)) for _ in range(THREADS)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)


def _seconds(call: Call) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def _bytes(call: Call) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def _each(seconds: list[float]) -> float:
    return min(seconds) / CALLS * 1e6
