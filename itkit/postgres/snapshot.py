"""Copies the cluster of a running server, before the first test can have written to it.

The server is in backup mode meanwhile, so its writes do no harm: the copy has the log that makes it
complete when it is started.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from itkit.core.names import READS_FILE
from itkit.postgres.server import sql
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.server import value

_NEW_NAMES: Final = 150000
_FUNCTIONS: Final = sql.SQL("pg_backup_start('itkit', true)"), sql.SQL("pg_backup_stop(false)")
_OLD_FUNCTIONS: Final = (
    sql.SQL("pg_start_backup('itkit', true, false)"),
    sql.SQL("pg_stop_backup(false, false)"),
)
_LEFT_OUT: Final = frozenset(
    {"postmaster.pid", "postmaster.opts", "pg_internal.init", "current_logfiles"}
)
_EMPTY: Final = frozenset(
    {
        "pg_dynshmem",
        "pg_notify",
        "pg_replslot",
        "pg_serial",
        "pg_snapshots",
        "pg_stat_tmp",
        "pg_subtrans",
        "pg_wal",
    }
)
"""Directories whose contents a starting server makes anew or does not need."""


@dataclass(frozen=True)
class Snapshots:
    """The directory of a server's cluster, and the target for a copy of it.

    Attributes:
        data: the server's data directory.
        target: the target of the copy, which exists when the copy is complete.
    """

    data: Path
    target: Path

    def take(self, connection: Connection, reads: str) -> None:
        """Copy the cluster; the copy replaces an earlier one.

        Args:
            connection: a superuser's connection.
            reads: the values that the migrations have read, which are kept beside the copy.

        Raises:
            OSError: the disk is full, or the cluster cannot be read.
            driver.Error: the server refuses the backup.
        """
        partial = self.target.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            with _backed_up(connection, partial) as first:
                _copy(self.data, partial)
            _copy_log(self.data, partial, first)
            (partial / READS_FILE).write_text(reads)
            _give_owner(partial / "PG_VERSION", partial / READS_FILE)
            shutil.rmtree(self.target, ignore_errors=True)
            partial.rename(self.target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _backed_up(connection: Connection, target: Path) -> Iterator[str]:
    """Put the server into backup mode while it is copied, and leave its label in the copy.

    Yields the name of the first segment of the log that the copy needs.
    """
    start, stop = _FUNCTIONS if connection.info.server_version >= _NEW_NAMES else _OLD_FUNCTIONS
    first = str(value(connection, sql.SQL("SELECT pg_walfile_name({})").format(start)))
    yield first
    label = target / "backup_label"
    label.write_text(str(value(connection, sql.SQL("SELECT labelfile FROM {}").format(stop))))
    _give_owner(target / "PG_VERSION", label)


def _copy(source: Path, target: Path) -> None:
    for directory, names, files in os.walk(source):
        here = target / Path(directory).relative_to(source)
        here.mkdir(mode=0o700)
        _give_owner(Path(directory), here)
        if Path(directory).name in _EMPTY:
            files.clear()
            # The directories in pg_wal have to exist.
            names[:] = [name for name in names if Path(directory).name == "pg_wal"]
        for name in files:
            if name not in _LEFT_OUT and not name.startswith("pgsql_tmp"):
                _copy_file(Path(directory, name), here / name)


def _copy_log(source: Path, target: Path, first: str) -> None:
    """Copy the log, beginning with the segment in which the copying has begun."""
    for path in sorted((source / "pg_wal").iterdir()):
        if path.is_file() and path.name >= first:
            _copy_file(path, target / "pg_wal" / path.name)


def _copy_file(source: Path, target: Path) -> None:
    with suppress(FileNotFoundError):  # a table that was just dropped
        shutil.copyfile(source, target)
        target.chmod(0o600)
        _give_owner(source, target)


def _give_owner(source: Path, target: Path) -> None:
    if os.geteuid() == 0:
        status = source.stat()
        os.chown(target, status.st_uid, status.st_gid)
