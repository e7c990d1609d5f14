"""What goes out of this machine is refused, by whatever it goes; this machine is not out."""

import _socket
import asyncio
import http.client
import socket
import threading
import urllib.request
from contextlib import contextmanager, suppress

import pytest
from django.conf import settings
from django.test import override_settings

from itkit import conf
from itkit.exceptions import EscapeError
from itkit.network import guarding
from itkit.timeline import core
from tests.support.doors import SERIAL, enter, write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers", "beside_a_developer")

NOWHERE = "192.0.2.1"  # of RFC 5737: nobody is there


@pytest.fixture(autouse=True)
def timeline():
    yield core.new_timeline("a test")
    core.new_timeline()


@pytest.fixture
def guard():
    with override_settings(ITKIT={}), guarding.guarded():
        yield


def connect(address=(NOWHERE, 443)):
    with socket.socket() as client:
        client.settimeout(0.05)
        client.connect(address)


def connect_at_once():
    with socket.socket() as client:
        client.setblocking(False)
        client.connect_ex((NOWHERE, 443))


def connect_without_the_module_socket():
    client = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    client.setblocking(False)
    try:
        client.connect((NOWHERE, 443))
    finally:
        client.close()


def send_a_datagram():
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.sendto(b"x", (NOWHERE, 443))


def send_a_message():
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.sendmsg([b"x"], [], 0, (NOWHERE, 443))


def connect_over_ipv6():
    with socket.socket(socket.AF_INET6) as client:
        client.setblocking(False)
        client.connect(("2001:db8::1", 443))


WAYS = {
    "a socket": connect,
    "connect_ex": connect_at_once,
    "_socket": connect_without_the_module_socket,
    "sendto": send_a_datagram,
    "sendmsg": send_a_message,
    "urllib": lambda: urllib.request.urlopen(f"http://{NOWHERE}:443/", timeout=0.05),
    "http.client": lambda: http.client.HTTPConnection(NOWHERE, 443, timeout=0.05).request(
        "GET", "/"
    ),
    "asyncio": lambda: asyncio.run(asyncio.open_connection(NOWHERE, 443)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("guard")
def test_every_way_out_is_refused(way, timeline):
    with pytest.raises(EscapeError, match=rf"A connection to {NOWHERE}:443 was refused") as caught:
        WAYS[way]()
    assert timeline.kept == [caught.value]


@pytest.mark.usefixtures("guard")
def test_ipv6_is_refused_too():
    with pytest.raises(EscapeError, match=r"A connection to \[2001:db8::1\]:443 was refused"):
        connect_over_ipv6()


@pytest.mark.parametrize("lookup", [
    lambda: socket.getaddrinfo("api.example.com", 443),
    lambda: socket.create_connection(("api.example.com", 443), 0.05),
    lambda: asyncio.run(asyncio.open_connection("api.example.com", 443)),
])  # fmt: skip
@pytest.mark.usefixtures("guard")
def test_a_name_is_refused_before_it_is_looked_up(lookup):
    with pytest.raises(EscapeError, match=r"A connection to api\.example\.com:443 was refused"):
        lookup()


@pytest.mark.usefixtures("guard")
def test_a_name_without_a_port_is_refused_as_well():
    with pytest.raises(EscapeError, match=r"A connection to api\.example\.com was refused"):
        socket.gethostbyname("api.example.com")


@pytest.mark.usefixtures("guard")
def test_a_thread_is_refused(timeline):
    caught = []

    def escape():
        try:
            connect()
        except EscapeError as error:
            caught.append(error)

    thread = threading.Thread(target=escape)
    thread.start()
    thread.join()
    assert timeline.kept == caught
    assert len(caught) == 1


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.9.9.9", "", socket.gethostname(), "app.localhost"]
)
@pytest.mark.usefixtures("guard")
def test_this_machine_is_let_through(host):
    with suppress(OSError):  # nobody listens there
        connect((host, 1))
    socket.getaddrinfo("127.0.0.1", 1)


@pytest.mark.usefixtures("guard")
def test_a_server_on_this_machine_is_reached_by_every_address_of_it(tmp_path):
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        for host in {"127.0.0.1", socket.gethostbyname(socket.gethostname())}:
            socket.create_connection((host, port), 5).close()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))


@pytest.mark.parametrize(
    "allowed",
    [NOWHERE, f"{NOWHERE}:443", "192.0.2.0/24", "192.0.*", "*"],
)
def test_what_is_allowed_is_let_through(allowed):
    with override_settings(ITKIT={"NETWORK": {"ALLOW": [allowed]}}), guarding.guarded():
        assert _reaches_the_network()


def test_an_address_that_the_guard_of_redis_lets_through_needs_no_second_decision():
    table = {"REDIS": {"ALLOW_ADDRESSES": [f"{NOWHERE}:443"]}}
    with override_settings(ITKIT=table), guarding.guarded():
        assert _reaches_the_network()


def test_an_allowed_port_is_no_other():
    with override_settings(ITKIT={"NETWORK": {"ALLOW": [f"{NOWHERE}:80"]}}), guarding.guarded():
        assert not _reaches_the_network()


def test_the_addresses_of_an_allowed_name_are_let_through(monkeypatch):
    # The names that this machine can look up without a network are its own.
    monkeypatch.setattr(guarding.addresses, "is_local", lambda host: False)
    monkeypatch.setattr(guarding, "_own_addresses", lambda resolving: frozenset())
    allowed = {"NETWORK": {"ALLOW": ["localhost"]}}
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with override_settings(ITKIT=allowed), guarding.guarded():
            with pytest.raises(EscapeError):
                connect(("127.0.0.1", port))
            socket.create_connection(("localhost", port), 5).close()
        allowed["NETWORK"]["ALLOW"] = [f"localhost:{port + 1}"]
        with override_settings(ITKIT=allowed), guarding.guarded(), pytest.raises(EscapeError):
            socket.create_connection(("localhost", port), 5)


def test_hosts_of_the_tests_own_servers_are_let_through():
    with override_settings(ITKIT={}), guarding.guarded(guarding.Servers(own=(NOWHERE,))):
        assert _reaches_the_network()


@pytest.mark.parametrize(
    ("database", "port", "is_reached"),
    [
        ({"ENGINE": "django.db.backends.mysql"}, 3306, True),
        ({"ENGINE": "django.db.backends.mysql"}, 443, False),
        ({"ENGINE": "django.db.backends.mysql", "PORT": "3307"}, 3307, True),
        ({"ENGINE": "django.db.backends.mysql", "PORT": 3307}, 3306, False),
        ({"ENGINE": "django.db.backends.oracle"}, 1521, True),
        ({"ENGINE": "a.backend.of.ones.own"}, 443, True),  # no port is known of it
        ({"ENGINE": "django.db.backends.sqlite3", "PORT": "3306"}, 3306, False),
        ({"ENGINE": "django.db.backends.postgresql"}, 5432, False),
    ],
)
def test_a_database_that_is_left_to_django_is_let_through_at_its_port(database, port, is_reached):
    databases = {"default": {**database, "HOST": NOWHERE}}
    with patched_databases(databases), override_settings(ITKIT={}), guarding.guarded():
        assert _reaches_the_network((NOWHERE, port)) is is_reached


@contextmanager
def patched_databases(databases):
    # override_settings() would warn of DATABASES, which Django reads once.
    original, settings.DATABASES = settings.DATABASES, databases
    try:
        yield
    finally:
        settings.DATABASES = original


def test_the_guard_can_be_switched_off_and_ends_with_its_block():
    with override_settings(ITKIT={"NETWORK": {"BLOCK": False}}), guarding.guarded():
        assert _reaches_the_network()
    with override_settings(ITKIT={}):
        with guarding.guarded():
            assert not _reaches_the_network()
        assert _reaches_the_network()


def _reaches_the_network(address=(NOWHERE, 443)):
    """Tell whether the system was asked, whatever it makes of an address that nobody has."""
    try:
        connect(address)
    except OSError:
        return True
    except EscapeError:
        return False
    return True


@pytest.mark.parametrize("entry", ["https://api.example.com", "a b", "host:port", "", "10.0.0.0/x"])
def test_an_entry_that_is_no_host_is_a_mistake_in_the_settings(entry):
    with override_settings(ITKIT={"NETWORK": {"ALLOW": [entry]}}):
        (mistake,) = conf.mistakes()
    assert mistake.id == "itkit.E002"
    assert "expected a list of hosts: 'api.example.com', '*.example.com'" in mistake.message


@pytest.mark.parametrize(
    "entry", ["api", "api.example.com:443", "*.example.com", "10.0.0.0/8", "::1", "[::1]:80"]
)
def test_every_shape_of_an_entry_is_taken(entry):
    with override_settings(ITKIT={"NETWORK": {"ALLOW": [entry]}}):
        assert conf.mistakes() == []


APP = """
    import urllib.request


    class WeatherClient:
        def forecast(self):
            return self._get("/forecast")

        def _get(self, path):
            return urllib.request.urlopen("http://api.weather.example" + path, timeout=1).read()


    def send_ping():
        return _post()


    def _post():
        return urllib.request.urlopen("http://192.0.2.1:8080/", timeout=1).read()


    def forecast_or_none():
        try:
            return WeatherClient().forecast()
        except Exception:
            return None
"""

TESTS = """
    from itkit.test import IntegrationTestCase
    from shop import app


    class Out(IntegrationTestCase):
        def test_a_client(self):
            app.WeatherClient().forecast()

        def test_a_function(self):
            app.send_ping()

        def test_swallowed(self):
            self.assertIsNone(app.forecast_or_none())

        def test_mail_that_django_keeps(self):
            from django.core import mail

            mail.send_mail("s", "b", "from@example.com", ["to@example.com"])
            self.assertEqual(len(mail.outbox), 1)
            self.assertIn("example.com", str(mail.outbox[0].message()))
"""

REFUSALS = [
    """\
A connection to api.weather.example:80 was refused: no fake answers it.
  from shop/app.py:10 in _get
  to fake it:        ITKIT = {"BACKENDS": {"weather_client": {"TARGET": "shop.app.WeatherClient"}}}
  to let it through: ITKIT = {"NETWORK": {"ALLOW": ["api.weather.example"]}}
""",
    """\
A connection to 192.0.2.1:8080 was refused: no fake answers it.
  from shop/app.py:18 in _post
  to fake it:        ITKIT = {"BACKENDS": {"send_ping": {"TARGET": "shop.app.send_ping"}}}
  to let it through: ITKIT = {"NETWORK": {"ALLOW": ["192.0.2.1"]}}
""",
]


@pytest.mark.parametrize("door", SERIAL)
def test_a_way_out_fails_its_test_with_the_lines_to_add(door, project: Project):
    project.settings('MAILERS = {"default": {}}')  # without, Django 6.1 warns
    project.write("shop/app.py", APP)
    write_tests(project, TESTS)
    result = enter(door, project)

    assert result.counts == {"passed": 1, "failed": 3}, result.output
    shown = "\n".join(line.removeprefix("E").strip() for line in result.output.splitlines())
    for refusal in REFUSALS:
        wanted = "\n".join(line.strip() for line in refusal.splitlines())
        assert wanted in shown, result.output
    assert "The application has swallowed an error that fails this test" in result.output


def test_a_process_that_joins_a_test_is_guarded_too(project: Project):
    project.write("shop/app.py", APP)
    write_tests(
        project,
        """
        import subprocess
        import sys

        from itkit.test import IntegrationTestCase


        class Joined(IntegrationTestCase):
            def test_a_command(self):
                code = "from shop import app; app.send_ping()"
                done = subprocess.run(
                    [sys.executable, "manage.py", "shell", "-c", code], capture_output=True, text=True
                )
                self.assertIn("A connection to 192.0.2.1:8080 was refused", done.stderr)
    """,
    )
    result = enter("pytest", project)

    assert result.counts == {"failed": 1}, result.output
    assert "in a process that the test has started:" in result.output
    assert "EscapeError: A connection to 192.0.2.1:8080 was refused" in result.output
    assert "timeline of the test" not in result.output  # nor what set the databases up


@pytest.mark.parametrize("door", SERIAL)
def test_what_responses_and_respx_answer_does_not_go_out(door, project: Project):
    write_tests(
        project,
        """
        import httpx
        import requests
        import responses
        import respx

        from itkit import EscapeError
        from itkit.test import IntegrationTestCase


        class Http(IntegrationTestCase):
            @responses.activate
            def test_requests(self):
                responses.get("https://api.example.com/rates", json={"usd": 1.1})
                self.assertEqual(requests.get("https://api.example.com/rates").json(), {"usd": 1.1})

            @respx.mock
            def test_httpx(self):
                respx.get("https://api.example.com/rates").respond(json={"usd": 1.1})
                self.assertEqual(httpx.get("https://api.example.com/rates").json(), {"usd": 1.1})

            def test_without_them_both_are_refused(self):
                for client in (requests, httpx):
                    with self.assertRaisesRegex(EscapeError, "api.example.com:443 was refused"):
                        client.get("https://api.example.com/rates")
    """,
    )
    result = enter(door, project)
    assert result.counts == {"passed": 3}, result.output
