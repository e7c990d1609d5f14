"""What the page of a failure shows of rows and keys, as they were when the test failed."""

import html
import re

import pytest

from tests.support.doors import DOORS, enter, write_tests
from tests.support.projects import Project

TESTS = """
    from django.core.cache import cache
    from django.db import connection, transaction
    from django.test import TestCase
    from django_redis import get_redis_connection

    import pytest

    from itkit.test import IntegrationMixin, IntegrationTestCase
    from shop.models import Currency, Customer


    def change():
        Currency.objects.create(code="USD")
        Currency.objects.filter(code="EUR").update(code="CHF")
        for number in range(30):
            Customer.objects.create(email=f"{number:02}@example.org")
        client = get_redis_connection()
        client.set("plain", "tea <b>", ex=500)
        client.rpush("list", "a", "b")
        client.hset("hash", "field", "value")
        client.sadd("set", "member")
        client.zadd("ranks", {"first": 1})
        client.set("api_token:7", "very-secret")
        client.set("long", "x" * 1_000_000)
        client.set(b"\\xff", b"\\x00\\xff")


    class Committed(IntegrationTestCase):
        def test_changes(self):
            change()
            self.addCleanup(Customer.objects.all().delete)
            self.fail("here")

        def test_removes(self):
            Currency.objects.all().delete()
            self.fail("here")

        def test_locks(self):
            Customer.objects.create(email="a@example.org")
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("LOCK TABLE shop_customer IN ACCESS EXCLUSIVE MODE")
                self.fail("here")

        def test_has_changed_nothing(self):
            self.fail("here")


    class RolledBack(IntegrationMixin, TestCase):
        def test_rolls_back(self):
            Customer.objects.create(email="a@example.org")
            cache.set("key", 1)
            self.fail("here")


    @pytest.mark.integration
    def test_function(data):
        change()
        assert False
"""


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize(
    "door",
    DOORS,
)
def test_rows_and_keys_are_on_the_page(door: str, project: Project) -> None:
    write_tests(project, TESTS)
    result = enter(door, project, "--itkit-report")
    assert result.code == 1, result.output
    is_pytest = "pytest" in door
    assert ("FAILED (failures=5)" in result.output) is not is_pytest
    pages = {}
    for file in (project.path / "itkit-report").glob("*.html"):
        [*names] = re.findall(r"test_(?:changes|removes|locks|has|rolls|function)", file.name)
        pages[names[-1] if names else ""] = file.read_text()

    for name in ("test_changes", *(["test_function"] if is_pytest else [])):
        text = shown(pages[name])
        assert "changed id 1, code 'EUR' → 'CHF'" in text, text
        assert "added id 2, code 'USD'" in text
        assert text.count("@example.org'") >= 20
        assert "… and more" in text
        assert re.search(r"'plain' \(string, TTL (499|500) s\) in database 1 b'tea <b>'", text), (
            text
        )
        for value in ("[b'a', b'b']", "{b'field': b'value'}", "[b'member']", "b'first', 1.0"):
            assert value in text, value
        assert "very-secret" not in text
        assert "'api_token:" in text
        assert "x" * 250 in text
        assert "x" * 500 not in text
        assert "A transaction was open" not in text
    assert "removed id 1, code 'EUR'" in shown(pages["test_removes"])
    assert "Keys in Redis" not in pages["test_removes"]
    assert "Rows that the test has changed" not in pages["test_has"]
    assert "A transaction was open" in pages["test_rolls"]
    assert ":1:key" in pages["test_rolls"]
    assert "here" in pages["test_locks"]  # and nobody waits for the lock


def shown(page: str) -> str:
    """Return the text of the rows and keys, with single spaces."""
    start = page.find('<section aria-label="Rows">')
    end = page.find("<script>", start)
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", page[start:end]).split())).replace(
        " ,", ","
    )
