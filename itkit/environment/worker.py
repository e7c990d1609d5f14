"""The one conductor: worker and test scopes over the parts, and the run that they belong to.

A run is one command, a worker one process with a schema and a prefix of its own, a test one
generation of prefix and one state of the fakes. The runner and the pytest plugin are two doors to
the functions below; all that they share is in the process-global ``current()``: threads and live
servers must see it, so it is no ContextVar.

Test modules and Django's ``flush`` import this module with and without ``--integration``, so the
parts that load psycopg and redis are imported by the functions that use them.

What is acquired is pushed on a stack at once and released in the reverse order, where one failing
release does not stop the rest.
"""

import multiprocessing
import os
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from django.core import checks
from django.core.management import get_commands
from django.core.signals import setting_changed
from django.db import connections

from itkit import conf
from itkit.backends import resolve
from itkit.backends.registry import Registry, shared_classes
from itkit.backends.relay import Relay
from itkit.core import caches, names, processes, seed
from itkit.core.handshake import Invitation, Payload
from itkit.core.text import listed
from itkit.core.urls import redact
from itkit.data import TestDataManager, close_ledger, follow, take_left
from itkit.environment import afterwards, cases, child, files, keeping, leaving, notes, running
from itkit.environment.notes import Notes
from itkit.environment.orders import Order
from itkit.exceptions import (
    ConfigurationError,
    EffectError,
    EscapeError,
    ItkitError,
    LeakedKeysError,
    LeakedPatchError,
    ServiceUnavailableError,
    UnusedAnswerError,
)
from itkit.network import earlier, guarding
from itkit.observation import assertions, canaries, effects, swallowed
from itkit.timeline import core, sql, threads, transactions
from itkit.timeline.forked import Channel

if TYPE_CHECKING:
    from itkit import redis, report
    from itkit.backends import outcomes
    from itkit.environment.run import Run
    from itkit.postgres.reset.levels import RowLevel
    from itkit.postgres.reset.reset import Reset
    from itkit.services import Services

_PROBE_SECONDS = 2.0
_MOST_KEYS = 50  # of the page of a failure, and of elements of a value
_WORTH_TELLING_SECONDS = 2.0
_DENIED = (
    "The test, or code that an earlier one has left running, has used names or commands in"
    " Redis that are not its own, and the server has denied them:\n{}\n"
    "The names that a test may use begin with {}. All that redis-py sends and Lua scripts do gets"
    " that prefix; code that bypasses them, such as a library of functions, has to add it. A"
    ' command that may do more can be named in ITKIT["REDIS"]["ALLOW_COMMANDS"].'
)
_LEFT = (
    "{} has left keys in Redis:\n{}\nRemove them, give them a TTL in the code under test, or set"
    ' ITKIT["REDIS"]["LEAKS"] to "off": the next test does not see them.'
)
_PATCHED = (
    "{} has left something in the place of a fake; it would have answered in all tests after this"
    " one, so itkit has taken it away:\n{}"
)


_EFFECTS = (
    "Something has left the process while a transaction was open, and would have stayed after a"
    " rollback:\n{}\n"
    'A backend that is meant to be called there has "IN_TRANSACTION": "allow" in its entry of'
    ' ITKIT["BACKENDS"].'
)
_COMMITTED = (
    "{} has committed changes to {}, although what it does is rolled back at its end. itkit has"
    " taken them back, so that no later test meets them. The sessions that can have done it:\n{}\n"
    "Write by Django's connection of the main thread in such a test, or let it commit for real: as"
    " an itkit.test.IntegrationTestCase, or a pytest function with the marker integration."
)
_NOT_OF_DJANGO = "not opened by Django: one of a client of its own, or of another process"
_UNUSED = (
    "The test has programmed answers that no call has used:\n{}\n"
    'Remove them, or have the code under test call the backend. ITKIT["UNUSED"] = "warn"'
    " reports them at the end of the run only."
)

_NO_SOCKET = re.compile(r"SocketBlockedError|SocketConnectBlockedError|tried to use socket\.socket")
_SOCKETS = (
    "pytest-socket has refused this. itkit's own servers are reached by sockets of this machine:"
    " --allow-unix-socket, and with live servers or a server of your own"
    " --allow-hosts=127.0.0.1,::1,localhost. itkit itself refuses connections that leave the"
    " machine."
)
_IF_IT_PASSES = (
    "\nif it passes alone: the same with --itkit-bisect, which finds what has to run before it"
    " ({} test{} did)"
)
_EARLIER = "a connection that was open before the tests was shut: {}"


class Varied(Protocol):
    """One run of a swept test, as a scope knows it: ``itkit.sweep`` has its kinds.

    Attributes:
        option: the option of the command line that repeats the variation.
    """

    option: str

    @property
    def columns(self) -> Sequence[Sequence[str]]:
        """For acts at once their names, and then their crossings, each in the column of its act."""

    @property
    def shown(self) -> str:
        """What explains its failure, beside the timeline; nothing where there is no more."""

    @property
    def has_fault(self) -> bool:
        """Whether it is another run than the first, so that what the test asks may not happen."""

    def check(self) -> None:
        """Check that the fault or schedule has happened, and has left what it may."""


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
        unwritten: what the page of the last variation that has failed would show; its sweep writes
            one page of them all.
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
        self.variation: Varied | None = None
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
        shared = conf.get().redis.shared_aliases
        self._cached: list[caches.Contents] = []  # what several tests share
        self._in_memory = [alias for alias in caches.in_memory() if alias not in shared]
        self._door = afterwards.Door(self._routing.is_held)
        self._guard: guarding.NetworkGuard | None = None
        self._shutting = ExitStack()
        self._is_shut = False
        self._relay: Relay | None = None
        self._announcement = running.Announcement(worker)
        self._forked = Channel()
        self._redis_server: Services | None = None  # of this worker alone
        self._looked_at = ""  # the test whose state at its failure is kept
        self._state: report.State | None = None
        self._collector: outcomes.Collector | None = None  # where the coverage is measured
        self._redis: redis.WorkerRedis  # since attach()
        self._seed = payload.seed
        self._index: int | None = None
        self._canaries = canaries.Canaries(self.contents_of_redis)
        self._test = ""  # that has begun last
        self.order = Order(self._seed, payload.run, worker)
        follow(self._seed, seed.offset_of_shared(""))
        self._class = ""

    def attach(self) -> None:
        """Route this process to the run: its databases, its Redis, its fakes.

        What belongs to the run is released when it ends. What the process had of its own is put
        back by ``reopen()`` only.
        """
        from itkit import postgres

        child.leave()
        servers = guarding.of_run(self.payload)
        with ExitStack() as undo:
            undo.push(self._originals.__exit__)
            undo.push(self._releases.__exit__)
            self._keep_flush()
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
                _check_run(self.payload)  # it may have been swept before this worker had its user
            self._releases.callback(self._release_files)
            self._originals.enter_context(self._files.installed())
            self._releases.callback(Invitation.withdraw)
            self._collect()
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
            self._originals.enter_context(effects.followed())
            self._originals.enter_context(
                cases.followed(self.begin_committing_class, self._routing.pass_over)
            )
            self._guard = self._originals.enter_context(guarding.guarded(servers))
            undo.pop_all()

    def shut(self) -> list[afterwards.Late]:
        """Refuse connections from now on, as the tests are over, and return what outlives them.

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
        """Open the ways out again, for a runner that has more tests although it has ended some."""
        self._is_shut = False
        self._shutting.close()

    def detach(self) -> None:
        """End what this process has of the run; in the main process the run ends as well."""
        self._door.lock()
        with ExitStack() as releases:
            if self._run is not None:
                releases.callback(self._run.stop)
                releases.callback(self._finish_report)
            releases.callback(self._releases.close)

    def give_back(self) -> None:
        """Give the process back what it had before."""
        self._originals.close()

    def enter_worker(self, worker: str) -> None:
        """Become a forked or spawned worker: own prefix; Django switches the schema itself."""
        self.worker = worker
        self.process = os.getpid()
        self.order = Order(self._seed, self.payload.run, worker)
        self._routing.enter(worker)
        self._routing.is_clone = True
        self._redis.uninstall()
        self._stop_redis_server()  # does nothing where it is that of a parent
        self._redis = self._new_isolation()
        self._redis.install()
        self._files.worker = worker
        self._listen()
        self._announcement.withdraw()  # the file, which the parent's process has as well
        self._announcement = running.Announcement(worker)
        self._forked.close()
        self._forked = Channel()
        self._forked.open()
        _die_with_parent()

    def continue_in_child(self) -> None:
        """Let a process that was just forked open connections of its own, and report its errors."""
        self._routing.forget_connections()
        self._forked.use_in_child()

    def expect_child(self) -> None:
        """Listen to a process that was just forked."""
        self._forked.expect()

    def finish_databases(self) -> None:
        """Wait until the databases of all workers are there."""
        self._routing.finish_jobs()

    def _note_unrepeatable(self, where: str, what: str, by: str) -> None:
        self.notes.add(notes.Note(notes.UNREPEATABLE, where, what, by))

    def describe_migrations(self) -> str:
        """Return how long this process has migrated; nothing where that was soon over."""
        migrated = self._routing.migrated
        if sum(migrated.values()) < _WORTH_TELLING_SECONDS:
            return ""
        each = ", ".join(f"{alias} in {seconds:.1f} s" for alias, seconds in migrated.items())
        return f"itkit: migrated {each}"

    @property
    def has_databases(self) -> bool:
        """Whether a runner has set up what it is to set up: all, where the project has none."""
        return self._routing.is_set_up

    @property
    def is_in_test(self) -> bool:
        """Whether the scope of a test has begun, and not ended."""
        return bool(core.current().test) and not self._is_shut

    def begin_module(self) -> None:
        """Remove the rows and keys of the class before, ahead of the set-up of a module."""
        self._routing.begin()  # in a worker of Django's nothing has come before
        self._routing.end_class()
        if conf.get().redis.scope == "test":
            self._forget_keys()

    def _forget_keys(self) -> None:
        self._redis.new_generation()
        caches.clear(self._in_memory)

    def begin_class(self, name: str) -> None:
        """Give the tests of the next class, by its name, what they share."""
        if self._is_shut:
            self._open()
        if name == self._class:  # unittest says so before each test
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
            index: among the selected tests, in the order of their names, as ``seed`` counts.
        """
        if self._is_shut:
            self._open()
        self._test = test
        self._routing.begin_test(test)
        self._index = index
        if not self._has_fault:  # one test, though it runs again and again
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
        self._looked_at, self._state = "", None
        core.new_timeline(test).is_disturbed = self._has_fault

    def _begin_values(self, name: str, index: int | None = None) -> None:
        """Start the random and unique values of a test, or of what several tests share."""
        if index is None:
            offset, sequence = seed.offset_of_shared(name), seed.sequence_of_shared(name)
        else:
            offset, sequence = seed.offset_of_test(index), seed.sequence_of_test(index)
        follow(self._seed, offset)
        seed.reseed(self._seed, name)
        if conf.get().data.sequences == "test" or self.variation is not None:
            seed.start_sequences(sequence)

    def end_test(self) -> None:
        """End the running test: what it programmed answers nobody after it."""
        if self._collector is not None:
            self._collector.add(core.current())
            self._collector.write(self.worker)
        self.backends.remove_patches()  # again: a fixture that fails keeps check_test from running
        self.backends.reset()
        core.new_timeline()
        self._routing.end_test()

    def after_test(self) -> None:
        """Take back what the test has committed beside the transaction that was rolled back.

        Warns:
            RuntimeWarning: the test has committed something; the message says what, and who has
                opened sessions.
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
                openers.append(_NOT_OF_DJANGO)
            message = _COMMITTED.format(test, ", ".join(tables), listed(openers))
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    def add_levels(self) -> list[Callable[[], None]]:
        """Keep the rows and keys that were made since the last test for the tests that follow.

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
        if cached := caches.contents(self._in_memory):
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
        """Reset the sequences to what the migrations left, for a class of tests that commit.

        Args:
            aliases: the aliases of the databases that its tests use.
        """
        for alias in aliases:
            self._routing.prepare(alias)
            self._routing.renew_sequences(alias)
        self._routing.pass_over_from(aliases)

    def check_calls(self, sources: frozenset[str], *, has_passed: bool = True) -> None:
        """Check that the backends were called as the running test requires.

        Args:
            sources: paths of the files that the test is written in.
            has_passed: whether it has until now; what it has not used says nothing otherwise.

        Raises:
            SwallowedError: the application has swallowed an error that fails the test.
            FoundError: something else was found that does.
            CallMismatchError: a required call did not come.
            UnusedAnswerError: no call has used an answer, which the settings do not allow.
        """
        self._canaries.look()
        swallowed.check(sources)
        if self.variation is not None and has_passed:
            self.variation.check()
        if self._has_fault:
            return
        self.backends.check()
        if has_passed and conf.get().unused != "off":
            self._check_unused(core.current().test)

    def _check_unused(self, test: str) -> None:
        """Note, or raise an error for, the programmed answers that no call has used."""
        found = [
            (f"{method}.{given.text} at {given.site}", unused)
            for method, given, unused in self.backends.given()
        ]
        left = [f"  {where}: {unused}" for where, unused in found if unused]
        if left and conf.get().unused == "fail":
            raise UnusedAnswerError(_UNUSED.format("\n".join(left)))
        for where, unused in found:
            kind = notes.UNUSED if unused else notes.USED
            self.notes.add(notes.Note(kind, where, unused, test))

    def check_test(self, sources: frozenset[str]) -> None:
        """Check that the running test, its clean-up included, has touched only what is its own.

        Args:
            sources: paths of the files that the test is written in.

        Warns:
            RuntimeWarning: the test has left keys in Redis, and the settings ask for a report.

        Raises:
            SwallowedError: the application has swallowed an error that fails the test.
            FoundError: something else was found that does.
            EffectError: something has left the process while a transaction was open, which the
                settings do not allow.
            EscapeError: the test has reached further, and the server has denied it, whatever the
                application made of the error.
            LeakedKeysError: the test has left keys in Redis, which the settings do not allow.
            LeakedPatchError: the test has left something in the place of a fake or of a setting.
        """
        patches = self.backends.remove_patches()  # first: it is done whatever else is wrong
        swallowed.check(sources, is_over=True)
        if patches:
            raise LeakedPatchError(_PATCHED.format(self._test, listed(patches)))
        self._check_effects()
        for where, text in core.current().spared:
            self.notes.add(notes.Note(notes.SPARED, where, text, self._test))
        denied = self._redis.denied()
        if denied:
            raise EscapeError(_DENIED.format(listed(denied), self._redis.prefix))
        leaks = conf.get().redis.leaks
        left = self._redis.left() if leaks != "off" else []
        if left and leaks == "fail":
            raise LeakedKeysError(_LEFT.format(self._test, listed(left)))
        if left:
            message = _LEFT.format(self._test, listed(left))
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _check_effects(self) -> None:
        """Note, or raise an error for, the effects that left the process during a transaction."""
        story = core.current()
        if not story.effects or conf.get().effects == "off" or self._has_fault:
            return
        found = dict.fromkeys(effects.found(story))
        if found and conf.get().effects == "fail":
            lines = [f"  {where}: {text}" for where, text in found]
            raise EffectError(_EFFECTS.format("\n".join(lines)))
        for where, text in found:
            self.notes.add(notes.Note(notes.EFFECT, where, text, story.test))

    @property
    def _has_fault(self) -> bool:
        return self.variation is not None and self.variation.has_fault

    def contents_of_redis(self) -> list[tuple[str, str]]:
        """Return the name and the value of each key that the test has in Redis."""
        return self._redis.contents()

    def drop_connections(self) -> None:
        """Close all connections to Redis, as the process that had them is said to have died."""
        self._redis.drop_connections()

    def reset_database(self, alias: str, *, tells_receivers: bool = True) -> bool:
        """Undo what committed tests did to a database; False if it is not one of ours.

        Args:
            alias: an alias of ``DATABASES``.
            tells_receivers: whether the project's receivers of ``post_migrate`` are to be called
                where rows were taken back.
        """
        close_ledger(alias)  # that of a manager which nobody has cleaned up
        transactions.check_left_open(self._test)
        has_changed = self._routing.reset(alias)
        for what, outcome in self._routing.altered():
            test = self._test
            self.notes.add(notes.Note(notes.ALTERED, what, outcome, test))
        if has_changed:
            self._forget_rows(alias, tells_receivers=tells_receivers)
        return has_changed is not None

    def _forget_rows(self, alias: str, *, tells_receivers: bool) -> None:
        """Empty what this process has kept of rows that were taken back."""
        with core.between_tests():
            caches.forget_rows()
            if tells_receivers and caches.tell_receivers(alias):
                self._routing.renew_sequences(alias, always=True)

    def new_data_manager(self) -> TestDataManager:
        """Return a manager whose unique values meet those of no other test of the run.

        All managers of one test count on together.
        """
        return TestDataManager(
            leaks=conf.get().data.leaks, snapshots=_snapshots, watch=self._canaries
        )

    def explained(self, shown: str, command: str, story: core.Timeline) -> str:
        """Return what helps with a failure, and how to repeat the test.

        It says what the server has denied the test, and what has left the process. Which tests have
        run before it is kept.

        Args:
            shown: the text that is printed already.
            command: the command that runs the test, without options.
            story: the timeline of the test.
        """
        repeat = f"to repeat it: {self._repeating(command)}"
        if not self._has_fault and (before := self.order.keep()):
            repeat += _IF_IT_PASSES.format(before, "s" * (before > 1))
        table = "" if assertions.is_shown(shown) else assertions.report(story)
        denied = self._routing.explained(shown)
        sockets = _SOCKETS if _NO_SOCKET.search(shown) else ""
        varied = self.variation.shown if self.variation is not None else ""
        parts = (denied, sockets, varied, table, repeat)
        return "\n".join(part for part in parts if part and part not in shown)

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
            error: with which it has failed; None where it has passed.
            command: that runs the test, without options.
            story: the timeline of the test.
            sections: further texts for the page: pairs of a heading and a text.
        """
        if not self.payload.report or (error is None and not self.payload.report_all):
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
            state=self._state if error is not None and self._looked_at == test else None,
            columns=self.variation.columns if self.variation is not None else (),
        )
        if self._has_fault and not self.payload.asked_variations:
            self.unwritten = self.unwritten or trace
            return ""
        return self.write_page(trace)

    def write_page(self, trace: "report.Trace") -> str:
        """Write a page of the report; return a line that names it."""
        from itkit import report

        try:
            page = report.Folder(Path(self.payload.report)).add(trace)
        except OSError as failure:
            return f"its page could not be written: {failure}"
        return f"its page: {page.as_uri()}"

    def look_at_state(self, test: str) -> None:
        """Keep for the report of a failure what the servers have now, before it is taken back.

        Args:
            test: its id.
        """
        if self.payload.report and self._looked_at != test:
            self._looked_at, self._state = test, self._state_now()

    def _state_now(self) -> "report.State":
        """Return rows and keys, by sessions that are none of the test's."""
        from itkit import report

        try:
            keys = self._redis.values(_MOST_KEYS)
        except ServiceUnavailableError:
            keys = []
        return report.State(
            tables=[
                (found.table, found.rows, found.has_more) for found in self._routing.differences()
            ],
            keys=keys,
            is_rolled_back=any(
                connection.in_atomic_block for connection in connections.all(initialized_only=True)
            ),
        )

    def _finish_report(self) -> None:
        """Complete the index of the report, which is not written anew with each page of many."""
        if self.payload.report:
            from itkit import report

            with suppress(OSError):  # somebody has removed the directory
                report.Folder(Path(self.payload.report)).write_index()

    def _repeating(self, command: str) -> str:
        """Return the command that repeats the running test."""
        index = f":{self._index}" if self._index is not None else ""
        options = f"--integration --itkit-seed={self._seed}{index}"
        if self.variation is not None and self.variation.option:
            options += f" {self.variation.option}"
        return f"{command} {options}"

    def check_servers(self) -> None:
        """Check that the servers still answer, as a dead server is a plain reason for a failure.

        Raises:
            ServiceUnavailableError: names the server, and how it ended if it was ours.
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
        """Check, at the end of a run, that it has written into no data but that of the tests.

        Raises:
            EscapeError: the run has written into a database that is not itkit's own.
        """
        if self._run is not None:
            self._run.check_outside()

    def _collect(self) -> None:
        """Begin to collect what tests see of the boundaries, where the run asks for that."""
        if self.payload.coverage:
            from itkit.backends import outcomes

            self._collector = outcomes.Collector(self.backends, Path(self.payload.coverage))
            self._collector.write(self.worker)

    def boundary_coverage(self, minimum: float | None) -> tuple[list[str], bool]:
        """Return, at the end of a run, what its tests have seen of the boundaries.

        Args:
            minimum: the percentage that is required, if any.

        Returns:
            The lines to be printed, and whether it is less than required.
        """
        if self._collector is None or self._run is None or self.process != os.getpid():
            return [], False
        from itkit.report import coverage

        directory = Path(self.payload.coverage)
        found = coverage.collect(directory)
        lines = [*found.lines(), f"  the page: {(directory / coverage.PAGE).as_uri()}"]
        is_short = minimum is not None and found.percent < minimum
        if is_short:
            lines.append(f"itkit: boundary coverage of {found.percent} % is less than {minimum} %")
        return lines, is_short

    def _invite(self) -> None:
        """Invite the processes that are started from now on to join the tests of this one."""
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

    def _keep_flush(self) -> None:
        """Keep our ``flush`` in use by test cases whose ``available_apps`` leave itkit out."""
        import_module("django.test.signals")  # its receivers have to be connected before ours
        if get_commands().get("flush") == "itkit":
            self._originals.callback(setting_changed.disconnect, _put_flush_back)
            setting_changed.connect(_put_flush_back)

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


_current: Environment | None = None
_past: Environment | None = None
"""That of a run which is over: it knows what this process had before."""


def _after_fork() -> None:
    if _current is not None:
        _current.continue_in_child()


def _after_fork_in_parent() -> None:
    if _current is not None:
        _current.expect_child()


os.register_at_fork(after_in_child=_after_fork, after_in_parent=_after_fork_in_parent)


def current() -> Environment | None:
    """Return the environment that this process is attached to, or None without --integration."""
    return _current


def start(
    *,
    migrate: bool = True,
    rebuild: bool = False,
    seeded: str | None = None,
    reported: str | None = None,
    reports_all: bool = False,
    budgets: str = names.BUDGETS_CHECK,
    covered: bool = False,
    arguments: Sequence[str] = (),
    sweep: str = names.SWEEP_QUICK,
    fault: str | None = None,
    schedule: str | None = None,
    state: str | None = None,
) -> Environment:
    """Start a run and attach this, the main process to it; ``stop()`` ends it.

    After a run that is over, this process has what is its own again from here on.

    Args:
        migrate: whether to run migrations; False with an option such as ``--nomigrations``.
        rebuild: whether to migrate anew, although a template exists.
        seeded: the seed of the run's random values, the value of the option ``--itkit-seed``.
        reported: the directory of the report, as the option ``--itkit-report`` says.
        reports_all: whether tests that pass have a page as well, as ``--itkit-report-all`` says.
        budgets: what is done with the figures of budgets, as the option ``--itkit-budgets`` says.
        arguments: of the command line.
        sweep: which faults swept tests are run with, as the option ``--itkit-sweep`` says.
        covered: whether the boundary coverage is measured, as ``--itkit-coverage`` says.
        fault: the only fault that they are run with, as the option ``--itkit-fault`` says.
        schedule: the only schedule that they are run with, as ``--itkit-schedule`` says.
        state: the only state that they are run from, as ``--itkit-state`` says.

    Raises:
        ConfigurationError: the seed is none, the report cannot be written, the fault is for no
            sweep, or a system check found mistakes in the settings; nothing was started.
        ItkitError: nothing was left running; the message says what to change.
    """
    global _current  # noqa: PLW0603 - one environment per process, for all its threads
    if _current is not None:
        raise ItkitError(
            f"This process is in the run {_current.payload.run} already. A test that runs tests"
            " with --integration starts them in a process of their own."
        )
    options = {"--itkit-fault": fault, "--itkit-schedule": schedule, "--itkit-state": state}
    asked = [option for option, value in options.items() if value]
    if len(asked) > 1 or (asked and sweep == names.SWEEP_OFF):
        raise ConfigurationError(names.ONE_VARIATION.format(asked[-1]))
    reopen()
    notices = _check_settings()
    from itkit import postgres
    from itkit.environment.run import Run

    postgres.replace_sqlite()
    run = Run(
        migrate=migrate,
        rebuild=rebuild,
        seed=seed.Seed.parse(seeded),
        report=_prepared_report(reported, arguments, is_asked=reports_all),
        report_all=reports_all,
        budgets=budgets,
        coverage=_prepared_coverage() if covered else "",
        sweep=sweep,
        fault=fault or "",
        schedule=schedule or "",
        state=state or "",
        notes=[
            *(
                _EARLIER.format(where)
                for where in dict.fromkeys(earlier.shut(guarding.is_let_through))
            ),
            *resolve.remarks(),
        ],
    )
    with ExitStack() as undo:
        undo.callback(postgres.put_sqlite_back)
        payload = run.start()
        undo.callback(run.stop)
        environment = Environment(payload, names.MAIN_WORKER, run=run)
        environment.notices = notices
        environment.attach()
        undo.pop_all()
    _current = environment
    return environment


def _prepared_report(option: str | None, arguments: Sequence[str], *, is_asked: bool) -> str:
    """Return the directory of the report, emptied; an empty text where there is to be none."""
    setting = conf.get().report.dir or (names.REPORT_DIRECTORY if is_asked else None)
    if option is None and setting is None:
        return ""
    from itkit import report

    path = report.chosen(option, setting, arguments)
    if path is None:
        return ""
    report.Folder(path).prepare()
    return str(path)


def _prepared_coverage() -> str:
    """Return the directory of the boundary coverage, emptied."""
    from itkit.report import coverage

    path = Path(conf.get().report.coverage).absolute()
    coverage.prepare(path)
    return str(path)


def attach(worker: str) -> Environment:
    """Attach a process that the main process has started to its run.

    Raises:
        ItkitError: the run has ended meanwhile, or this process is no worker of one.
    """
    global _current  # noqa: PLW0603 - one environment per process, for all its threads
    reopen()
    payload = Payload.from_environment()
    from itkit import postgres

    postgres.replace_sqlite()
    earlier.shut(guarding.is_let_through)
    _check_run(payload)
    environment = Environment(payload, worker)
    environment.attach()
    _die_with_parent()
    _current = environment
    return environment


def stop() -> list[afterwards.Late]:
    """Detach this process and, in the main one, end the run; a second call does nothing.

    The process is not given back what it had, as something may outlive the tests: what is tried
    from now on fails.

    Returns:
        What outlives the tests, as far as ``shut()`` has not returned it.
    """
    global _current, _past  # noqa: PLW0603 - one environment per process, for all its threads
    environment, _current = _current, None
    # A process that a test has forked only forgets: what is shared is its parent's to release.
    if environment is None or environment.process != os.getpid():
        return []
    late = environment.shut()
    _past = environment
    environment.detach()
    return late


def leave_with(status: int) -> None:
    """Note the exit code of the run that is over: nothing that outlives it makes a better one."""
    if _past is not None:
        _past.leaving.status = status


def reopen() -> None:
    """Give this process back what it had before a run that is over."""
    global _past
    past, _past = _past, None
    if past is not None:
        past.give_back()


def _put_flush_back(*, setting: str, **_: object) -> None:
    """Put our ``flush`` back among Django's commands after a change of INSTALLED_APPS.

    Django has just forgotten all commands, in a receiver that was connected before this one, and
    finds those of installed apps only. Checked with Django 5.2, 6.0 and 6.1.
    """
    if setting == "INSTALLED_APPS":
        get_commands()["flush"] = "itkit"


def _put_sqlite_back() -> None:
    from itkit import postgres

    postgres.put_sqlite_back()


def _snapshots() -> Path | None:
    from itkit import services

    return services.folder(conf.get().cache_dir, "scenarios")


def _check_run(payload: Payload) -> None:
    """Make sure that what this worker is about to make will be removed with its run."""
    from itkit import redis

    if payload.redis is None or payload.redis_owned:
        return
    if not redis.is_registered(payload.redis, payload.run):
        redis.revoke(payload.redis, payload.run)
        raise ItkitError(f"The run {payload.run}, whose worker this was to be, has ended.")


def _check_settings() -> list[str]:
    """Return the warnings of itkit's system checks; its errors are raised."""
    found = checks.run_checks(tags=["itkit"])
    errors = [problem for problem in found if problem.level >= checks.ERROR]
    if errors:
        lines = [f"  {error.id}  {error.msg} {error.hint or ''}".rstrip() for error in errors]
        raise ConfigurationError("\n".join(["not started, the settings have mistakes:", *lines]))
    return [
        f"itkit: {problem.id}  {problem.msg} {problem.hint or ''}".rstrip()
        for problem in found
        if not problem.is_silenced()
    ]


def _probe(kind: str, url: str, probe: Callable[[str, float], str]) -> None:
    try:
        probe(url, _PROBE_SECONDS)
    except RuntimeError:
        return  # not of the server: something refuses sockets, such as pytest-socket
    except Exception as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ServiceUnavailableError(
            f"{kind} at {redact(url)} does not answer any more: {redact(reason)}"
        ) from error


def _die_with_parent() -> None:
    """End this worker when its parent is gone: nobody is left to give it work or read its results.

    A pool's workers hold the write ends of their own queues, so they would wait for ever after a
    SIGKILL of the main process, and keep its pipes open.
    """
    parent = os.getppid()
    main = multiprocessing.parent_process()
    # The main process may be gone by now, and then another one is the parent. Only a forkserver
    # is always another one.
    if main is not None and multiprocessing.get_start_method() != "forkserver":
        parent = main.pid or parent
    processes.end_with(parent, "itkit-parent-watch")
