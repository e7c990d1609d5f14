"""Runs that are alive hold a lease on the server; the keys of those that died are swept."""

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
    """Shows other runs that this one is alive, and the next run that it has died.

    A key that expires after a minute is renewed by a thread; a set names all runs. Both are in
    database 0, wherever the keys of the run may be.

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
        """Remove all keys of the run and give the lease back; does nothing the second time.

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
            # The lease first: a run that is registered without one would be swept.
            client.set(_lease(self._run), this_process(), ex=_TTL)
            client.sadd(_RUNS, self._run)

    def _beat(self) -> None:
        while not self._stopped.wait(_HEARTBEAT):
            # A server that has died is for the tests to report.
            with contextlib.suppress(ServiceUnavailableError):
                self._renew()
                self._tracking.written()  # or the server would have to keep what it reports


def sweep(server: str) -> list[str]:
    """Remove the keys of runs that have died; return the ids of those runs.

    A run has died when its lease has expired, or at once when it was a process of this machine,
    as the server is, and is no more.

    Only runs that registered here are looked at, and only keys with their ids are removed. Users of
    a run that is not registered were made by a worker that has outlived it.

    Raises:
        ServiceUnavailableError: the server does not answer.
    """
    with servers.connected(server) as client:
        with_users = acl.runs_with_users(client)  # first: a run is registered before it has any
        runs = sorted(str(run) for run in client.smembers(_RUNS))
        leases = {run: client.get(_lease(run)) for run in runs if _is_run(run)}
    # Cloned virtual machines take each other for one, but not with a server on each of them.
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
    """Return whether a run is one of those that are alive, or have not been swept.

    Raises:
        ServiceUnavailableError: the server does not answer.
    """
    with servers.connected(server) as client:
        return bool(client.sismember(_RUNS, run))


def revoke(server: str, run: str) -> None:
    """Delete the users of a run, which is registered no more.

    Raises:
        ServiceUnavailableError: the server does not answer.
    """
    with servers.connected(server) as client:
        acl.revoke(client, run)


def _forget(server: str, run: str, tracking: Tracking | None = None) -> None:
    with servers.connected(server) as client:
        acl.revoke(client, run)  # first: what a process of the run still writes would stay
        written = tracking.written() if tracking else []
        if tracking and tracking.is_on:
            client.unlink(_lease(run))  # which was there before the tracking
            tracking.remove(written)
        else:
            servers.remove(server, _root(run))
        client.srem(_RUNS, run)
        acl.revoke(client, run)  # again: a worker that outlives its run may just have made one


def _is_run(text: str) -> bool:
    """Return whether an entry of the set is a run's id, and not a pattern that would match more."""
    return names.run_of_key(_root(text)) == text


def _root(run: str) -> str:
    return f"{names.KEY_ROOT}{run}:"


def _lease(run: str) -> str:
    return f"{_root(run)}lease"


def this_process() -> str:
    """Return an id of this process that no other one has, on any machine, if there is one."""
    machine = _machine()
    return f"{machine} {os.getpid()}" if machine else _UNKNOWN


def has_ended(holder: str) -> bool:
    """Return whether a process has certainly ended; False where that cannot be seen from here."""
    machine, _, pid = holder.rpartition(" ")
    # Another process may have the id by now: then the lease lasts until it expires.
    return bool(machine) and machine == _machine() and not is_there(int(pid))


def _machine() -> str | None:
    """Return the boot and the container in which process ids mean what they mean to us."""
    try:
        return f"{_BOOT.read_text().strip()} {_PROCESSES.readlink()}"
    except OSError:
        return None  # not Linux
