"""Many runs of the example on one server, some of them killed, and what is theirs and what is not.

``ITKIT_TEST_KILLS`` sets how many are killed, ``ITKIT_TEST_ROUNDS`` how often eight run at once.
By default each command is killed once on each server.
"""

import itertools
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from itkit.core.urls import POSTGRES_SCHEMES, parse
from itkit.postgres.clone import catalogue
from itkit.postgres.server.server import connect
from itkit.postgres.template.schemas import Schemas
from tests.support.projects import after, directory, environment, processes_with

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("ITKIT_TEST_KILLS", "4"))
AT_ONCE = 8
ROUNDS = int(os.environ.get("ITKIT_TEST_ROUNDS", "1"))

# What many runs do to each other is the same with and without the variations of swept tests.
OPTIONS = ["--integration", "--itkit-sweep=off"]
DJANGO = ["manage.py", "test", *OPTIONS]
PYTEST = ["-m", "pytest", "-p", "no:cacheprovider", *OPTIONS, "example_project"]
COMMANDS = [DJANGO, [*DJANGO, "--parallel", "2"], PYTEST, [*PYTEST, "-n", "2"]]

FOREIGN = """
    CREATE SCHEMA IF NOT EXISTS {schema};
    CREATE TABLE {schema}.shop_order (id serial PRIMARY KEY, total numeric NOT NULL);
    INSERT INTO {schema}.shop_order (total) VALUES (1), (2), (3);
    CREATE TABLE {schema}.django_migrations (id serial PRIMARY KEY, app text, name text);
    CREATE FUNCTION {schema}.twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2';
    CREATE VIEW {schema}.large AS SELECT * FROM {schema}.shop_order WHERE total > 1;
"""
SCHEMAS = ("public", "foreign_one", "itkit_notes")


@dataclass
class Crowd:
    """A server of somebody's, on which a role that may do next to nothing runs the example."""

    admin: "psycopg.Connection[Any]"
    url: str
    environment: dict[str, str]
    data_root: Path

    def run(self, *command: str) -> "subprocess.Popen[str]":
        """Start a run of the example."""
        return subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def foreign(self) -> list[Any]:
        """Return all that can be told of what is not ours, by ourselves and by pg_dump."""
        with connect(self.url, application="test") as connection:
            found: list[Any] = [catalogue.describe(connection, schema) for schema in SCHEMAS]
            tables = connection.execute(
                "SELECT quote_ident(schemaname) || '.' || quote_ident(relname) FROM"
                " pg_stat_user_tables WHERE schemaname = ANY (%s) ORDER BY 1",
                [list(SCHEMAS)],
            ).fetchall()
            for (table,) in tables:
                rows = f"SELECT xmin, ctid, t.* FROM {table} t ORDER BY ctid"
                found.append(connection.execute(rows.encode()).fetchall())
            found.append(connection.execute("SELECT rolname FROM pg_roles ORDER BY 1").fetchall())
            found.append(
                connection.execute("SELECT datname FROM pg_database ORDER BY 1").fetchall()
            )
            return [*found, pg_dump(self.url, connection.info.server_version)]

    def locks(self) -> list[Any]:
        """Return the advisory locks and the sessions of runs."""
        return self.admin.execute(
            "SELECT classid, objid FROM pg_locks WHERE locktype = 'advisory'"
            " UNION ALL SELECT pid, 0 FROM pg_stat_activity WHERE application_name LIKE 'itkit%'"
        ).fetchall()


def pg_dump(url: str, server_version: int) -> str:
    """Return a dump of what is not ours, or nothing if the machine's pg_dump is too old."""
    program = shutil.which("pg_dump") or "false"
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    if f") {server_version // 10000}." not in version.stdout:
        return ""
    schemas = [f"--schema={schema}" for schema in SCHEMAS]
    dump = subprocess.run(
        [program, *schemas, f"--dbname={url}"], check=True, capture_output=True, text=True
    ).stdout
    # Each dump is restricted by a key of its own.
    return "\n".join(line for line in dump.splitlines() if not line.startswith("\\"))


@pytest.fixture(params=["embedded", "system"])
def crowd(request: pytest.FixtureRequest, redis_url: str, cache_dir: Path) -> Iterator[Crowd]:
    names = {"embedded": "postgres_url", "system": "system_url"}
    server = parse(request.getfixturevalue(names[request.param]), POSTGRES_SCHEMES)
    with directory() as data_root, psycopg.connect(str(server), autocommit=True) as admin:
        admin.execute("CREATE ROLE crowd LOGIN")
        admin.execute("CREATE DATABASE crowd")
        admin.execute("GRANT CREATE ON DATABASE crowd TO crowd")
        url = str(replace(server, name="crowd"))
        with psycopg.connect(url, autocommit=True) as owner:
            for schema in SCHEMAS:
                owner.execute(FOREIGN.replace("{schema}", schema).encode())
            owner.execute("COMMENT ON SCHEMA itkit_notes IS 'whose name looks like one of ours'")
        yield Crowd(
            admin,
            url,
            environment(
                ITKIT_POSTGRES_URL=str(replace(server, name="crowd", user="crowd")),
                ITKIT_REDIS_URL=redis_url,
                ITKIT_CACHE_DIR=str(cache_dir),
                ITKIT_DATA_ROOT=str(data_root),
            ),
            data_root,
        )
        admin.execute("DROP DATABASE crowd WITH (FORCE)")
        admin.execute("DROP ROLE crowd")


def all_passed(runs: "list[subprocess.Popen[str]]") -> None:
    outputs = [run.communicate(timeout=180)[0] for run in runs]
    for run, output in zip(runs, outputs, strict=True):
        assert run.returncode == 0, output


# How runs wait for each other is no matter of the server's version, whose SQL is in the other test.
@pytest.mark.parametrize("crowd", ["embedded"], indirect=True)
@pytest.mark.slow
def test_eight_runs_at_once(crowd: Crowd) -> None:
    before = crowd.foreign()
    for _ in range(ROUNDS):
        runs = [crowd.run(*DJANGO, "--shuffle") for _ in range(AT_ONCE)]
        all_passed(runs)
    assert crowd.foreign() == before
    assert after(5, crowd.locks) == []


@pytest.mark.slow
def test_killed_runs_leave_nothing_once_another_has_run(crowd: Crowd, redis_url: str) -> None:
    before = crowd.foreign()
    moments = random.Random(crowd.url)
    commands = itertools.cycle(COMMANDS)
    for command in itertools.islice(commands, KILLS):
        moment = moments.uniform(0.1, 3.0)
        run = crowd.run(*command)
        time.sleep(moment)
        run.kill()
        with run:
            run.wait()
        # Its workers end by themselves, and its sessions with them.
        assert after(15, crowd.locks) == [], f"{command} killed after {moment:.2f} s"
    all_passed([crowd.run(*DJANGO)])
    with connect(crowd.url, application="test") as connection, connection.transaction():
        connection.execute("SET LOCAL ROLE crowd")  # only what is its own may be ours
        assert list(Schemas(connection).registered()) == []
    assert after(5, crowd.locks) == []
    assert crowd.foreign() == before
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys("itkit:*") == []
        assert client.acl_users() == ["default"]
        own = client.client_id()
        others = after(
            5, lambda: [str(one) for one in client.client_list() if int(one["id"]) != own]
        )
        assert others == []
    assert list(crowd.data_root.iterdir()) == []
    assert after(15, lambda: processes_with(str(crowd.data_root))) == []
