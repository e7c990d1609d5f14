"""A process that a test starts, such as a worker of Celery, joins that test.

It uses the databases and keys of the test's worker, and moves from test to test with that worker.
Its external backends are faked too, and the test's process answers their calls: what a test
programs also counts here, and the calls are on the test's timeline.
"""

import ctypes
import os
from contextlib import ExitStack

from itkit.core import processes
from itkit.core.handshake import Invitation, Payload
from itkit.network import libpq

_releases: ExitStack | None = None
_may_join = True


def join() -> None:
    """Attach this process to the test that has started it, if there is one.

    It is called each time the apps are loaded, which happens again when a test changes
    INSTALLED_APPS. The process ends when the test's process ends.

    Raises:
        ServiceUnavailableError: the test's servers do not answer any more.
    """
    global _releases  # noqa: PLW0603 - as global as what is attached
    invitation = Invitation.from_environment()
    if invitation is None or _releases is not None or not _may_join:
        return
    with ExitStack() as undo:
        _attach(Payload.from_environment(), invitation, undo)
        _releases = undo.pop_all()
    _stay_to_the_end(_releases)
    # The servers and keys of the test are gone when its process is.
    processes.end_with(invitation.process, "itkit-test-watch")


def leave() -> None:
    """Give a process back what it had before it joined a test, and have it join none.

    A process that runs tests itself has to leave: its tests belong to a run of their own, or to
    none.
    """
    global _releases, _may_join  # noqa: PLW0603 - as global as what is attached
    releases, _releases = _releases, None
    _may_join = False
    libpq.put_back()
    if releases is not None:
        Invitation.withdraw()
        releases.close()


def _attach(payload: Payload, invitation: Invitation, releases: ExitStack) -> None:
    from itkit import postgres, redis
    from itkit.backends.registry import Registry
    from itkit.backends.relay import Client, RelayAddress
    from itkit.environment import files
    from itkit.network import guarding
    from itkit.timeline import core

    releases.callback(postgres.put_sqlite_back)
    postgres.replace_sqlite()
    servers = guarding.of_run(payload)
    routing = postgres.Routing(
        payload.databases,
        run=payload.run,
        worker=invitation.worker,
        owned=payload.databases_owned,
        migrate=payload.migrate,
        secret=payload.databases_secret,
    )
    releases.callback(routing.uninstall)
    routing.install(postgres.schema_creation)

    def forget_connections() -> None:
        if _releases is not None:  # registered for good, also when the process has left
            routing.forget_connections()

    os.register_at_fork(after_in_child=forget_connections)
    isolation = redis.JoinedIsolation(
        invitation,
        server=payload.redis,
        run=payload.run,
        owned=payload.redis_owned,
        project=payload.redis_project,
        secret=payload.redis_secret,
    )
    releases.callback(isolation.uninstall)
    isolation.install()
    releases.enter_context(files.Files(payload.files, invitation.worker).installed())
    backends = Registry.from_settings()
    releases.callback(backends.restore)
    backends.swap()
    if invitation.relay is not None:
        client = Client(RelayAddress(*invitation.relay))
        client.use_for(backends.fakes())
        releases.callback(core.set_failure_sink, None)
        core.set_failure_sink(client.keep)
    releases.enter_context(guarding.guarded(servers))


def _stay_to_the_end(releases: ExitStack) -> None:
    """Keep everything until the interpreter has ended, as threads may call backends until then.

    If Python collected the stack earlier, it would call functions whose modules are gone by then.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(releases))
