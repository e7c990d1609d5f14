"""Addresses of Redis servers: of connections, of URLs, and anywhere inside a setting's value."""

import contextlib
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from itkit.core import urls
from itkit.exceptions import ConfigurationError

_PORT = 6379
_SENTINEL_PORT = 26379
_SENTINEL = "sentinel"
_SENTINELS = "sentinels"
"""The key under which a mapping has the Sentinels of a server; upper or lower case."""
_SCHEMES = (*urls.REDIS_SCHEMES, "redis+socket", _SENTINEL)
_LOGIN = ("username", "password")
_URL = re.compile(rf"(?:{'|'.join(map(re.escape, _SCHEMES))})://", re.IGNORECASE)
_HOST_AND_PORT = re.compile(r"(?P<host>[\w.:%-]+|\[[\w.:%]+\]):(?P<port>[0-9]{1,5})")
_HOST_SETTING = re.compile(r"(\w*(?:REDIS|VALKEY)\w*)_HOST")
_OF_REDIS = re.compile(r"redis|valkey|sentinel|^RQ_|CACHEOPS", re.IGNORECASE)
_OF_ITS_OWN = ("db", "virtual_host", "ssl")
"""Beginnings of the options in a URL that belong to its server, and not to those who use it."""
_BETWEEN_URLS = re.compile(r"[;,]\s*(?=[a-z+]+://)", re.IGNORECASE)

Change = Callable[[str, Any], Any]
"""Takes a server's URL and the value that named it, and returns the value to put there."""


class Address(NamedTuple):
    """Where a server listens: at a host and a port, or at a socket's path with the port 0."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return ``host:port`` or the path, as in ``ITKIT["REDIS"]["ALLOW_ADDRESSES"]``."""
        return f"{self.host}:{self.port}" if self.port else self.host


def at(host: str, port: int | str) -> Address:
    """Return the address of a host; all names of this machine become one."""
    host = host.strip("[]").lower()
    return Address("localhost" if urls.is_local_host(host) else host, int(port))


def on_socket(path: str) -> Address:
    """Return the address of a socket; its path may go through links."""
    return Address(str(Path(path).resolve()), 0)


def of_url(url: str) -> Address:
    """Return the address in a URL.

    Raises:
        ConfigurationError: the text is not the URL of a Redis server.
    """
    server = parse(url)
    return on_socket(server.socket) if server.socket else at(server.host, server.port or _PORT)


def of_text(text: str) -> Address | None:
    """Return the address of ``host:port`` or a socket's path, or None when it is neither."""
    if text.startswith("/"):
        return on_socket(text)
    match = _HOST_AND_PORT.fullmatch(text)
    return at(match["host"], match["port"]) if match and int(match["port"]) else None


def parse(url: str) -> urls.ServerURL:
    """Return the parts of a URL; ``redis+socket://`` and ``sentinel://`` of Celery are known too.

    Raises:
        ConfigurationError: the text is not the URL of a Redis server.
    """
    scheme, _, rest = url.partition("://")
    if is_sentinel(url):
        server = urls.parse(f"redis://{rest}", urls.REDIS_SCHEMES)
        return replace(server, port=server.port or _SENTINEL_PORT)
    scheme = "unix" if scheme.lower() == "redis+socket" else scheme.lower()
    if scheme != "unix" and not urlsplit(url).hostname:  # clients of Redis take this machine
        login, at, rest = rest.rpartition("@")
        rest = f"{login}{at}localhost{rest}"
    return urls.parse(f"{scheme}://{rest}", urls.REDIS_SCHEMES)


def is_sentinel(url: str) -> bool:
    """Return whether a URL leads to a Sentinel, and not to a server with keys."""
    return url.partition("://")[0].lower() == _SENTINEL


def of_sentinel(host: str, port: int, number: int | None = None) -> str:
    """Return the URL of a Sentinel, with the number of a database on the server that it knows."""
    return f"{_SENTINEL}://{_in_url(host)}:{port}/{number or 0}"


def database(url: str) -> int | None:
    """Return the number of the database in a URL; None where it has none.

    In that case a number that is given beside the URL counts; a number in the URL would overrule
    it.
    """
    server = parse(url)
    number = server.options.get("db") or server.options.get("virtual_host") or server.name
    return int(number) if number.isdecimal() else None


def with_database(
    server: urls.ServerURL, number: int | None, options: Mapping[str, str], *, celery: bool
) -> str:
    """Return a server's URL with the number of a database; keep Celery's spelling.

    Args:
        server: the server.
        number: the number of the database; none is named where it is None.
        options: further options of the URL, such as ``decode_responses``.
        celery: whether Celery reads the URL.
    """
    text = "" if number is None else str(number)
    if not server.socket:
        return str(replace(server, name=text, options=options))
    own = {"virtual_host" if celery else "db": text} if text else {}
    url = str(replace(server, options={**own, **options}))
    return f"redis+socket{url.removeprefix('unix')}" if celery else url


def for_clients(url: str) -> str:
    """Return a URL as clients other than Celery spell it: ``unix://`` for ``redis+socket://``."""
    if url.partition("://")[0].lower() != "redis+socket":
        return url
    return with_database(parse(url), database(url), options_of(url), celery=False)


def options_of(url: str) -> dict[str, str]:
    """Return the options in a URL that hold for whichever server stands for its own."""
    options = parse(url).options
    return {name: text for name, text in options.items() if not name.startswith(_OF_ITS_OWN)}


def found_in(value: Any, name: str = "") -> list[str]:
    """Return the URLs of all Redis servers that a setting's value names, in its order.

    Args:
        value: the value.
        name: the name of the setting.
    """
    found: list[str] = []

    def note(url: str, named_by: Any) -> Any:
        found.append(url)
        return named_by

    changed(value, note, name)
    return found


def of_setting(settings: Any, name: str) -> list[str]:
    """Return the URLs of all Redis servers that a setting names: by its value, or as a host.

    ``REDIS_HOST`` is the host of one server, with ``REDIS_PORT`` and ``REDIS_DB`` beside it. Where
    the name says that it is Redis, a text may also be ``host:port``.
    """
    value = getattr(settings, name, None)
    if not isinstance(value, str) or not value or _URL.match(str(value)):
        return found_in(value, name)
    value = str(value)  # it may be lazy
    if match := _HOST_SETTING.fullmatch(name):
        rest = {key: getattr(settings, f"{match[1]}_{key.upper()}", None) for key in ("port", "db")}
        url = _url_of_fields({"host": value, "port": rest["port"] or _PORT, "db": rest["db"]})
        return [url] if url else []
    if _OF_REDIS.search(name) and _HOST_AND_PORT.fullmatch(value):
        return [f"{_SENTINEL if _SENTINEL in name.lower() else 'redis'}://{value}/0"]
    return []


def is_of_redis(name: str) -> bool:
    """Return whether the name of a setting, or of a part of one, says that it is about Redis."""
    return bool(_OF_REDIS.search(name))


def changed(value: Any, change: Change, name: str = "") -> Any:
    """Return a copy of a setting's value in which ``change`` has replaced each Redis server.

    Servers are named by URLs (several with ``;`` or ``,`` between), by pairs of host and port,
    by mappings with ``host`` and ``port``, or with ``host`` and the number of a ``db``, where
    the port is that of Redis, and by mappings with ``unix_socket_path``. Where the setting or a
    key says that it is about Redis, a ``host`` alone is enough. Pairs are those of Sentinels where
    the setting or a key says so, and mappings in a list below the key ``sentinels``.

    Args:
        value: the value.
        change: makes the replacement of one server.
        name: the name of the setting.
    """
    return _changed(value, change, (name,))


def _changed(value: Any, change: Change, names: tuple[str, ...]) -> Any:
    """Change a part of a setting's value that is below some names: of the setting, and of keys."""
    if isinstance(value, str):
        return _changed_text(value, change)
    if url := _url_of(value, names):
        return change(url, value)
    if isinstance(value, Mapping):
        return {key: _changed(item, change, (*names, str(key))) for key, item in value.items()}
    if type(value) in {list, tuple, set, frozenset}:
        return type(value)(_changed(item, change, names) for item in value)
    return value


def _changed_text(text: str, change: Change) -> str:
    plain = str(text)  # it may be lazy
    if not _URL.match(plain):
        return text
    return ";".join(change(part, part) for part in _BETWEEN_URLS.split(plain))


def _url_of(value: Any, names: tuple[str, ...]) -> str | None:
    """Return the URL of a server that is named by a pair or by a mapping."""
    if isinstance(value, Mapping):
        fields = {str(key).lower(): item for key, item in value.items()}
        url = _url_of_fields(fields, is_redis=any(map(is_of_redis, names)))
        if url is None or names[-1].lower() != _SENTINELS:
            return url
        return f"{_SENTINEL}{url[url.index('://') :]}"
    match value:
        case [str(host), int(port)] if not isinstance(port, bool):
            if any(_SENTINEL in name.lower() for name in names):
                return of_sentinel(host, port)
            return f"redis://{_in_url(host)}:{port}/0"
    return None


def _url_of_fields(fields: Mapping[str, Any], *, is_redis: bool = False) -> str | None:
    number = fields.get("db") or 0
    login = _login_of(fields)
    match fields:
        case {"unix_socket_path": str(path)}:
            return f"unix://{login}{path}?db={number}"
        case {"host": str(host), "port": int(port) | str(port)}:
            return f"redis://{login}{_in_url(host)}:{port}/{number}"
        case {"host": str(host), "db": int(number) | str(number)} if str(number).isdecimal():
            return f"redis://{login}{_in_url(host)}:{fields.get('port') or _PORT}/{number}"
        case {"host": str(host)} if is_redis and not fields.get("port"):
            return f"redis://{login}{_in_url(host)}:{_PORT}/{number}"
    return None


def _login_of(fields: Mapping[str, Any]) -> str:
    user, password = (quote(str(fields.get(key) or ""), safe="") for key in _LOGIN)
    return f"{user}:{password}@" if password else ""


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host or "localhost"


def names_of(address: Address, settings: Any) -> list[str]:
    """Return the names of the Django settings whose value names a server at the address."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated settings are read with all others
        return [
            name for name in filter(str.isupper, dir(settings)) if _names(address, settings, name)
        ]


def _names(address: Address, settings: Any, name: str) -> bool:
    with contextlib.suppress(ImproperlyConfigured):  # a required setting that is empty
        return any(_is_at(url, address) for url in of_setting(settings, name))
    return False


def _is_at(url: str, address: Address) -> bool:
    try:
        return of_url(url) == address
    except ConfigurationError:
        return False
