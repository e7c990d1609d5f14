"""Postgres: a schema for each run and worker, and Django's connections routed to it.

Read in this order: ``server`` (one server), ``schemas`` (what is ours in a database),
``extensions``, ``databases`` (start and end of a run), ``routing`` (one process' connections).
"""

from itkit.postgres.databases import RunDatabases
from itkit.postgres.routing import Routing
from itkit.postgres.server import postgres_aliases, probe, project_server

__all__ = ["Routing", "RunDatabases", "postgres_aliases", "probe", "project_server"]
