"""Caches whose keys outlast a test, beside those whose do not."""

from typing import Any

import pytest

from itkit.redis import PrefixIsolation
from itkit.redis.server.server import connected
from tests.support import redis_server
from tests.support.doors import DOORS, enter, write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

TESTS = """
    import asyncio
    import subprocess
    import sys

    import redis.asyncio
    from django.core.cache import cache, caches
    from django_redis import get_redis_connection

    from itkit.test import IntegrationTestCase


    class Warm(IntegrationTestCase):
        def test_a_a_test_fills_it(self):
            caches["plain"].set("warm", 1)
            cache.set("cold", 1)
            self.assertEqual(get_redis_connection().keys("*"), [b":1:cold"])

        def test_b_the_next_finds_it_filled(self):
            self.assertEqual(caches["plain"].get("warm"), 1)
            self.assertIsNone(cache.get("cold"))
            cache.clear()
            self.assertEqual(caches["plain"].get("warm"), 1)

        def test_c_other_clients_find_it_too(self):
            async def read():
                async with redis.asyncio.Redis.from_url("redis://127.0.0.1:1/2") as client:
                    async with client.pipeline() as pipeline:
                        return await pipeline.get(":1:warm").keys().execute()

            self.assertEqual(asyncio.run(read()), [b"1", [b":1:warm"]])

        def test_d_and_another_process(self):
            code = "from django.core.cache import caches; caches['plain'].incr('warm')"
            subprocess.run([sys.executable, "manage.py", "shell", "-c", code], check=True)
            self.assertEqual(caches["plain"].get("warm"), 2)

        def test_e_it_can_be_cleared(self):
            cache.set("cold", 1)
            caches["plain"].clear()
            self.assertIsNone(caches["plain"].get("warm"))
            self.assertEqual(cache.get("cold"), 1)
"""


@pytest.fixture
def shop(project: Project) -> Project:
    project.settings('ITKIT["REDIS"] = {"SHARED_ALIASES": ["plain"]}')
    write_tests(project, TESTS)
    return project


@pytest.mark.parametrize("door", DOORS)
def test_keys_outlast_a_test(door: str, shop: Project) -> None:
    result = enter(door, shop, *(["--dist", "loadscope"] if "xdist" in door else []))
    assert result.counts == {"passed": 5}, result.output


def test_on_a_server_of_the_users_they_go_with_the_run(shop: Project, redis_url: str) -> None:
    result = shop.test("--integration", ITKIT_REDIS_URL=redis_url, ITKIT_REDIS_LEAKS="report")
    assert result.counts == {"passed": 5}, result.output
    assert "warm" not in result.output  # is no leak
    with connected(redis_url) as client:
        assert client.keys("*") == []


def test_on_a_server_for_each_worker_as_well(shop: Project) -> None:
    shop.settings('ITKIT["REDIS"]["PER_WORKER_SERVER"] = True')
    del shop.env["ITKIT_REDIS_URL"]
    result = shop.test("--integration", ITKIT_REDIS_LEAKS="report")
    assert result.counts == {"passed": 5}
    assert "cold" in result.output
    assert "warm" not in result.output


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ('ITKIT["REDIS"]["SHARED_ALIASES"] = ["nothing"]', "'nothing', which is no cache in Redis"),
        (
            'CACHES["plain"]["LOCATION"] = CACHES["default"]["LOCATION"]',
            "'plain', whose database is that of CACHES[\"default\"] as well",
        ),
    ],
)
def test_mistakes_are_told(change: str, told: str, shop: Project) -> None:
    shop.settings(change)
    output = shop.manage("check").output
    assert f'(itkit.E007) ITKIT["REDIS"]["SHARED_ALIASES"] has {told}' in output


def test_clearing_away_past_generations_leaves_them(settings: Any) -> None:
    settings.ITKIT = {"REDIS": {"SHARED_ALIASES": ["plain"]}}
    with redis_server.on_port() as server:
        project = [('CACHES["plain"]', f"{server.url}/2")]
        made = PrefixIsolation(
            server=server.url, run="0123abcd", worker="w1", owned=False, project=project
        )
        made.install()
        kept, other = server.client(db=2), server.client(db=1)
        kept.set("kept", 1)
        for _ in range(130):
            other.set("gone", 1)
            made.new_generation()
        assert kept.get("kept") == "1"
        with connected(server.url, database=2) as client:
            assert client.keys() == ["itkit:0123abcd:w1:0:kept"]
        with connected(server.url, database=1) as client:
            assert len(client.keys()) < 70
        kept.close()
        other.close()
        made.clear()
        made.uninstall()
        with connected(server.url, database=2) as client:
            assert client.keys() == []
