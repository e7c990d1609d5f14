"""An answer that a test programs and no call uses is told at the end, or fails the test."""

import re

import pytest

from tests.support.doors import DOORS, SERIAL, enter, write_tests
from tests.support.projects import Project
from tests.support.verdicts_project import APP, judged

pytestmark = pytest.mark.usefixtures("shared_servers")

TESTS = """
    from itkit.test import IntegrationTestCase
    from shop import app
    from shop.gateways import Stripe, send_sms


    class Down(Exception):
        def __repr__(self):
            return "Down()"


    class Unused(IntegrationTestCase):
        @property
        def charge(self):
            return self.backends.payments.charge

        def test_red_a_returns(self):
            self.charge.returns("txn")

        def test_red_b_raises_three_times_used_once(self):
            self.charge.returns("txn")
            self.charge.raises(Down(), times=3)
            app.pay_and_swallow()

        def test_red_c_when_it_never_matched(self):
            self.charge.returns("txn")
            self.charge.when(amount=100).returns("big")
            app.pay()

        def test_red_d_on_call_never_reached(self):
            self.charge.returns("txn")
            self.charge.on_call(3).raises(Down())
            app.pay()

        def test_red_e_returns_each_with_one_too_many(self):
            self.charge.returns_each("a", "b")
            app.pay()

        def test_red_f_loses_reply(self):
            self.charge.returns("txn")
            self.charge.loses_reply(Down(), times=2)
            app.pay_and_swallow()

        def test_red_g_function(self):
            self.backends.sms.returns("sent")

        def test_red_h_override(self):
            self.charge.returns("txn")
            with self.backends.payments.override():
                self.charge.returns("inner")
            app.pay()

        def test_red_i_does(self):
            self.charge.does(lambda amount, token: "txn")

        def test_red_j_by_a_name(self):
            self.backends.payments.configure_return("charge", "txn")

        def test_green_all_that_was_used(self):
            self.charge.returns("txn")
            app.pay()
            self.charge.raises(Down(), times=1)
            app.pay_and_swallow()
            self.charge.when(5).returns("five")
            self.charge.on_call(4).returns("four")
            self.assertEqual((app.pay(), app.pay()), ("five!", "four!"))
            self.charge.loses_reply(Down(), times=1)
            app.pay_and_swallow()

        def test_green_what_was_programmed_anew(self):
            self.charge.returns("by default")
            self.charge.returns("txn")
            self.charge.delays(0)
            app.pay()

        def test_green_override_in_use(self):
            self.charge.returns("txn")
            app.pay()
            with self.backends.payments.override():
                self.charge.returns("inner")
                self.assertEqual(app.pay(), "inner!")
"""


@pytest.mark.parametrize("door", SERIAL)
def test_unused_answers_fail_where_that_is_asked_for(door, project: Project):
    project.settings('ITKIT["UNUSED"] = "fail"')
    result = judged(door, project, TESTS)

    for told in (
        "payments.charge.returns('txn') at shop/tests/test_shop.py:18 in test_red_a_returns: not used",
        "payments.charge.raises(Down(), times=3) at shop/tests/test_shop.py:22",
        ": 2 not used",
        "payments.charge.when(amount=100).returns('big') at shop/tests/test_shop.py:27",
        "payments.charge.on_call(3).raises(Down()) at shop/tests/test_shop.py:32",
        "payments.charge.returns_each('a', 'b') at shop/tests/test_shop.py:36",
    ):
        assert told in result.output, (told, result.output)


WARNED = """
    from itkit.test import IntegrationTestCase
    from shop import app


    class A(IntegrationTestCase):
        def setUp(self):
            self.backends.payments.charge.returns("txn")  # used by one of the tests

        def test_a(self):
            app.pay()

        def test_b(self):
            self.backends.sms.returns("sent")


    class B(IntegrationTestCase):
        def program(self):
            self.backends.sms.returns("sent")

        def test_c(self):
            self.program()

        def test_d(self):
            self.program()

        def test_e(self):
            self.backends.payments.charge.returns("of a test that fails")
            self.fail("on purpose")
"""


@pytest.mark.parametrize("door", DOORS)
def test_unused_answers_are_told_once_for_each_line(door, project: Project):
    project.write("shop/app.py", APP)
    write_tests(project, WARNED)
    result = enter(door, project)

    assert result.counts == {"passed": 4, "failed": 1}, result.output
    told = re.findall(r"^  (\w+\.\S*|sms\S*) at shop/tests/test_shop.py:(\d+) .*$", result.output,
                      re.MULTILINE)  # fmt: skip
    assert told == [("sms.returns('sent')", "14"), ("sms.returns('sent')", "19")], result.output
    assert re.search(r":19 in program: not used, in \S+ and 1 more$", result.output, re.MULTILINE)
    assert 'ITKIT["UNUSED"] = "fail"' in result.output


def test_nothing_is_told_where_that_is_switched_off(project: Project):
    project.write("shop/app.py", APP)
    write_tests(project, WARNED)
    result = project.test("--integration", ITKIT_UNUSED="off")
    assert "UNUSED" not in result.output
