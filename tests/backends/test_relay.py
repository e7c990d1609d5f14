"""Processes that a test starts get its fakes, and their calls are on its timeline."""

import json
import os
import subprocess
import sys
import threading
import urllib.error
from pathlib import Path
from types import ModuleType

import pytest

from itkit.backends.registry import Registry
from itkit.backends.relay import Relay
from itkit.timeline import core
from tests.support.doors import DOORS, SERIAL, enter, write_tests
from tests.support.fakes_app import StripeGateway
from tests.support.projects import Project, after

pytestmark = pytest.mark.usefixtures("shared_servers")

BASE = """
    import subprocess
    import sys

    from itkit import ElsewhereError, UnexpectedCallError
    from itkit.test import IntegrationTestCase


    def run(code):
        command = [sys.executable, "manage.py", "shell", "-v", "0", "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.stdout.strip() + done.stderr.strip()
"""

TESTS = f"""{BASE}

    PAY = "from shop import app; app.pay()"


    class Elsewhere(IntegrationTestCase):
        def test_a_call_is_answered_and_recorded(self):
            self.backends.payments.charge.returns("txn_1")
            self.assertEqual(run(PAY), "txn_1")
            (call,) = self.backends.payments.charge.calls
            self.assertEqual(call.arguments, {{"amount": 5, "token": "tok"}})
            self.assertEqual(call.result, "txn_1")
            self.assertEqual(str(call.site), "shop/app.py:6 in pay")
            self.assertRegex(call.thread, r"^MainThread of manage.py \\([0-9]+\\)$")
            self.timeline.assert_order("payments.charge")

        def test_b_what_another_test_has_programmed_is_gone(self):
            self.backends.payments.charge.returns("txn_2")
            self.assertEqual(run(PAY), "txn_2")
            self.backends.payments.charge.assert_called_once_with(5, "tok")

        def test_an_error_is_raised_there(self):
            self.backends.payments.charge.raises(ConnectionError("down"), times=1)
            self.assertIn("ConnectionError: down", run(PAY))
            (call,) = self.backends.payments.charge.calls
            self.assertIsInstance(call.error, ConnectionError)

        def test_conditions_and_numbers_hold(self):
            self.backends.payments.charge.returns("other")
            self.backends.payments.charge.when(amount=lambda amount: amount > 4).returns("big")
            self.backends.payments.charge.on_call(2).returns("second")
            self.assertEqual(run("from shop import app; app.pay(); app.pay(); app.pay()"),
                             "big\\nsecond\\nbig")

        def test_an_unprogrammed_return_that_is_used_there_fails_the_test_here(self):
            run("from shop import app; app.pay_and_swallow()")

        def test_a_strict_fake_fails_the_test_too(self):
            self.backends.payments.strict()
            run("from shop import app; app.pay_and_swallow()")

        def test_an_argument_that_cannot_travel_is_shown(self):
            self.backends.sms.returns("sent")
            code = "import threading; from shop import gateways; print(gateways.send_sms(threading.Lock(), text='x'))"
            self.assertEqual(run(code), "sent")
            (call,) = self.backends.sms.calls
            self.assertIn("lock object", repr(call.arguments["number"]))

        def test_a_value_that_cannot_travel_is_an_error_there(self):
            import threading

            self.backends.sms.does(lambda number, text: threading.Lock())
            self.assertIn("cannot be sent to another process", run(
                "from shop import gateways; gateways.send_sms('1', text='x')"))

        def test_threads_and_coroutines_there(self):
            self.backends.sms.does(lambda number, text: number)
            code = '''
    from concurrent.futures import ThreadPoolExecutor
    from shop import gateways
    with ThreadPoolExecutor(8) as pool:
        print(sum(int(n) for n in pool.map(lambda n: gateways.send_sms(str(n), "x"), range(100))))
    '''
            self.assertEqual(run(code), "4950")
            self.assertEqual(self.backends.sms.call_count, 100)

        def test_a_process_of_multiprocessing(self):
            import multiprocessing

            from shop import app

            self.backends.payments.charge.returns("txn_1")
            process = multiprocessing.get_context("spawn").Process(target=app.pay_set_up)
            process.start()
            process.join(60)
            self.assertEqual(process.exitcode, 0)
            self.assertEqual(self.backends.payments.charge.call_count, 1)
"""

APP = """
    from shop.gateways import Stripe


    def pay():
        print(Stripe().charge(5, "tok"))


    def pay_and_swallow():
        try:
            print(Stripe().charge(5, "tok") + "!")
        except Exception:
            print("swallowed")


    def pay_set_up():
        import django

        django.setup()
        pay()
"""
FAILING = (
    "test_an_unprogrammed_return_that_is_used_there_fails_the_test_here",
    "test_a_strict_fake_fails_the_test_too",
)


@pytest.mark.parametrize("door", DOORS)
def test_processes_get_the_fakes_of_their_test(door, project: Project):
    project.write("shop/app.py", APP)
    write_tests(project, TESTS)
    result = enter(door, project)

    assert result.counts == {"passed": 8, "failed": 2}, result.output
    for test in FAILING:
        assert test in result.output
    shown = result.output.replace("\n", " ")
    assert "The return value of payments.charge was calculated with" in shown
    assert "payments.charge(5, 'tok') was not expected: the test programs nothing for it" in shown
    assert result.output.count("The application has swallowed") >= 2
    assert project.leftovers() == []


CELERY = """
    import subprocess
    import sys
    import time

    from itkit.test import IntegrationTestCase
    from shop.worker import pay


    class Worker(IntegrationTestCase):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            command = ["-m", "celery", "-A", "shop.worker", "worker", "-P", "prefork", "-c", "2"]
            cls.worker = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL,
                                          stderr=subprocess.DEVNULL)

        @classmethod
        def tearDownClass(cls):
            cls.worker.terminate()
            cls.worker.wait(30)
            super().tearDownClass()

        def pay(self, answer):
            self.backends.payments.charge.returns(answer)
            pay.delay(5)
            deadline = time.monotonic() + 60
            while not self.backends.payments.charge.calls and time.monotonic() < deadline:
                time.sleep(0.05)
            (call,) = self.backends.payments.charge.calls
            self.assertEqual((call.result, call.arguments["amount"]), (answer, 5))
            self.assertIn("celery", call.thread)

        def test_a_worker_is_answered_by_this_test(self):
            self.pay("txn_a")

        def test_b_and_by_the_next(self):
            self.pay("txn_b")
"""


@pytest.mark.parametrize("door", SERIAL)
@pytest.mark.slow
def test_a_worker_of_celery_that_outlasts_a_test(door, project: Project):
    project.settings("""
        CELERY_BROKER_URL = "redis://127.0.0.1:1/3"
        ITKIT["REDIS"] = {"SETTINGS": ["CELERY_BROKER_URL"]}
    """)
    project.write(
        "shop/worker.py",
        """
        import os

        import django
        from celery import Celery

        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
        app = Celery("shop")
        app.config_from_object("django.conf:settings", namespace="CELERY")
        django.setup()

        @app.task
        def pay(amount):
            from shop.gateways import Stripe

            return Stripe().charge(amount, "tok")
    """,
    )
    write_tests(project, CELERY)
    result = enter(door, project)

    assert result.counts == {"passed": 2}, result.output


SHARED = f"""{BASE}

    SEND = '''
    from django.core import mail
    print(mail.send_mail("s", "b", "a@b.example", ["c@d.example"]))
    '''


    class Shared(IntegrationTestCase):
        def test_mail_is_in_the_outbox_of_the_test(self):
            self.assertEqual(run(SEND), "1")
            self.assertEqual([one.subject for one in self.backends.email.outbox], ["s"])
            self.assertEqual(self.backends.email.send.call_count, 1)

        def test_a_fake_with_a_memory_is_that_of_the_test(self):
            from shop.bank import Bank

            Bank().pay(5)
            self.assertEqual(run("from shop.bank import Bank; print(Bank().pay(10))"), "15")
            self.assertEqual(self.backends.bank.stand_in.paid, 15)

        def test_a_spy_is_real_there_and_its_call_is_here(self):
            code = "from shop import gateways; gateways.send_sms('1', 'x')"
            self.assertIn("the real SMS gateway", run(code))
            self.backends.sms.assert_called_once_with("1", "x")
"""


@pytest.mark.parametrize("door", SERIAL)
def test_a_process_shares_what_can_be_shared(door, project: Project):
    project.settings("""
        MAILERS = {"default": {}}  # without, Django 6.1 warns
        ITKIT["BACKENDS"] = {
            "email": {"BUILTIN": "mail"},
            "sms": {"TARGET": "shop.gateways.send_sms", "MODE": "spy"},
            "bank": {"TARGET": "shop.bank.Bank", "FAKE": "shop.bank.FakeBank"},
        }
    """)
    project.write(
        "shop/bank.py",
        """
        class Bank:
            def pay(self, amount: int) -> int:
                raise RuntimeError

        class FakeBank:
            def __init__(self):
                self.paid = 0

            def pay(self, amount):
                self.paid += amount
                return self.paid
    """,
    )
    write_tests(project, SHARED)
    result = enter(door, project)

    assert result.counts == {"passed": 3}, result.output


FORKED = f"""{BASE}
    import os

    SEND = "from shop import gateways; print(gateways.send_sms('1', text='x'))"


    class Forked(IntegrationTestCase):
        def test_a_the_process_of_a_forked_one_gets_the_fakes_of_that(self):
            self.backends.sms.returns("sent")
            pid = os.fork()
            if not pid:
                self.backends.sms.returns("sent by the fork")
                os._exit(run(SEND) != "sent by the fork" or self.backends.sms.call_count != 1)
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
            self.assertEqual(self.backends.sms.call_count, 0)
            self.assertEqual(run(SEND), "sent")
            self.assertEqual(self.backends.sms.call_count, 1)

        def test_b_that_of_the_test_once_it_has_started_one(self):
            self.backends.sms.returns("sent")
            pid = os.fork()
            if not pid:
                os._exit(run(SEND) != "sent")
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
            self.assertEqual(self.backends.sms.call_count, 1)
"""


@pytest.mark.parametrize("door", SERIAL)
def test_a_forked_process_answers_those_that_it_starts(door: str, project: Project) -> None:
    write_tests(project, FORKED)
    result = enter(door, project)
    assert result.counts == {"passed": 2}, result.output


@pytest.fixture
def relay():
    registry = Registry({"payments": StripeGateway})
    registry.swap()
    core.new_timeline("a test")
    made = Relay(registry.fakes())
    with made.listening():
        yield made, registry
    registry.restore()
    core.new_timeline()


def relay_threads():
    return [thread.name for thread in threading.enumerate() if thread.name == "itkit-relay"]


def test_nobody_listens_before_a_process_is_started_or_after_the_end(relay):
    made, _ = relay
    assert relay_threads() == []
    subprocess.run([sys.executable, "-c", ""], check=True)
    assert len(relay_threads()) == 1
    made.close()
    assert relay_threads() == []


def child(address, code):
    """Run code in a process that knows an address, with the ends of the relay at hand."""
    source = (
        "import json, sys\n"
        "from itkit.backends.relay import Client, RelayAddress, Request\n"
        "address = RelayAddress(*json.loads(sys.argv[1]))\n"
        "client = Client(address)\n"
        "request = Request('payments', 'charge', (1, 'tok'), {}, ('x.py', 3), 'a thread')\n"
        f"{code}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", source, json.dumps(address)],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}, check=False,
    )  # fmt: skip
    return done.stdout.strip() or done.stderr


def test_who_does_not_know_the_secret_is_not_answered(relay):
    made, registry = relay
    registry.payments.charge.returns("txn")
    place, secret = made.address

    assert "does not answer" in child((place, "wrong"), "client._ask(request)")
    assert child((place, secret), "print(client._ask(request).value)") == "txn"
    assert registry.payments.call_count("charge") == 1


def test_nonsense_and_a_process_that_dies_in_between_harm_nobody(relay):
    made, registry = relay
    registry.payments.charge.returns("txn")
    nonsense = (
        "client._channel().send_bytes(b'nonsense'); print(client._channel().recv().value.error())"
    )

    assert "cannot read a call" in child(made.address, nonsense)
    child(
        made.address, "client._channel(); import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    child(made.address, "from itkit.backends import relay; relay._dial_endpoint(address.endpoint)")
    assert child(made.address, "print(client._ask(request).value)") == "txn"


def test_an_error_whose_constructor_takes_something_else_travels(relay):
    made, registry = relay
    error = urllib.error.HTTPError("http://x", 503, "busy", {"retry-after": "1"}, None)
    error.add_note("programmed")
    registry.payments.charge.raises(error)
    code = (
        "error = client._ask(request).value.error()\n"
        "print(type(error).__name__, error.code, error, dict(error.hdrs), error.__notes__)"
    )

    assert child(made.address, code) == (
        "HTTPError 503 HTTP Error 503: busy {'retry-after': '1'} ['programmed']"
    )


def test_an_answer_that_cannot_be_read_is_told(relay, monkeypatch):
    made, registry = relay
    only_here = ModuleType("only_here")
    only_here.OddError = type("OddError", (Exception,), {"__module__": "only_here"})
    monkeypatch.setitem(sys.modules, "only_here", only_here)
    registry.payments.charge.raises(only_here.OddError())
    told = child(made.address, "print(client._ask(request).value.error())")

    assert told.startswith("The test's answer cannot be read here: ModuleNotFoundError")


def test_a_backend_that_the_test_does_not_know_is_told(relay):
    made, _ = relay
    asked = "client._ask(request._replace(backend='nothing'))"

    assert child(made.address, f"print(repr({asked}.value.error()))") == "KeyError('nothing')"


def test_where_nobody_listens_a_fake_answers_by_itself(relay):
    made, _ = relay
    subprocess.run([sys.executable, "-c", ""], check=True)
    address = made.address
    made.close()
    told = child(address, "print(client._reply_to(request).kind)")

    assert told == "here"


def test_many_processes_at_once(relay):
    made, registry = relay
    registry.payments.charge.returns("txn")
    source = (
        "import json, sys\nfrom itkit.backends.relay import Client, RelayAddress, Request\n"
        "client = Client(RelayAddress(*json.loads(sys.argv[1])))\n"
        "request = Request('payments', 'charge', (1, 'tok'), {}, ('x.py', 3), 'a thread')\n"
        "for _ in range(200): client._ask(request)\n"
    )
    command = [sys.executable, "-c", source, json.dumps(made.address)]
    processes = [subprocess.Popen(command) for _ in range(8)]
    assert [process.wait(60) for process in processes] == [0] * 8
    assert registry.payments.call_count("charge") == 1600
    assert after(5, lambda: relay_threads()[1:]) == []
