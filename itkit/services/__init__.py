"""Finds or starts Postgres and Redis, returns their URLs, and stops what it has started.

Nothing here uses a client of either server: ``Need.probe`` finds out whether one answers. Read in
this order: ``need``, ``sources`` (where a server may come from), ``service`` and ``run``,
``programs`` (of an installed or embedded server), ``supervisor`` and ``guard`` (which ends what was
started), ``cache``, ``user``, ``refusals``, ``errors``.
"""

from itkit.services.cache import Entry, cached, folder, remove
from itkit.services.need import Need
from itkit.services.run import Options, ServerState
from itkit.services.service import Service, Services
from itkit.services.sources import start

__all__ = [
    "Entry",
    "Need",
    "Options",
    "ServerState",
    "Service",
    "Services",
    "cached",
    "folder",
    "remove",
    "start",
]
