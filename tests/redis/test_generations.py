"""An isolation's life: install, generations, forked workers, clear, uninstall."""

import contextlib
import multiprocessing
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from itkit.exceptions import IsolationError
from itkit.redis import PrefixIsolation
from itkit.redis.server.server import connected
from tests.support import redis_server

RUN = "0123abcd"
FOREIGN = {"foreign", "itkit:0123abcd:w2:1:k", "itkit:0123abcd:w10:1:k"}


@pytest.fixture(scope="module")
def server() -> Iterator[redis_server.Server]:
    with redis_server.on_socket() as running:
        yield running


@pytest.fixture
def isolation(server, settings) -> Iterator[PrefixIsolation]:
    settings.ITKIT = {}
    with connected(server.url) as client:
        client.flushall()
        client.mset(dict.fromkeys(FOREIGN, "1"))
    made = PrefixIsolation(server=server.url, run=RUN, worker="w1", owned=True, project=[])
    made.install()
    yield made
    made.uninstall()


def test_a_new_generation_is_empty_for_all_threads_at_once(server, isolation):
    line = redis.Redis.from_url(server.url)
    line.set("k", "old")
    asked, answers = threading.Event(), []

    def other() -> None:
        mine = redis.Redis.from_url(server.url)
        answers.append(mine.get("k"))
        asked.wait(5)
        answers.append(mine.get("k"))
        mine.close()

    thread = threading.Thread(target=other)
    thread.start()
    while not answers:
        time.sleep(0.001)
    before = isolation.prefix
    isolation.new_generation()
    asked.set()
    thread.join()
    assert answers == [b"old", None]
    assert line.get("k") is None
    assert isolation.prefix != before
    line.close()


def test_a_reply_that_comes_in_the_next_generation_is_named_without_the_prefix(server, isolation):
    waiting, other = redis.Redis.from_url(server.url), redis.Redis.from_url(server.url)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(waiting.blpop("l", timeout=5)))
    thread.start()
    while not [one for one in other.client_list() if one["cmd"] == "blpop"]:
        time.sleep(0.001)
    old = isolation.prefix
    isolation.new_generation()
    with connected(server.url) as own:
        own.rpush(f"{old}l", "v")
    thread.join()
    assert list(answers[0]) == [b"l", b"v"]
    waiting.close()
    other.close()


def test_clear_removes_all_generations_from_all_databases_and_nothing_else(server, isolation):
    for number in (0, 5):
        line = redis.Redis.from_url(server.url, db=number)
        line.set("a", 1)
        isolation.new_generation()
        line.set("a", 1)
        line.close()
    assert isolation.clear() == 4
    assert isolation.clear() == 0
    with connected(server.url) as client:
        assert set(client.scan_iter()) == FOREIGN


def test_uninstall_leaves_redis_py_as_it_was(server, settings):
    settings.ITKIT = {}
    kinds = (redis.connection.AbstractConnection, redis.asyncio.connection.AbstractConnection)
    before = [dict(vars(kind)) for kind in kinds]
    made = PrefixIsolation(server=server.url, run=RUN, worker="w1", owned=True, project=[])
    made.install()
    assert [dict(vars(kind)) for kind in kinds] != before
    made.uninstall()
    made.uninstall()
    assert [dict(vars(kind)) for kind in kinds] == before


def test_two_isolations_in_one_process_are_an_error(server, isolation):
    other = PrefixIsolation(server=server.url, run=RUN, worker="w2", owned=True, project=[])
    with pytest.raises(IsolationError, match=r"itkit:0123abcd:w1:1: already"):
        other.install()


def test_an_isolation_can_be_installed_again(server, isolation):
    line = redis.Redis.from_url(server.url)
    line.set("a", 1)
    isolation.uninstall()
    assert line.get("a") is None
    isolation.install()
    assert line.get("a") == b"1"
    line.close()


def test_a_forked_worker_has_its_own_prefix_and_its_parent_keeps_its_own(server, isolation):
    line = redis.Redis.from_url(server.url, single_connection_client=True)
    line.set("k", "parent")
    context = multiprocessing.get_context("fork")
    with contextlib.closing(context.SimpleQueue()) as answers:
        child = context.Process(target=work, args=(server.url, line, answers))
        child.start()
        child.join(20)
        assert child.exitcode == 0
        assert answers.get() == ("itkit:0123abcd:w3:1:", None, b"child", 1)
    assert line.get("k") == b"parent"
    line.close()


def work(url: str, inherited: redis.Redis, answers: Any) -> None:
    """Be a worker: isolate again, and use a client that the parent had connected."""
    mine = PrefixIsolation(server=url, run=RUN, worker="w3", owned=True, project=[])
    mine.install()
    before = inherited.get("k")
    inherited.set("k", "child")
    answers.put((mine.prefix, before, inherited.get("k"), mine.clear()))
    mine.uninstall()
