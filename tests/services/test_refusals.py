"""The error for a server that refuses the login says so, and says what helps."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import psycopg
import pytest

from itkit import postgres, redis, services
from itkit.exceptions import ServiceUnavailableError
from itkit.services import Need, sources
from tests.support import redis_server
from tests.support.projects import Project

LOCKED = "local all locked scram-sha-256\nlocal all shut reject\n"


@pytest.fixture(scope="module")
def locked(postgres_url: str) -> Iterator[str]:
    """URL of a Postgres with a role that has a password, without a login."""
    with psycopg.connect(postgres_url, autocommit=True) as boss:
        boss.execute("CREATE ROLE locked LOGIN PASSWORD 'right'")
        boss.execute("CREATE ROLE shut LOGIN")
        (name,) = boss.execute("SHOW hba_file").fetchone() or ("",)
        rules = Path(name)
        before = rules.read_text()
        rules.write_text(LOCKED + before)
        boss.execute("SELECT pg_reload_conf()")
        yield postgres_url.replace("//postgres@", "//{}@")
        rules.write_text(before)
        boss.execute("SELECT pg_reload_conf()")
        boss.execute("DROP ROLE locked; DROP ROLE shut")


@pytest.fixture(scope="module")
def guarded() -> Iterator[redis_server.Server]:
    """A Redis that asks for a password, and has a user who may do next to nothing."""
    with redis_server.on_port("--requirepass", "right", login=":right@") as server:
        server.ask("ACL", "SETUSER", "guest", "on", ">right", "~*", "+ping", "+hello", "+client")
        yield server


def refused(kind: Literal["postgres", "redis"], url: str) -> str:
    variable = f"ITKIT_{kind.upper()}_URL"
    probe = postgres.probe if kind == "postgres" else redis.probe
    with pytest.raises(ServiceUnavailableError) as caught:
        services.start([Need(kind=kind, given=(variable, url), probe=probe)], services.Options())
    message = str(caught.value)
    assert "does not answer:" not in message
    assert "right" not in message
    assert "wrong" not in message
    assert f"  remove {variable}, so that itkit looks for another server" in message
    return message


@pytest.mark.parametrize(
    ("login", "reason", "remedy"),
    [
        (
            "locked:wrong",
            "the server answers and refuses the password of the role 'locked'",
            "  a password in the URL, postgresql://USER:PASSWORD@",
        ),
        (
            "locked",
            "the server answers and asks for a password, and none is given",
            "  a password in the URL, postgresql://USER:PASSWORD@",
        ),
        (
            "nobody_here",
            "the server answers and has no role 'nobody_here'",
            '  CREATE ROLE "nobody_here" LOGIN CREATEDB; which an administrator runs',
        ),
        (
            "shut",
            "the server answers and refuses connections of the role 'shut' from here",
            "  a line for it in the server's pg_hba.conf",
        ),
    ],
)
def test_postgres_refuses_a_login(locked: str, login: str, reason: str, remedy: str) -> None:
    message = refused("postgres", locked.format(login))
    assert f"cannot be used: {reason} (" in message
    assert remedy in message


def test_a_project_server_that_refuses_the_password_is_told_in_the_start_line(locked: str) -> None:
    project = ('DATABASES["default"]', locked.format("locked:wrong"))
    need = Need(kind="postgres", project=project, probe=postgres.probe)
    started = services.start([need], services.Options())
    try:
        assert started.postgres is not None
        (told,) = started.postgres.passed_over
    finally:
        started.stop()
    assert told.startswith('DATABASES["default"] (')
    assert "refuses the password of the role 'locked'" in told


def test_a_project_server_on_another_machine_is_told_in_the_start_line() -> None:
    project = ('CACHES["default"]', "redis://:right@cache.example.com/1")
    need = Need(kind="redis", project=project, probe=redis.probe)
    started = services.start([need], services.Options())
    started.stop()
    assert started.redis is not None
    (told,) = started.redis.passed_over
    assert told == (
        'CACHES["default"] is on another machine, cache.example.com:6379, which is used only with'
        ' ITKIT["REDIS"]["ALLOW_REMOTE"] = True'
    )


@pytest.mark.parametrize(
    ("login", "reason", "remedy"),
    [
        (
            "",
            "the server answers and asks for a password, and none is given",
            "  a password in the URL, redis://USER:PASSWORD@127.0.0.1:",
        ),
        (
            ":wrong@",
            "the server answers and refuses the password of the user 'default'",
            "  a password in the URL, redis://USER:PASSWORD@127.0.0.1:",
        ),
        (
            "guest:right@",
            "the server answers and refuses the user 'guest' what itkit needs",
            "  ACL SETUSER guest on ~* &* +@all, which an administrator runs there",
        ),
    ],
)
def test_redis_refuses_a_login(
    guarded: redis_server.Server, login: str, reason: str, remedy: str
) -> None:
    message = refused("redis", guarded.url.replace(":right@", login))
    assert f"cannot be used: {reason} (" in message
    assert remedy in message


@pytest.mark.slow
def test_the_port_of_another_service(
    guarded: redis_server.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_GIVEN_TIMEOUT", 1.0)
    port = re.sub(r".*:", "", guarded.url)
    message = refused("postgres", f"postgresql://127.0.0.1:{port}/app")
    assert "something listens there that does not answer as a Postgres does" in message
    assert (
        f"another port: what listens at 127.0.0.1:{port} may be a server of another kind" in message
    )


ONE = """
    from django.test import TestCase

    class One(TestCase):
        def test_runs(self):
            pass
"""


def test_a_database_that_does_not_exist_or_is_closed(project: Project, postgres_url: str) -> None:
    project.write("shop/tests.py", ONE)
    url = postgres_url.replace("//postgres@/postgres", "//lowly@/{}")
    with psycopg.connect(postgres_url, autocommit=True) as boss:
        boss.execute("CREATE ROLE lowly LOGIN")
        boss.execute("CREATE DATABASE closed_one")
        boss.execute("REVOKE CONNECT ON DATABASE closed_one FROM PUBLIC")
        try:
            missing = project.test("--integration", ITKIT_POSTGRES_URL=url.format("missing_one"))
            closed = project.test("--integration", ITKIT_POSTGRES_URL=url.format("closed_one"))
        finally:
            boss.execute("DROP DATABASE closed_one")
            boss.execute("DROP ROLE lowly")
    assert "may not create a database, and there is no 'missing_one'" in missing.output
    assert '  CREATE DATABASE "missing_one" OWNER "lowly"; which an administrator' in missing.output
    assert "GRANT" not in missing.output
    assert "may not create a database, nor connect to 'closed_one'" in closed.output
    assert '  GRANT CONNECT, CREATE ON DATABASE "closed_one" TO "lowly"; which' in closed.output
