"""Starts Postgres on a socket that only we can reach, with a cluster that is thrown away."""

import os
import shutil
import signal
import sys
from collections.abc import Mapping
from hashlib import blake2s
from pathlib import Path
from typing import Final

from itkit.core.names import READS_FILE
from itkit.core.urls import ServerURL
from itkit.exceptions import ServiceUnavailableError
from itkit.services.cache import ENTRY, is_without_room
from itkit.services.errors import ProgramFailedError, SearchError, SourceUnusableError
from itkit.services.programs.installation import copy_tree, usable_installation
from itkit.services.run import Launched, ServerRun, ServerState
from itkit.services.supervisor import ServerProgram, require_fit
from itkit.services.user import unprivileged_user

SUPERUSER: Final = "postgres"
SETTINGS: Final[Mapping[str, str]] = {
    # Nothing has to survive a crash, as the cluster does not even survive the run.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "wal_buffers": "4MB",  # the default is hardly more than one segment of the log
    "checkpoint_timeout": "1h",
    # With a schema per worker there are thousands of tables, and DROP SCHEMA locks each of them.
    "max_locks_per_transaction": "1024",
    "max_connections": "100",
    "shared_buffers": "128MB",
    # Nothing may stay in /dev/shm, which is also too small in containers for parallel queries.
    "dynamic_shared_memory_type": "mmap",
    "jit": "off",
    "autovacuum": "on",  # statistics would be out of date in a long run
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",  # the end of the log is shown, and statements contain data
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
}

_STATE: Final = "state-"
_KEPT_STATES: Final = 8
_BUILTIN_LOCALES: Final = 17
_INITDB_SETTINGS: Final = 16
_MORE_ROOM: Final = "name a directory with more room in ITKIT_DATA_ROOT"
_ADVICE: Final = {
    "No space left on device": _MORE_ROOM,
    "Check free disk space": _MORE_ROOM,
    "Permission denied": (
        "the user that Postgres runs as must be able to pass through ITKIT_DATA_ROOT and the "
        "directories above it"
    ),
    "could not look up effective user ID": "give this user an entry in /etc/passwd",
}


def launch(directory: Path, run: ServerRun) -> Launched:
    """Start a server.

    Args:
        directory: The directory of ``postgres`` and ``initdb``.
        run: The start whose guard starts the server.

    Raises:
        SourceUnusableError: the server does not run here, or is too old.
        SearchEndedError: the server was not ready before the deadline, or the cache cannot be used.
    """
    server = _PostgresServer(directory, run)
    try:
        return server.start()
    except SourceUnusableError as error:
        advice = [text for symptom, text in _ADVICE.items() if symptom in str(error)]
        raise SourceUnusableError("\n    ".join([str(error), *advice])) from error


class _PostgresServer:
    def __init__(self, directory: Path, run: ServerRun) -> None:
        self._run = run
        self._user = unprivileged_user()
        self._home = run.supervisor.directory
        self._data = self._home / "pg"
        self._sockets = self._home / "s"
        self._snapshot = self._home / "saved"
        self._installation = usable_installation(directory, self._user, run)
        self._states = f"{_STATE}{self._template_name()}-{run.options.state}-"
        self._state_name = ""
        self._is_saved = False
        self._is_initialised = False

    def start(self) -> Launched:
        require_fit(self._sockets / ".s.PGSQL.5432")
        self._clear()
        self._make_directory(self._sockets)
        self._make_cluster()
        program = self._start_program()
        url = ServerURL(
            "postgresql", str(self._sockets), None, SUPERUSER, "", "postgres", options={}
        )
        return Launched(
            url=str(url),
            product=f"Postgres {self._installation.version}",
            address=str(self._sockets),
            program=program,
            state=ServerState(self._is_saved, self._data, self._snapshot, self._save),
        )

    def _clear(self) -> None:
        """Remove files that another installation, which failed, has left in the run directory."""
        for path in (self._data, self._sockets):
            shutil.rmtree(path, ignore_errors=True)

    def _make_directory(self, path: Path) -> None:
        path.mkdir(mode=0o700)
        if self._user.switch:
            os.chown(path, self._user.uid, self._user.gid)

    def _template_name(self) -> str:
        decisive = (self._installation.fingerprint, self._user.uid, self._initdb_flags())
        digest = blake2s(repr(decisive).encode(), digest_size=8).hexdigest()
        return f"cluster-{self._installation.version}-{digest}"

    def _make_cluster(self) -> None:
        if not self._copy_saved():
            self._copy_template()

    def _copy_saved(self) -> bool:
        """Begin with the cluster that an earlier run has saved, if there is one."""
        if self._run.options.state is None:
            return False
        cache = self._run.cache()
        found = cache.found(self._states, owner=self._user.uid)
        saved = next((path for path in found if self._fits(path)), None)
        if saved is None:
            return False
        self._state_name = saved.name.removeprefix(ENTRY)
        if self._run.options.rebuild:
            cache.discard(self._state_name, self._run.deadline)
            return False
        cache.use(saved)
        copy_tree(saved, self._data, self._run)
        self._is_saved = True
        return True

    def _fits(self, saved: Path) -> bool:
        try:
            reads = (saved / READS_FILE).read_text()
        except OSError:  # another process is removing it
            return False
        return self._run.options.fits(reads)

    def _save(self) -> None:
        """Save the copy of the cluster, if one was made, for later runs with the same state.

        Raises:
            ServiceUnavailableError: the copy cannot be saved; the message says why.
        """
        if not self._snapshot.exists():
            return
        self._run.renew_deadline()
        try:
            reads = (self._snapshot / READS_FILE).read_bytes()
            self._recover(self._snapshot)
            cache = self._run.cache()
            cache.entry(
                f"{self._states}{blake2s(reads, digest_size=6).hexdigest()}",
                lambda path: copy_tree(self._snapshot, path, self._run),
                owner=self._user.uid,
                deadline=self._run.deadline,
                is_needed=False,
            )
            cache.trim(_STATE, _KEPT_STATES)
        except (SearchError, OSError) as error:
            why = self._run.full_cache() if is_without_room(error) else error
            raise ServiceUnavailableError(
                f"The migrated cluster could not be saved for the next run: {why}"
            ) from error

    def _recover(self, data: Path) -> None:
        """Recover the copy of a running server's cluster once, and not at each start from it."""
        flags = [flag for item in SETTINGS.items() for flag in ("-c", "=".join(item))]
        self._run.supervisor.run_to_end(
            "Postgres",
            # It ends at once, as there is no input, and writes all changes before.
            [self._installation.postgres, "--single", "-D", data, *flags, "postgres"],
            self._user,
            self._run.deadline,
        )

    def _copy_template(self) -> None:
        template = self._run.cache().entry(
            self._template_name(),
            self._build_template,
            owner=self._user.uid,
            deadline=self._run.deadline,
        )
        if not self._data.exists():
            copy_tree(template, self._data, self._run)

    def _build_template(self, path: Path) -> None:
        """Initialise our own cluster, and leave a copy of it for later runs."""
        if not self._is_initialised:
            self._make_directory(self._data)
            self._run.supervisor.run_to_end(
                "initdb",
                [self._installation.initdb, "-D", self._data, *self._initdb_flags()],
                self._user,
                self._run.deadline,
            )
            self._is_initialised = True
        copy_tree(self._data, path, self._run)

    def _initdb_flags(self) -> tuple[str, ...]:
        # Without a locale, LANG=C in a bare container would result in SQL_ASCII.
        locale: tuple[str, ...] = (f"--locale={_system_locale()}",)
        if self._installation.major >= _BUILTIN_LOCALES:
            locale = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        settings: tuple[str, ...] = ()
        if self._installation.major >= _INITDB_SETTINGS:
            settings = ("-c", "dynamic_shared_memory_type=mmap")  # a killed initdb would leave it
        access = ("--auth-local=trust", "--auth-host=reject", f"--username={SUPERUSER}")
        # Each run copies the cluster with its log; two segments of 16 MB would be half of it.
        quick = ("--wal-segsize=1", "--no-sync", "--no-instructions")
        return (*access, "--encoding=UTF8", *locale, *settings, *quick)

    def _start_program(self) -> ServerProgram:
        settings = {**SETTINGS, "unix_socket_directories": f'"{self._sockets}"'}
        if self._run.options.state is not None and not self._is_saved:
            settings["wal_level"] = "replica"  # else it could not be copied while it runs
        flags = [flag for item in settings.items() for flag in ("-c", "=".join(item))]
        program = self._run.supervisor.run(
            "Postgres",
            [self._installation.postgres, "-D", self._data, *flags],
            self._user,
            signal.SIGQUIT,  # the immediate shutdown
        )
        try:
            self._run.supervisor.wait_until_ready(program, self._is_ready, self._run.deadline)
        except ProgramFailedError:
            # The machine may have crashed before the template was on its disk.
            name = self._state_name if self._is_saved else self._template_name()
            self._run.cache().discard(name, self._run.deadline)
            raise
        return program

    def _is_ready(self) -> bool:
        """Return whether a server is ready, by line 8 of the file in its data directory."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready"


def _system_locale() -> str:
    return "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"
