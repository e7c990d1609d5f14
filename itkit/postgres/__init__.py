"""Postgres: a schema for each run and worker, and Django's connections routed to it.

Read in this order: ``server`` and ``databases`` (what is there), ``locks``, ``places`` and
``schemas`` (what is ours), ``roles`` (who may use it), ``fingerprint``, ``stamp``, ``clone`` and
``template`` (migrated once), ``extensions``, ``run`` (start and end of a run), ``isolation``
(schemas or databases), ``routing`` and ``creation`` (one process' connections), ``outside`` and
``watch`` (migrations that do more), ``snapshot`` (saved before the first test), ``reset`` (after
each test), ``clean`` (what runs have left), ``explain`` (what a server lacks or denies). The script
of a ``clone`` is put together from ``dependencies`` (the order), ``statements``,
``tables`` and ``grants``, and verified by ``catalogue``.
"""

from itkit.postgres.clean import Leftover, clean, leftovers
from itkit.postgres.fingerprint import project_state
from itkit.postgres.isolation import probe_for_tests
from itkit.postgres.routing import Routing
from itkit.postgres.run import RunDatabases
from itkit.postgres.server import postgres_aliases, probe, project_server

__all__ = [
    "Leftover",
    "Routing",
    "RunDatabases",
    "clean",
    "leftovers",
    "postgres_aliases",
    "probe",
    "probe_for_tests",
    "project_server",
    "project_state",
]
