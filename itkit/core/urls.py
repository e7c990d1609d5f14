"""URLs of servers: parses them, compares them, and prints them without passwords."""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from itkit.exceptions import ConfigurationError

_DEFAULT_PORTS = {
    "postgres": 5432,
    "postgresql": 5432,
    "redis": 6379,
    "rediss": 6379,
    "valkey": 6379,
    "valkeys": 6379,
}
POSTGRES_SCHEMES = ("postgresql", "postgres")
REDIS_SCHEMES = ("redis", "rediss", "unix", "valkey", "valkeys")
_USERINFO = re.compile(
    r"""
    (?P<before>
        \b(?!(?:http|ws)s?://[^@\s]*[/?#])  # what follows the colon there is a port
        [a-z][\w+.-]*://[^/?#@:\s'"]*:
    )
    (?P<password>(?:(?!\w://)[^\s'"])*)  # up to the last @ before the next URL
    (?=@)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_PASSWORD_FIELD = re.compile(
    r"\b(?P<before>(?:ssl)?password=)(?:'[^']*'|[^\s&'\"]+)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class ServerURL:
    """One server's URL in parts.

    ``host`` is a host name or an address; for Postgres it may also be the directory of a socket, or
    empty for the default directory. For Redis the file of a socket is in ``socket``. ``name`` is
    the name of the database, or its number in Redis.
    """

    scheme: str
    host: str
    port: int | None
    user: str
    password: str
    name: str
    options: Mapping[str, str]
    socket: str = ""

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine: a socket or a loopback address."""
        return bool(self.socket) or is_local_host(self.host)

    @property
    def address(self) -> str:
        """The address of the server for messages: a socket's path or ``host:port``."""
        if self.socket or self.host.startswith("/"):
            return self.socket or self.host
        return f"{self.host or 'localhost'}:{self.port or _DEFAULT_PORTS.get(self.scheme, '')}"

    def __str__(self) -> str:
        """Return the whole URL, password included."""
        user = quote(self.user, safe="")
        login = f"{user}:{quote(self.password, safe='')}@" if self.password else ""
        login = login or (f"{user}@" if user else "")
        if self.scheme == "unix":
            return f"unix://{login}{quote(self.socket)}{self._query()}"
        host = "" if self.host.startswith("/") else self.host
        host = f"[{host}]" if ":" in host else host
        port = f":{self.port}" if self.port and host else ""
        return f"{self.scheme}://{login}{host}{port}/{quote(self.name, safe='')}{self._query()}"

    def _query(self) -> str:
        options = dict(self.options)
        if self.host.startswith("/"):
            options["host"] = self.host
        if self.host.startswith("/") and self.port:
            options["port"] = str(self.port)
        return f"?{urlencode(options)}" if options else ""


@lru_cache(maxsize=64)  # cached, as each test parses the URLs of the run
def parse(url: str, schemes: tuple[str, ...]) -> ServerURL:
    """Return the parts of a URL. For Postgres, no host means libpq's default, the local socket.

    Raises:
        ConfigurationError: the scheme is not one of ``schemes``, or Redis has no host or socket.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # Neither the text nor the reason is shown: if a password has an @ or a / in it, the
        # apparent port may be a part of the password.
        raise ConfigurationError(
            "The address of a server is not a URL. Percent-encode special characters of a"
            " password: %40 for @, %2F for /, %23 for #."
        ) from None
    if parts.scheme not in schemes:
        known = " or ".join(f"{scheme}://" for scheme in schemes)
        raise ConfigurationError(f"The URL of a server does not begin with {known}.")
    options = dict(parse_qsl(parts.query))
    server = ServerURL(
        scheme=parts.scheme,
        host=options.pop("host", "") or unquote(parts.hostname or ""),
        port=_port(options.pop("port", None)) or port,
        user=unquote(parts.username or options.pop("username", "")),
        password=unquote(parts.password or options.pop("password", "")),
        name="" if parts.scheme == "unix" else unquote(parts.path.lstrip("/")),
        options=options,
        socket=unquote(parts.path) if parts.scheme == "unix" else "",
    )
    if not server.host and not server.socket and server.scheme not in POSTGRES_SCHEMES:
        raise ConfigurationError("The URL of a server names neither a host nor a socket.")
    return server


def is_local_host(host: str) -> bool:
    """Return whether a host setting means this machine: empty, a path, localhost or loopback."""
    if host in {"", "localhost"} or host.startswith(("/", "@")):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def redact(text: str, hidden: str = "***") -> str:
    """Return a text with all passwords in URLs and in ``password=`` fields hidden.

    Args:
        text: any text, such as the message of a driver.
        hidden: the text that replaces each password.
    """
    for pattern in (_USERINFO, _PASSWORD_FIELD):
        text = pattern.sub(lambda found: found["before"] + hidden, text)
    return text


def passwords_in(text: str) -> Iterator[str]:
    """Yield the passwords of the URLs in a text, both as they are written and decoded."""
    for found in _USERINFO.finditer(text):
        # If the special characters of a password are not encoded, everything before the last @ is
        # meant. By the rules, however, a path begins at the first /, and an @ in it does not end a
        # password.
        netloc, *path = re.split("[/?#]", found["password"], maxsplit=1)
        readings = [found["password"], netloc.rpartition("@")[0] if path else ""]
        yield from dict.fromkeys(
            password for one in readings if one for password in (one, unquote(one))
        )


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal():
        raise ConfigurationError("The option 'port' in the URL of a server is not a number.")
    return int(text)
