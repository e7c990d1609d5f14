"""The sentinel sees what is changed on a developer's machine, and nothing else."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest

from tests.support import sentinel as sentinels
from tests.support.projects import after
from tests.support.sentinel import Sentinel

IN_POSTGRES = {
    "a row is written": "INSERT INTO public.shop_currency (code) VALUES ('EUR')",
    "a row is written anew as it is": "UPDATE public.shop_customer SET email = email",
    "a row goes and comes back": "DELETE FROM reporting.fact; INSERT INTO reporting.fact VALUES (1, 'mine')",
    "a table is emptied": "TRUNCATE public.shop_currency",
    "a number is drawn": "SELECT nextval('public.invoice_no')",
    "a table is created": "CREATE TABLE public.other (n int)",
    "a column is added": "ALTER TABLE public.shop_currency ADD name text",
    "a function is replaced by itself": "CREATE OR REPLACE FUNCTION public.greeting() RETURNS text LANGUAGE sql AS $$ SELECT 'mine' $$",
    "a type is changed": "ALTER TYPE public.mood ADD VALUE 'fair'",
    "a trigger is disabled and enabled": "ALTER TABLE public.shop_customer DISABLE TRIGGER ALL; ALTER TABLE public.shop_customer ENABLE TRIGGER ALL; ALTER TABLE public.shop_customer ALTER email SET STATISTICS 5",
    "a schema is created": "CREATE SCHEMA tenant_1",
    "a schema is dropped": "DROP SCHEMA reporting CASCADE",
    "a large object is unlinked": "SELECT lo_unlink(4242)",
    "a role is created": "CREATE ROLE other",
    "a database is created": "CREATE DATABASE test_dev",
    "a role is configured": "ALTER ROLE poor SET search_path = x",
}
HARMLESS = """
    CREATE SCHEMA itkit_0123abcd_w0; CREATE TABLE itkit_0123abcd_w0.t (n int);
    ANALYZE; SELECT count(*) FROM public.shop_customer
"""


def test_all_that_is_the_developers_is_in_the_digest(sentinel: Sentinel) -> None:
    before = sentinel.digest()
    assert "ours@example.com" in before["public.shop_customer"]
    assert "mine" in before["reporting.fact"]
    assert "session:abc" in before["Redis 0"]
    assert "celery" in before["Redis 7"]
    assert before == sentinel.digest()


def test_each_change_in_postgres_shows(sentinel: Sentinel) -> None:
    before = sentinel.digest()
    for what, statements in IN_POSTGRES.items():
        with sentinel.connect() as connection:
            for statement in statements.split("; "):
                connection.execute(statement)
        after = sentinel.digest()
        assert after != before, what
        before = after


def test_what_is_itkits_own_does_not_show_in_the_digest(sentinel: Sentinel) -> None:
    before = sentinel.digest()
    with sentinel.connect() as connection:
        for statement in HARMLESS.split(";"):
            connection.execute(statement)
        connection.execute("CREATE ROLE itkit_0123abcd_w0")
        connection.execute("CREATE DATABASE itkit_home")
    with contextlib.closing(sentinel.machine.redis.client(db=3)) as client:
        client.set("itkit:0123abcd:w0:k", "v")
    assert sentinel.digest() == before
    assert sentinel.ours() == [
        "itkit:0123abcd:w0:k",
        "itkit_0123abcd_w0",
        "itkit_0123abcd_w0",
        "itkit_home",
    ]
    sentinel.restore()
    assert sentinel.ours() == []


@pytest.mark.parametrize(
    "command",
    ["SET mine 1 KEEPTTL", "DEL celery", "PERSIST mine", "FLUSHDB", "CONFIG SET maxclients 99",
     "ACL SETUSER other on"],
)  # fmt: skip
def test_a_change_in_redis_shows(sentinel: Sentinel, command: str) -> None:
    client = sentinel.machine.redis.client(db=7 if "celery" in command else 0)
    before = sentinel.digest()
    if command.startswith("SET"):
        command = "SET mine 2 KEEPTTL"
    limit = client.config_get("maxclients")["maxclients"]
    client.execute_command(*command.split())
    after = sentinel.digest()
    client.config_set("maxclients", limit)
    client.execute_command("ACL", "DELUSER", "other")
    client.close()
    assert after != before


@pytest.mark.skipif(sentinels.MEMCACHED is None, reason="the machine has no memcached")
@pytest.mark.parametrize(
    "command", ["set other 0 0 1\r\n1", "set :1:mine 0 0 4\r\nmine", "flush_all"]
)
def test_a_change_in_memcached_shows(sentinel: Sentinel, command: str) -> None:
    port = sentinel.machine.memcached_port
    assert port is not None
    before = sentinel.digest()
    sentinels.ask_memcached(port, command, "OK" if command == "flush_all" else "STORED")
    assert sentinel.digest() != before


def test_a_connection_to_the_plain_port_shows(sentinel: Sentinel) -> None:
    before = sentinel.digest()
    with socket.create_connection(("127.0.0.1", sentinel.machine.listener.port)) as connection:
        connection.sendall(b"hello")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""  # it was heard
    assert sentinel.digest() != before


@pytest.mark.parametrize("role", sentinels.ROLES)
def test_the_roles_may_what_they_are_for(sentinel: Sentinel, role: str) -> None:
    with sentinel.connect(role=role) as connection:
        found = connection.execute(
            "SELECT rolsuper, rolcreatedb, rolcreaterole, has_database_privilege(%s, 'CREATE'),"
            " has_table_privilege('public.shop_customer', 'DELETE')"
            " FROM pg_roles WHERE rolname = current_user",
            [sentinels.DATABASE],
        ).fetchone()
    assert found == {
        "boss": (True, False, False, True, True),
        "maker": (False, True, True, False, True),
        "builder": (False, True, False, False, True),
        "poor": (False, False, False, True, True),
        "guest": (False, False, False, False, True),
    }[role]  # fmt: skip


def _insert(sentinel: Sentinel) -> None:
    with sentinel.connect() as connection:
        connection.execute("INSERT INTO public.shop_currency (code) VALUES ('EUR')")


def _delete(sentinel: Sentinel) -> None:
    with contextlib.closing(sentinel.machine.redis.client(db=7)) as client:
        client.delete("celery")


def _leave(sentinel: Sentinel) -> None:
    with sentinel.connect() as connection:
        connection.execute("CREATE SCHEMA itkit_0123abcd_w0")


@pytest.mark.parametrize(
    ("touch", "found"),
    [
        (_insert, r"changed on the .*public\.shop_currency"),
        (_delete, r"changed on the .*Redis 7"),
        (_leave, r"left on the .*itkit_0123abcd_w0"),
    ],
)
def test_a_block_that_changes_something_fails_and_the_next_begins_anew(
    touch: Callable[[Sentinel], None], found: str, sentinel: Sentinel
) -> None:
    with pytest.raises(AssertionError, match=found), sentinel.untouched():
        touch(sentinel)
    for _ in range(2):
        with sentinel.untouched():
            assert "CHF" in sentinel.digest()["public.shop_currency"]
    with pytest.raises(AssertionError, match=found), sentinel.untouched():
        touch(sentinel)


KILLED = """
import os, signal, psutil
from tests.support import sentinel

with sentinel.machine():
    servers = psutil.Process().children(recursive=True)
    print(*(server.pid for server in servers), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_servers_end_with_a_worker_that_is_killed() -> None:
    found = subprocess.run(
        [sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True, check=False
    )
    servers = [int(pid) for pid in found.stdout.split()]
    assert len(servers) >= 3
    assert after(20, lambda: [str(pid) for pid in servers if psutil.pid_exists(pid)]) == []
