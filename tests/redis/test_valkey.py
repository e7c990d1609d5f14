"""valkey-py and django-valkey are isolated as redis-py is, by the same methods."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
import redis
import valkey
import valkey.asyncio

from itkit.exceptions import EscapeError, RunOverError
from itkit.redis import PrefixIsolation
from tests.support.doors import SERIAL, enter, write_tests
from tests.support.projects import Project, environment
from tests.support.redis_server import Server, on_port, on_socket
from tests.support.sentinel import Sentinel

PROJECT = [("CACHES", "valkey://127.0.0.1:1/1")]


@pytest.fixture(scope="module", params=["socket", "port"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with on_socket() if request.param == "socket" else on_port() as started:
        yield started


@pytest.fixture
def isolation(server: Server) -> Iterator[PrefixIsolation]:
    made = PrefixIsolation(
        server=server.url,
        run="0123abcd",
        worker="w0",
        owned=True,
        project=PROJECT,
        secret="s3cret",
    )
    made.install()
    yield made
    made.uninstall()
    with redis.Redis.from_url(server.url) as client:
        client.flushall()


@pytest.fixture
def client(isolation: PrefixIsolation) -> Iterator[valkey.Valkey]:
    with contextlib.closing(valkey.Valkey(port=1, db=1, decode_responses=True)) as made:
        yield made


def test_keys_get_the_prefix_and_lose_it_again(
    client: valkey.Valkey, isolation: PrefixIsolation, server: Server
) -> None:
    client.set("a", 1)
    client.hset("h", mapping={"x": 1})
    assert sorted(client.keys("*")) == ["a", "h"]
    assert sorted(client.scan_iter()) == ["a", "h"]
    assert client.randomkey() in {"a", "h"}
    with redis.Redis(port=1, db=1, decode_responses=True) as other:  # both are one
        assert other.get("a") == "1"
    isolation.new_generation()
    assert client.keys("*") == []
    isolation.uninstall()
    with redis.Redis.from_url(server.url, db=1, decode_responses=True) as bare:
        assert all(key.startswith("itkit:0123abcd:w0:") for key in bare.keys("*"))
        assert bare.dbsize() == 2


def test_pipelines_scripts_and_replies_that_name_keys(client: valkey.Valkey) -> None:
    with client.pipeline() as pipeline:
        pipeline.rpush("list", "v").get("b").keys("*")
        assert pipeline.execute() == [1, None, ["list"]]
    with client.pipeline(transaction=False) as pipeline:
        assert pipeline.set("b", 2).get("b").execute() == [True, "2"]
    assert client.blpop(["other", "list"], timeout=5) == ("list", "v")
    script = client.register_script("return redis.call('get', KEYS[1])")
    assert script(keys=["b"]) == "2"


def test_channels_are_ones_own(client: valkey.Valkey, server: Server) -> None:
    with client.pubsub() as listener:
        listener.subscribe("news")
        assert listener.get_message(timeout=5)["channel"] == "news"
        assert client.publish("news", "x") == 1
        heard = listener.get_message(timeout=5)
    assert (heard["channel"], heard["data"]) == ("news", "x")


def test_errors_are_those_of_the_library(client: valkey.Valkey) -> None:
    client.set("text", "x")
    with pytest.raises(valkey.ResponseError, match="not an integer"):
        client.incr("text")
    assert client.get("text") == "x"  # the next reply is its own


def test_asyncio_is_isolated_too(isolation: PrefixIsolation) -> None:
    async def use() -> None:
        async with valkey.asyncio.Valkey(port=1, db=1, decode_responses=True) as client:
            await client.set("a", 1)
            async with client.pipeline() as pipeline:
                pipeline.get("a")
                pipeline.keys("*")
                assert await pipeline.execute() == ["1", ["a"]]
            with pytest.raises(valkey.ResponseError):
                await client.hget("a", "x")
            with pytest.raises(EscapeError):
                await client.swapdb(0, 1)

    asyncio.run(use())


@pytest.mark.usefixtures("isolation")
def test_what_reaches_others_is_refused(client: valkey.Valkey) -> None:
    with pytest.raises(EscapeError, match="SWAPDB was refused"):
        client.swapdb(0, 1)
    with pytest.raises(EscapeError, match="A connection to Redis at localhost:2 was refused"):
        valkey.Valkey(port=2).get("a")


def test_a_client_from_before_changes_over_and_back(server: Server) -> None:
    with contextlib.closing(valkey.Valkey.from_url(server.url, db=1)) as early:
        early.set("foreign", 1)
        made = PrefixIsolation(
            server=server.url, run="0123abcd", worker="w0", owned=True, project=PROJECT
        )
        made.install()
        assert early.keys("*") == []
        made.shut(_refuse)
        with pytest.raises(RunOverError):
            early.keys("*")
        made.uninstall()
        assert early.keys("*") == [b"foreign"]
        early.flushall()


LATE = """
import os
import sys
from importlib import import_module
from django.conf import settings
settings.configure()
from itkit.redis import PrefixIsolation

def late(worker, imported):
    made = PrefixIsolation(
        server={server!r}, run="0123abcd", worker=worker, owned=True, project={project!r}, secret="s3cret"
    )
    made.install()
    assert "valkey" not in sys.modules
    exec(imported)
    valkey = sys.modules["valkey"]
    with valkey.Valkey(port=1, db=1) as client:
        client.set("late", 1)
        assert client.keys("*") == [b"late"]
    made.uninstall()
    kinds = valkey.connection.AbstractConnection, valkey.asyncio.connection.AbstractConnection
    for kind in kinds:
        for value in vars(kind).values():
            assert not getattr(value, "__module__", "").startswith("itkit"), value
    assert not [each for each in sys.meta_path if type(each).__module__.startswith("itkit")]

for number, imported in enumerate({imports!r}):
    if (pid := os.fork()) == 0:
        late(f"w{{number}}", imported)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, imported
"""
IMPORTS = [
    "import valkey",
    "from valkey.asyncio.client import Valkey",
    "import_module('valkey.connection')",
    "from importlib.util import find_spec; find_spec('valkey'); import django_valkey.cache",
]


def test_a_library_that_is_imported_during_the_run_is_isolated(server: Server) -> None:
    """Each way to import it is tried in a process of its own, as it is imported only once."""
    code = LATE.format(server=server.url, project=PROJECT, imports=IMPORTS)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    with redis.Redis.from_url(server.url, db=1) as bare:
        assert sorted(bare.keys("*")) == [
            f"itkit:0123abcd:w{number}:1:late".encode() for number in range(len(IMPORTS))
        ]
        bare.flushall()


def _refuse(what: str) -> None:
    raise RunOverError(what)


TESTS = """
    import valkey
    from django.core.cache import cache, caches
    from django.test import SimpleTestCase


    class First(SimpleTestCase):
        def test_a(self):
            cache.clear()
            cache.set("left", "by test a")
            self.assertEqual(cache.get("left"), "by test a")

        def test_b(self):
            self.assertIsNone(cache.get("left"))
            self.assertIsNone(cache.get("mine"))

        def test_c_a_client_of_the_same_server(self):
            cache.set("k", 1)
            self.assertEqual(cache.client.get_client().keys("*"), [b":1:k"])
"""


@pytest.mark.parametrize("door", SERIAL)
def test_django_valkey_reaches_the_tests_server_only(
    door: str, project: Project, sentinel: Sentinel
) -> None:
    sentinel.point(project, "boss")
    project.env["ITKIT_SOURCE"] = "embedded"
    project.settings("""
        LOCATION = CACHES["default"]["LOCATION"].replace("redis:", "valkey:")
        CACHES = {"default": {"BACKEND": "django_valkey.cache.ValkeyCache", "LOCATION": LOCATION}}
        DATABASES = {}
        INSTALLED_APPS = ["django.contrib.contenttypes", "shop", "itkit"]
    """)
    write_tests(project, TESTS)
    before = sentinel.digest()
    result = enter(door, project)
    assert result.counts == {"passed": 3}, result.output
    assert "Valkey" in result.output.splitlines()[0] or door == "pytest"
    assert "not isolated" not in result.output
    assert sentinel.digest() == before
