"""No client of any library reaches a server of the developer's that the settings name."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.support.doors import SERIAL, enter, write_tests
from tests.support.projects import Project
from tests.support.redis_server import on_socket
from tests.support.sentinel import Sentinel

APP = """
    import asyncio
    import socket
    import threading

    import pymemcache
    import valkey
    from django.conf import settings
    from django.core.cache import caches


    def raw(address, family=socket.AF_INET):
        with socket.socket(family) as client:
            client.settimeout(5)
            client.connect(address)
            client.sendall(b"FLUSHALL\\r\\n")


    def by_thread(address):
        failed = []

        def work():
            try:
                raw(address)
            except Exception as error:
                failed.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        raise failed[0]


    async def by_asyncio(host, port):
        _, writer = await asyncio.open_connection(host, port)
        writer.write(b"FLUSHALL\\r\\n")
        await writer.drain()


    def by_memcached(alias):
        caches[alias].clear()


    def by_pymemcache():
        pymemcache.Client(settings.MEMCACHED).flush_all()


    def by_valkey(port):
        valkey.Valkey(port=port).flushall()


    def by_valkey_of_a_socket(path):
        valkey.Valkey(unix_socket_path=path).flushall()


    def swallowed(address):
        try:
            raw(address)
        except Exception:
            pass
"""

TESTS = """
    import asyncio
    import os
    import re
    import socket
    import subprocess
    import sys
    import threading

    from django.conf import settings
    from django.test import override_settings

    from itkit import EscapeError
    from itkit.test import IntegrationTestCase
    from shop import app

    PLACE = 'CACHES["memcached"]["LOCATION"] names'
    MEMCACHED = int(settings.MEMCACHED.rpartition(":")[2])


    class Refused(IntegrationTestCase):
        def refused(self, place, function, *arguments):
            with self.assertRaises(EscapeError) as caught:
                function(*arguments)
            self.assertIn(place, str(caught.exception))
            self.assertIn('to let it through: ITKIT = {"NETWORK": {"ALLOW": ["', str(caught.exception))
            self.assertIn("from shop/app.py:", str(caught.exception))

        def test_memcached(self):
            self.refused(PLACE, app.raw, ("127.0.0.1", MEMCACHED))

        def test_memcached_by_another_name_of_this_machine(self):
            self.refused(PLACE, app.raw, ("localhost", MEMCACHED))
            self.refused(PLACE, app.raw, (socket.gethostname(), MEMCACHED))

        def test_pymemcache(self):
            self.refused(PLACE, app.by_pymemcache)

        def test_the_cache_of_memcached(self):
            self.refused(PLACE, app.by_memcached, "memcached")

        def test_a_thread(self):
            self.refused(PLACE, app.by_thread, ("127.0.0.1", MEMCACHED))

        def test_asyncio(self):
            with self.assertRaisesRegex(EscapeError, re.escape(PLACE)):
                asyncio.run(app.by_asyncio("127.0.0.1", MEMCACHED))

        def test_valkey(self):
            app.by_valkey(settings.REDIS_PORT)  # which is in the tests' Redis
            self.refused('CACHES["default"]["LOCATION"] names', app.raw, ("127.0.0.1", settings.REDIS_PORT))

        def test_a_socket_of_the_file_system(self):
            with self.assertRaisesRegex(EscapeError, "A connection to Redis at .* was refused"):
                app.by_valkey_of_a_socket(settings.DEEP["a"][0]["path"])
            self.refused("DEEP[", app.raw, settings.DEEP["a"][0]["path"], socket.AF_UNIX)

        def test_a_plain_port_of_a_pair(self):
            self.refused("PLAIN_PORT_PAIR names", app.raw, ("127.0.0.1", settings.PLAIN_PORT))

        def test_postgres_by_pythons_sockets(self):
            self.refused('DATABASES["default"] names', app.raw, ("127.0.0.1", settings.POSTGRES))

        def test_a_setting_that_a_test_has_put_in_place(self):
            port = int(os.environ["OTHER_PORT"])
            with override_settings(SEARCH={"hosts": [f"http://127.0.0.1:{port}"]}):
                self.refused("SEARCH", app.raw, ("127.0.0.1", port))

        def test_one_that_names_a_server_which_is_not_there(self):
            with socket.create_server(("127.0.0.1", 0)) as own:
                port = own.getsockname()[1]
            with override_settings(SEARCH={"hosts": [f"http://127.0.0.1:{port}"]}):
                with self.assertRaises(ConnectionRefusedError):
                    app.raw(("127.0.0.1", port))


    class Own(IntegrationTestCase):
        def test_a_server_of_the_test_itself(self):
            with socket.create_server(("127.0.0.1", 0)) as own:
                with override_settings(SEARCH=f"http://127.0.0.1:{own.getsockname()[1]}"):
                    app.raw(own.getsockname())

        def test_a_server_that_the_test_starts(self):
            code = (
                "import socket; s = socket.create_server(('127.0.0.1', 0));"
                "print(s.getsockname()[1], flush=True); s.accept()[0].recv(9)"
            )
            with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as server:
                app.raw(("127.0.0.1", int(server.stdout.readline())))


    class Unknown(IntegrationTestCase):
        def test_a_port_that_no_setting_names(self):
            import warnings

            other = int(os.environ["OTHER_PORT"])
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                try:
                    for _ in range(2):
                        app.raw(("127.0.0.1", other))
                except EscapeError as error:
                    told.append(error)
            self.assertEqual(len(told), 1)
            text = str(getattr(told[0], "message", told[0]))
            self.assertIn(f'ITKIT = {{"NETWORK": {{"ALLOW": ["127.0.0.1:{other}"]}}}}', text)
            self.assertIn(os.environ["EXPECTED"], text)


    class Swallowed(IntegrationTestCase):
        def test_the_application_swallows_it(self):
            app.swallowed(("127.0.0.1", MEMCACHED))
"""
SETTINGS = """
    REDIS_PORT = int(CACHES["default"]["LOCATION"].rpartition(":")[2].partition("/")[0])
    POSTGRES = int(DATABASES["default"]["PORT"])
    PLAIN_PORT_PAIR = ("localhost", PLAIN_PORT)
    CACHES["memcached"] = {
        "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache", "LOCATION": MEMCACHED
    }
"""


@contextlib.contextmanager
def listening() -> Iterator[int]:
    """Listen on a port that no setting names."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def pointed(project: Project, sentinel: Sentinel) -> Project:
    sentinel.point(project, "boss")
    project.env["ITKIT_SOURCE"] = "embedded"
    project.settings(SETTINGS)
    project.write("shop/app.py", APP)
    return project


@pytest.mark.parametrize("door", SERIAL)
@pytest.mark.slow
def test_every_client_is_refused(door: str, pointed: Project, sentinel: Sentinel) -> None:
    pointed.warm = None  # itkit looks for the ports of what descends from a test's process
    write_tests(pointed, TESTS)
    before = sentinel.digest()
    with on_socket() as developers, listening() as other:
        with developers.client() as client:
            client.set("mine", "1")
        pointed.settings(
            f'DEEP = {{"a": [{{"path": "{developers.url.removeprefix("unix://")}"}}]}}'
        )
        env = {"OTHER_PORT": str(other), "EXPECTED": "no process of this run has started"}
        if door == "pytest":
            pointed.settings('ITKIT["NETWORK"] = {"LOCAL": "refuse"}')
            env["EXPECTED"] = 'ITKIT["NETWORK"]["LOCAL"] is "refuse"'
        result = enter(door, pointed, **env)
        with developers.client() as client:
            assert client.get("mine") == "1"
    assert result.counts == {"passed": 15, "failed": 1}, result.output
    assert "The application has swallowed an error that fails this test" in result.output
    assert sentinel.digest() == before


def test_what_the_settings_allow_is_reached(pointed: Project, sentinel: Sentinel) -> None:
    write_tests(
        pointed,
        """
        import socket

        from django.conf import settings
        from django.core.cache import caches
        from django.test import SimpleTestCase
        from shop import app

        class Allowed(SimpleTestCase):
            def test_memcached(self):
                caches["memcached"].set("mine", "of a test")
                self.assertEqual(caches["memcached"].get("mine"), "of a test")

            def test_a_socket(self):
                app.raw(settings.DEEP, socket.AF_UNIX)
        """,
    )
    with on_socket() as developers:
        path = developers.url.removeprefix("unix://")
        pointed.settings(f"""
            DEEP = "{path}"
            ITKIT["NETWORK"] = {{"ALLOW": [MEMCACHED.replace("127.0.0.1", "localhost"), DEEP]}}
        """)
        result = enter("django", pointed)
    assert result.counts == {"passed": 2}, result.output
