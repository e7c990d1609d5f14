"""Runs that are alive hold a lease on the server; the keys of runs that died are removed."""

import contextlib
import os
import threading
from pathlib import Path

from itkit.core import names, urls
from itkit.core.processes import is_there
from itkit.exceptions import ServiceUnavailableError
from itkit.redis.server import acl
from itkit.redis.server import server as servers
from itkit.redis.server.tracking import Tracking

_UNKNOWN = "alive"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PROCESSES = Path("/proc/self/ns/pid")

_TTL = 60
_HEARTBEAT = 15.0
_RUNS = f"{names.KEY_ROOT}runs"


class RunLease:
    """Shows other runs whether this one is alive.

    A thread renews a key that expires after a minute, and a set names all runs. Both are in
    database 0; the keys of the run may be in others.

    Args:
        server: URL of the server.
        run: id of the run.
    """

    def __init__(self, server: str, run: str) -> None:
        self._server = server
        self._run = run
        self._tracking = Tracking(server, _root(run))
        self._stopped = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="itkit-redis-lease", daemon=True)

    def start(self) -> None:
        """Take the lease and keep it.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """
        self._renew()
        self._tracking.start()
        self._heart.start()

    def stop(self) -> None:
        """Remove all keys of the run and give the lease back; a second call does nothing.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """
        if self._stopped.is_set():
            return
        self._stopped.set()
        if self._heart.is_alive():
            self._heart.join()
        with contextlib.ExitStack() as releases:
            releases.callback(self._tracking.stop)
            _forget(self._server, self._run, self._tracking)

    def _renew(self) -> None:
        with servers.connected(self._server) as client:
            # The lease first, as a registered run without a lease would be swept.
            client.set(_lease(self._run), this_process(), ex=_TTL)
            client.sadd(_RUNS, self._run)

    def _beat(self) -> None:
        while not self._stopped.wait(_HEARTBEAT):
            # If the server has died, the tests report that.
            with contextlib.suppress(ServiceUnavailableError):
                self._renew()
                self._tracking.written()  # else the server would have to keep its reports


def sweep(server: str) -> list[str]:
    """Remove the keys of runs that have died; return the ids of those runs.

    A run has died when its lease has expired. If run, server and this process are on the same
    machine, it has also died when its process has ended.

    Only runs that are registered here are examined, and only keys with their ids are removed. Users
    of a run that is not registered were made by a worker that has outlived its run.

    Raises:
        ServiceUnavailableError: the server does not answer.
    """
    with servers.connected(server) as client:
        with_users = acl.runs_with_users(client)  # first: a run registers before it has users
        runs = sorted(str(run) for run in client.smembers(_RUNS))
        leases = {run: client.get(_lease(run)) for run in runs if _is_run(run)}
    # Cloned virtual machines have the same id, but here the server is on the same machine too.
    is_local = urls.parse(server, urls.REDIS_SCHEMES).is_local
    dead = [
        run
        for run, lease in leases.items()
        if lease is None or (is_local and has_ended(str(lease)))
    ]
    for run in dead:
        _forget(server, run)
    with servers.connected(server) as client:
        for run in with_users.difference(runs):
            acl.revoke(client, run)
    return dead


def is_registered(server: str, run: str) -> bool:
    """Return whether a run is alive, or has died and was not swept yet.

    Raises:
        ServiceUnavailableError: the server does not answer.
    """
    with servers.connected(server) as client:
        return bool(client.sismember(_RUNS, run))


def revoke(server: str, run: str) -> None:
    """Delete the users of a run that is not registered any more.

    Raises:
        ServiceUnavailableError: the server does not answer.
    """
    with servers.connected(server) as client:
        acl.revoke(client, run)


def _forget(server: str, run: str, tracking: Tracking | None = None) -> None:
    with servers.connected(server) as client:
        acl.revoke(client, run)  # first, as keys that a process of the run still writes would stay
        written = tracking.written() if tracking else []
        if tracking and tracking.is_on:
            client.unlink(_lease(run))  # keys from before the tracking
            tracking.remove(written)
        else:
            servers.remove(server, _root(run))
        client.srem(_RUNS, run)
        acl.revoke(client, run)  # again, as a worker that outlives its run may just have made one


def _is_run(text: str) -> bool:
    """Return whether an entry of the set is a run's id, and no pattern that would match more."""
    return names.run_of_key(_root(text)) == text


def _root(run: str) -> str:
    return f"{names.KEY_ROOT}{run}:"


def _lease(run: str) -> str:
    return f"{_root(run)}lease"


def this_process() -> str:
    """Return an id of this process that no process on any machine shares, if possible."""
    machine = _machine()
    return f"{machine} {os.getpid()}" if machine else _UNKNOWN


def has_ended(holder: str) -> bool:
    """Return whether a process has certainly ended; False if that cannot be found out here."""
    machine, _, pid = holder.rpartition(" ")
    # Another process may have this id by now. In that case the lease lasts until it expires.
    return bool(machine) and machine == _machine() and not is_there(int(pid))


def _machine() -> str | None:
    """Return the ids of the boot and the container, within which process ids are unique."""
    try:
        return f"{_BOOT.read_text().strip()} {_PROCESSES.readlink()}"
    except OSError:
        return None  # not Linux
