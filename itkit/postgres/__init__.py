"""Postgres: a schema or a database for each worker, and Django's connections routed to it.

The only package that knows psycopg or psycopg2. Read in this order: ``server`` (connections and
what is there), ``migrations`` (what they need and reach), ``template`` (run once) and ``clone``
(from then on), ``isolation`` (schemas or databases), ``run`` (start and end of a run), ``routing``
(one process' connections), ``reset`` (after each test), ``snapshot`` (a cluster saved before the
first test), ``clean`` (what runs have left).
"""

from itkit.postgres.clean import Leftover, clean, leftovers
from itkit.postgres.isolation import probe_for_tests
from itkit.postgres.migrations.inspection import inspected
from itkit.postgres.routing.creation import schema_creation
from itkit.postgres.routing.kept import Session
from itkit.postgres.routing.kept import followed as sessions_kept
from itkit.postgres.routing.routing import Routing
from itkit.postgres.run import RunDatabases
from itkit.postgres.server.server import postgres_aliases, probe, project_server
from itkit.postgres.server.stand_in import put_sqlite_back, replace_sqlite
from itkit.postgres.template.fingerprint import project_state
from itkit.postgres.template.reads import Finder, shown

__all__ = [
    "Finder",
    "Leftover",
    "Routing",
    "RunDatabases",
    "Session",
    "clean",
    "inspected",
    "leftovers",
    "postgres_aliases",
    "probe",
    "probe_for_tests",
    "project_server",
    "project_state",
    "put_sqlite_back",
    "replace_sqlite",
    "schema_creation",
    "sessions_kept",
    "shown",
]
