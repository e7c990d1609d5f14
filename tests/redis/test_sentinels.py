"""Projects whose Redis is behind Sentinels: the tests' own stands in the place of all of them."""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support import redis_server
from tests.support.doors import SERIAL, enter, write_tests
from tests.support.projects import Project, wait_until

SETTINGS = """
    DJANGO_REDIS_CONNECTION_FACTORY = "django_redis.pool.SentinelConnectionFactory"
    CACHES = {{
        "default": {{
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": "redis://mymaster/1",
            "OPTIONS": {{
                "CLIENT_CLASS": "django_redis.client.SentinelClient",
                "SENTINELS": [("127.0.0.1", {port})],
            }},
        }}
    }}
    CHANNEL_LAYERS = {{
        "default": {{
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {{
                "hosts": [{{"sentinels": [("localhost", {port})], "master_name": "mymaster"}}]
            }},
        }}
    }}
    CELERY_BROKER_URL = "sentinel://localhost:{port}/2"
    CELERY_BROKER_TRANSPORT_OPTIONS = {{"master_name": "mymaster"}}
    SENTINEL_PORT = {port}
"""
LISTED = """
    ITKIT["REDIS"] = {"SETTINGS": ["CELERY_BROKER_URL", "CHANNEL_LAYERS"]}
"""
CACHE = """
    from django.core.cache import cache
    from django_redis import get_redis_connection
    from itkit.test import IntegrationTestCase


    class Cached(IntegrationTestCase):
        def test_a_cache(self):
            cache.set("k", "v")
            self.assertEqual(cache.get("k"), "v")
            client = get_redis_connection()
            self.assertEqual(client.keys("*"), [b":1:k"])
            self.assertEqual(client.connection_pool.connection_kwargs["db"], 1)

        def test_b_keys_of_another_test_are_gone(self):
            self.assertIsNone(cache.get("k"))
            cache.set("k", "w")
            cache.clear()
            self.assertIsNone(cache.get("k"))
"""
MORE = """
    import asyncio

    import redis
    import redis.asyncio
    from asgiref.sync import async_to_sync
    from channels.layers import get_channel_layer
    from django.conf import settings
    from django.core.cache import cache
    from itkit.test import IntegrationTestCase
    from kombu import Connection
    from redis.sentinel import Sentinel

    NODES = [("localhost", settings.SENTINEL_PORT)]
    MADE_AT_IMPORT = Sentinel(NODES).master_for("mymaster", db=3)


    class Clients(IntegrationTestCase):
        def test_raw(self):
            MADE_AT_IMPORT.set("r", "1")
            replica = Sentinel(NODES).slave_for("mymaster", db=3)
            self.assertEqual(replica.get("r"), b"1")
            self.assertEqual(MADE_AT_IMPORT.keys("*"), [b"r"])

        def test_asyncio(self):
            async def use():
                client = redis.asyncio.Sentinel(NODES).master_for("mymaster", db=3)
                await client.set("a", "2")
                replica = redis.asyncio.Sentinel(NODES).slave_for("mymaster", db=3)
                found = await replica.keys("*")
                await client.aclose()
                await replica.aclose()
                return found

            self.assertEqual(asyncio.run(use()), [b"a"])

        def test_channels(self):
            layer = get_channel_layer()

            async def pass_on():
                await layer.send("channel", {"type": "hello"})
                return await layer.receive("channel")

            self.assertEqual(async_to_sync(pass_on)(), {"type": "hello"})

        def test_kombu(self):
            for url in (settings.CELERY_BROKER_URL, f"sentinel://localhost:{settings.SENTINEL_PORT}/2"):
                with Connection(url, transport_options={"master_name": "mymaster"}) as connection:
                    queue = connection.SimpleQueue("jobs")
                    queue.put({"n": 1})
                    self.assertEqual(queue.get(timeout=5).payload, {"n": 1})
                    queue.close()
"""


class Machine:
    """A developer's Redis behind a Sentinel.

    Args:
        master: client of the Redis.
        sentinel: client of the Sentinel.
        port: of the Sentinel.
    """

    def __init__(self, master: Any, sentinel: Any, port: int) -> None:
        self._master = master
        self._sentinel = sentinel
        self.port = port

    def state(self) -> tuple[int, int]:
        """Return how many keys there are, and how many connections the Sentinel has accepted."""
        keys = sum(one["keys"] for one in self._master.info("keyspace").values())
        return keys, self._sentinel.info("stats")["total_connections_received"]


@pytest.fixture
def behind() -> Iterator[Machine]:
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(redis_server.on_port())
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="it-")))
        port, of_master = redis_server.free_port(), master.url.rpartition(":")[2].partition("/")[0]
        configuration = directory / "sentinel.conf"
        configuration.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor mymaster 127.0.0.1 {of_master} 1\n"
        )
        program = redis_server.PROGRAMS["valkey"]
        assert program is not None
        process = stack.enter_context(
            subprocess.Popen([program, configuration, "--sentinel"], stdout=subprocess.DEVNULL)
        )
        stack.callback(process.terminate)
        asking = stack.enter_context(redis.Redis(port=port, single_connection_client=False))

        def knows() -> bool:
            with contextlib.suppress(redis.ConnectionError):
                return bool(
                    asking.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
                )
            return False

        assert wait_until(knows)
        client = stack.enter_context(redis.Redis.from_url(master.url))
        client.set("developers", "own")
        yield Machine(client, asking, port)


@pytest.mark.parametrize("door", ["django", "pytest, two xdist workers"])
def test_all_clients_of_a_sentinel_reach_the_tests_redis(
    door: str, project: Project, behind: Machine
) -> None:
    project.settings(SETTINGS.format(port=behind.port) + LISTED)
    project.go_on_after_warnings()
    write_tests(project, CACHE)
    project.write("shop/tests/test_clients.py", MORE)
    before = behind.state()
    result = enter(door, project)
    assert result.counts == {"passed": 6}, result.output
    assert behind.state() == before
    assert "itkit.W005" not in result.output


@pytest.mark.parametrize("door", SERIAL)
def test_sentinels_that_nobody_has_listed_are_told_once(
    door: str, project: Project, behind: Machine
) -> None:
    project.settings(SETTINGS.format(port=behind.port))
    project.go_on_after_warnings()
    write_tests(project, CACHE)
    project.write("shop/tests/test_clients.py", MORE)
    before = behind.state()
    alone = enter(
        door,
        project,
        *(["shop/tests/test_shop.py"] if door == "pytest" else ["shop.tests.test_shop"]),
    )
    assert alone.counts == {"passed": 2}, alone.output
    line = 'ITKIT = {"REDIS": {"SETTINGS": ["CELERY_BROKER_URL", "CHANNEL_LAYERS"]}}'
    assert alone.output.count(line) == 1, alone.output
    assert behind.state() == before


ONLY_LISTED = """
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
"""


def test_one_that_no_cache_names_is_refused_or_stood_for(project: Project, behind: Machine) -> None:
    project.settings(SETTINGS.format(port=behind.port) + ONLY_LISTED)
    project.go_on_after_warnings()
    write_tests(project, MORE)
    before = behind.state()
    refused = project.test("--integration")
    assert refused.counts["failed"] == 4, refused.output
    assert f"A connection to Redis at localhost:{behind.port} was refused" in refused.output
    assert 'ITKIT["REDIS"]["SETTINGS"] = ["CELERY_BROKER_URL"]' in refused.output
    project.settings(LISTED)
    assert project.test("--integration").counts == {"passed": 4}
    assert behind.state() == before
