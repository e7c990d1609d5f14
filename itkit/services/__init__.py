"""Find or start Postgres and Redis, hand out their URLs, stop what was started.

Nothing here knows a client of either: whether a server answers is asked through ``Need.probe``.
Read in this order: ``need``, ``sources`` (where a server may come from),
``service`` and ``run``, ``binaries`` and ``installation``, ``postgres_server`` and
``valkey_server``, ``supervisor`` and ``guard`` (which ends what was started), ``cache``,
``user``, ``refusals``, ``errors``.
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
