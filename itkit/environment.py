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

import os
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from django.core import checks
from django.core.management import get_commands
from django.core.signals import setting_changed

from itkit import (
    afterwards,
    boundary,
    conf,
    effects,
    files,
    joined,
    names,
    network,
    notes,
    seed,
    sql,
    threads,
    timeline,
    transactions,
    verdicts,
)
from itkit.data import TestDataManager, close_ledger, follow
from itkit.exceptions import (
    ConfigurationError,
    EffectError,
    EscapeError,
    ItkitError,
    LeakedPatchError,
    LeftKeysError,
    ServiceUnavailableError,
    UnusedAnswerError,
)
from itkit.forked import Channel
from itkit.notes import Notes
from itkit.payload import Invitation, Payload
from itkit.registry import Registry
from itkit.relay import Relay
from itkit.urls import redact

if TYPE_CHECKING:
    from itkit import redis
    from itkit.run import Run
    from itkit.services import Services

_PARENT_POLL_SECONDS = 0.2
_PROBE_SECONDS = 2.0
_DENIED = (
    "The test, or what an earlier one has left running, has reached for what is not its own in"
    " Redis, and the server has denied it:\n{}\n"
    "What a test may reach begins with {}. All that redis-py sends and Lua scripts do gets that"
    " prefix; what goes round them, such as a library of functions, has to put it on. A command"
    ' that may reach further can be named in ITKIT["REDIS"]["ALLOW_COMMANDS"].'
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
_UNUSED = (
    "The test has programmed answers that no call has used:\n{}\n"
    'Remove them, or have the code under test call the backend. ITKIT["UNUSED"] = "warn" tells'
    " of them at the end of the run only."
)


class Environment:
    """The worker and test scopes: this process attached to a run.

    Attributes:
        backends: the project's external backends, swapped for recording fakes.
        account: which tests were found, and which have begun.
        notes: what is told at the end of the run.
        worker: id of this worker.
        notices: what the system checks warn of, in the process that has started the run.
    """

    def __init__(self, payload: Payload, worker: str, *, run: "Run | None" = None) -> None:
        from itkit import postgres

        self.payload = payload
        self.worker = worker
        self.backends = Registry.from_settings()
        self.notes = Notes()
        self.account = verdicts.Account()
        self.process = os.getpid()
        self.notices: list[str] = []
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
        self._files = files.Files(payload.files, worker)
        self._door = afterwards.Door(self._routing.is_held)
        self._guard: network.Guard | None = None
        self._shutting = ExitStack()
        self._is_shut = False
        self._relay: Relay | None = None
        self._forked = Channel()
        self._redis_server: Services | None = None  # of this worker alone
        self._redis = self._new_isolation()
        self._seed = seed.Seed.parse(payload.seed)
        self._index: int | None = None
        follow(self._seed.text, seed.offset_of_shared(""))
        self._class = ""

    def attach(self) -> None:
        """Route this process to the run: its databases, its Redis, its fakes.

        What belongs to the run is released when it ends. What the process had of its own is put
        back by ``reopen()`` only.
        """
        joined.leave()
        servers = network.of_run(self.payload)
        with ExitStack() as undo:
            undo.push(self._originals.__exit__)
            undo.push(self._releases.__exit__)
            self._keep_flush()
            self._originals.callback(self._routing.uninstall)
            self._releases.callback(self._routing.shut)
            self._routing.install()
            self._originals.callback(self._uninstall_redis)
            self._releases.callback(self._release_redis)
            self._redis.install()
            self._releases.callback(self._release_files)
            self._originals.enter_context(self._files.installed())
            self._releases.callback(Invitation.withdraw)
            self._originals.callback(self.backends.restore)
            self.backends.swap()
            self.backends.watch_patches()
            self._listen()
            self._releases.callback(self._close_forked)
            self._forked.open()
            self._originals.enter_context(threads.followed())
            self._originals.enter_context(sql.recorded())
            self._originals.enter_context(effects.followed())
            self._guard = self._originals.enter_context(network.guarded(servers))
            undo.pop_all()

    def shut(self) -> list[afterwards.Late]:
        """Shut the ways out, as the tests are over, and return what outlives them.

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
            releases.callback(self._releases.close)

    def give_back(self) -> None:
        """Give the process back what it had before."""
        self._originals.close()

    def enter_worker(self, worker: str) -> None:
        """Become a forked or spawned worker: own prefix; Django switches the schema itself."""
        self.worker = worker
        self.process = os.getpid()
        self._routing.enter(worker)
        self._redis.uninstall()
        if self._redis_server is not None:
            self._redis_server.stop()  # does nothing where it is that of a parent
        self._redis = self._new_isolation()
        self._redis.install()
        self._files.worker = worker
        self._listen()
        self._forked.close()
        self._forked = Channel()
        self._forked.open()
        _die_with_parent()

    def continue_in_child(self) -> None:
        """Let a process that was just forked open connections of its own, and tell its errors."""
        self._routing.forget_connections()
        self._forked.use_in_child()

    def expect_child(self) -> None:
        """Listen to a process that was just forked."""
        self._forked.expect()

    def finish_databases(self) -> None:
        """Wait until the databases of all workers are there."""
        self._routing.finish_jobs()

    @property
    def is_in_test(self) -> bool:
        """Whether the scope of a test has begun, and not ended."""
        return bool(boundary.current().test) and not self._is_shut

    def begin_class(self, name: str) -> None:
        """Give the tests of the next class, by its name, what they share."""
        if self._is_shut:
            self._open()
        if name == self._class:  # unittest says so before each test
            return
        if conf.get().redis.scope == "class":
            self._redis.new_generation()
        self._class = name
        self._begin_values(name)
        self._invite()

    def begin_test(self, test: str, index: int | None = None) -> None:
        """Give the next test a Redis without keys, fakes without memory, and values of its own.

        Args:
            test: its name.
            index: among the selected tests, in the order of their names, as ``seed`` counts.
        """
        if self._is_shut:
            self._open()
        self._routing.sessions.test = test
        self._routing.begin_test()
        self._index = index
        self._begin_values(test, index)
        if conf.get().redis.scope == "test":
            self._redis.new_generation()
        self._files.clear()
        self._invite()
        self.backends.reset()
        self.backends.accept_patches()
        boundary.new_timeline(test)

    def _begin_values(self, name: str, index: int | None = None) -> None:
        """Let random and unique values be those of a test, or of what several tests share."""
        if index is None:
            offset, sequence = seed.offset_of_shared(name), seed.sequence_of_shared(name)
        else:
            offset, sequence = seed.offset_of_test(index), seed.sequence_of_test(index)
        follow(self._seed.text, offset)
        seed.reseed(self._seed.text, name)
        if conf.get().data.sequences == "test":
            seed.start_sequences(sequence)

    def end_test(self) -> None:
        """End the running test: what it programmed answers nobody after it."""
        self.backends.remove_patches()  # again: a fixture that fails keeps check_test from running
        self.backends.reset()
        boundary.new_timeline()

    def check_calls(self, sources: frozenset[str], *, has_passed: bool = True) -> None:
        """Find out whether the backends were called as the running test says.

        Args:
            sources: paths of the files that the test is written in.
            has_passed: whether it has until now; what it has not used says nothing otherwise.

        Raises:
            SwallowedError: the application has swallowed an error that fails the test.
            FoundError: something else was found that does.
            CallMismatchError: a required call did not come.
            UnusedAnswerError: no call has used an answer, which the settings do not allow.
        """
        verdicts.check(sources)
        self.backends.check()
        if has_passed and conf.get().unused != "off":
            self._check_unused(boundary.current().test)

    def _check_unused(self, test: str) -> None:
        """Note, or raise, which answers that the test has programmed no call has used."""
        found = [
            (f"{method}.{given.text} at {given.site}", unused)
            for method, given, unused in self.backends.given()
        ]
        left = [f"  {place}: {unused}" for place, unused in found if unused]
        if left and conf.get().unused == "fail":
            raise UnusedAnswerError(_UNUSED.format("\n".join(left)))
        for place, unused in found:
            kind = notes.UNUSED if unused else notes.USED
            self.notes.add(notes.Note(kind, place, unused, test))

    def check_test(self, sources: frozenset[str]) -> None:
        """Find out whether the running test, all clean-up included, has kept to what is its own.

        Args:
            sources: paths of the files that the test is written in.

        Warns:
            RuntimeWarning: it has left keys in Redis, which the settings ask to be told.

        Raises:
            SwallowedError: the application has swallowed an error that fails the test.
            FoundError: something else was found that does.
            EffectError: something has left the process while a transaction was open, which the
                settings do not allow.
            EscapeError: it has reached further, and the server has denied it, whatever the
                application made of the error.
            LeftKeysError: it has left keys in Redis, which the settings do not allow.
            LeakedPatchError: it has left something in the place of a fake or of a setting.
        """
        patches = self.backends.remove_patches()  # first: it is done whatever else is wrong
        verdicts.check(sources, is_over=True)
        if patches:
            raise LeakedPatchError(_PATCHED.format(self._routing.sessions.test, _listed(patches)))
        self._check_effects()
        denied = self._redis.denied()
        if denied:
            raise EscapeError(_DENIED.format(_listed(denied), self._redis.prefix))
        leaks = conf.get().redis.leaks
        left = self._redis.left() if leaks != "off" else []
        if left and leaks == "fail":
            raise LeftKeysError(_LEFT.format(self._routing.sessions.test, _listed(left)))
        if left:
            message = _LEFT.format(self._routing.sessions.test, _listed(left))
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _check_effects(self) -> None:
        """Note, or raise, what has left the process while a transaction was open."""
        story = boundary.current()
        if not story.effects or conf.get().effects == "off":
            return
        found = dict.fromkeys(effects.found(story))
        if found and conf.get().effects == "fail":
            lines = [f"  {place}: {text}" for place, text in found]
            raise EffectError(_EFFECTS.format("\n".join(lines)))
        for place, text in found:
            self.notes.add(notes.Note(notes.EFFECT, place, text, story.test))

    def reset_database(self, alias: str) -> bool:
        """Undo what committed tests did to a database; False if it is not one of ours."""
        close_ledger(alias)  # that of a manager which nobody has cleaned up
        transactions.check_left_open(self._routing.sessions.test)
        return self._routing.reset(alias)

    def new_data_manager(self) -> TestDataManager:
        """Return a manager whose unique values meet those of no other test of the run.

        All managers of one test count on together.
        """
        return TestDataManager(leaks=conf.get().data.leaks, snapshots=_snapshots)

    def explained(self, shown: str, command: str, story: boundary.Timeline) -> str:
        """Return what helps with a failure, and how to repeat the test.

        It says what the server has denied the test, and what has left the process.

        Args:
            shown: what is printed already.
            command: that runs the test, without options.
            story: the timeline of the test.
        """
        index = f":{self._index}" if self._index is not None else ""
        repeat = f"to repeat it: {command} --integration --itkit-seed={self._seed.text}{index}"
        table = "" if timeline.is_shown(shown) else timeline.report(story)
        denied = self._routing.explained(shown)
        return "\n".join(part for part in (denied, table, repeat) if part and part not in shown)

    @property
    def first_index(self) -> int:
        """The index of the first of the selected tests."""
        return self._seed.first

    def check_servers(self) -> None:
        """Find out whether a failure has a plain reason: a server that does not answer any more.

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
        """Find out, at the end of a run, whether it has written into data that is not the tests'.

        Raises:
            EscapeError: it has, in a database that is not itkit's own.
        """
        if self._run is not None:
            self._run.check_outside()

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

    def _listen(self) -> None:
        """Answer the calls of backends in processes that tests start."""
        fakes = self.backends.fakes()
        if fakes:
            self._relay = Relay(fakes)
            self._releases.enter_context(self._relay.listening())

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

    def _release_redis(self) -> None:
        with ExitStack() as releases:
            if self._redis_server is not None:
                releases.callback(self._redis_server.stop)
            releases.callback(self._redis.shut, self._door.refuse)
            if not self.payload.redis_owned:
                self._redis.clear()

    def _uninstall_redis(self) -> None:
        self._redis.uninstall()

    def _new_isolation(self) -> "redis.Isolation | redis.OwnServer":
        from itkit import redis

        if self.payload.redis_per_worker:
            from itkit.run import start_worker_redis

            self._redis_server, url = start_worker_redis()
            return redis.OwnServer(url, project=self.payload.redis_project)
        return redis.Isolation(
            server=self.payload.redis,
            run=self.payload.run,
            worker=self.worker,
            owned=self.payload.redis_owned,
            project=self.payload.redis_project,
            secret=self.payload.redis_secret,
        )


def _listed(lines: list[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)


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


def start(*, migrate: bool = True, rebuild: bool = False, seeded: str | None = None) -> Environment:
    """Start a run and attach this, the main process to it; ``stop()`` ends it.

    After a run that is over, this process has what is its own again from here on.

    Args:
        migrate: whether the runner was not told to do without migrations.
        rebuild: whether what earlier runs have migrated is to be made anew.
        seeded: what the run's random values come from, as the option ``--itkit-seed`` says.

    Raises:
        ConfigurationError: the seed is none, or a system check found mistakes in the settings;
            nothing was started.
        ItkitError: nothing was left running; the message says what to change.
    """
    global _current  # noqa: PLW0603 - one environment per process, for all its threads
    if _current is not None:
        raise ItkitError(
            f"This process is in the run {_current.payload.run} already. A test that runs tests"
            " with --integration starts them in a process of their own."
        )
    reopen()
    notices = _check_settings()
    from itkit.run import Run

    run = Run(migrate=migrate, rebuild=rebuild, seed=seed.Seed.parse(seeded))
    payload = run.start()
    with ExitStack() as undo:
        undo.callback(run.stop)
        environment = Environment(payload, names.MAIN_WORKER, run=run)
        environment.notices = notices
        environment.attach()
        undo.pop_all()
    _current = environment
    return environment


def attach(worker: str) -> Environment:
    """Attach a process that the main process has started to its run.

    Raises:
        ItkitError: the run has ended meanwhile, or this process is no worker of one.
    """
    global _current  # noqa: PLW0603 - one environment per process, for all its threads
    reopen()
    payload = Payload.from_environment()
    _check_run(payload)
    environment = Environment(payload, worker)
    _check_run(payload)  # again: it may have been swept before this worker had made its user
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


def reopen() -> None:
    """Give this process back what it had before a run that is over."""
    global _past
    past, _past = _past, None
    if past is not None:
        past.give_back()


def _put_flush_back(*, setting: str, **_: object) -> None:
    # Django has just forgotten all commands, in a receiver that was connected before this one.
    if setting == "INSTALLED_APPS":
        get_commands()["flush"] = "itkit"


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
        f"itkit: {problem.id}  {problem.msg} {problem.hint or ''}".rstrip() for problem in found
    ]


def _probe(kind: str, url: str, probe: Callable[[str, float], str]) -> None:
    try:
        probe(url, _PROBE_SECONDS)
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

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_POLL_SECONDS)
        os._exit(70)

    threading.Thread(target=watch, name="itkit-parent-watch", daemon=True).start()
