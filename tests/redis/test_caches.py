"""Django's caches over the prefix: django-redis and Django's own backend."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import caches
from django_redis import get_redis_connection

from itkit.redis import PrefixIsolation, project_servers
from itkit.redis.server.server import connected
from tests.support import redis_server

FOREIGN = {":1:foreign": "1", "foreign": "2"}


@pytest.fixture(scope="module")
def server() -> Iterator[redis_server.Server]:
    with redis_server.on_port() as running:
        yield running


@pytest.fixture
def isolation(server, settings) -> Iterator[PrefixIsolation]:
    """The isolation on the project's own server, which holds keys of a developer."""
    settings.ITKIT = {}
    settings.CACHES = {
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"{server.url}",
            "KEY_PREFIX": "shop",
        },
        "own": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": server.url,
            "VERSION": 3,
        },
    }
    with connected(server.url) as client:
        client.flushall()
        client.mset(FOREIGN)
    made = PrefixIsolation(
        server=server.url, run="0123abcd", worker="w1", owned=False, project=project_servers()
    )
    made.install()
    yield made
    made.clear()
    made.uninstall()
    caches.close_all()
    with connected(server.url) as client:
        assert (
            dict.fromkeys(FOREIGN) | dict(zip(FOREIGN, client.mget(FOREIGN), strict=True))
            == FOREIGN
        )
        assert client.dbsize() == len(FOREIGN)


@pytest.mark.parametrize("alias", ["default", "own"])
def test_the_cache_api_works_under_the_prefix(server, isolation, alias):
    cache = caches[alias]
    assert cache.get("foreign") is None
    cache.set_many({"a": 1, "b": [2]})
    assert cache.get_many(["a", "b", "c"]) == {"a": 1, "b": [2]}
    assert cache.incr("a") == 2
    assert cache.add("a", 5) is False
    assert cache.get_or_set("d", lambda: "made") == "made"
    assert cache.touch("a", 100) is True
    assert cache.delete("a") is True
    assert "b" in cache
    with connected(server.url) as client:
        written = set(client.scan_iter()) - set(FOREIGN)
    assert all(key.startswith(isolation.prefix) for key in written)
    assert len(written) == 2


@pytest.mark.parametrize("alias", ["default", "own"])
def test_clear_forgets_ours_only(isolation, alias):
    caches[alias].set("a", 1)
    caches[alias].clear()
    assert caches[alias].get("a") is None


@pytest.mark.parametrize("alias", ["default", "own"])
def test_a_new_generation_is_an_empty_cache(isolation, alias):
    caches[alias].set("a", 1)
    isolation.new_generation()
    assert caches[alias].get("a") is None


@pytest.mark.parametrize("alias", ["default", "own"])
def test_the_asyncio_api_works_under_the_prefix(isolation, alias):
    async def use() -> Any:
        await caches[alias].aset("a", 1)
        await caches[alias].aclear()
        await caches[alias].aset("b", 2)
        return await caches[alias].aget_many(["a", "b"])

    assert asyncio.run(use()) == {"b": 2}


def test_the_own_methods_of_django_redis_work_under_the_prefix(isolation):
    cache: Any = caches["default"]
    cache.set("user:1", 1, timeout=50)
    cache.set("user:2", 2, timeout=None)
    cache.set("other", 3)
    assert sorted(cache.keys("user:*")) == ["user:1", "user:2"]
    assert sorted(cache.iter_keys("*")) == ["other", "user:1", "user:2"]
    assert 0 < cache.ttl("user:1") <= 50
    assert cache.ttl("user:2") is None
    assert cache.delete_pattern("user:*") == 2
    assert cache.keys("*") == ["other"]
    with cache.lock("key", timeout=5):
        assert 0 < cache.ttl("key") <= 5
    cache.sadd("set", 1, 2)
    assert cache.smembers("set") == {1, 2}


def test_the_client_behind_the_cache_is_under_the_prefix(isolation):
    line = get_redis_connection("default")
    line.set("raw", 1)
    assert line.keys("*") == [b"raw"]
    line.flushdb()
    assert line.keys("*") == []
