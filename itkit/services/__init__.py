"""Find or start Postgres and Redis, hand out their URLs, stop what was started.

Nothing here knows a client of either: whether a server answers is asked through ``Need.probe``.
"""

from itkit.services.cache import Entry, cached, folder, remove
from itkit.services.need import Need
from itkit.services.run import Options, State
from itkit.services.service import Service, Services
from itkit.services.starting import start

__all__ = [
    "Entry",
    "Need",
    "Options",
    "Service",
    "Services",
    "State",
    "cached",
    "folder",
    "remove",
    "start",
]
