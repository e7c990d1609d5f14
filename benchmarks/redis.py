"""What the prefix costs a command, and what it takes to forget the keys of a test.

The peer of the commands is redis-py as it is, on the same server in the same process, in turns: the
isolation is put on and taken off between rounds. Of these the client's CPU time counts, as the
network and the server are the same. Of the login as an ACL user, which the server checks, the time
that passes counts.

The peer of a new generation is what Django offers, another ``KEY_PREFIX`` by
``override_settings(CACHES=...)``. The peers of the clean-up look for the keys of a test among
1,000,000 of others.
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import django
import redis
import redis.asyncio
from django.conf import settings
from django.core.cache import caches
from django.test import override_settings

from benchmarks.rows import Row
from itkit import services
from itkit.redis import PrefixIsolation, probe
from itkit.timeline import core

RUN, SECRET = "0123abcd", "of the benchmark"
ROUNDS = 41
FOREIGN = 1_000_000
OWN = 20
CLEANINGS = 11

Operation = Callable[[redis.Redis], None]


def measure() -> list[Row]:
    """Measure the commands, then the tests' ends without and among the keys of others."""
    need = services.Need(kind="redis", probe=probe)
    started = services.start([need], services.Options(source="embedded"))
    assert started.redis is not None
    url = started.redis.url
    try:
        _configure(url)
        rows = [*_commands(url), _login(url), _generation(url)]
        return [*rows, *_clean_ups(url)]
    finally:
        started.stop()


def _configure(url: str) -> None:
    backend = "django.core.cache.backends.redis.RedisCache"
    settings.configure(CACHES={"default": {"BACKEND": backend, "LOCATION": url}}, ITKIT={})
    django.setup()


def _commands(url: str) -> Iterator[Row]:
    for name, operation, target in (
        ("GET and SET", _get_and_set, 1.10),
        ("a pipeline of 50", _pipeline, 1.08),
        ("MULTI of 10", _transaction, 1.20),
        ("GET of asyncio", _asyncio_get, 1.08),
    ):
        peer, ours = [], []
        with redis.Redis.from_url(url) as client:
            for _ in range(ROUNDS):
                peer.append(_seconds(operation, client, time.process_time))
                with _isolated(url):
                    ours.append(_seconds(operation, client, time.process_time))
        yield _median_row(f"{name}, client's CPU time, against redis-py", ours, peer, target)


def _login(url: str) -> Row:
    without, with_user = [], []
    with redis.Redis.from_url(url) as client:
        for _ in range(ROUNDS):
            for secret, times in (("", without), (SECRET, with_user)):
                with _isolated(url, secret=secret):
                    times.append(_seconds(_get_and_set, client, time.perf_counter))
    return _median_row("GET and SET with the ACL user, against without", with_user, without, 1.03)


def _generation(url: str) -> Row:
    ours, peer = [], []
    with _isolated(url) as isolation:
        for number in range(ROUNDS):
            started = time.perf_counter()
            isolation.new_generation()
            ours.append(time.perf_counter() - started)
            changed = {"default": {**settings.CACHES["default"], "KEY_PREFIX": str(number)}}
            started = time.perf_counter()
            with override_settings(CACHES=changed):
                caches["default"].make_key("k")
            peer.append(time.perf_counter() - started)
    return Row(name="a new generation, against override_settings(CACHES=...)",
               ours=_ms(ours), peer=_ms(peer), unit="ms", bound="min", target=20)  # fmt: skip


def _clean_ups(url: str) -> Iterator[Row]:
    alone, _, _ = _cleanings(url)
    with redis.Redis.from_url(url) as client:
        _populate(client)
    ours, by_keys, by_scan = _cleanings(url)
    name = f"clean-up of {OWN} keys among {FOREIGN:,}"
    for peer, word in ((by_keys, "KEYS"), (by_scan, "SCAN")):
        yield Row(name=f"{name}, against {word}", ours=ours, peer=peer, unit="ms", bound="min",
                  target=500)  # fmt: skip
    yield Row(name=f"{name}, against none", ours=ours, peer=alone, unit="ms", bound="max",
              target=1.3)  # fmt: skip


def _cleanings(url: str) -> tuple[float, float, float]:
    """Return how many milliseconds ours takes, and those who look for the keys."""
    times: tuple[list[float], ...] = ([], [], [])
    with _isolated(url) as isolation, redis.Redis.from_url(url) as client:
        for _ in range(CLEANINGS):
            for cleaning, taken in zip((isolation.clear, _by_keys, _by_scan), times, strict=True):
                for number in range(OWN):
                    client.set(f"k{number}", number)
                started = time.perf_counter()
                removed = cleaning() if cleaning == isolation.clear else cleaning(url)
                taken.append(time.perf_counter() - started)
                assert removed == OWN
    return _ms(times[0]), _ms(times[1]), _ms(times[2])


def _by_keys(url: str) -> int:
    with _plain(url) as client:
        return client.unlink(*client.keys(f"itkit:{RUN}:*"))


def _by_scan(url: str) -> int:
    with _plain(url) as client:
        return client.unlink(*client.scan_iter(f"itkit:{RUN}:*", count=10_000))


@contextmanager
def _plain(url: str) -> Iterator[Any]:
    """Give a client without prefix, though one is on."""
    from itkit.redis.server.server import connected

    with connected(url) as client:
        yield client


@contextmanager
def _isolated(url: str, *, secret: str = "") -> Iterator[PrefixIsolation]:
    isolation = PrefixIsolation(
        server=url, run=RUN, worker="w0", owned=False, project=[], secret=secret
    )
    isolation.install()
    core.new_timeline("benchmark")  # commands of a test are recorded on it
    try:
        yield isolation
    finally:
        core.new_timeline()
        isolation.clear()
        isolation.uninstall()


def _seconds(operation: Operation, client: redis.Redis, clock: Callable[[], float]) -> float:
    operation(client)  # connects, and fills what is cached
    started = clock()
    operation(client)
    return clock() - started


def _get_and_set(client: redis.Redis) -> None:
    for _ in range(200):
        client.set("key", "value")
        client.get("key")


def _pipeline(client: redis.Redis) -> None:
    for _ in range(20):
        with client.pipeline(transaction=False) as pipeline:
            for _ in range(50):
                pipeline.get("key")
            pipeline.execute()


def _transaction(client: redis.Redis) -> None:
    for _ in range(50):
        with client.pipeline(transaction=True) as pipeline:
            for _ in range(10):
                pipeline.incr("number")
            pipeline.execute()


def _asyncio_get(client: redis.Redis) -> None:
    async def get() -> None:
        options = client.get_connection_kwargs()
        async with redis.asyncio.Redis(unix_socket_path=options["path"]) as other:
            for _ in range(300):
                await other.get("key")

    asyncio.run(get())


def _populate(client: redis.Redis) -> None:
    for start in range(0, FOREIGN, 10_000):
        client.mset({f"foreign:{number}": number for number in range(start, start + 10_000)})


def _median_row(name: str, ours: list[float], peer: list[float], target: float) -> Row:
    """Return the medians, scaled so that their ratio is the median of the ratios of each round."""
    ratio = statistics.median(one / other for one, other in zip(ours, peer, strict=True))
    base = _ms(peer)
    return Row(name=name, ours=base * ratio, peer=base, unit="ms", bound="max", target=target)


def _ms(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1000
