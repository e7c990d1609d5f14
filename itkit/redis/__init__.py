"""Redis: every key and channel that redis-py sends is under the prefix of one worker.

The only package that knows redis-py and django-redis. Read in this order: ``addresses`` and
``project`` (the servers that the settings name), ``commands`` and ``keyspecs`` (where the keys of
a command are), ``policy`` (which commands may pass), ``server``, ``prefix``, ``wire``,
``isolation``, ``shared`` (caches that outlast tests), ``crossings`` (commands on the timeline),
``clients`` (lets a sweep fail or delay commands).
"""

from itkit.redis.clients import clients_led, command_keys, command_name, command_writes, is_blocking
from itkit.redis.crossings import listening
from itkit.redis.isolation.dedicated import OwnServer
from itkit.redis.isolation.interface import WorkerRedis
from itkit.redis.isolation.isolation import PrefixIsolation
from itkit.redis.isolation.joined import JoinedIsolation
from itkit.redis.project import is_redis, mistakes, project_servers, usable_server
from itkit.redis.server.acl import can_read_acl_log, grant
from itkit.redis.server.lease import RunLease, is_registered, revoke, sweep
from itkit.redis.server.redis_py import require
from itkit.redis.server.server import probe

__all__ = [
    "JoinedIsolation",
    "OwnServer",
    "PrefixIsolation",
    "RunLease",
    "WorkerRedis",
    "can_read_acl_log",
    "clients_led",
    "command_keys",
    "command_name",
    "command_writes",
    "grant",
    "is_blocking",
    "is_redis",
    "is_registered",
    "listening",
    "mistakes",
    "probe",
    "project_servers",
    "require",
    "revoke",
    "sweep",
    "usable_server",
]
