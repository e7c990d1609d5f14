"""Find or start Postgres and Redis, hand out their URLs, stop what was started.

Nothing here knows a client of either: whether a server answers is asked through ``Need.probe``.
"""

from itkit.services.need import Need
from itkit.services.run import Options
from itkit.services.service import Service, Services
from itkit.services.starting import start

__all__ = ["Need", "Options", "Service", "Services", "start"]
