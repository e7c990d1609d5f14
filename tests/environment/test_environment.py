"""The conductor: what is started is stopped, in every order of events."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from django.test import override_settings

from itkit import environment
from itkit.core.handshake import Payload
from itkit.core.names import PAYLOAD_VARIABLE
from itkit.exceptions import ConfigurationError, ItkitError, RunOverError
from itkit.redis.server.server import connected
from tests.support import fakes_app


@pytest.fixture(autouse=True)
def reopened() -> Iterator[None]:
    """Give this process back what it had, which nobody else does after a run."""
    yield
    environment.reopen()


BACKENDS = {"BACKENDS": {"payments": {"TARGET": "tests.support.fakes_app.StripeGateway"}}}


def test_a_run_without_servers_starts_and_stops() -> None:
    with override_settings(ITKIT=BACKENDS):
        started = environment.start()
        assert environment.current() is started
        assert "database 'default' is sqlite: left to Django" in started.payload.summary
        payload = json.loads(os.environ[PAYLOAD_VARIABLE])
        assert payload["run"] == started.payload.run
        environment.stop()
    assert environment.current() is None
    assert PAYLOAD_VARIABLE not in os.environ


def test_backends_are_real_before_and_after_and_forget_between_tests() -> None:
    real = vars(fakes_app.StripeGateway)["charge"]
    with override_settings(ITKIT=BACKENDS):
        started = environment.start()
        started.begin_test("a test")
        started.backends.payments.charge.returns("txn")
        assert vars(fakes_app.StripeGateway)["charge"] is not real
        started.end_test()
        started.begin_test("a test")
        assert started.backends.payments.call_count("charge") == 0
        environment.stop()
        with pytest.raises(RunOverError, match="or a call of a backend was refused"):
            fakes_app.StripeGateway().charge(1, "t")
        environment.reopen()
    assert vars(fakes_app.StripeGateway)["charge"] is real


def test_a_runner_that_ends_some_tests_may_begin_others() -> None:
    started = environment.start()
    assert started.shut() == []
    assert started.shut() == []
    refused = _what_a_thread_gets(lambda: subprocess.run([sys.executable, "-V"], check=True))
    assert "A process was refused: the run" in refused
    assert "started at tests/environment/test_environment.py" in refused
    started.begin_test("another test")
    assert _what_a_thread_gets(lambda: subprocess.run([sys.executable, "-V"], check=True)) == ""
    started.end_test()
    assert environment.stop() == []
    assert "was refused" in _what_a_thread_gets(lambda: os.system("true"))
    subprocess.run([sys.executable, "-V"], check=True)  # the main thread may
    environment.reopen()
    assert _what_a_thread_gets(lambda: os.system("true")) == ""


def _what_a_thread_gets(action: Callable[[], object]) -> str:
    found = [""]

    def act() -> None:
        try:
            action()
        except RunOverError as error:
            found.append(str(error))

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    return found[-1]


def test_stopping_twice_is_stopping_once() -> None:
    environment.start()
    environment.stop()
    environment.stop()
    assert environment.current() is None


def test_a_failing_start_leaves_nothing() -> None:
    with (
        override_settings(ITKIT={"BACKENDS": {"payments": {"TARGET": "no.Where"}}}),
        pytest.raises(ConfigurationError, match="No module named 'no'"),
    ):
        environment.start()
    assert environment.current() is None
    assert PAYLOAD_VARIABLE not in os.environ


def test_a_worker_that_outlives_its_run_makes_nothing(redis_url: str) -> None:
    with (
        Payload(run="0123abcd", redis=redis_url, redis_secret="s").exported(),
        pytest.raises(ItkitError, match="The run 0123abcd, whose worker this was to be, has ended"),
    ):
        environment.attach("gw1")
    assert environment.current() is None
    with connected(redis_url) as client:
        assert client.acl_users() == ["default"]


def test_a_worker_without_a_run_says_so() -> None:
    with pytest.raises(ItkitError, match="it was not started by a run with --integration"):
        environment.attach("w1")


def test_a_payload_survives_its_journey(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PAYLOAD_VARIABLE, "")
    payload = Payload(
        run="0123abcd",
        databases={"default": "postgresql://h/d"},
        redis="unix:///s",
        redis_project=[("CACHES", "redis://h")],
    )
    with payload.exported():
        assert Payload.from_environment() == payload
    assert os.environ[PAYLOAD_VARIABLE] == ""


def test_managers_of_different_tests_and_of_classes_share_no_values() -> None:
    started = environment.start()
    values = set()
    for index in range(3):
        started.begin_test(f"test {index}", index)
        for _ in range(2):
            unique = started.new_data_manager().unique
            values |= {unique.email() for _ in range(256)}
    started.begin_class("A class")
    unique = started.new_data_manager().unique
    values |= {unique.email() for _ in range(256)}
    environment.stop()
    assert len(values) == 7 * 256
