"""What a project has made before the run leads tests to nothing of the developer's."""

import pytest

from tests.support.doors import enter, write_tests
from tests.support.projects import Project
from tests.support.sentinel import Sentinel

APP = """
    import atexit
    import copy
    import ctypes
    import ctypes.util
    import socket
    import subprocess

    import psycopg
    import redis
    import valkey
    from django.conf import settings
    from django.db.utils import ConnectionHandler

    # Made at import, which is before any run.
    DATABASE = copy.deepcopy(settings.DATABASES["default"])
    DSN = "postgresql://{USER}@{HOST}:{PORT}/{NAME}".format(**DATABASE)
    MEMCACHED = settings.MEMCACHED.split(":")
    REDIS = int(settings.CACHES["plain"]["LOCATION"].split(":")[2].split("/")[0])
    HOSTILE = ["DELETE FROM public.shop_customer", "CREATE TABLE public.mine (n int)"]


    def connect():
        global postgres, memcached, plain, by_redis, by_valkey
        postgres = psycopg.connect(DSN, autocommit=True)
        memcached = socket.create_connection((MEMCACHED[0], int(MEMCACHED[1])))
        plain = socket.create_connection(("127.0.0.1", settings.PLAIN_PORT))
        by_redis, by_valkey = redis.Redis(port=REDIS), valkey.Valkey(port=REDIS)
        by_redis.ping(), by_valkey.ping()
        for opened in (postgres, memcached, plain, by_redis, by_valkey):
            atexit.register(opened.close)


    def by_an_open_connection():
        for statement in HOSTILE:
            postgres.execute(statement)


    def by_memcached():
        memcached.sendall(b"flush_all\\r\\n")
        assert memcached.recv(100)


    def by_an_open_socket():
        plain.sendall(b"hello")
        assert plain.recv(100)


    def by_a_dsn():
        with psycopg.connect(DSN, autocommit=True) as own:
            for statement in HOSTILE:
                own.execute(statement)


    def by_a_handler_of_its_own():
        connection = ConnectionHandler({"default": DATABASE})["default"]
        try:
            for statement in HOSTILE:
                connection.cursor().execute(statement)
        finally:
            connection.close()


    def by_libpq():
        libpq = ctypes.CDLL(ctypes.util.find_library("pq"))
        libpq.PQconnectdb.restype = ctypes.c_void_p
        libpq.PQexec.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        connection = libpq.PQconnectdb(DSN.encode())
        libpq.PQexec.restype, libpq.PQresultStatus.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        for statement in HOSTILE:
            assert libpq.PQresultStatus(libpq.PQexec(connection, statement.encode())) == 1


    def by_psql():
        subprocess.run(["psql", DSN, "-c", HOSTILE[0]], check=True, capture_output=True)
"""
APPS = """
    import os

    from django.apps import AppConfig


    class ShopConfig(AppConfig):
        name = "shop"

        def ready(self):
            from shop import app

            if "ITKIT_TEST" not in os.environ:  # not in the children of a test
                app.connect()
"""
TESTS = """
    import os
    import subprocess
    import sys

    from django.db import connection
    from django.test import TestCase
    from shop import app
    from shop.models import Currency

    CHILD = (
        "import django; django.setup(); from django.core.cache import cache;"
        "from shop.models import Currency; cache.set('of-a-child', 1);"
        "Currency.objects.create(code='XXX')"
    )


    class Tests(TestCase):
        def test_old_ways(self):
            for way in (
                app.by_an_open_connection, app.by_memcached, app.by_an_open_socket, app.by_a_dsn,
                app.by_a_handler_of_its_own, app.by_libpq, app.by_psql,
            ):
                with self.subTest(way.__name__), self.assertRaises(Exception):
                    way()

        def test_clients_of_redis_begin_anew(self):
            app.by_redis.set("mine", "of a test")
            self.assertEqual(app.by_valkey.get("mine"), b"of a test")


    from itkit.test import IntegrationTestCase


    class Children(IntegrationTestCase):
        def child(self, **more):
            env = {"PATH": os.environ["PATH"], "DJANGO_SETTINGS_MODULE": "settings", **more}
            return subprocess.run([sys.executable, "-c", CHILD], env=env, check=True)

        def test_a_process_with_an_environment_of_its_own(self):
            self.child()
            self.assertTrue(Currency.objects.filter(code="XXX").exists())

        def test_a_process_after_the_environment_was_emptied(self):
            before = dict(os.environ)
            os.environ.clear()
            os.environ.update({"PATH": before["PATH"], "DJANGO_SETTINGS_MODULE": "settings"})
            try:
                subprocess.run([sys.executable, "-c", CHILD], check=True)
            finally:
                os.environ.update(before)
            self.assertTrue(Currency.objects.filter(code="XXX").exists())
"""


@pytest.mark.parametrize(
    ("door", "role", "source"),
    [
        ("django", "boss", "embedded"),
        ("pytest", "poor", "auto"),
        ("pytest", "maker", "auto"),
        ("django", "boss", "URL"),
    ],
)
@pytest.mark.slow
def test_nothing_that_was_made_before_reaches_the_developer(
    door: str, role: str, source: str, project: Project, sentinel: Sentinel
) -> None:
    sentinel.point(project, role)
    project.settings("PLAIN = ('localhost', PLAIN_PORT)")
    if source == "embedded":
        project.env["ITKIT_SOURCE"] = source
    if source == "URL":
        with sentinel.connect() as connection:
            connection.execute("CREATE DATABASE for_tests")
        project.env["ITKIT_POSTGRES_URL"] = sentinel.url(role, "for_tests")
    project.write("shop/app.py", APP)
    project.write("shop/apps.py", APPS)
    write_tests(project, TESTS)
    before = sentinel.digest()
    result = enter(door, project)
    after = sentinel.digest()
    # It was connected to before the run, and has heard the end of that.
    assert before.pop("the plain port") != after.pop("the plain port") == "[b'']"
    assert after == before, result.output
    assert result.counts == {"passed": 4}, result.output
    for place in ('DATABASES["default"]', "MEMCACHED", "PLAIN"):
        assert f"a connection that was open before the tests was shut: {place}" in result.output
