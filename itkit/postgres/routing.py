"""Route Django's connections to our server and schema.

Everything is done to ``connection.settings_dict``, which all threads of the process share, and to
``connection.creation`` and ``connection.client``: see ``routed``, ``creation`` and ``client``.
"""

import copy
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.creation import BaseDatabaseCreation

from itkit import libpq, names
from itkit.exceptions import EscapeError
from itkit.postgres import client, creation, explain, outside, places, roles, routed
from itkit.postgres.isolation import isolation
from itkit.postgres.outside import Sight
from itkit.postgres.reset import Reset, end_transaction
from itkit.postgres.server import Connection, connect
from itkit.postgres.sessions import Sessions
from itkit.postgres.snapshot import Snapshots
from itkit.urls import POSTGRES_SCHEMES, parse

_SERVER_OPTIONS = frozenset(
    {
        "assume_role",
        "service",
        "passfile",
        "hostaddr",
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "target_session_attrs",
    }
)
"""Options of a connection that say where and how to reach a server: ours has its own."""

_WRITER = "The test, one before it that has not committed, or another worker's"
_NOWHERE = {"NAME": "the_run_is_over", "HOST": "/the-run-is-over", "PORT": ""}
"""Where an alias leads when the tests are over, also for who connects by the settings himself."""

_inherited: list[object] = []
"""What a forked process must not close, not even by collecting it as garbage."""


class Routing:
    """The Postgres aliases of one process, routed to the databases and schemas of a run.

    Args:
        databases: URL of the database of each alias.
        run: id of the run.
        worker: id of the worker whose schema is used.
        owned: whether the server is thrown away, so that no schema needs to be dropped.
        migrate: whether the runner was not told to do without migrations.
        secret: what the passwords of the workers' roles are made of; empty where the tests log in
            by the project's own role.
        snapshot: the server's data directory, and where a copy of it is to be put that has the
            templates and nothing of any test; None where none is wanted.

    Attributes:
        lacking: by alias, what a clone of its template would lack.
    """

    def __init__(
        self,
        databases: Mapping[str, str],
        *,
        run: str,
        worker: str,
        owned: bool,
        migrate: bool,
        secret: str = "",
        snapshot: tuple[str, str] | None = None,
    ) -> None:
        self._databases = databases
        self.run = run
        self.worker = worker
        self.owned = owned
        self.migrate = migrate
        self.snapshots = Snapshots(*map(Path, snapshot)) if snapshot else None
        self.sessions = Sessions()
        self.secret = secret
        self.isolation = isolation(next(iter(databases.values()), ""), secret=secret)
        self._with_role: set[str] = set()  # the aliases whose places have one of their own
        self.lacking: dict[str, tuple[str, ...]] = {}
        self._original: dict[str, dict[str, Any]] = {}  # the settings by alias
        self._resets: dict[str, Reset] = {}
        self._sights: dict[str, Sight] = {}  # by the URL of the home
        self._held: set[str] = set()
        self._reset: set[str] = set()  # the aliases that were, since the test has begun
        self._moved: set[str] = set()  # those whose sequences a rolled-back test may have moved
        self._jobs: list[Future[object]] = []
        self._threads: ThreadPoolExecutor | None = None
        self._process = os.getpid()

    def install(self, *, is_first: bool = False) -> None:
        """Route all aliases; connections that are open are closed.

        Args:
            is_first: whether nobody of the run has made a place before, so that none has a role.
        """
        for alias in self._databases:
            connection = connections[alias]
            creation.close(connection)
            self._original[alias] = copy.deepcopy(connection.settings_dict)
        routed.install(self._original, self._creation_of, client.place_client)
        for alias in self._databases if self.secret and not is_first else ():
            with self.own_connection(alias) as own:
                place = self.place(alias, self.worker)
                self.note_role(alias, has_role=self.isolation.places(own).has_role(place))
        for alias in self._databases:
            connections[alias].settings_dict.update(self.settings(alias, self.worker))
        self.enter(self.worker)
        self.sessions.install()

    def enter(self, worker: str) -> None:
        """Be another worker; Django switches its own connections, this leads those of libpq."""
        self.worker = worker
        self._lead()

    def _lead(self) -> None:
        """Lead libpq to the worker's place, and nowhere else.

        No other server has the worker's role, so each refuses a connection that asks for it: also
        one that is made of what the settings have said before the run. Of several roles a login may
        have its own only, so the variable cannot name one then.
        """
        if not self._databases:
            return
        places = dict.fromkeys(self.place(alias, self.worker) for alias in self._databases)
        options = self.isolation.options(places)
        if len(places) == 1 and self._with_role:
            options = f"{options} -c role={next(iter(places))}"
        libpq.lead_to(options)

    def shut(self) -> None:
        """Close what is open, and leave the aliases routed to where nothing is."""
        self.sessions.uninstall()
        for made in self._resets.values():
            made.close()
        for alias in self._original:
            connection = connections[alias]
            creation.close(connection)
            if alias not in self._held:
                connection.settings_dict.update(_NOWHERE)
        if self._databases:
            libpq.lead_to(f"-c role={_NOWHERE['NAME']}")

    def uninstall(self) -> None:
        """Give the aliases back what they had.

        A runner that has not destroyed its test database yet would destroy the project's own in
        its place, so an alias that it holds stays routed, to where nothing is any more.
        """
        libpq.put_back()
        self.sessions.uninstall()
        for made in self._resets.values():
            made.close()
        for sight in self._sights.values():
            sight.connection.close()
        self._sights.clear()
        held: dict[str, dict[str, Any]] = {}
        while self._original:
            alias, original = self._original.popitem()
            connection = connections[alias]
            creation.close(connection)
            if alias not in self._held:
                connection.settings_dict.clear()
                connection.settings_dict.update(original)
            else:
                held[alias] = original
        self._original.update(held)
        if not held:
            routed.uninstall()

    def forget_connections(self) -> None:
        """Let a process that was just forked open connections of its own.

        Closing what it has inherited would end the sessions of its parent, whose sockets they are.
        """
        for alias in self._databases:
            _inherited.append(connections[alias].connection)
            connections[alias].connection = None
            _inherited.append(creation.pools(connections[alias]).pop(alias, None))
        _inherited.extend([*self._resets.values(), *self._sights.values()])
        self._resets.clear()
        self._sights.clear()

    def hold(self, alias: str) -> None:
        """Note that a runner has created the test database of an alias."""
        self._held.add(alias)

    def let_go(self, alias: str) -> None:
        """Note that a runner is done with the test database of an alias."""
        self._held.discard(alias)

    def is_held(self, alias: str) -> bool | None:
        """Tell whether a runner has yet to destroy the test database; None if it is not of ours."""
        return alias in self._held if alias in self._databases else None

    @property
    def may_drop(self) -> bool:
        """Whether to drop schemas: not where all is thrown away, nor in a test's forked process."""
        return not self.owned and os.getpid() == self._process

    def note_role(self, alias: str, *, has_role: bool) -> None:
        """Note whether the place of an alias, and those of its mirrors, have a role."""
        place = self.place(alias, self.worker)
        same = {other for other in self._databases if self.place(other, self.worker) == place}
        self._with_role = self._with_role | same if has_role else self._with_role - same
        for other in same:
            connections[other].settings_dict.update(self.settings(other, self.worker))
        self._lead()

    def explained(self, shown: str) -> str:
        """Return what to do about what the server has denied a test, or does not have.

        Args:
            shown: what is printed of the test's failure.
        """
        if not self._databases:
            return ""
        denied = ""
        if self._with_role:
            denied = explain.denied(shown, self.isolation.reach, self.isolation.wider)
        return denied or (explain.unmigrated(shown) if self.migrate else "")

    def settings(self, alias: str, worker: str) -> dict[str, Any]:
        """Return the settings that take an alias to a worker's place."""
        place = self.place(alias, worker)
        landing = self.landing(alias, place, role=place if alias in self._with_role else None)
        landing["OPTIONS"]["application_name"] = places.application_name(self.run, worker)
        return landing

    def landing(self, alias: str, place: str, *, role: str | None = None) -> dict[str, Any]:
        """Return the settings that take an alias to a place of ours.

        Args:
            alias: of ``DATABASES``.
            place: its name.
            role: by which to log in; by default that of the project.
        """
        server = parse(self._databases[alias], POSTGRES_SCHEMES)
        if role is not None:
            server = replace(server, user=role, password=roles.password(self.secret, role))
        original = self._original[alias]
        kept = {
            name: value
            for name, value in original["OPTIONS"].items()
            if name not in _SERVER_OPTIONS
        }
        return {
            "HOST": server.host,
            "PORT": str(server.port or ""),
            "USER": server.user,
            "PASSWORD": server.password,
            **self.isolation.landing(self._databases[alias], place, {**kept, **server.options}),
        }

    def place(self, alias: str, worker: str) -> str:
        """Return the place of an alias; a mirror and a second name of a database share one."""
        return names.schema(self.run, worker, self._primary(alias))

    def reset(self, alias: str) -> bool | None:
        """Take an alias' place back to what migrations made of it.

        Returns:
            Whether there was anything to take back; None if the place is not ours.
        """
        if alias not in self._databases:
            return None
        for ours in self._databases:
            end_transaction(connections[ours])
            self._flush_counters(ours)
        self._reset.add(alias)
        self._moved.discard(alias)
        has_changed = self._reset_of(alias, self.worker).run()
        self._look_outside(self._databases[alias])
        return has_changed

    def renew_sequences(self, alias: str, *, always: bool = False) -> None:
        """Take back what tests that were rolled back have done to the sequences of an alias.

        Args:
            alias: of ``DATABASES``; nothing happens where it is not ours.
            always: whether to look although no such test has ended since the last reset.
        """
        if alias in self._databases and (always or alias in self._moved):
            self._moved.discard(alias)
            self._reset_of(alias, self.worker).renew_sequences()

    def begin_test(self) -> None:
        """Note what is in databases that are not itkit's, before the first test of this process."""
        self._reset.clear()
        for home in set(self._databases.values()) - self._sights.keys():
            if self.isolation.is_foreign(home):
                self._sights[home] = Sight(connect(home, application="itkit outside"))

    def end_test(self) -> None:
        """Note which databases the test has left to a rollback."""
        self._moved |= self._databases.keys() - self._reset

    def _look_outside(self, home: str) -> None:
        """Find out whether a test has written outside of itkit's schemas, where that is foreign.

        Raises:
            EscapeError: it has.
        """
        sight = self._sights.get(home)
        if sight is not None and (found := sight.changes()):
            for alias in self._databases:
                # The error keeps Django from it, and the search_path would reach the next test.
                connections[alias].close()
            raise EscapeError(outside.explained(_WRITER, sight.connection, found))

    def _flush_counters(self, alias: str) -> None:
        """Have the session of the test hand on how many rows it has written, and where."""
        raw = connections[alias].connection
        if raw is not None and self._databases[alias] in self._sights:
            with suppress(psycopg.Error):  # a session that has ended has handed it on
                outside.flush_counters(raw)

    def restore(self, alias: str, worker: str) -> None:
        """Take the place of a worker, in which nobody is any more, back to that as well."""
        self._reset_of(alias, worker).run()
        self.close_reset(alias, worker)

    def close_reset(self, alias: str, worker: str) -> None:
        """Forget how a place is reset, as it is given back."""
        reset = self._resets.pop(self.place(alias, worker), None)
        if reset is not None:
            reset.close()

    def own_connection(self, alias: str) -> Connection:
        """Connect to the database of an alias, not as a test does."""
        return connect(self._databases[alias], application=f"itkit setup {self.run}")

    def in_background(self, job: Callable[[], object]) -> None:
        """Run what needs none of Django's connections beside what the runner does next."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="itkit-clone")
        self._jobs.append(self._threads.submit(job))

    def finish_jobs(self) -> None:
        """Wait for what runs in the background; the first of its errors is raised.

        No thread is left, so that workers can be forked.
        """
        threads, self._threads = self._threads, None
        jobs, self._jobs = self._jobs, []
        if threads is not None:
            threads.shutdown()
        for job in jobs:
            job.result()

    def original_signature(self, alias: str) -> tuple[Any, ...]:
        """Return what told this alias' database from others before it was routed."""
        settings = self._original[alias]
        test_name = settings["TEST"]["NAME"] or f"test_{settings['NAME']}"
        return (settings["HOST"], settings["PORT"], settings["ENGINE"], test_name)

    def _creation_of(self, connection: BaseDatabaseWrapper) -> BaseDatabaseCreation:
        return creation.schema_creation(connection, self, self._databases[connection.alias])

    def _reset_of(self, alias: str, worker: str) -> Reset:
        place = self.place(alias, worker)
        if place not in self._resets:
            self._resets[place] = self.isolation.reset(
                self._databases[alias],
                place,
                self._seeds_of(alias, place),
                places.application_name(self.run, worker),
                self.sessions,
            )
        return self._resets[place]

    def _seeds_of(self, alias: str, place: str) -> str:
        """Return where the rows come back from; in a spawned worker only the registry knows."""
        with self.own_connection(alias) as connection:
            found = self.isolation.places(connection).registration(place)
        template = found.seeds if found is not None else None
        return template or names.seed_schema(place)

    def _primary(self, alias: str) -> str:
        mirrored = self._original[alias]["TEST"]["MIRROR"]
        if mirrored:
            return self._primary(mirrored)
        signature = self.original_signature(alias)
        return next(
            name
            for name, original in self._original.items()
            if not original["TEST"]["MIRROR"] and self.original_signature(name) == signature
        )
