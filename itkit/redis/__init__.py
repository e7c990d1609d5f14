"""Redis: every key and channel that redis-py sends is under the prefix of one worker.

The only package that knows redis-py and django-redis.
"""

from itkit.redis.acl import grant
from itkit.redis.denials import are_told
from itkit.redis.installed import Installed
from itkit.redis.isolation import Isolation
from itkit.redis.joined import joined
from itkit.redis.lease import RunLease, is_registered, revoke, sweep
from itkit.redis.own import OwnServer
from itkit.redis.project import is_redis, mistakes, project_servers
from itkit.redis.server import probe

__all__ = [
    "Installed",
    "Isolation",
    "OwnServer",
    "RunLease",
    "are_told",
    "grant",
    "is_redis",
    "is_registered",
    "joined",
    "mistakes",
    "probe",
    "project_servers",
    "revoke",
    "sweep",
]
