"""What leaves the process while a transaction is open is told, with both lines."""

import re

import pytest

from tests.support.doors import DOORS, SERIAL, enter, write_tests
from tests.support.projects import Project
from tests.support.verdicts_project import judged

pytestmark = pytest.mark.usefixtures("shared_servers")

SETTINGS = """
    CACHES["local"] = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    ITKIT["BACKENDS"]["taxes"] = {"TARGET": "shop.app.taxes", "IN_TRANSACTION": "allow"}
    ITKIT["UNUSED"] = "off"
"""

APP = """
    from concurrent.futures import ThreadPoolExecutor

    from django.core.cache import cache, caches
    from django.core.mail import send_mail
    from django.db import connection, transaction

    from shop.gateways import Stripe
    from shop.models import Customer


    def taxes(amount: int) -> int:
        raise RuntimeError("the real one was called")


    def effect(kind):
        if kind == "backend":
            Stripe().charge(5, "tok")
        elif kind == "cache":
            cache.delete("rates")
        elif kind == "keys":
            caches["plain"].set_many({"a": 1, "b": 2})
        elif kind == "local":
            caches["local"].set("a", 1)
        elif kind == "mail":
            send_mail("Paid", "", "a@example.com", ["b@example.com"])
        elif kind == "taxes":
            taxes(5)
        elif kind == "reading":
            cache.get("rates")
        elif kind == "pool":
            with ThreadPoolExecutor(1) as pool:
                pool.submit(Stripe().charge, 5, "tok").result()


    def within(kind):
        with transaction.atomic():
            Customer.objects.create(email=f"{kind}@example.com")
            effect(kind)


    def rolled_back(kind):
        try:
            with transaction.atomic():
                effect(kind)
                raise ValueError
        except ValueError:
            pass


    def in_a_savepoint(kind):
        with transaction.atomic():
            rolled_back(kind)


    def after(kind):
        with transaction.atomic():
            transaction.on_commit(lambda: effect(kind))
        effect(kind)


    def by_hand(kind):
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            effect(kind)
            cursor.execute("COMMIT")
        effect(kind)


    def without_autocommit(kind):
        transaction.set_autocommit(False)
        effect(kind)
        transaction.commit()
        transaction.set_autocommit(True)
"""

TESTS = """
    from django.test import TestCase

    from itkit.test import IntegrationMixin, IntegrationTestCase
    from shop import app


    class Setup(IntegrationMixin):
        def setUp(self):
            self.backends.payments.charge.returns("txn")
            self.backends.taxes.returns(1)


    class Committed(Setup, IntegrationTestCase):
        def test_a_red_backend(self):
            app.within("backend")

        def test_b_red_cache(self):
            app.within("cache")

        def test_c_red_keys(self):
            app.within("keys")

        def test_d_red_local(self):
            app.within("local")

        def test_e_red_mail(self):
            app.within("mail")

        def test_f_red_pool(self):
            app.within("pool")

        def test_g_red_rolled_back(self):
            app.rolled_back("backend")

        def test_h_red_in_a_savepoint(self):
            app.in_a_savepoint("backend")

        def test_i_red_by_hand(self):
            app.by_hand("cache")

        def test_j_red_without_autocommit(self):
            app.without_autocommit("cache")

        def test_k_green_allowed(self):
            app.within("taxes")

        def test_l_green_reading(self):
            app.within("reading")

        def test_m_green_after(self):
            for kind in ("backend", "cache", "local", "mail"):
                app.after(kind)


    class RolledBack(Setup, TestCase):
        def test_n_green_its_own_blocks_count_for_nothing(self):
            app.effect("backend")
            app.effect("cache")
            with self.captureOnCommitCallbacks(execute=True):
                app.after("backend")

        def test_o_red_within(self):
            app.within("backend")

        def test_p_red_rolled_back(self):
            app.rolled_back("mail")
"""


@pytest.mark.parametrize("door", SERIAL)
def test_effects_within_a_transaction_fail_where_that_is_asked_for(door, project: Project):
    project.settings(SETTINGS)
    result = judged(door, project, TESTS, app=APP, ITKIT_EFFECTS="fail")

    for told in (
        "payments.charge at shop/app.py:18 in effect: within the transaction that atomic() has",
        "has opened at shop/app.py:37 in within; write transaction.on_commit(lambda: ...)",
        "DEL :1:rates at shop/app.py:20 in effect: within the transaction",
        "mail at shop/app.py:26 in effect: within the transaction",
        "cache.set at shop/app.py:24 in effect: within the transaction",
        "that BEGIN has opened at shop/app.py:64 in by_hand",
        "that set_autocommit(False) has opened at shop/app.py:71 in without_autocommit",
        "that atomic() has opened at shop/app.py:44 in rolled_back, which was rolled back",
        "that atomic() has opened at shop/app.py:52 in in_a_savepoint, which was rolled back",
    ):
        assert told in result.output, (told, result.output)


@pytest.mark.parametrize("door", DOORS)
def test_effects_are_told_once_for_each_place_and_fail_nothing(door, project: Project):
    project.settings(SETTINGS)
    project.write("shop/app.py", APP)
    write_tests(project, TESTS)
    result = enter(door, project)

    assert result.code == 0, result.output
    assert 'ITKIT["EFFECTS"] = "fail" makes an error of each' in result.output
    for line in (18, 33):  # of the call, and of its submission to a pool
        told = rf"^  payments.charge at shop/app.py:{line} in effect: .* in within; "
        assert len(re.findall(told, result.output, re.MULTILINE)) == 1, result.output
    assert re.search(r"opened at shop/app.py:37 in within; .*, in \S+ and 1 more$", result.output,
                     re.MULTILINE)  # fmt: skip


def test_effects_are_not_told_where_that_is_switched_off(project: Project):
    project.settings(SETTINGS)
    project.write("shop/app.py", APP)
    write_tests(project, TESTS)
    result = project.test("--integration", ITKIT_EFFECTS="off")
    assert result.code == 0, result.output
    assert "EFFECTS" not in result.output
