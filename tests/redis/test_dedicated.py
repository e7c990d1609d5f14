"""A Redis server for each worker, on which a test may do what it likes."""

import pytest

from tests.support.doors import DOORS, enter, write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("beside_a_developer")

TESTS = """
    import subprocess
    import sys

    import redis
    from django.core.cache import cache, caches
    from django.test import tag
    from django_redis import get_redis_connection

    from itkit.test import IntegrationTestCase


    class All(IntegrationTestCase):
        def setUp(self):
            self.client = get_redis_connection()

        def test_a_keys_have_no_prefix_and_are_gone_after_the_test(self):
            self.assertEqual(self.client.dbsize(), 0)
            cache.set("k", "v")
            caches["plain"].set("k", "w")
            self.assertEqual(self.client.keys("*"), [b":1:k"])
            self.client.eval("return redis.call('SET', 'built', 1)", 0)
            self.assertEqual(self.client.get("built"), b"1")

        test_b_the_same_again = test_a_keys_have_no_prefix_and_are_gone_after_the_test

        def test_c_all_is_flushed(self):
            caches["plain"].set("k", "w")
            self.client.flushall()
            self.assertIsNone(caches["plain"].get("k"))

        def test_d_the_server_is_configured(self):
            self.assertEqual(self.client.config_get("maxmemory"), {"maxmemory": "0"})
            self.client.config_set("maxmemory", "50mb")
            self.client.config_set("notify-keyspace-events", "KEA")

        test_e_and_is_as_it_was = test_d_the_server_is_configured

        def test_f_commands_are_watched(self):
            with self.client.monitor() as watched:
                cache.set("k", "v")
                self.assertTrue(any("SET :1:k" in seen["command"] for seen in watched.listen()))

        def test_g_keys_tell_what_happens_to_them(self):
            self.client.config_set("notify-keyspace-events", "KEA")
            with self.client.pubsub() as heard:
                heard.psubscribe("__keyspace@*__:k")
                self.assertEqual(heard.get_message(timeout=5)["type"], "psubscribe")
                self.client.set("k", "v")
                self.assertEqual(heard.get_message(timeout=5)["data"], b"set")

        def test_h_transactions_and_scripts_are_as_ever(self):
            with self.client.pipeline() as pipeline:
                pipeline.watch("n")
                pipeline.multi()
                self.assertEqual(pipeline.incr("n").get("n").execute(), [1, b"1"])
            script = self.client.register_script("return redis.call('GET', KEYS[1])")
            self.assertEqual(script(keys=["n"]), b"1")
            with self.client.lock("l", timeout=5):
                self.assertTrue(self.client.exists("l"))

        def test_i_a_process_joins(self):
            code = "from django.core.cache import cache; cache.set('theirs', 1)"
            subprocess.run([sys.executable, "manage.py", "shell", "-c", code], check=True)
            self.assertEqual(cache.get("theirs"), 1)

        def test_j_another_server_is_refused(self):
            from itkit.exceptions import EscapeError
            with self.assertRaises(EscapeError):
                redis.Redis(port=2).ping()


    class Twin(All):
        pass
"""


@pytest.fixture
def shop(project: Project) -> Project:
    project.settings('ITKIT["REDIS"] = {"PER_WORKER_SERVER": True}')
    write_tests(project, TESTS)
    return project


@pytest.mark.parametrize("door", DOORS)
def test_all_commands_are_allowed_and_nothing_is_left(door: str, shop: Project) -> None:
    result = enter(door, shop)
    assert result.counts == {"passed": 20}, result.output
    assert shop.leftovers() == []


def test_the_start_line_says_so(shop: Project) -> None:
    output = shop.test("--integration", "shop.tests.test_shop.All.test_c_all_is_flushed").output
    assert "a Redis server for each worker" in output.splitlines()[0]
    assert "prefix" not in output.splitlines()[0]


def test_keys_that_a_test_leaves_are_told(shop: Project) -> None:
    result = shop.test(
        *("--integration", "shop.tests.test_shop.All.test_b_the_same_again"),
        ITKIT_REDIS_LEAKS="fail",
    )
    assert result.counts == {"failed": 1}
    assert "'built' (string, no TTL) in database 1" in result.output


def test_a_url_beside_it_is_a_mistake(shop: Project, redis_url: str) -> None:
    result = shop.manage("check", ITKIT_REDIS_URL=redis_url)
    assert '(itkit.E007) ITKIT["REDIS"]["PER_WORKER_SERVER"] is on' in result.output


def test_a_server_that_a_test_has_shut_down_ends_the_run(shop: Project) -> None:
    write_tests(
        shop,
        """
        from django_redis import get_redis_connection
        from itkit.test import IntegrationTestCase

        class Last(IntegrationTestCase):
            def test_a(self):
                get_redis_connection().shutdown(nosave=True)

            def test_b(self):
                get_redis_connection().ping()

            def test_c(self):
                get_redis_connection().ping()
        """,
    )
    result = shop.test("--integration")
    assert result.code != 0
    assert "has died" in result.output
    assert "Ran 2 tests" in result.output
    assert shop.leftovers() == []
