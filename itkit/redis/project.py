"""Finds the Redis servers that the project's settings name, and points the settings elsewhere."""

import contextlib
import difflib
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from itkit import conf
from itkit.core import urls
from itkit.exceptions import ConfigurationError
from itkit.redis import addresses, shared

_BACKENDS = {
    "django.core.cache.backends.redis",
    "django_redis.cache",
    "django_valkey.async_cache.cache",
    "django_valkey.cache",
}
_BETWEEN_LOCATIONS = re.compile(r"[;,]")
_CELERY = re.compile(r"CELERY|BROKER|RESULT_BACKEND")
_OF_CELERY = ("redis+socket", "sentinel")  # schemes that only clients of Redis use
_NUMBER = 7
_UNLISTED = 5
_NOT_OURS = frozenset({"CACHES", "DATABASES", "ITKIT"})
_NEAR = 0.7  # with less, any name would be near to one of Django's many settings


def project_servers() -> list[tuple[str, str]]:
    """Return label and URL of each Redis server of the project, in the order of the settings.

    The servers are in the aliases of ``CACHES`` whose backend is django-redis or Django's own, and
    in the settings that ``ITKIT["REDIS"]["SETTINGS"]`` names. Sentinels are among them, by URLs
    with a scheme of their own: a client that asks a Sentinel gets the tests' server.

    Raises:
        ConfigurationError: a setting has a text that is not the URL of a Redis server.
    """
    return [*_in_caches(), *_in_named_settings()]


def usable_server(servers: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """Return the first of the project's servers that the tests can use, which is no Sentinel."""
    return next((server for server in servers if not addresses.is_sentinel(server[1])), None)


def is_redis(backend: str) -> bool:
    """Return whether a backend of ``CACHES`` keeps its values in an isolated Redis.

    Args:
        backend: path of its class, or of the function that makes it.
    """
    kinds = getattr(import_string(backend), "__mro__", ())  # a function may make the cache
    return any(kind.__module__ in _BACKENDS for kind in kinds)


def mistakes() -> list[conf.Mistake]:
    """Return the mistakes in ``ITKIT["REDIS"]``, compared with the project's other settings."""
    if conf.mistakes():
        return []  # another check reports it, and the table cannot be read
    table = conf.get().redis
    return [
        *_wrong_names(table.settings),
        *_wrong_addresses(table.allow_addresses),
        *_two_servers(table),
        *_wrong_aliases(table.shared_aliases),
        *_unlisted(table.settings),
    ]


@contextlib.contextmanager
def pointed_at(server: str) -> Iterator[None]:
    """Point the settings that ``ITKIT["REDIS"]["SETTINGS"]`` names at a server within a block.

    Environment variables of the same names are changed as well, for subprocesses. Django's
    ``setting_changed`` is sent, as libraries such as channels then drop objects that they made from
    the old value.
    """
    with contextlib.ExitStack() as stack:
        for name in conf.get().redis.settings:
            if hasattr(settings, name):
                stack.enter_context(_setting_pointed(name, server))
            if name in os.environ:
                stack.enter_context(_variable_pointed(name, server))
        yield


def _in_caches() -> Iterator[tuple[str, str]]:
    caches: Mapping[str, Mapping[str, Any]] = settings.CACHES
    for alias, cache in caches.items():
        if not is_redis(cache["BACKEND"]):
            continue
        options = cache.get("OPTIONS", {})
        if sentinels := options.get("SENTINELS"):
            number = next(map(addresses.database, _locations(cache)), None)
            for host, port in sentinels:
                yield shared.label_of(alias), addresses.of_sentinel(host, port, number)
            continue
        for url in _locations(cache):
            yield shared.label_of(alias), _with_login(url, options)


def _locations(cache: Mapping[str, Any]) -> list[str]:
    location = cache.get("LOCATION", "")
    if isinstance(location, str):
        location = _BETWEEN_LOCATIONS.split(location)
    return [url for url in location if url]


def _with_login(url: str, options: Mapping[str, Any]) -> str:
    """Add the login in a cache's OPTIONS: capital keys for django-redis, small ones for Django."""
    server = addresses.parse(url)
    user = options.get("USERNAME") or options.get("username") or server.user
    password = options.get("PASSWORD") or options.get("password") or server.password
    return str(replace(server, user=user, password=password))


def _in_named_settings() -> Iterator[tuple[str, str]]:
    for name in conf.get().redis.settings:
        for url in addresses.of_setting(settings, name):
            yield name, url if addresses.is_sentinel(url) else str(addresses.parse(url))


@contextlib.contextmanager
def _setting_pointed(name: str, server: str) -> Iterator[None]:
    original = getattr(settings, name)
    _assign(name, _pointed(name, original, server), enter=True)
    try:
        yield
    finally:
        _assign(name, original, enter=False)


def _assign(name: str, value: Any, *, enter: bool) -> None:
    setattr(settings, name, value)
    setting_changed.send(sender=type(settings), setting=name, value=value, enter=enter)


@contextlib.contextmanager
def _variable_pointed(name: str, server: str) -> Iterator[None]:
    """Let an environment variable name the tests' server within a block."""
    original = os.environ[name]
    os.environ[name] = _pointed(name, original, server)
    try:
        yield
    finally:
        os.environ[name] = original


def _pointed(name: str, value: Any, server: str) -> Any:
    """Return a copy of a setting's value in which each server is replaced by another one.

    A pair or a mapping with a host cannot name a socket. In that case it stays as it is, and its
    connections are redirected like those to all addresses of the project.
    """
    target = addresses.parse(server)

    def change(url: str, named_by: Any) -> Any:
        if not isinstance(named_by, str):
            return _relocated(named_by, target)
        celery = url.startswith(_OF_CELERY) or bool(_CELERY.search(name))
        number, options = addresses.database(url), addresses.options_of(url)
        return addresses.with_database(target, number, options, celery=celery)

    return addresses.changed(value, change, name)


def _relocated(named_by: Any, target: urls.ServerURL) -> Any:
    if not isinstance(named_by, Mapping):
        if target.socket:
            return named_by
        # A named tuple takes its values one by one.
        make = getattr(named_by, "_make", type(named_by))
        return make((target.host, target.port))
    values = {"host": target.host, "port": target.port, "unix_socket_path": target.socket}
    moved = {key: values.get(str(key).lower()) or item for key, item in named_by.items()}
    if target.port and "port" not in map(str.lower, map(str, named_by)):
        # The mapping has relied on the port of Redis.
        moved["PORT" if "HOST" in named_by else "port"] = target.port
    return moved


def _unlisted(listed: tuple[str, ...]) -> Iterator[conf.Mistake]:
    """Yield one warning about all settings that have addresses of Redis and are not listed."""
    found = [name for name in _names_of_settings() if name not in listed and _names_redis(name)]
    if found:
        line = ", ".join(f'"{name}"' for name in (*listed, *found))
        yield conf.Mistake(
            _UNLISTED,
            f"The settings {', '.join(found)} name Redis servers, to which tests with --integration"
            " may not connect.",
            f'To send their connections to the tests\' Redis: ITKIT = {{"REDIS": {{"SETTINGS":'
            f" [{line}]}}}}",
            "W",
        )


def _names_of_settings() -> list[str]:
    return [name for name in dir(settings) if name.isupper() and name not in _NOT_OURS]


def _names_redis(name: str) -> bool:
    """Return whether a setting names a server that must be Redis."""
    with warnings.catch_warnings(), contextlib.suppress(ImproperlyConfigured):
        warnings.simplefilter("ignore")  # deprecated settings are read with all others
        value = getattr(settings, name)
        found = addresses.of_setting(settings, name)
        if found and not addresses.found_in(value, name) and _are_known(found):
            return False  # a host from which the address in CACHES is made
        # A host with a port may be any kind of server.
        is_redis = addresses.is_of_redis
        return bool(found) and (is_redis(name) or is_redis(repr(value)))
    return False


def _are_known(servers: Iterable[str]) -> bool:
    """Return whether connections to some servers are redirected, as other settings name these."""
    with contextlib.suppress(ConfigurationError):  # reported when the run starts
        known = {
            addresses.of_url(url) for _, url in project_servers() if not addresses.is_sentinel(url)
        }
        return all(addresses.of_url(url) in known for url in servers)
    return False


def _wrong_names(names: tuple[str, ...]) -> Iterator[conf.Mistake]:
    known = [name for name in dir(settings) if name.isupper()]
    for name in names:
        if not hasattr(settings, name):
            yield conf.Mistake(
                _NUMBER,
                f'ITKIT["REDIS"]["SETTINGS"] names {name!r}, which is not a setting.',
                _instead_of(name, known),
            )
        elif not addresses.of_setting(settings, name):
            yield conf.Mistake(
                _NUMBER,
                f'ITKIT["REDIS"]["SETTINGS"] names {name!r}, in which no Redis address is found.',
                "Name settings that hold a redis:// URL or a host with a port; remove this one.",
            )


def _instead_of(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=_NEAR)
    if near:
        return f"Did you mean {near[0]!r}?"
    return "No setting is called so: define it, or remove the name here."


def _wrong_addresses(texts: tuple[str, ...]) -> Iterator[conf.Mistake]:
    for text in texts:
        if addresses.of_text(text) is None:
            yield conf.Mistake(
                _NUMBER,
                f'ITKIT["REDIS"]["ALLOW_ADDRESSES"] has {text!r}, which is not an address.',
                "Write host:port, such as localhost:6380, or the path of a socket.",
            )


def _two_servers(table: conf.RedisSettings) -> Iterator[conf.Mistake]:
    if table.per_worker_server and table.url is not None:
        yield conf.Mistake(
            _NUMBER,
            'ITKIT["REDIS"]["PER_WORKER_SERVER"] is on, and ITKIT["REDIS"]["URL"] or'
            " ITKIT_REDIS_URL names a server as well.",
            "Remove the URL, as each worker starts a server of its own; or leave the other out.",
        )


def _wrong_aliases(aliases: tuple[str, ...]) -> Iterator[conf.Mistake]:
    try:
        servers = project_servers() if aliases else []
    except ConfigurationError:
        return  # reported when the run starts
    for mistake in shared.mistakes(servers):
        yield conf.Mistake(
            _NUMBER,
            f'ITKIT["REDIS"]["SHARED_ALIASES"] has {mistake}.',
            "Name aliases of CACHES whose LOCATION has a database number of its own.",
        )
