"""Which servers redis-py may reach: redirected, refused, let through."""

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from itkit.exceptions import EscapeError
from itkit.redis import PrefixIsolation
from itkit.redis.prefix.namespace import Namespace
from itkit.redis.prefix.rewrite import Rewriter
from itkit.redis.server.server import connected
from itkit.redis.wire.guard import ConnectionGuard
from tests.support import redis_server

RUN = "0123abcd"


@pytest.fixture(scope="module")
def isolated() -> Iterator[redis_server.Server]:
    """The server of the tests."""
    with redis_server.on_socket() as running:
        yield running


@pytest.fixture(scope="module")
def project() -> Iterator[redis_server.Server]:
    """The project's own server, which asks for a password."""
    with redis_server.on_port("--requirepass", "s3cret", login=":s3cret@") as running:
        yield running


@pytest.fixture(autouse=True)
def table(settings) -> Any:
    settings.ITKIT = {}
    return settings


@pytest.fixture(autouse=True)
def _empty(isolated, project) -> Iterator[None]:
    for server in (isolated, project):
        with connected(server.url) as client:
            client.flushall()
    yield
    gc.collect()


def installed(server: redis_server.Server, *stood_for: redis_server.Server) -> PrefixIsolation:
    made = PrefixIsolation(
        server=server.url,
        run=RUN,
        worker="w1",
        owned=True,
        project=[("REDIS_URL", other.url) for other in stood_for],
    )
    made.install()
    return made


@pytest.fixture
def isolation(isolated, project) -> Iterator[PrefixIsolation]:
    made = installed(isolated, project)
    yield made
    made.uninstall()


def port_of(server: redis_server.Server) -> int:
    return int(redis.connection.parse_url(server.url)["port"])


def keys_on(server: redis_server.Server, database: int = 0) -> list[str]:
    with connected(server.url, database=database) as client:
        return sorted(client.keys())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "LOCALHOST"])
def test_the_projects_address_is_redirected_by_every_name(isolated, project, isolation, host):
    line = redis.Redis(host=host, port=port_of(project), password="whatever", db=4)
    line.set("k", 1)
    assert line.get("k") == b"1"
    assert keys_on(isolated, 4) == [f"{isolation.prefix}k"]
    assert keys_on(project) == []
    line.close()


@pytest.mark.parametrize("protocol", [2, 3])
def test_asyncio_connections_are_redirected(isolated, project, isolation, protocol):
    async def use() -> None:
        line = redis.asyncio.Redis.from_url(project.url, protocol=protocol)
        await line.set("k", 1)
        await line.aclose()

    asyncio.run(use())
    assert keys_on(isolated) == [f"{isolation.prefix}k"]


def test_tls_is_dropped_with_the_redirection(isolated, project, isolation):
    with redis.Redis(host="localhost", port=port_of(project), ssl=True) as line:
        line.set("k", 1)

    async def use() -> None:
        async with redis.asyncio.Redis(host="localhost", port=port_of(project), ssl=True) as line:
            await line.set("k2", 1)

    asyncio.run(use())
    assert keys_on(isolated) == [f"{isolation.prefix}k", f"{isolation.prefix}k2"]


def test_a_socket_is_redirected_to_a_port_that_asks_for_a_password(isolated, project):
    made = installed(project, isolated)
    with redis.Redis.from_url(isolated.url) as line:
        line.set("k", 1)

    async def use() -> None:
        async with redis.asyncio.Redis.from_url(isolated.url) as line:
            await line.set("k2", 1)

    asyncio.run(use())
    made.uninstall()
    assert keys_on(project) == ["itkit:0123abcd:w1:1:k", "itkit:0123abcd:w1:1:k2"]
    assert keys_on(isolated) == []


def test_a_client_from_import_time_changes_over_and_back(isolated, project):
    clients = [
        redis.Redis.from_url(project.url),
        redis.Redis.from_url(project.url, single_connection_client=True),
    ]
    for number, line in enumerate(clients):
        line.set(f"real{number}", 1)
    made = installed(isolated, project)
    for line in clients:
        assert line.keys() == []
        line.flushdb()
        assert line.pipeline().set("k", 1).keys("*").execute() == [True, [b"k"]]
        line.delete("k")
    made.uninstall()
    for line in clients:
        assert sorted(line.keys()) == [b"real0", b"real1"]
        line.close()


def test_an_asyncio_client_from_before_changes_over_and_back(isolated, project):
    async def use() -> None:
        line = redis.asyncio.Redis.from_url(project.url)
        await line.set("real", 1)
        made = installed(isolated, project)
        assert await line.keys() == []
        await line.set("k", 1)
        assert keys_on(isolated) == [f"{made.prefix}k"]
        made.uninstall()
        assert await line.keys() == [b"real"]
        await line.aclose()

    asyncio.run(use())
    assert keys_on(project) == ["real"]


def test_an_unknown_address_is_refused_with_the_line_to_add(isolation, table):
    table.STATISTICS = {"store": [{"address": "redis://:pw@stats.internal:7000/3"}]}
    table.ITKIT = {"REDIS": {"SETTINGS": ["REDIS_URL"], "ALLOW_ADDRESSES": ["other:1"]}}
    with pytest.raises(EscapeError) as refused, redis.Redis("stats.internal", 7000) as line:
        line.get("k")
    message = str(refused.value)
    assert "Redis at stats.internal:7000 was refused" in message
    assert 'ITKIT["REDIS"]["SETTINGS"] = ["REDIS_URL", "STATISTICS"]' in message
    assert 'ITKIT["REDIS"]["ALLOW_ADDRESSES"] = ["other:1", "stats.internal:7000"]' in message
    assert "pw" not in message


def test_an_address_from_an_override_in_the_test_is_refused_with_what_still_helps(isolation, table):
    table.CACHES = {"default": {"LOCATION": "redis://stats.internal:7000/3"}}
    table.ITKIT = {"REDIS": {"SETTINGS": ["CACHES"]}}
    with pytest.raises(EscapeError) as refused, redis.Redis("stats.internal", 7000) as line:
        line.get("k")
    message = str(refused.value)
    assert "an override during a test comes too late" in message
    assert '["REDIS"]["SETTINGS"] = ' not in message
    assert 'ITKIT["REDIS"]["ALLOW_ADDRESSES"] = ["stats.internal:7000"]' in message


def test_of_the_settings_that_hold_an_address_the_one_to_add_is_named(isolation, table):
    table.CACHES = {"default": {"LOCATION": "redis://stats.internal:7000/3"}}
    table.STATISTICS = "redis://stats.internal:7000/4"
    table.ITKIT = {"REDIS": {"SETTINGS": ["CACHES"]}}
    with pytest.raises(EscapeError) as refused, redis.Redis("stats.internal", 7000) as line:
        line.get("k")
    assert 'ITKIT["REDIS"]["SETTINGS"] = ["CACHES", "STATISTICS"]' in str(refused.value)


def test_an_address_that_cannot_be_told_is_not_taken_for_one_that_is_mistyped():
    rewrite = Rewriter(Namespace(RUN, "w1", 1), owned=True)
    guard = ConnectionGuard(None, [], ["mistyped"], rewrite, make_way=lambda: None)
    with pytest.raises(EscapeError, match="cannot tell which server it goes to"):
        guard.isolates(object())


def test_an_address_that_no_setting_holds_is_refused_with_both_ways(isolation):
    for kind in (redis.Redis, redis.StrictRedis):
        with (
            pytest.raises(EscapeError, match="No setting holds this address"),
            kind("h", 1) as line,
        ):
            line.get("k")
    with pytest.raises(EscapeError, match="/nowhere/s"):
        redis.Redis(unix_socket_path="/nowhere/s").get("k")


def test_asyncio_connections_to_an_unknown_address_are_refused(isolation):
    async def use() -> None:
        line = redis.asyncio.Redis(port=1)
        with pytest.raises(EscapeError, match="localhost:1 was refused"):
            await line.get("k")
        await line.aclose()

    asyncio.run(use())


def test_a_handshake_for_the_projects_own_server_is_left_out(isolated, project, isolation):
    def log_in(connection: Any) -> None:
        raise AssertionError("the project's own server was not reached")

    line = redis.Redis(port=port_of(project), redis_connect_func=log_in)
    line.set("k", 1)
    assert keys_on(isolated) == [f"{isolation.prefix}k"]
    isolation.uninstall()
    with pytest.raises(AssertionError, match="was not reached"):
        line.get("k")
    line.close()


def test_sentinels_are_refused_as_any_address(isolation):
    sentinel = redis.Sentinel([("localhost", 26379)])
    with pytest.raises(EscapeError, match="localhost:26379 was refused"):
        sentinel.master_for("mymaster").get("k")


def test_redis_cluster_is_refused(isolated, isolation):
    with pytest.raises(EscapeError, match="Redis Cluster is not supported"):
        redis.Redis.from_url(isolated.url).execute_command("CLUSTER SLOTS")


@pytest.mark.parametrize(("part", "name"), [("REDIS", "ALLOW_ADDRESSES"), ("NETWORK", "ALLOW")])
def test_an_allowed_address_is_let_through_without_prefix(isolated, project, table, part, name):
    table.ITKIT = {part: {name: [f"127.0.0.1:{port_of(project)}"]}}
    made = installed(isolated)
    with redis.Redis.from_url(project.url) as line:
        line.set("k", 1)
        line.config_set("maxmemory", 0)
        assert line.pipeline().get("k").execute() == [b"1"]

    async def use() -> None:
        async with redis.asyncio.Redis.from_url(project.url) as line:
            assert await line.get("k") == b"1"
            assert await line.pipeline().get("k").execute() == [b"1"]

    asyncio.run(use())
    made.uninstall()
    assert keys_on(project) == ["k"]


def test_clients_take_the_spelling_of_celery(isolated, project, table):
    table.CELERY_BROKER_URL = f"redis://127.0.0.1:{port_of(project)}/3?decode_responses=True"
    table.ITKIT = {"REDIS": {"SETTINGS": ["CELERY_BROKER_URL"]}}
    made = installed(isolated)
    try:
        assert table.CELERY_BROKER_URL.startswith("redis+socket://")
        with redis.Redis.from_url(table.CELERY_BROKER_URL) as line:
            line.set("k", "v")
            assert line.get("k") == "v"
            assert line.get_connection_kwargs()["db"] == 3

        async def use() -> None:
            async with redis.asyncio.Redis.from_url(table.CELERY_BROKER_URL) as line:
                assert await line.get("k") == "v"

        asyncio.run(use())
    finally:
        made.uninstall()
    with pytest.raises(ValueError, match="schemes"):
        redis.Redis.from_url("redis+socket:///run/redis.sock")


def test_an_allowed_host_is_not_each_redis_on_it(isolated, project, table):
    table.ITKIT = {"NETWORK": {"ALLOW": ["127.0.0.1", "*.example.com", "127.0.0.0/8"]}}
    made = installed(isolated)
    with redis.Redis.from_url(project.url) as line, pytest.raises(EscapeError):
        line.set("k", 1)
    made.uninstall()


def test_a_server_that_died_is_named_in_the_error():
    with redis_server.on_socket() as mortal:
        made = installed(mortal)
        line = redis.Redis.from_url(mortal.url)
        line.set("k", 1)
        mortal.process.kill()
        mortal.process.wait()
        with pytest.raises(redis.ConnectionError, match=r"tests' Redis at /tmp/.* is gone"):
            line.pipeline().get("k").execute()
        made.uninstall()
        line.close()
