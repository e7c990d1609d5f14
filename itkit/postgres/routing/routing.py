"""Routes Django's connections to our server and schema.

It changes ``connection.settings_dict``, which all threads of the process share, and
``connection.creation`` and ``connection.client``: see ``routed`` and ``creation``.
"""

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.creation import BaseDatabaseCreation

from itkit.core import names
from itkit.core.urls import POSTGRES_SCHEMES, parse
from itkit.exceptions import EscapeError
from itkit.network import libpq
from itkit.postgres.isolation import isolation
from itkit.postgres.migrations import explain
from itkit.postgres.reset.differences import TableDifference
from itkit.postgres.reset.levels import RowLevel
from itkit.postgres.reset.probe import Look
from itkit.postgres.reset.reset import Reset, end_transaction
from itkit.postgres.routing import kept, routed
from itkit.postgres.routing.kept import Session
from itkit.postgres.run import RunDatabases
from itkit.postgres.server import driver, outside, places, roles
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.outside import Sight
from itkit.postgres.server.server import connect
from itkit.postgres.server.sessions import Sessions
from itkit.postgres.snapshot import Snapshots
from itkit.timeline import sql

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
"""Options of a connection about where and how to reach a server; our server has its own."""

Creation = Callable[[BaseDatabaseWrapper, "Routing", str], BaseDatabaseCreation]
"""Makes the ``creation`` of a connection, given the routing and the URL of its database."""

_STDERR = 2
_WRITER = "The test, one before it that has not committed, or another worker's"
_NOWHERE = {"NAME": "the_run_is_over", "HOST": "/the-run-is-over", "PORT": ""}
"""The host of an alias after the tests, also for code that connects by the settings itself."""

_inherited: list[object] = []
"""Objects that a forked process must not close, not even by garbage collection."""


class Routing:
    """The Postgres aliases of one process, routed to the databases and schemas of a run.

    Args:
        databases: URL of the database of each alias.
        run: id of the run.
        worker: id of the worker whose schema is used.
        owned: whether the server is thrown away, so that no schema has to be dropped.
        migrate: whether to run migrations; False with an option such as ``--nomigrations``.
        secret: the source of the passwords of the workers' roles; empty where the tests log in
            by the project's own role.
        snapshot: the server's data directory, and the target for a copy of it that has the
            templates and nothing from tests; None if no copy is wanted.

    Attributes:
        lacking: the objects that a clone of the template would lack, by alias.
        is_clone: whether this is a worker of Django's, whose places another process has made.
        migrated: the seconds that migrations took, by alias; without aliases that did not migrate.
        stderr: a file descriptor that no runner captures, or None.
        note_unrepeatable: gets each read of a migration whose value differs each time: the line,
            what is read, and the migration.
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
        self._with_role: set[str] = set()  # the aliases whose places have a role of their own
        self.lacking: dict[str, tuple[str, ...]] = {}
        self.migrated: dict[str, float] = {}
        self.stderr: int | None = None
        self._original: dict[str, dict[str, Any]] = {}  # the original settings by alias
        self._resets: dict[str, Reset] = {}
        self._homes: set[str] = set()  # the URLs of those that a test has begun in
        self._sights: dict[str, Sight] = {}  # by the URLs of the homes that are foreign
        self._held: set[str] = set()
        self._reset: set[str] = set()  # the aliases that were reset since the test has begun
        self._moved: set[str] = set()  # sequences that a test may have advanced
        self.note_unrepeatable: Callable[[str, str, str], object] = lambda *_read: None
        self.is_clone = False
        self._set_up: set[str] | None = None  # the aliases whose places a spawned worker has found
        self._altered: list[tuple[str, str]] = []
        self._places: dict[tuple[str, str], str] = {}
        self._jobs: list[Future[object]] = []
        self._threads: ThreadPoolExecutor | None = None
        self._process = os.getpid()
        self._first: RunDatabases | None = None

    def install(self, creation: Creation, first: RunDatabases | None = None) -> None:
        """Route all aliases, and close their open connections.

        Args:
            creation: makes the replacement of a connection's ``creation``.
            first: the object that has prepared the databases, in the process that has started the
                run. No place exists at that time, so none has a role. Other processes read the
                roles from the databases.
        """
        self._first = first
        with suppress(OSError):
            self.stderr = os.dup(_STDERR)
        for alias in self._databases:
            connection = connections[alias]
            routed.close(connection)
            self._original[alias] = copy.deepcopy(connection.settings_dict)
        routed.install(
            self._original,
            lambda connection: creation(connection, self, self._databases[connection.alias]),
            routed.place_client,
        )
        if first is not None:
            self.isolation.beside = first.beside
        for alias in self._databases if first is None else ():
            with self.own_connection(alias) as own:
                self.isolation.look(own)
                if self.secret:
                    place = self.place(alias, self.worker)
                    self.note_role(alias, has_role=self.isolation.places(own).has_role(place))
        for alias in self._databases:
            connections[alias].settings_dict.update(self.settings(alias, self.worker))
        self.enter(self.worker)
        self.sessions.install()
        sql.rewriters.append(self._rewritten)

    def enter(self, worker: str) -> None:
        """Become another worker: Django switches its own connections, and this those of libpq."""
        self.worker = worker
        self._lead()

    def _lead(self) -> None:
        """Let libpq connect to the worker's place, and nowhere else.

        No other server has the worker's role, so other servers refuse a connection with it, even
        one that is made from settings of before the run. If there are several places, each login
        may use its own role only, so the variable names none.
        """
        if not self._databases:
            return
        places = dict.fromkeys(self.place(alias, self.worker) for alias in self._databases)
        options = self.isolation.options(places)
        if len(places) == 1 and self._with_role:
            options = f"{options} -c role={next(iter(places))}"
        libpq.lead_to(options)

    def shut(self) -> None:
        """Close open connections, and leave the aliases routed to a host that does not exist."""
        self._close_stderr()
        self._stop_rewriting()
        self.sessions.uninstall()
        for made in self._resets.values():
            made.close()
        for alias in self._original:
            connection = connections[alias]
            routed.close(connection)
            if alias not in self._held:
                connection.settings_dict.update(_NOWHERE)
        if self._databases:
            libpq.lead_to(f"-c role={_NOWHERE['NAME']}")

    def uninstall(self) -> None:
        """Give the aliases their own settings back.

        A runner that has not destroyed its test database yet would destroy the project's own
        database instead. So an alias that a runner holds stays routed, to a host that does not
        exist.
        """
        libpq.put_back()
        self._close_stderr()
        self._stop_rewriting()
        self.sessions.uninstall()
        for made in self._resets.values():
            made.close()
        for sight in self._sights.values():
            sight.connection.close()
        self._sights.clear()
        self._homes.clear()
        held: dict[str, dict[str, Any]] = {}
        while self._original:
            alias, original = self._original.popitem()
            connection = connections[alias]
            routed.close(connection)
            if alias not in self._held:
                connection.settings_dict.clear()
                connection.settings_dict.update(original)
            else:
                held[alias] = original
        self._original.update(held)
        if not held:
            routed.uninstall()

    def _rewritten(self, connection: BaseDatabaseWrapper, statement: str) -> str:
        """Return a statement without what would change things that all workers share."""
        alias = connection.alias
        if alias in self._databases and connection.settings_dict is connections.settings[alias]:
            own = partial(self.own_connection, alias)
            return self.isolation.rewritten(connection, own, statement)
        return statement

    def _stop_rewriting(self) -> None:
        if self._rewritten in sql.rewriters:
            sql.rewriters.remove(self._rewritten)

    def _close_stderr(self) -> None:
        stderr, self.stderr = self.stderr, None
        if stderr is not None:
            os.close(stderr)

    def forget_connections(self) -> None:
        """Let a process that was just forked open connections of its own.

        If it closed inherited connections, it would end the sessions of its parent, as both share
        the sockets. So Django's objects are made to forget them. Checked with Django 5.2, 6.0 and
        6.1.
        """
        for alias in self._databases:
            _inherited.append(kept.take(connections[alias]))
            _inherited.append(connections[alias].connection)
            connections[alias].connection = None
            _inherited.append(routed.pools(connections[alias]).pop(alias, None))
        _inherited.extend([*self._resets.values(), *self._sights.values()])
        self._resets.clear()
        self._sights.clear()
        self._homes.clear()

    def hold(self, alias: str, own: Connection) -> None:
        """Note that a runner has created the test database of an alias.

        Args:
            alias: an alias of ``DATABASES``.
            own: one of our own connections to the alias's database.
        """
        self._held.add(alias)
        self._reset_of(alias, self.worker, own).begin()

    def let_go(self, alias: str) -> None:
        """Note that a runner has destroyed the test database of an alias."""
        self._held.discard(alias)

    @property
    def is_set_up(self) -> bool:
        """Whether a test database was created, or none is needed."""
        return bool(self._held) or not self._databases

    def is_held(self, alias: str) -> bool | None:
        """Return whether a runner has yet to destroy the test database; None if it is not ours."""
        return alias in self._held if alias in self._databases else None

    @property
    def may_drop(self) -> bool:
        """Whether to drop schemas: not if the server is thrown away, nor in a forked process."""
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
        """Return advice for a failure in which the server denies or lacks something.

        Args:
            shown: the printed text of the test's failure.
        """
        if not self._databases:
            return ""
        denied = ""
        if self._with_role:
            denied = explain.denied(shown, self.isolation.reach, self.isolation.wider)
        return denied or (explain.unmigrated(shown) if self.migrate else "")

    def settings(self, alias: str, worker: str) -> dict[str, Any]:
        """Return the settings with which an alias connects to a worker's place."""
        place = self.place(alias, worker)
        settings = self.connection_settings(
            alias, place, role=place if alias in self._with_role else None
        )
        settings["OPTIONS"]["application_name"] = places.application_name(self.run, worker)
        return settings

    def connection_settings(
        self, alias: str, place: str, *, role: str | None = None
    ) -> dict[str, Any]:
        """Return the settings with which an alias connects to a place of ours.

        Args:
            alias: an alias of ``DATABASES``.
            place: the name of the place.
            role: the role by which to log in; by default that of the project.
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
            **self.isolation.connection_settings(
                self._databases[alias], place, {**kept, **server.options}
            ),
        }

    def place(self, alias: str, worker: str) -> str:
        """Return the place of an alias; mirrors and aliases of the same database share one."""
        if (alias, worker) not in self._places:  # cached, as it is called after each test
            name = names.schema(self.run, worker, self._primary(alias))
            self._places[alias, worker] = name
        return self._places[alias, worker]

    def reset(self, alias: str) -> bool | None:
        """Reset the place of an alias to the result of its migrations.

        Returns:
            Whether there was any change to take back; None if the place is not ours.
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

    def is_still_reset(self, alias: str) -> bool:
        """Return whether the place of an alias is ours, and was not reset since the test began.

        Even if the test's class does not reset it, ``take_back()`` does after the test.
        """
        return alias in self._aliases() - self._reset

    def keep_sessions(self) -> None:
        """Close this thread's connections, and keep their sessions for the next test."""
        for connection in connections.all(initialized_only=True):
            if self.keep_session(connection):
                connection.close()

    def keep_session(self, connection: BaseDatabaseWrapper) -> bool:
        """Close the driver's connection of one of Django's, and keep its session for the next.

        Returns:
            Whether the session can go on; where it cannot, nothing is changed.
        """
        session = self.take_session(connection)
        if session is not None:
            kept.give(connection, session)
        return session is not None

    def take_session(self, connection: BaseDatabaseWrapper) -> Session | None:
        """Take the session of a connection, whose driver's connection is closed by that.

        Returns:
            The session, for another connection; None where it cannot go on. Then nothing is
            changed.
        """
        home = self._databases.get(connection.alias)
        if home is None or home in self._sights:  # it says what it has written there when it ends
            return None
        return kept.take(connection)

    def give_session(self, connection: BaseDatabaseWrapper, session: Session) -> None:
        """Let a closed connection have a session when it connects."""
        kept.give(connection, session)

    def renew_sequences(self, alias: str, *, always: bool = False) -> None:
        """Set the sequences of an alias back that rolled-back tests have advanced.

        Args:
            alias: an alias of ``DATABASES``; nothing happens if it is not ours.
            always: whether to look although no such test has ended since the last reset.
        """
        if alias in self._databases and (always or alias in self._moved):
            self._moved.discard(alias)
            self._reset_of(alias, self.worker).renew_sequences()

    def begin(self) -> None:
        """Note once that no test and no set-up has begun in this process."""
        for reset in self._resets_of(self._aliases()):
            if not reset.has_begun:
                reset.begin()

    def prepare(self, alias: str) -> None:
        """Read the plan of the reset, before a test that commits can change the structure."""
        if alias in self._databases:
            self._reset_of(alias, self.worker).prepare()

    def pass_over_from(self, aliases: Iterable[str]) -> None:
        """Leave transactions between now and ``pass_over`` out of the next level."""
        for reset in self._resets_of(self._databases.keys() & set(aliases)):
            reset.pass_over_from()

    def pass_over(self, aliases: Iterable[str]) -> None:
        """End the part since ``pass_over_from``: Django's rows for the first test of a class."""
        for reset in self._resets_of(self._databases.keys() & set(aliases)):
            reset.pass_over()

    def add_levels(self) -> list[tuple[Reset, RowLevel]]:
        """Let later tests begin with the rows that were committed since the last test or check.

        Returns:
            The resets with their new levels, which ``end_level`` ends; none if nothing was
            committed.
        """
        added = [(reset, reset.add_level(look)) for reset, look in self._looks(self._aliases())]
        return [(reset, level) for reset, level in added if level is not None]

    def end_class(self) -> None:
        """Take back the changes that were left because a class of tests held locks."""
        for reset in self._resets.values():
            try:
                reset.end_class()
            except driver.Error:
                reset.close()  # the next one begins anew

    def take_back(self) -> tuple[list[str], list[str]]:
        """Take back what sessions have committed during a test that was rolled back.

        Returns:
            The names of the tables that were written to, and texts about who has opened sessions
            that Django does not roll back. Both are empty if nothing was committed.
        """
        tables: list[str] = []
        openers: list[str] = []
        try:
            for reset, look in self._looks(self._aliases() - self._reset):
                if found := reset.take_back(look):
                    tables += found
                    openers += self.sessions.others(reset.sessions())
        except driver.Error:
            for reset in self._resets.values():
                reset.close()  # the next one begins anew
        return tables, list(dict.fromkeys(openers))

    def differences(self) -> list[TableDifference]:
        """Return the rows that the running test has added, changed or removed and committed."""
        resets = self._resets_of(self._aliases())
        try:
            return [found for reset in resets for found in reset.differences()]
        except driver.Error:
            for reset in resets:
                reset.close()  # the next one begins anew
            return []

    def altered(self) -> list[tuple[str, str]]:
        """Return and forget how tests have altered the structure, and what was done about it."""
        altered, self._altered = self._altered, []
        return altered

    def begin_test(self, test: str) -> None:
        """Begin a test, by its name; note the contents of foreign databases before the first."""
        self.sessions.begin_test(test)
        self._reset.clear()
        for home in set(self._databases.values()) - self._homes:
            self._homes.add(home)
            if self.isolation.is_foreign(home):
                self._sights[home] = Sight(connect(home, application="itkit outside"))

    def end_test(self) -> None:
        """Note which databases the test has left to a rollback."""
        self._moved |= self._databases.keys() - self._reset

    def _look_outside(self, home: str) -> None:
        """Check that a test has not written outside of itkit's schemas in a foreign database.

        Raises:
            EscapeError: the test has written outside.
        """
        sight = self._sights.get(home)
        if sight is not None and (found := sight.changes()):
            for alias in self._databases:
                # The error keeps Django from closing it, and the next test would get its
                # search_path.
                connections[alias].close()
            raise EscapeError(outside.explained(_WRITER, sight.connection, found))

    def _flush_counters(self, alias: str) -> None:
        """Let the session of the test report how many rows it has written to which tables."""
        raw = connections[alias].connection
        if raw is not None and self._databases[alias] in self._sights:
            with suppress(driver.Error):  # a session has reported it when it ended
                outside.flush_counters(Connection(raw))

    def restore(self, alias: str, worker: str, own: Connection) -> None:
        """Reset the whole place of a worker, which is not in use any more.

        Args:
            alias: an alias of ``DATABASES``.
            worker: the id of the worker.
            own: one of our own connections to the database of the alias.
        """
        reset = self._reset_of(alias, worker, own)
        reset.forget()
        reset.run()
        self.close_reset(alias, worker)

    def close_reset(self, alias: str, worker: str) -> None:
        """Close the reset of a place, as the place is given back."""
        reset = self._resets.pop(self.place(alias, worker), None)
        if reset is not None:
            reset.close()

    def own_connection(self, alias: str) -> Connection:
        """Connect to the database of an alias, with a connection of our own."""
        return connect(self._databases[alias], application=f"itkit setup {self.run}")

    @contextmanager
    def set_up_connection(self, alias: str) -> Iterator[Connection]:
        """Connect for a block that runs before or after all tests, in the main thread.

        The process that has started the run uses the open connection of the run. It has read the
        catalogue already, which takes time in each new session.
        """
        keeper: Connection | None = None
        if self._first is not None and os.getpid() == self._process:
            keeper = self._first.keeper(self._databases[alias])
        with self.own_connection(alias) if keeper is None else nullcontext(keeper) as own:
            yield own

    def in_background(self, job: Callable[[], object]) -> None:
        """Run a job that needs none of Django's connections while the runner continues."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="itkit-clone")
        self._jobs.append(self._threads.submit(job))

    def finish_jobs(self) -> None:
        """Wait for the jobs in the background, and raise their first error.

        Afterwards there are no threads, so that workers can be forked.
        """
        threads, self._threads = self._threads, None
        jobs, self._jobs = self._jobs, []
        if threads is not None:
            threads.shutdown()
        for job in jobs:
            job.result()

    def original_signature(self, alias: str) -> tuple[Any, ...]:
        """Return the signature of the database of this alias before it was routed."""
        settings = self._original[alias]
        test_name = settings["TEST"]["NAME"] or f"test_{settings['NAME']}"
        return (settings["HOST"], settings["PORT"], settings["ENGINE"], test_name)

    def _reset_of(self, alias: str, worker: str, own: Connection | None = None) -> Reset:
        place = self.place(alias, worker)
        if place not in self._resets:
            self._resets[place] = self.isolation.reset(
                self._databases[alias],
                place,
                self._initial_rows_of(alias, place, own),
                application=places.application_name(self.run, worker),
                sessions=self.sessions,
                renew=partial(self._renew, alias, worker),
                note=lambda what, done: self._altered.append((what, done)),
                store=partial(self._store, alias, worker),
            )
        return self._resets[place]

    def _resets_of(self, aliases: Iterable[str]) -> list[Reset]:
        """Return the resets of the places of aliases, each once."""
        return list(dict.fromkeys(self._reset_of(alias, self.worker) for alias in sorted(aliases)))

    def _looks(self, aliases: Iterable[str]) -> list[tuple[Reset, Callable[[], Look]]]:
        """Return the resets of the places of aliases, with one look at the server for them all."""
        resets = self._resets_of(aliases)
        if len(resets) < 2:  # as in most projects, after each test
            return [(reset, reset.look) for reset in resets]
        look = cache(resets[0].look)
        return [(reset, look) for reset in resets]

    def _aliases(self) -> set[str]:
        """Return the aliases whose test databases exist."""
        if self._held or not self.is_clone:
            return self._held & self._databases.keys()
        if self._set_up is None:  # this process was spawned by the one that has created them
            self._set_up = set(filter(self._exists, self._databases))
        return self._set_up

    def _store(self, alias: str, worker: str) -> str:
        """Return a schema of the run, beside a worker's, for rows that several tests share."""
        name = names.twin_schema(self.place(alias, worker))
        with self.own_connection(alias) as own:
            places = self.isolation.places(own)
            if name not in places.described():
                places.create(name, self.run)
        return name

    def _exists(self, alias: str) -> bool:
        with self.own_connection(alias) as own:
            place = self.place(alias, self.worker)
            return self.isolation.places(own).registration(place) is not None

    def _renew(self, alias: str, worker: str) -> bool:
        """Make the place of a worker anew; return False if this is not possible."""
        place = self.place(alias, worker)
        for other in self._databases:
            if self.place(other, worker) == place:
                routed.close(connections[other])
        with self.own_connection(alias) as own:
            self.isolation.places(own).end_sessions(self.run, worker)
            return self.isolation.renew(own, self.run, place)

    def _initial_rows_of(self, alias: str, place: str, own: Connection | None) -> str:
        """Return the place with the initial rows; a spawned worker reads it from the registry."""
        with self.own_connection(alias) if own is None else nullcontext(own) as connection:
            found = self.isolation.places(connection).registration(place)
        template = found.template if found is not None else None
        return template or names.initial_rows_schema(place)

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
