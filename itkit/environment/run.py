"""The run scope: what one command provides for all of its workers. Main process only."""

import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Final

from django.conf import settings as django_settings
from django.db import connections

from itkit import conf, postgres
from itkit.core import caches, names
from itkit.core.handshake import Payload
from itkit.core.seed import Seed
from itkit.core.urls import redact
from itkit.environment import files
from itkit.exceptions import IsolationError
from itkit.services import Need, Options, ServerState, Service, Services
from itkit.services import start as start_services

_ISOLATED_CACHES: Final = ("django.core.cache.backends.db.", "django.core.cache.backends.dummy.")


_REPLACING: Final = ' (ITKIT = {"POSTGRES": {"REPLACE_SQLITE": True}} runs its tests on Postgres)'


class Run:
    """The run scope: servers, databases and leases. It lives in the main process only.

    Args:
        migrate: whether to run migrations; False with an option such as ``--nomigrations``.
        rebuild: whether to migrate anew, although an earlier run has left a template.
        seed: the seed of the run's random values; by default a new one.
        report: the directory of the report; empty where there is to be none.
        report_all: whether tests that pass have a page as well.
        budgets: what is done with the figures of budgets, ``check`` or ``update``.
        sweep: which faults swept tests are run with, one of ``names.SWEEPS``.
        coverage: the directory of the boundary coverage; empty where nobody asks for it.
        fault: the only fault that swept tests are run with; empty for all.
        schedule: the only schedule that swept tests are run with; empty for all.
        state: the only state that swept tests are run from; empty for all.
        notes: further parts of the start line, about what happened before the run.
    """

    def __init__(
        self,
        *,
        migrate: bool = True,
        rebuild: bool = False,
        seed: Seed | None = None,
        report: str = "",
        report_all: bool = False,
        budgets: str = names.BUDGETS_CHECK,
        coverage: str = "",
        sweep: str = names.SWEEP_QUICK,
        fault: str = "",
        schedule: str = "",
        state: str = "",
        notes: Iterable[str] = (),
    ) -> None:
        self._migrate = migrate
        self._rebuild = rebuild
        self._seed = seed or Seed.parse(None)
        self._report = report
        self._report_all = report_all
        self._budgets = budgets
        self._coverage = coverage
        self._sweep = sweep
        self._fault = fault
        self._schedule = schedule
        self._state = state
        self._releases = ExitStack()
        self._services: Services | None = None
        self._databases: postgres.RunDatabases | None = None
        self._notes = list(notes)
        self._saved = postgres.Finder()

    def start(self) -> Payload:
        """Provide everything that the run's workers share, or nothing at all.

        Raises:
            ConfigurationError: the settings are wrong.
            ServiceUnavailableError: a server cannot be found or started, or lacks an extension.
            IsolationError: the tests could not be kept apart from other data.
        """
        started = time.perf_counter()
        run = names.new_run_id()
        with ExitStack() as undo:
            undo.push(self._releases.__exit__)
            services = self._start_services()
            self._notes += services.notes
            databases = self._start_postgres(services.postgres, run)
            redis_url = self._start_redis(services.redis, run)
            redis_secret = self._redis_secret(services.redis, run)
            if self._gives_each_worker_a_redis():
                self._notes.append("a Redis server for each worker")
            milliseconds = round((time.perf_counter() - started) * 1000)
            payload = Payload(
                run=run,
                databases=databases,
                databases_owned=bool(services.postgres and services.postgres.started),
                databases_secret=self._databases.secret if self._databases is not None else "",
                snapshot=_snapshot(_state_to_save(services.postgres)),
                migrate=self._migrate,
                redis=redis_url,
                redis_secret=redis_secret,
                redis_owned=bool(services.redis and services.redis.started),
                redis_per_worker=self._gives_each_worker_a_redis(),
                redis_project=_redis_project(),
                seed=self._seed.text,
                sweep=self._sweep,
                fault=self._fault,
                schedule=self._schedule,
                state=self._state,
                process=os.getpid(),
                files=_directory_of_files(services),
                report=self._report,
                report_all=self._report_all,
                budgets=self._memory_of_budgets(),
                coverage=self._coverage,
                summary=self._summary(run, services, milliseconds),
                short_summary=self._short_summary(services),
            )
            self._releases.enter_context(payload.exported())
            undo.pop_all()
        return payload

    def stop(self) -> None:
        """Release everything; a second call does nothing."""
        self._releases.close()

    @property
    def databases(self) -> postgres.RunDatabases | None:
        """The object that has prepared the run's databases; None where the run has no Postgres."""
        return self._databases

    def check(self) -> None:
        """Raise ServiceUnavailableError, with the end of a log, if a server of ours has died."""
        if self._services is not None:
            self._services.check()

    def check_outside(self) -> None:
        """Check that the run has written into no data but that of the tests.

        Raises:
            EscapeError: the run has written into a database that is not itkit's own.
        """
        if self._databases is not None:
            self._databases.check_outside()

    def _memory_of_budgets(self) -> str:
        """Return where the run keeps what it has measured; an empty text where it only compares."""
        if self._budgets != names.BUDGETS_UPDATE:
            return ""
        return self._releases.enter_context(TemporaryDirectory(prefix="itkit-budgets-"))

    def _summary(self, run: str, services: Services, milliseconds: int) -> str:
        """Return the start line, which names the servers of the tests."""
        parts = [f"{service.product} ({_origin(service)})" for service in services]
        if self._databases is not None:
            parts.append(self._isolation(names.schema(run, names.MAIN_WORKER)))
        if services.redis:
            parts.append(f"prefix {names.key_prefix(run, names.MAIN_WORKER)}")
        parts += [*_left_to_django(), *self._notes]
        parts += [
            f"{names.PASSED_OVER}{reason}" for service in services for reason in service.passed_over
        ]
        ready = f"ready in {milliseconds} ms"
        if self._databases is not None and self._databases.to_migrate and self._migrate:
            aliases = ", ".join(self._databases.to_migrate)
            ready = f"servers {ready}, the migrations of {aliases} are to run"
            changed = dict.fromkeys([*self._databases.changed, *self._saved.changed])
            if changed:
                ready = f"{ready}, as {postgres.shown(changed)}"
        return f"itkit: {', '.join(parts) or 'no server needed'} · {ready}"

    def _short_summary(self, services: Services) -> str:
        """Return the start line for users who want little output."""
        parts = [f"{service.product} ({service.source})" for service in services]
        if self._databases is not None:
            parts.append(self._isolation("for each worker"))
        return f"itkit: {', '.join(parts) or 'no server needed'}"

    def _isolation(self, name: str) -> str:
        if conf.get().postgres.isolation == "database" or self._databases is None:
            return f"database {name}"
        return f"schema {name} in the database {self._databases.database}"

    def _gives_each_worker_a_redis(self) -> bool:
        return conf.get().redis.per_worker_server and bool(_redis_project())

    def _start_services(self) -> Services:
        settings = conf.get()
        options = replace(
            _options(settings),
            state=postgres.project_state(migrate=self._migrate) if settings.postgres.keep else None,
            fits=self._saved.fits_saved,
            rebuild=self._rebuild,
        )
        self._services = start_services(_needs(settings), options)
        self._releases.callback(self._services.stop)
        return self._services

    def _start_postgres(self, service: Service | None, run: str) -> dict[str, str]:
        if service is None:
            return {}
        if (state := _state_to_save(service)) is not None:
            self._releases.callback(state.save)
        databases = postgres.RunDatabases(service.url, run, owned=service.started)
        self._databases = databases
        self._releases.callback(databases.stop)
        homes = databases.start(migrate=self._migrate, rebuild=self._rebuild)
        self._notes += databases.notes
        return homes

    def _start_redis(self, service: Service | None, run: str) -> str | None:
        """Return the URL of the tests' Redis."""
        # A server that is thrown away needs no lease and no sweep.
        if service is None or service.started:
            return service.url if service else None
        from itkit import redis

        lease = redis.RunLease(service.url, run)
        self._releases.callback(lease.stop)
        lease.start()
        redis.sweep(service.url)
        return service.url

    def _redis_secret(self, service: Service | None, run: str) -> str:
        """Return the secret for the passwords of the workers' users; empty without such users.

        Raises:
            IsolationError: the settings require such users, and the server's login may not create
                them.
        """
        wanted = conf.get().redis.acl
        if service is None or wanted == "off":
            return ""
        from itkit import redis

        secret = secrets.token_hex(16)
        main = redis.grant(
            service.url, run, names.MAIN_WORKER, secret=secret, owned=service.started
        )
        if main is not None and redis.can_read_acl_log(service.url):
            return secret
        if wanted == "require":
            raise IsolationError(
                f"The Redis at {service.address} lets its login create no ACL users, or not read"
                ' ACL LOG, and ITKIT["REDIS"]["ACL"] is "require". Give itkit a login that may, or'
                ' set "auto": then only redis-py keeps the tests under their prefix.'
            )
        self._notes.append("no ACL user: only redis-py keeps the tests under their prefix")
        return ""


def _state_to_save(service: Service | None) -> ServerState | None:
    """Return which state of a server to save for later runs; None where it was saved before."""
    state = service.state if service is not None else None
    return state if state is not None and not state.is_saved and conf.get().postgres.keep else None


def _directory_of_files(services: Services) -> str:
    """Return the directory of the project's caches in files; an empty text where it has none."""
    if not files.aliases():
        return ""
    directory = services.directory() / "caches"
    directory.mkdir(mode=0o700)
    return str(directory)


def _snapshot(state: ServerState | None) -> tuple[str, str] | None:
    return (str(state.data), str(state.snapshot)) if state is not None else None


def postgres_need(settings: conf.Settings) -> Need | None:
    """Return the Postgres that this project needs; None where no alias of it is Postgres."""
    if not postgres.postgres_aliases():
        return None
    return Need(
        kind="postgres",
        given=_given(settings.postgres.url, "ITKIT_POSTGRES_URL", "POSTGRES"),
        project=postgres.project_server(),
        allow_remote=settings.postgres.allow_remote,
        binary=settings.postgres.bin,
        probe=postgres.probe_for_tests,
    )


def start_worker_redis() -> tuple[Services, str]:
    """Start a Redis for one worker; return it with its URL. The worker has to stop it.

    Raises:
        ServiceUnavailableError: no Redis can be started here; the message has every source and why.
    """
    from itkit import redis

    settings = conf.get()
    need = Need(kind="redis", binary=settings.redis.bin, probe=redis.probe)
    services = start_services([need], _options(settings))
    return services, next(iter(services)).url


def _options(settings: conf.Settings) -> Options:
    return Options(
        source=settings.source,
        start_timeout=settings.start_timeout,
        cache_dir=settings.cache_dir,
        data_root=settings.data_root,
    )


def _needs(settings: conf.Settings) -> Iterator[Need]:
    """Yield the servers that this project needs, as its settings name them."""
    if (need := postgres_need(settings)) is not None:
        yield need
    from itkit import redis  # the import takes a tenth of a second, in which Postgres starts

    project = redis.project_servers()
    if project or settings.redis.url or settings.redis.per_worker_server:
        redis.require()
    if settings.redis.per_worker_server:
        return
    if project or settings.redis.url:
        yield Need(
            kind="redis",
            given=_given(settings.redis.url, "ITKIT_REDIS_URL", "REDIS"),
            project=redis.usable_server(project),
            allow_remote=settings.redis.allow_remote,
            binary=settings.redis.bin,
            probe=redis.probe,
        )


def _redis_project() -> list[tuple[str, str]]:
    from itkit import redis

    return redis.project_servers()


def _given(url: str | None, variable: str, table: str) -> tuple[str, str] | None:
    if url is None:
        return None
    return (variable if variable in os.environ else f'ITKIT["{table}"]["URL"]', url)


def _origin(service: Service) -> str:
    return redact(f"{service.source}, {service.address}")


def _left_to_django() -> Iterator[str]:
    """Yield a text for each database or cache that tests share with others or each other."""
    from itkit import redis

    ours = postgres.postgres_aliases()
    for alias in connections:
        if alias not in ours:
            vendor = connections[alias].vendor
            hint = _REPLACING if vendor == "sqlite" else ""
            yield f"database {alias!r} is {vendor}: left to Django{hint}"
    in_files, in_memory = files.aliases(), caches.in_memory()
    for alias, cache in django_settings.CACHES.items():
        backend = str(cache["BACKEND"])
        if alias in in_files:
            yield f"cache {alias!r} in a directory of the worker"
        elif not (
            alias in in_memory or redis.is_redis(backend) or backend.startswith(_ISOLATED_CACHES)
        ):
            yield f"cache {alias!r} is {backend.rpartition('.')[2]}: not isolated"
