"""``observe()``: queries, commands of Redis and calls within a block, and what failures say."""

import pytest
from django.contrib.auth import get_user_model

from itkit.exceptions import ItkitError, ObservationError
from itkit.observation import observe as observation
from itkit.observation.observe import observe
from itkit.timeline import core
from tests.support.doors import SERIAL, enter, write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")


@pytest.mark.parametrize(
    "name", ["get", "SET", "PUBLISH", "FLUSHDB", "XADD", "EVALSHA", "JSON.GET"]
)
def test_commands_of_every_kind_are_known(name):
    observation._check_command(name.upper())


@pytest.mark.parametrize(("name", "hint"), [("SETT", "'SET'"), ("HGETAL", "'HGETALL'")])
def test_a_command_that_redis_does_not_have_is_an_error(name, hint):
    seen = observation.Observation(core.new_timeline("a test"))
    try:
        with pytest.raises(ObservationError, match=f"no command '{name}'. Did you mean {hint}"):
            seen.assert_commands(0, name)
        seen.assert_commands(0, "get")
    finally:
        core.new_timeline()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("table", "hint"),
    [("auth_usr", "'auth_user'"), ("django_conten_type", "'django_content_type'")],
)
def test_a_table_that_does_not_exist_is_an_error(table, hint):
    seen = observation.Observation(core.new_timeline("a test"))
    try:
        with pytest.raises(ObservationError, match=f"no table '{table}'. Did you mean {hint}"):
            seen.assert_queries(0, table)
        seen.assert_queries(0, "auth_user")
    finally:
        core.new_timeline()


def test_a_model_is_no_name_of_a_table():
    seen = observation.Observation(core.new_timeline("a test"))
    try:
        with pytest.raises(ObservationError, match=r"expected the name of a table, such as 'auth_"):
            seen.assert_queries(0, get_user_model())
        with pytest.raises(ObservationError, match=r"^table is 5, expected the name of a table\.$"):
            seen.assert_queries(0, 5)
    finally:
        core.new_timeline()


def test_there_is_nothing_to_observe_without_a_test():
    with pytest.raises(ItkitError, match="for a test that runs with --integration"), observe():
        pass


TESTS = """
    import threading

    from django.core.cache import cache, caches
    from django.db import connection, transaction
    from django_redis import get_redis_connection

    from itkit import ObservationError, observe
    from itkit.test import IntegrationTestCase
    from shop import gateways
    from shop.models import Currency, Customer


    class Seen(IntegrationTestCase):
        def setUp(self):
            for number in range(3):
                Customer.objects.create(email=f"{number}@example.com")

        def test_queries_are_counted_all_in_all_and_by_table(self):
            Customer.objects.count()
            with observe() as seen:
                list(Customer.objects.all())
                with transaction.atomic():
                    Currency.objects.filter(code="EUR").update(code="EUX")
                    with transaction.atomic():
                        Customer.objects.first()
            Customer.objects.count()
            seen.assert_queries(3)
            seen.assert_queries(2, "shop_customer")
            seen.assert_queries(1, "shop_currency")
            seen.assert_queries(0, "auth_user")
            with self.assertRaisesRegex(ObservationError, "no table 'shop_custmer'. Did you mean"):
                seen.assert_queries(0, "shop_custmer")
            with connection.cursor() as cursor:
                cursor.execute("CREATE TABLE shop_extra (id int)")
            before = len(self.timeline)
            seen.assert_queries(0, "shop_extra")  # which only the database knows
            self.assertEqual(len(self.timeline), before)

        def test_queries_of_threads_are_seen(self):
            def count():
                Customer.objects.count()
                connection.close()

            with observe() as seen:
                thread = threading.Thread(target=count)
                thread.start()
                thread.join()
            seen.assert_queries(1, "shop_customer")

        def test_too_many_queries_are_told_by_statement_and_place(self):
            with observe() as seen:
                for customer in Customer.objects.all():
                    Customer.objects.get(pk=customer.pk)
            with self.assertRaises(ObservationError) as caught:
                seen.assert_queries(1, "shop_customer")
            lines = str(caught.exception).splitlines()
            self.assertEqual(lines[0], "4 queries to shop_customer, expected 1: 3 too many")
            self.assertRegex(lines[1], '^  1 x SELECT .* FROM "shop_customer"$')
            self.assertRegex(lines[2], r"^      at shop/tests/test_shop.py:[0-9]+ in test_too_many")
            self.assertRegex(lines[3], '^  3 x SELECT .* WHERE "shop_customer"."id" = %s LIMIT [?]$')
            self.assertEqual(len(lines), 5)

        def test_too_few_queries_are_told_with_those_that_were(self):
            with observe() as seen:
                Customer.objects.count()
            with self.assertRaises(ObservationError) as caught:
                seen.assert_queries(1, "shop_currency")
            lines = str(caught.exception).splitlines()
            self.assertEqual(lines[0], "0 queries to shop_currency, expected 1: 1 too few")
            self.assertEqual(lines[1], "  none of these:")
            self.assertRegex(lines[2], "^  1 x SELECT COUNT")

        def test_no_query_at_all(self):
            with observe() as seen:
                pass
            with self.assertRaises(ObservationError) as caught:
                seen.assert_queries(1)
            self.assertEqual(
                str(caught.exception), "0 queries, expected 1: 1 too few\\n  no query at all"
            )
            self.assertEqual(str(seen), "  nothing")

        def test_calls_are_seen(self):
            with observe() as seen:
                gateways.send_sms("1", "text")
            self.assertEqual([call.name for call in seen.calls], ["sms"])


    class Caches(IntegrationTestCase):
        def test_hits_and_misses(self):
            for each in (cache, caches["plain"]):
                with self.subTest(cache=each):
                    with observe() as seen:
                        each.get("rates")
                        each.set("rates", 1)
                        each.get("rates")
                        each.set("other", {"a": 1})
                        each.get_many(["rates", "nothing", "other"])
                    self.assertEqual(seen.cache_misses, [":1:rates", ":1:nothing"])
                    self.assertEqual(seen.cache_hits, [":1:rates", ":1:rates", ":1:other"])
                    seen.assert_cache_hit("other")
                    seen.assert_cache_miss("nothing")

        def test_a_value_is_what_it_was(self):
            client = get_redis_connection()
            with observe():
                client.set("k", "v")
                self.assertEqual(client.get("k"), b"v")
                self.assertEqual(client.mget(["k", "x"]), [b"v", None])
                self.assertIsNone(client.get("x"))
                client.hset("h", "f", "1")
                self.assertEqual(client.hgetall("h"), {b"f": b"1"})
                self.assertEqual(client.keys("*"), client.keys())
                client.rpush("list", "a")
                self.assertEqual(client.blpop("list", 1), (b"list", b"a"))

        def test_a_pipeline_and_a_transaction(self):
            client = get_redis_connection()
            for is_transaction in (False, True):
                client.delete("k", "x")
                with observe() as seen, client.pipeline(transaction=is_transaction) as pipeline:
                    pipeline.get("k").set("k", "v").get("k").mget("k", "x")
                    self.assertEqual(pipeline.execute(), [None, True, b"v", [b"v", None]])
                self.assertEqual(seen.cache_misses, ["k", "x"])
                self.assertEqual(seen.cache_hits, ["k", "k"])

        def test_a_hit_that_was_none_is_told(self):
            with observe() as seen:
                cache.get("rates")
                cache.set("rates", 1)
                cache.get("rates")
            for ask, wanted in ((seen.assert_cache_hit, "a hit"), (seen.assert_cache_miss, "a miss")):
                with self.assertRaises(ObservationError) as caught:
                    ask("rates")
                self.assertEqual(str(caught.exception).splitlines(), [
                    f"'rates' in the cache: miss, hit; expected {wanted}",
                    "  miss  :1:rates",
                    "  hit   :1:rates",
                ])
            with self.assertRaises(ObservationError) as caught:
                seen.assert_cache_hit("ates")
            self.assertIn("'ates' in the cache: never asked for; expected a hit", str(caught.exception))

        def test_commands_are_counted(self):
            client = get_redis_connection()
            with observe() as seen:
                client.incr("n")
                client.get("n")
                client.get("n")
            client.get("n")
            seen.assert_commands(2, "GET")
            seen.assert_commands(3)
            with self.assertRaises(ObservationError) as caught:
                seen.assert_commands(0, "INCRBY")
            lines = str(caught.exception).splitlines()
            self.assertEqual(lines[0], "1 INCRBY of Redis, expected 0")
            self.assertRegex(lines[1], "#1  INCRBY n  shop/tests/test_shop.py:[0-9]+ in test_commands")

        def test_outside_of_the_block_reads_are_on_no_timeline(self):
            client = get_redis_connection()
            with observe():
                pass
            client.get("n")
            client.set("n", 1)
            self.assertEqual([crossing.name for crossing in self.timeline], ["SET n"])
"""


@pytest.mark.parametrize("door", SERIAL)
def test_a_project_observes_itself(door, project: Project):
    write_tests(project, TESTS)
    result = enter(door, project)

    assert result.counts["passed"] == 12, result.output
    assert "failed" not in result.counts, result.output


def test_a_worker_with_a_server_of_its_own_is_observed_too(project: Project):
    project.settings('ITKIT["REDIS"] = {"PER_WORKER_SERVER": True}')
    del project.env["ITKIT_REDIS_URL"]
    write_tests(project, TESTS)
    result = enter("pytest", project, "-k", "Caches")

    assert "failed" not in result.counts, result.output
    assert result.counts["passed"] == 6, result.output
