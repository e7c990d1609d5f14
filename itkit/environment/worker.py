"""The one conductor: worker and test scopes over the parts, and the run that they belong to.

A run is one command. A worker is one process, which has its own schema and prefix. A test has its
own generation of the prefix and its own state of the fakes. The runner and the pytest plugin are
two doors to the functions below. All that they share is in ``current()``, which is global to the
process and no ContextVar, as threads and live servers must see it.

Test modules and Django's ``flush`` import this module with and without ``--integration``, so the
parts that load psycopg and redis are imported by the functions that use them.

Each thing that is acquired is pushed on a stack at once. The stack releases in the reverse order,
and a release that fails does not stop the others.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from itkit import conf
from itkit.backends.registry import Registry, calls_of, shared_classes
from itkit.backends.relay import Relay
from itkit.core import caches, seed
from itkit.core.handshake import Invitation, Payload
from itkit.core.urls import redact
from itkit.data import TestDataManager, close_ledger, follow, take_left
from itkit.environment import (
    afterwards,
    cases,
    child,
    files,
    forking,
    keeping,
    leaving,
    running,
    verdict,
)
from itkit.environment.bisection.orders import Order
from itkit.environment.reporting import coverage, messages, notes, pages
from itkit.environment.reporting.notes import Notes
from itkit.exceptions import (
    ItkitError,
    ServiceUnavailableError,
    printable,
)
from itkit.network import guarding
from itkit.observation import assertions, canaries, effects, swallowed
from itkit.timeline import core, sql, threads, transactions
from itkit.timeline.failure_channel import FailureChannel

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from itkit import postgres, redis, report
    from itkit.environment.run import Run
    from itkit.postgres.reset.levels import RowLevel
    from itkit.postgres.reset.reset import Reset
    from itkit.services import Services

_PROBE_SECONDS = 2.0
_WORTH_TELLING_SECONDS = 2.0


class Environment:
    """The worker and test scopes: this process attached to a run.

    Attributes:
        backends: the project's external backends, swapped for recording fakes.
        account: keeps which tests were found, and which have begun.
        notes: the notes that are printed at the end of the run.
        worker: id of this worker.
        notices: the warnings of the system checks, in the process that has started the run.
        leaving: how the process that has started the run may end.
        order: the tests that have run in this process.
        keeper: stops the run at a test, where an option asks for that; None otherwise.
        variation: the run of a swept test that is under way.
        unwritten: the page of the first failed variation, which is not written; the sweep writes
            one page for all variations.
    """

    def __init__(self, payload: Payload, worker: str, *, run: "Run | None" = None) -> None:
        from itkit import postgres

        self.payload = payload
        self.worker = worker
        self.backends = Registry.from_settings()
        self.notes = Notes()
        self.account = swallowed.Account()
        self.process = os.getpid()
        self.notices: list[str] = []
        self.leaving = leaving.Leaving()
        self.keeper: keeping.Keeper | None = None
        self.variation: verdict.Varied | None = None
        self.unwritten: report.Trace | None = None
        self._run = run
        self._releases = ExitStack()
        self._originals = ExitStack()
        self._routing = postgres.Routing(
            payload.databases,
            run=payload.run,
            worker=worker,
            owned=payload.databases_owned,
            migrate=payload.migrate,
            secret=payload.databases_secret,
            snapshot=payload.snapshot,
        )
        self._routing.note_unrepeatable = self._note_unrepeatable
        self._files = files.Files(payload.files, worker)
        self._cached: list[caches.Contents] = []  # what several tests share
        shared = conf.get().redis.shared_aliases
        self._lasting = caches.names_in_memory(
            alias for alias in caches.in_memory() if alias in shared
        )
        self._of_own_kinds = [alias for alias in caches.of_own_kinds() if alias not in shared]
        self._door = afterwards.Door(self._routing.is_held)
        self._guard: guarding.NetworkGuard | None = None
        self._shutting = ExitStack()
        self._is_shut = False
        self._relay: Relay | None = None
        self._announcement = running.Announcement(worker)
        self._forked = FailureChannel()
        self._redis_server: Services | None = None  # of this worker alone
        self._pages = pages.Pages(payload.report, of_all=payload.report_all)
        self._coverage = coverage.BoundaryCollection(payload.coverage)
        self._redis: redis.WorkerRedis  # since attach()
        self._seed = payload.seed
        self._index: int | None = None
        self._canaries = canaries.Canaries(self.contents_of_redis, self._calls)
        self._test = ""  # that has begun last
        self.order = Order(self._seed, payload.run, worker)
        follow(self._seed, seed.offset_of_shared(""))
        self._class = ""

    def attach(self) -> None:
        """Route this process to the run: its databases, its Redis, its fakes.

        Everything that belongs to the run is released when it ends. Only ``reopen()`` restores the
        process's own state.
        """
        from itkit import postgres

        child.leave()
        servers = guarding.of_run(self.payload)
        with ExitStack() as undo:
            undo.push(self._originals.__exit__)
            undo.push(self._releases.__exit__)
            self._originals.enter_context(cases.flush_kept())
            self._originals.callback(_put_sqlite_back)
            self._originals.callback(self._routing.uninstall)
            self._releases.callback(self._routing.shut)
            first = self._run.databases if self._run is not None else None
            self._routing.install(postgres.schema_creation, first)
            self._releases.callback(self._stop_redis_server)
            self._redis = self._new_isolation()
            self._originals.callback(self._uninstall_redis)
            self._releases.callback(self._release_redis)
            self._redis.install()
            if self._run is None:
                check_run(self.payload)  # the run may have been swept before this user was made
            self._releases.callback(self._release_files)
            self._originals.enter_context(self._files.installed())
            self._releases.callback(Invitation.withdraw)
            self._coverage.begin(self.backends, self.worker)
            self._originals.callback(self.backends.restore)
            self.backends.swap()
            self.backends.watch_patches()
            self._listen()
            self._releases.callback(self._withdraw)
            self._releases.callback(self._close_forked)
            self._forked.open()
            if self._run is not None:
                self._originals.enter_context(self.leaving.watched())
            self._originals.enter_context(threads.followed())
            self._originals.enter_context(sql.recorded())
            self._originals.enter_context(postgres.sessions_kept())
            self._originals.enter_context(effects.followed())
            self._originals.enter_context(self._coverage.followed())
            self._originals.enter_context(
                cases.followed(
                    self.begin_committing_class,
                    self._routing.pass_over,
                    self._routing.keep_sessions,
                )
            )
            self._guard = self._originals.enter_context(guarding.guarded(servers))
            undo.pop_all()

    def shut(self) -> list[afterwards.Late]:
        """Refuse connections from now on, as the tests are over; return what outlives them.

        This thread may still tidy up: destroy the test databases, and end fixtures. A second call
        does nothing.
        """
        if self._is_shut or self._guard is None:
            return []
        self._is_shut = True
        self._originals.push(self._shutting.__exit__)
        self._shutting.enter_context(self._door.shut(self._guard))
        return self._door.wait()

    def _open(self) -> None:
        """Allow connections again, for a runner that has more tests although it has ended some."""
        self._is_shut = False
        self._shutting.close()

    def detach(self) -> None:
        """Release what this process has of the run; in the main process the run ends as well."""
        self._door.lock()
        with ExitStack() as releases:
            if self._run is not None:
                releases.callback(self._run.stop)
                releases.callback(self._pages.finish)
            releases.callback(self._releases.close)

    def give_back(self) -> None:
        """Restore the state that the process had before."""
        self._originals.close()

    def enter_worker(self, worker: str) -> None:
        """Become a forked or spawned worker, with its own prefix; Django switches the schema."""
        self.worker = worker
        self.process = os.getpid()
        self.order = Order(self._seed, self.payload.run, worker)
        self._routing.enter(worker)
        self._routing.is_clone = True
        self._redis.uninstall()
        self._stop_redis_server()  # does nothing if it is the server of the parent
        self._redis = self._new_isolation()
        self._redis.install()
        self._files.worker = worker
        if self._relay is not None:
            self._relay.close()  # it has the fakes' state of the parent
        self._listen()
        self._announcement.withdraw()  # closes the file, which the parent has as well
        self._announcement = running.Announcement(worker)
        self._forked.close()
        self._forked = FailureChannel()
        self._forked.open()
        forking.end_with_parent()

    def continue_in_child(self) -> None:
        """Let a process that was just forked open connections of its own, and report its errors."""
        forking.forget(self._routing, self._forked)
        if self._relay is not None and self._relay.continue_in_child():
            Invitation.move_relay(self._relay.address)

    def expect_child(self) -> None:
        """Listen to a process that was just forked."""
        self._forked.expect()

    def finish_databases(self) -> None:
        """Wait until the databases of all workers are there."""
        self._routing.finish_jobs()

    def _note_unrepeatable(self, where: str, what: str, by: str) -> None:
        self.notes.add(notes.Note(notes.UNREPEATABLE, where, what, by))

    def describe_migrations(self) -> str:
        """Return how long this process has migrated; an empty text if it took only a moment."""
        migrated = self._routing.migrated
        if sum(migrated.values()) < _WORTH_TELLING_SECONDS:
            return ""
        each = ", ".join(f"{alias} in {seconds:.1f} s" for alias, seconds in migrated.items())
        return f"itkit: migrated {each}"

    @property
    def has_databases(self) -> bool:
        """Whether the runner has set up all databases; true where the project has none."""
        return self._routing.is_set_up

    @property
    def is_in_test(self) -> bool:
        """Whether the scope of a test has begun and not ended."""
        return bool(core.current().test) and not self._is_shut

    def begin_module(self) -> None:
        """Remove the rows and keys of the previous class, before the set-up of a module."""
        self._routing.begin()  # a worker of Django's has run nothing before
        self._routing.end_class()
        if conf.get().redis.scope == "test":
            self._forget_keys()

    def _forget_keys(self) -> None:
        self._redis.new_generation()
        caches.clear(self._lasting, self._of_own_kinds)

    def begin_class(self, name: str) -> None:
        """Give the tests of the next class the values that they share."""
        if self._is_shut:
            self._open()
        if name == self._class:  # unittest calls this before each test
            return
        if conf.get().redis.scope != "worker":
            self._forget_keys()
        self._class = name
        self._routing.end_class()
        self._begin_values(name)
        self._invite()

    def begin_test(self, test: str, index: int | None = None) -> None:
        """Give the next test a Redis without keys, fakes without memory, and values of its own.

        Args:
            test: the name of the test.
            index: the position of the test among the selected ones, in the order of their names.
        """
        if self._is_shut:
            self._open()
        self._test = test
        self._routing.begin_test(test)
        self._index = index
        if not self._has_fault:  # a variation is the same test once more
            self.order.begin(test, index)
        self._begin_values(test, index)
        if conf.get().redis.scope == "test":
            self._forget_keys()
            for cached in self._cached:
                caches.put(cached)
        self._files.clear()
        self._invite()
        self.backends.reset()
        self.backends.accept_patches()
        self._pages.forget_state()
        core.new_timeline(test).is_disturbed = self._has_fault

    def _begin_values(self, name: str, index: int | None = None) -> None:
        """Start the random and unique values of a test, or of a set-up that several tests share."""
        if index is None:
            offset, sequence = seed.offset_of_shared(name), seed.sequence_of_shared(name)
        else:
            offset, sequence = seed.offset_of_test(index), seed.sequence_of_test(index)
        follow(self._seed, offset)
        seed.reseed(self._seed, name)
        if conf.get().data.sequences == "test" or self.variation is not None:
            seed.start_sequences(sequence)

    def end_test(self) -> None:
        """End the running test; the answers that it has programmed end with it."""
        self._coverage.add(core.current(), self.worker)
        self.backends.remove_patches()  # again, as check_test does not run if a fixture fails
        self.backends.reset()
        core.new_timeline()
        self._routing.end_test()

    def after_test(self, where: Callable[[], tuple[str, int]]) -> None:
        """Take back what the test has committed outside of the transaction that was rolled back.

        Args:
            where: returns the path of the test's file, and the line at which the test begins.

        Warns:
            RuntimeWarning: the test has committed something; the message names the tables, and the
                code that has opened sessions.
        """
        if self.process != os.getpid() or self._is_shut:
            return
        left = take_left()
        tables, openers = self._routing.take_back()
        if tables:
            self._forget_rows_of_test()
        if tables := [table for table in tables if table not in left]:
            test = self._test
            if not any(f"during {test}" in opener for opener in openers):
                openers.append(messages.NOT_OF_DJANGO)
            message = messages.committed(test, tables, openers)
            warnings.warn_explicit(message, RuntimeWarning, *where())

    def add_levels(self) -> list[Callable[[], None]]:
        """Keep the rows and keys that were made since the last test, for the tests that follow.

        Returns:
            Functions that end the levels. Call them in reverse order when the set-up's scope ends.
        """
        added: list[Callable[[], None]] = []
        if self.process != os.getpid() or self._is_shut:
            return added
        for reset, level in self._routing.add_levels():
            added.append(partial(self._end_level, reset, level))
        if conf.get().redis.scope != "test":
            return added
        if (keys := self._redis.add_level()) is not None:
            added.append(partial(self._redis.end_level, keys))
        if cached := caches.contents(self._lasting):
            self._cached.append(cached)
            added.append(partial(self._cached.remove, cached))
        return added

    def end_levels(self, added: list[Callable[[], None]]) -> None:
        """Take back the rows and keys that a fixture, class or module has added, at its end."""
        while added:
            end = added.pop()
            if self.process == os.getpid() and not self._is_shut:
                end()

    def _end_level(self, reset: "Reset", level: "RowLevel") -> None:
        reset.end_level(level)
        self._forget_rows_of_test()

    def _forget_rows_of_test(self) -> None:
        with core.between_tests():
            caches.forget_rows()

    def begin_committing_class(self, aliases: Iterable[str]) -> None:
        """Reset the sequences to the values after the migrations, for a class of tests that commit.

        Args:
            aliases: the aliases of the databases that its tests use.
        """
        for alias in aliases:
            self._routing.prepare(alias)
            self._routing.renew_sequences(alias)
        self._routing.pass_over_from(aliases)

    def check_calls(self, sources: frozenset[str], *, has_passed: bool = True) -> None:
        """Check that the backends were called as the running test requires, as ``verdict`` says.

        Args:
            sources: paths of the files that the test is written in.
            has_passed: whether the test has passed until now.
        """
        self._canaries.look()
        verdict.check_calls(
            backends=self.backends,
            noted=self.notes,
            variation=self.variation,
            sources=sources,
            has_passed=has_passed,
        )

    def check_test(self, sources: frozenset[str]) -> None:
        """Check what the running test has left, its clean-up included, as ``verdict`` says.

        Args:
            sources: paths of the files that the test is written in.
        """
        verdict.check_test(
            self._test,
            backends=self.backends,
            isolation=self._redis,
            noted=self.notes,
            variation=self.variation,
            sources=sources,
        )

    @property
    def _has_fault(self) -> bool:
        return verdict.is_faulty(self.variation)

    def contents_of_redis(self) -> list[tuple[str, str]]:
        """Return the name and the value of each key that the test has in Redis.

        Keys with a TTL are marked; the TTL itself depends on the clock and is left out.
        """
        return [
            (
                key.name.decode(errors="replace"),
                f"{value}{', expires' if key.ttl is not None else ''}",
            )
            for key, value in self._redis.read_keys()
        ]

    def _calls(self) -> dict[str, list[str]]:
        return calls_of(self.backends)

    def keep_session(self, connection: "BaseDatabaseWrapper") -> bool:
        """Close the driver's connection of one of Django's, and keep its session for the next.

        Returns:
            Whether the session can go on; where it cannot, nothing is changed.
        """
        return self._routing.keep_session(connection)

    def take_session(self, connection: "BaseDatabaseWrapper") -> "postgres.Session | None":
        """Take the session of a connection, whose driver's connection is closed by that.

        Returns:
            The session, for ``give_session``; None where it cannot go on. Then nothing is changed.
        """
        return self._routing.take_session(connection)

    def give_session(self, connection: "BaseDatabaseWrapper", session: "postgres.Session") -> None:
        """Let a closed connection have a session when it connects."""
        self._routing.give_session(connection, session)

    def drop_connections(self) -> None:
        """Close all connections to Redis, as after the simulated crash of a process."""
        self._redis.drop_connections()

    def reset_database(self, alias: str, *, tells_receivers: bool = True) -> bool:
        """Undo what committed tests did to a database; False if it is not one of ours.

        Args:
            alias: an alias of ``DATABASES``.
            tells_receivers: whether to call the project's receivers of ``post_migrate`` if rows
                were taken back.
        """
        close_ledger(alias)  # a ledger of a manager that was not cleaned up
        transactions.check_left_open(self._test)
        has_changed = self._routing.reset(alias)
        for what, done in self._routing.altered():
            test = self._test
            self.notes.add(notes.Note(notes.ALTERED, what, done, test))
        if has_changed:
            self._forget_rows(alias, tells_receivers=tells_receivers)
        return has_changed is not None

    def _forget_rows(self, alias: str, *, tells_receivers: bool) -> None:
        """Empty the caches in which this process keeps rows that were taken back."""
        with core.between_tests():
            caches.forget_rows()
            if tells_receivers and caches.tell_receivers(alias):
                self._routing.renew_sequences(alias, always=True)

    def new_data_manager(self, *, commits: bool = False) -> TestDataManager:
        """Return a manager whose unique values differ from those of all other tests of the run.

        All managers of one test share a counter.

        Args:
            commits: whether it is the manager of a test that Django resets the databases after.
        """
        return TestDataManager(
            leaks=conf.get().data.leaks,
            snapshots=_snapshots,
            watch=self._canaries,
            is_reset=self._is_still_reset if commits else None,
        )

    def _is_still_reset(self, alias: str) -> bool:
        """Return whether the database of an alias is yet to be reset after the running test."""
        return (
            self.process == os.getpid() and self.is_in_test and self._routing.is_still_reset(alias)
        )

    def advice(self, shown: str) -> str:
        """Return advice about what the server has denied or lacks, for an error outside of a test.

        Args:
            shown: the text that is printed already.
        """
        return printable(self._routing.explained(shown))

    def explained(self, shown: str, command: str, story: core.Timeline) -> str:
        """Return advice about a failure, and how to repeat the test.

        It includes what the server has denied the test, and the timeline. The order of the tests
        until now is kept for ``--itkit-bisect``.

        Args:
            shown: the text that is printed already.
            command: the command that runs the test, without options.
            story: the timeline of the test.
        """
        repeat = f"to repeat it: {self._repeating(command)}"
        if not self._has_fault and (before := self.order.keep()):
            repeat += messages.if_it_passes_alone(before)
        table = "" if assertions.is_shown(shown) else assertions.report(story)
        denied = self._routing.explained(shown)
        sockets = messages.blocked_sockets(shown)
        varied = self.variation.shown if self.variation is not None else ""
        parts = (denied, sockets, varied, table, repeat)
        return printable("\n".join(part for part in parts if part and part not in shown))

    def reported(
        self,
        test: str,
        error: BaseException | None,
        command: str,
        story: core.Timeline,
        sections: Sequence[tuple[str, str]] = (),
    ) -> str:
        """Write the page of a test, where a report is asked for; return a line that names it.

        Of a variation of a swept test, the first failure is kept as ``unwritten``, unless the
        command line asks for that variation alone.

        Args:
            test: its id.
            error: the error with which it has failed; None if it has passed.
            command: the command that runs the test, without options.
            story: the timeline of the test.
            sections: further texts for the page: pairs of a heading and a text.
        """
        if not self._pages.are_for(error):
            return ""
        from itkit import report

        if error is not None and core.current().test == test:
            self.look_at_state(test)
        trace = report.trace_of(
            story,
            error,
            report.redactor(),
            test=test,
            worker=self.worker,
            repeat=self._repeating(command),
            sections=sections,
            state=self._pages.state(test) if error is not None else None,
            columns=self.variation.columns if self.variation is not None else (),
        )
        if self._has_fault and not self.payload.asked_variations:
            self.unwritten = self.unwritten or trace
            return ""
        return self._pages.write(trace)

    def write_page(self, trace: "report.Trace") -> str:
        """Write a page of the report; return a line that names it."""
        return self._pages.write(trace)

    def look_at_state(self, test: str) -> None:
        """Keep for the report of a failure what the servers have now, before it is taken back.

        Args:
            test: its id.
        """
        self._pages.look(test, partial(pages.state_of, self._routing, self._redis))

    def _repeating(self, command: str) -> str:
        """Return the command that repeats the running test."""
        index = f":{self._index}" if self._index is not None else ""
        options = f"--integration --itkit-seed={self._seed}{index}"
        if self.variation is not None and self.variation.option:
            options += f" {self.variation.option}"
        return f"{command} {options}"

    def check_servers(self) -> None:
        """Check that the servers still answer, as a dead server explains a failure.

        Raises:
            ServiceUnavailableError: a server does not answer; the message has the end of one of
                ours.
        """
        from itkit import postgres, redis

        if self._run is not None:
            self._run.check()
        if self._redis_server is not None:
            self._redis_server.check()
        database = next(iter(self.payload.databases.values()), None)
        for kind, url, probe in (
            ("Postgres", database, postgres.probe),
            ("Redis", self.payload.redis, redis.probe),
        ):
            if url is not None:
                _probe(kind, url, probe)

    def check_outside(self) -> None:
        """Check, at the end of a run, that it has written to no other data than that of the tests.

        Raises:
            EscapeError: the run has written into a database that is not itkit's own.
        """
        if self._run is not None:
            self._run.check_outside()

    def boundary_coverage(self, minimum: float | None) -> tuple[list[str], bool]:
        """Return the boundary coverage at the end of a run.

        Args:
            minimum: the percentage that is required, if any.

        Returns:
            The lines to be printed, and whether it is less than required.
        """
        if self._run is None or self.process != os.getpid():
            return [], False
        return self._coverage.result(minimum)

    def _invite(self) -> None:
        """Let processes that are started from now on join the tests of this one."""
        Invitation(
            worker=self.worker,
            process=os.getpid(),
            generation=self._redis.generation,
            generations=self._redis.generations,
            redis=self._redis.own_url,
            relay=self._relay.address if self._relay is not None else None,
        ).export()
        self._announcement.publish()

    def _listen(self) -> None:
        """Answer the calls of backends in processes that tests start."""
        fakes = self.backends.fakes()
        if fakes:
            self._relay = Relay(fakes, shared_classes(self.backends))
            self._releases.enter_context(self._relay.listening())

    def _withdraw(self) -> None:
        self._announcement.withdraw()

    def _close_forked(self) -> None:
        self._forked.close()

    def _release_files(self) -> None:
        self._files.refuse = self._door.refuse
        self._files.clear()

    def _stop_redis_server(self) -> None:
        if self._redis_server is not None:
            self._redis_server.stop()

    def _release_redis(self) -> None:
        with ExitStack() as releases:
            releases.callback(self._redis.shut, self._door.refuse)
            if not self.payload.redis_owned:
                self._redis.clear()

    def _uninstall_redis(self) -> None:
        self._redis.uninstall()

    def _new_isolation(self) -> "redis.WorkerRedis":
        from itkit import redis

        if self.payload.redis_per_worker:
            from itkit.environment.run import start_worker_redis

            self._redis_server, url = start_worker_redis()
            return redis.OwnServer(url, project=self.payload.redis_project)
        return redis.PrefixIsolation(
            server=self.payload.redis,
            run=self.payload.run,
            worker=self.worker,
            owned=self.payload.redis_owned,
            project=self.payload.redis_project,
            secret=self.payload.redis_secret,
        )


def _put_sqlite_back() -> None:
    from itkit import postgres

    postgres.put_sqlite_back()


def _snapshots() -> Path | None:
    from itkit import services

    return services.folder(conf.get().cache_dir, "scenarios")


def check_run(payload: Payload) -> None:
    """Check that the run still exists, so that it will remove what this worker makes."""
    from itkit import redis

    if payload.redis is None or payload.redis_owned:
        return
    if not redis.is_registered(payload.redis, payload.run):
        redis.revoke(payload.redis, payload.run)
        raise ItkitError(f"The run {payload.run}, whose worker this was to be, has ended.")


def _probe(kind: str, url: str, probe: Callable[[str, float], str]) -> None:
    try:
        probe(url, _PROBE_SECONDS)
    except RuntimeError:
        return  # not an error of the server: something refuses sockets, such as pytest-socket
    except Exception as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ServiceUnavailableError(
            f"{kind} at {redact(url)} does not answer any more: {redact(reason)}"
        ) from error
