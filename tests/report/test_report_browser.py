"""The pages of the example's failures, in a browser: no error, no request, keys, and axe-core."""

import re
from pathlib import Path

import pytest

from tests.support.browser import Page, browsing, needs_chromium
from tests.support.projects import Project, copy_example

SETTINGS = """
    from example_project.settings import *

    ITKIT = {**ITKIT, "REDIS": {"LEAKS": "fail"}, "DATA": {"LEAKS": "fail"}}
"""
TESTS = r"""
    import threading
    from functools import partial

    from django.core import mail
    from django.core.cache import cache
    from django.db import connection

    from example_project.shop.gateways.sms import SMSGateway
    from example_project.shop.models import Order, Product, User
    from example_project.shop.services import orders, users
    from itkit import sweep
    from itkit.test import IntegrationTestCase


    def sell_without_a_lock(product):
        stock = Product.objects.get(pk=product.pk).stock
        Product.objects.filter(pk=product.pk).update(stock=stock - 1)


    class Failing(IntegrationTestCase):
        def test_assertion(self):
            self.backends.payments.charge_card.returns("txn_1")
            user = users.create_user("ada@example.org")
            product = Product.objects.create(sku="tea", name="Tea", price=5, stock=3)
            order = orders.create_order(user.id, [{"product_id": product.id, "quantity": 2}])
            orders.process_payment(order.id, "tok_visa")
            mail.send_mail("Welcome", "Hello Ada", "shop@example.org", ["ada@example.org"])
            for number in range(4):
                Product.objects.filter(pk=number).first()
            self.assertEqual(orders.get_order(order.id).status, "shipped")

        def test_error_in_a_view(self):
            self.client.force_login(self.data.create("shop.User"))
            self.client.post("/checkout/", "{no json", content_type="application/json")

        def test_unprogrammed_fake(self):
            orders.process_payment(self.data.create("shop.Order").id, "tok_visa")

        def test_leaked_key(self):
            cache.set("left", "here")

        def test_leaked_row(self):
            self.data.create("shop.User")
            User.objects.create(email="left@example.org")

        @sweep.faults(kinds=["lost_reply"], at=["payments.*"])
        def test_sweep(self, fault):
            self.backends.payments.charge_card.returns("txn_1")
            user = users.create_user("ada@example.org")
            order = Order.objects.create(user=user, total=25, card_token="tok_visa")
            with fault.injected():
                orders.process_payment(order.id, "tok_visa")
            self.assertEqual(Order.objects.get(pk=order.pk).status, "paid")

        @sweep.races
        def test_race(self, race):
            product = Product.objects.create(sku="tea", name="Tea", price=5, stock=2)
            race(partial(sell_without_a_lock, product), times=2)
            self.assertEqual(Product.objects.get(pk=product.pk).stock, 0)

        def test_subtest(self):
            for number in range(2):
                with self.subTest(number=number):
                    self.assertEqual(Product.objects.count(), number)

        async def test_async(self):
            await User.objects.acreate(email="ada@example.org")
            self.assertEqual(await User.objects.acount(), 2)

        def test_budget(self):
            with self.budget("one product"):
                for _ in range(3):
                    Product.objects.count()

        def test_clean_up(self):
            self.addCleanup(lambda: 1 / 0)

        def test_many_threads(self):
            def work():
                User.objects.count()
                connection.close()

            threads = [threading.Thread(target=work, name=f"<i>{n}") for n in range(50)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.fail("at the end")

        def test_many_statements(self):
            with connection.cursor() as cursor:
                for _ in range(1_600):
                    cursor.execute("SELECT 1")
            self.fail("at the end")

        def test_nothing_sent(self):
            self.fail("at once")

        def test_hostile_values(self):
            script = "document.body.dataset.executed = 1"
            for value in (
                f"</script><script>{script}</script>",
                f"<img src=x onerror='{script}'>",
                f"\"' onfocus='{script}' autofocus '",
                "\x00\x1b[31m\ud800",
                b"\xff\xfe",
                "x" * 10_000_000,
            ):
                SMSGateway().send_sms("1", value)
            cache.set("<script>", "<b>")
            users.create_user("<script>@example.org")
            raise ValueError(f"<b>not bold</b></pre><script>{script}</script>")

        def test_passes(self):
            self.assertEqual(User.objects.count(), 0)


    class SetUp(IntegrationTestCase):
        def setUp(self):
            super().setUp()
            Product.objects.create(sku="tea", name="Tea", price=1)
            raise RuntimeError("in the set-up")

        def test_set_up(self):
            pass
"""
BUDGETS = '{"one product": {"queries": {"SELECT shop_product": 1}}}'
SHOWN = {  # what is on the page of each kind of failure
    "assertion": "AssertionError: 'paid' != 'shipped'",
    "error_in_a_view": "JSONDecodeError",
    "unprogrammed_fake": "charge_card",
    "leaked_key": "LeakedKeysError",
    "leaked_row": "LeakedRowsError",
    "sweep": "Variations",
    "race": "Who was let on when",
    "subtest": "AssertionError: 0 != 1",
    "async": "AssertionError: 1 != 2",
    "budget": "SELECT shop_product: 3, kept is 1",
    "clean_up": "ZeroDivisionError",
    "many_threads": "<i>49",
    "many_statements": "crossings before these",
    "nothing_sent": "Nothing: the test sent no SQL and called no backend.",
    "hostile_values": "<b>not bold</b>",
    "passes": "The test has passed.",
    "set_up": "RuntimeError: in the set-up",
}
NARROW, WIDE = 400, 1600
MANY = "many_statements"  # for which axe takes minutes
REPEATED = ".event, .frame, .lane, .source, tbody tr"  # elements of which a page has many
IN_DARK = ("assertion", "race", "sweep", "passes", "index", "coverage")  # all that pages can have


@pytest.fixture
def pages(project: Project) -> dict[str, Path]:
    """The pages of a run of a copy of the example, by what has failed on them."""
    copy_example(project)
    project.write("failing_settings.py", SETTINGS)
    project.write("example_project/shop/tests/test_failing.py", TESTS)
    project.write("example_project/budgets.json", BUDGETS)
    result = project.test(
        *("example_project.shop.tests.test_failing", "--integration", "--itkit-coverage"),
        *("--itkit-report-all", "--pythonpath=."),
        DJANGO_SETTINGS_MODULE="failing_settings",
    )
    found = {}
    for file in (project.path / "itkit-report").glob("*.html"):
        name = re.search(r"\.test_([a-z_]+)\.html", file.name)
        if name is not None:
            found[name[1]] = file
    assert found.keys() == SHOWN.keys(), result.output
    return found


@needs_chromium
@pytest.mark.slow
@pytest.mark.usefixtures("shared_servers")
def test_the_pages_of_the_example_s_failures(pages: dict[str, Path], tmp_path: Path) -> None:
    folder = pages["assertion"].parent
    index = folder / "index.html"
    coverage = folder.parent / "itkit-coverage/index.html"
    with browsing(tmp_path) as browser:
        page = browser.page()
        page.look(NARROW)
        for name, file in {**pages, "index": index, "coverage": coverage}.items():
            page.open(file.as_uri())
            shown = page.value("document.body.innerText")
            assert SHOWN.get(name, "") in shown, name
            assert page.value("document.body.dataset.executed") is None, name
            events = page.value("document.querySelectorAll('.event').length")
            if events:
                check_keyboard(page, events)
                check_filter(page, events)
                check_zoom(page)
                check_narrow_rows(page)
            check_width(page, NARROW)
            page.look(WIDE, dark=True)
            check_width(page, WIDE)
            if name != MANY:
                page.thin(REPEATED)
            if name in IN_DARK:
                assert page.violations() == [], (name, WIDE)
            page.look(NARROW)
            if name != MANY:
                assert page.violations() == [], (name, NARROW)
            assert page.said == [], name
            assert page.requested == [file.as_uri()], name

        page.open(index.as_uri())
        width = page.value("document.querySelector('tbody td').getBoundingClientRect().width")
        assert width > NARROW / 2, "the names of tests have the whole width"
        assert page.value("document.querySelectorAll('tbody tr').length") >= len(pages)
        page.value("document.querySelector('tbody a').click()")
        browser.wait_for("Page.loadEventFired", page.session)
        assert page.value("location.href") in {file.as_uri() for file in folder.glob("*.html")}

        bad = tmp_path / "bad.html"
        bad.write_text(
            "<html><body><img src='http://192.0.2.1/x'><script>y()</script></body></html>"
        )
        page.open(bad.as_uri())
        assert page.violations()
        assert page.said
        assert "http://192.0.2.1/x" in page.requested


def check_keyboard(page: Page, events: int) -> None:
    """Go to the second crossing, open it, and go back; each by a key."""
    page.press("j")
    page.press("j")
    assert focused(page) == f"c{first_of(page) + min(1, events - 1)}"
    page.press("Enter")
    assert page.value("document.activeElement.parentElement.open")
    page.press("Enter")
    page.press("k")
    assert focused(page) == f"c{first_of(page)}"


def check_filter(page: Page, events: int) -> None:
    """Filter by a text, and by a kind."""
    page.press("/")
    assert page.value("document.activeElement.id") == "filter"
    for key in "SQL":
        page.press(key)
    texts = page.value("[...document.querySelectorAll('.event')].map((one) => one.textContent)")
    fitting = sum("sql" in text.lower() for text in texts)
    assert visible(page) == fitting
    assert page.value("document.getElementById('count').textContent") == f"{fitting} of {events}"
    page.press("Escape")
    assert visible(page) == events

    kind = page.value("document.querySelector('#kinds input').value")
    of_kind = page.value(f"document.querySelectorAll('.event[data-kind={kind}]').length")
    page.value("document.querySelector('#kinds input').click()")
    assert visible(page) == events - of_kind
    page.value("document.querySelector('#kinds input').click()")
    assert visible(page) == events


def check_zoom(page: Page) -> None:
    """Make the lanes three times as wide, within their box."""
    width = "document.querySelector('.lane').getBoundingClientRect().width"
    before = page.value(width)
    page.value(
        "zoom.value = 300; zoom.dispatchEvent(new Event('input', {bubbles: true}))",
    )
    assert page.value(width) > 1.5 * before


def check_width(page: Page, width: int) -> None:
    """Make sure that what is too wide is scrolled by itself, and never the page."""
    found = page.value("document.documentElement.scrollWidth")
    assert found <= width, (page.value("location.href"), width)


def check_narrow_rows(page: Page) -> None:
    """Where a row is narrow, the time of a crossing is beside its kind, and its title below."""
    rows = page.value("""[...document.querySelectorAll('.event:not([hidden]) summary')].slice(0, 9).map(
      (row) => ['.kind', '.time', '.title'].map((part) => row.querySelector(part).getBoundingClientRect().bottom)
    )""")
    assert rows
    for kind, time, title in rows:
        assert abs(kind - time) < 2, rows
        assert title > kind + 10, rows


def focused(page: Page) -> str:
    found: str = page.value("document.activeElement.parentElement.id")
    return found


def first_of(page: Page) -> int:
    return int(page.value("document.querySelector('.event').id.slice(1)"))


def visible(page: Page) -> int:
    found: int = page.value("document.querySelectorAll('.event:not([hidden])').length")
    return found
