"""A Postgres of its own for what one process measures."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import django
from django.conf import settings
from django.db import connection

from itkit import postgres, services
from itkit.core import urls


@contextmanager
def own_database(**more: Any) -> Iterator[None]:
    """Start an embedded Postgres and set Django up with it, and with more settings."""
    need = services.Need(kind="postgres", probe=postgres.probe)
    started = services.start([need], services.Options(source="embedded"))
    assert started.postgres is not None
    server = urls.parse(started.postgres.url, urls.POSTGRES_SCHEMES)
    database = {"ENGINE": "django.db.backends.postgresql", "NAME": server.name}
    address = {"HOST": server.host, "PORT": server.port, "USER": server.user}
    settings.configure(DATABASES={"default": {**database, **address}}, ITKIT={}, **more)
    django.setup()
    try:
        yield
    finally:
        connection.close()
        started.stop()
