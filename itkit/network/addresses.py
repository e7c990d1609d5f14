"""Finds the servers on this machine that the project's settings name, in any form.

An address may be a URL, a host with a port, a pair or a mapping of both, or the path of a socket,
in any setting and at any depth. Only servers on this machine are searched for: these are a
developer's own, and connections to other machines are refused anyway.
"""

import ipaddress
import re
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from django.conf import global_settings
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

Key = int | str
"""The identity of a server on this machine: its port, or the path of its socket."""

_PORTS: Final = {
    "amqp": 5672,
    "amqps": 5671,
    "bolt": 7687,
    "cassandra": 9042,
    "clickhouse": 9000,
    "couchbase": 8091,
    "elasticsearch": 9200,
    "etcd": 2379,
    "http": 80,
    "https": 443,
    "kafka": 9092,
    "ldap": 389,
    "ldaps": 636,
    "mariadb": 3306,
    "memcache": 11211,
    "memcached": 11211,
    "mongodb": 27017,
    "mqtt": 1883,
    "mssql": 1433,
    "mysql": 3306,
    "nats": 4222,
    "neo4j": 7687,
    "oracle": 1521,
    "postgis": 5432,
    "postgres": 5432,
    "postgresql": 5432,
    "pulsar": 6650,
    "pyamqp": 5672,
    "redis": 6379,
    "rediss": 6379,
    "sentinel": 26379,
    "smtp": 25,
    "smtps": 465,
    "sqlserver": 1433,
    "stomp": 61613,
    "timescale": 5432,
    "valkey": 6379,
    "valkeys": 6379,
    "ws": 80,
    "wss": 443,
}
_OWN_SETTING: Final = "ITKIT"
_POSTGRES_SOCKETS: Final = ("/var/run/postgresql", "/run/postgresql", "/tmp")  # noqa: S108 - libpq's
_URL: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://[^\s,;|\"'<>]*", re.IGNORECASE)
_HOST_AND_PORT: Final = re.compile(
    r"(?<![\w.:\]-])(?P<host>\[[0-9a-f:.%]+\]|[\w.-]+):(?P<port>\d{1,5})(?![\w.:])", re.IGNORECASE
)
_FIELD: Final = re.compile(r"\b(?P<name>host|hostaddr|port)\s*=\s*'?(?P<value>[^\s';,]+)")
_PATH: Final = re.compile(r"(?:unix:)?(?P<path>/(?!/)[^\s,;]+)")
_HOST_NAME: Final = re.compile(r"(?P<prefix>.*?)(?:host|hostname|host_name|server|address)")


def named(settings: Mapping[str, Any] | None = None) -> dict[Key, str]:
    """Return the servers on this machine that settings name, and the first setting for each.

    Args:
        settings: values by their names; by default all of Django's settings except ``ITKIT``.
    """
    values = _all_settings() if settings is None else settings
    found: dict[Key, str] = {}
    for key, key_path in _in_mapping(values, "", set()):
        found.setdefault(key, key_path)
    return found


def is_local(host: str) -> bool:
    """Return whether a host is this machine, by its usual names and addresses."""
    host = host.lower()
    if host in ("", "localhost", socket.gethostname().lower()) or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped.is_loopback or mapped.is_unspecified


def of_socket(path: str) -> str:
    """Return the identity of a socket in the file system; its path may go through links."""
    return str(Path(path).resolve())


def default_port(kind: str) -> int | None:
    """Return the usual port of a kind of server, which the scheme of a URL or an engine names."""
    words = re.split(r"[^a-z0-9]+", kind.lower())
    return next((_PORTS[word] for word in reversed(words) if word in _PORTS), None)


def _all_settings() -> dict[str, Any]:
    """Return all settings, except Django's own lists, such as LANGUAGES, which name no server."""
    values: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated settings are read with all others
        for name in filter(str.isupper, dir(django_settings)):
            with suppress(ImproperlyConfigured):  # a required setting that is empty
                value = getattr(django_settings, name)
                if not (isinstance(value, list) and value is getattr(global_settings, name, None)):
                    values[name] = value
    values.pop(_OWN_SETTING, None)
    return values


def _in_mapping(
    value: Mapping[Any, Any], key_path: str, seen: set[int]
) -> Iterator[tuple[Key, str]]:
    for key, item in value.items():
        inside = f"{key_path}[{_shown(key)}]" if key_path else str(key)
        yield from _in_value(item, inside, seen)
        if isinstance(key, str):
            yield from ((found, key_path or key) for found in _in_text(key))
    fields = {str(key).lower(): item for key, item in value.items()}
    for key, item in value.items():
        if (name := _HOST_NAME.fullmatch(str(key).lower())) is not None:
            inside = key_path or str(key)
            port = fields.get(f"{name['prefix']}port")
            yield from ((found, inside) for found in _in_host(item, port, fields))


def _in_host(host: Any, port: Any, fields: Mapping[str, Any]) -> Iterator[Key]:
    """Yield the server that a host in a mapping names, together with the port beside it."""
    engine = str(fields.get("engine", ""))
    number = _number(port) or default_port(engine)
    if not isinstance(host, str) or number is None:
        return
    if "postg" in engine and (host.startswith("/") or not host):
        for directory in [host] if host else _POSTGRES_SOCKETS:
            yield of_socket(f"{directory}/.s.PGSQL.{number}")
    elif is_local(host.strip("[]")):
        yield number


def _in_value(value: Any, key_path: str, seen: set[int]) -> Iterator[tuple[Key, str]]:
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str | PurePath):
        yield from ((found, key_path) for found in _in_text(str(value)))
    elif isinstance(value, Mapping | list | tuple | set | frozenset):
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, Mapping):
            yield from _in_mapping(value, key_path, seen)
            return
        for item in value:
            yield from _in_value(item, key_path, seen)
        match value:
            case [str(host), port, *_] if (number := _number(port)) and is_local(host.strip("[]")):
                yield number, key_path


def _in_text(text: str) -> Iterator[Key]:
    for url in _URL.finditer(text):
        yield from _in_url(url[0], url["scheme"].lower())
    for match in _HOST_AND_PORT.finditer(text):
        number = _number(match["port"])
        if number is not None and is_local(match["host"].strip("[]")):
            yield number
    if path := _PATH.fullmatch(text):
        yield of_socket(path["path"])
    fields = {match["name"]: match["value"] for match in _FIELD.finditer(text)}
    host = fields.get("host") or fields.get("hostaddr")
    if host is not None:
        yield from _in_host(host, fields.get("port"), {"engine": "postgresql"})


def _in_url(url: str, scheme: str) -> Iterator[Key]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return
    if scheme == "unix" or scheme.endswith(("+socket", "+unix", "+uds")):
        if parts.path:
            yield of_socket(unquote(parts.path))
    elif parts.hostname and is_local(parts.hostname):
        number = port or default_port(scheme)
        if number is not None:
            yield number
    elif not parts.hostname and default_port(scheme) == _PORTS["postgres"]:
        host = dict(_FIELD.findall(unquote(parts.query.replace("&", " ")))).get("host", "")
        yield from _in_host(host, port, {"engine": "postgresql"})


def _number(port: Any) -> int | None:
    if isinstance(port, bool) or not isinstance(port, int | str):
        return None
    text = str(port)
    return int(text) if text.isdecimal() and 0 < int(text) < 65536 else None


def _shown(key: object) -> str:
    return f'"{key}"' if isinstance(key, str) else repr(key)
