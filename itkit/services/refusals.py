"""The answers of servers that refuse a login, or of programs in their stead, and the remedies."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from itkit.core.urls import ServerURL
from itkit.services.need import Kind


@dataclass(frozen=True)
class Refusal:
    """One reason for which a server that answers cannot be used.

    Attributes:
        pattern: the pattern that the client's message contains.
        reason: the reason in our words; braces name parts of the URL and groups of the pattern.
        remedies: the remedies, with the same names in braces; any one of them helps.
    """

    pattern: re.Pattern[str]
    reason: str
    remedies: tuple[str, ...]


_ENCODED: Final = "special characters are written as %40 for @, %2F for /, %23 for #"
_LOGIN: Final = f"a password in the URL, {{scheme}}://USER:PASSWORD@{{address}}/…; {_ENCODED}"
_ANOTHER_SERVICE: Final = (
    "another port: what listens at {address} may be a server of another kind, or one that hangs"
)
_RIGHTS: Final = (
    "ACL SETUSER {user} on ~* &* +@all, which an administrator runs there: itkit reads INFO,"
    " manages users (ACL), follows keys (CLIENT), and removes those of its tests"
)

_REFUSALS: Final[Mapping[Kind, Sequence[Refusal]]] = {
    "postgres": (
        Refusal(
            re.compile(r"password authentication failed|authentication failed for user"),
            "the server answers and refuses the password of the role {user!r}",
            (_LOGIN,),
        ),
        Refusal(
            re.compile(r"no password supplied"),
            "the server answers and asks for a password, and none is given",
            (_LOGIN,),
        ),
        Refusal(
            re.compile(r"role \"(?P<role>[^\"]+)\" does not exist"),
            "the server answers and has no role {role!r}",
            (
                'CREATE ROLE "{role}" LOGIN CREATEDB; which an administrator runs',
                "a role that exists, {scheme}://USER:PASSWORD@{address}/…",
            ),
        ),
        Refusal(
            re.compile(r"database \"(?P<database>[^\"]+)\" does not exist"),
            "the server answers and has no database {database!r}, and its database 'postgres' is"
            " closed to the role {user!r}",
            (
                'CREATE DATABASE "{database}"; which an administrator runs',
                "a database that exists, {scheme}://{address}/DATABASE",
            ),
        ),
        Refusal(
            re.compile(r"no pg_hba\.conf entry|pg_hba\.conf rejects"),
            "the server answers and refuses connections of the role {user!r} from here",
            ("a line for it in the server's pg_hba.conf, or sslmode=require in the URL",),
        ),
        Refusal(
            re.compile(r"timeout expired|received invalid response to SSL|expected authentication"),
            "something listens there that does not answer as a Postgres does",
            (_ANOTHER_SERVICE,),
        ),
    ),
    "redis": (
        Refusal(
            re.compile(r"NOAUTH|HELLO must be called|[Aa]uthentication required"),
            "the server answers and asks for a password, and none is given",
            (_LOGIN,),
        ),
        Refusal(
            re.compile(r"WRONGPASS|invalid (?:username-)?password"),
            "the server answers and refuses the password of the user {user!r}",
            (_LOGIN,),
        ),
        Refusal(
            re.compile(r"no permissions to (?:run|access)|NOPERM"),
            "the server answers and refuses the user {user!r} what itkit needs",
            (_RIGHTS, "a login that may do that, {scheme}://USER:PASSWORD@{address}/0"),
        ),
        Refusal(
            re.compile(r"Connection closed by server|Protocol Error|[Tt]imeout reading|timed out"),
            "something listens there that does not answer as a Redis does",
            (_ANOTHER_SERVICE,),
        ),
    ),
}


def refusal(kind: Kind, said: str, server: ServerURL) -> tuple[str, ...]:
    """Return why a server that answers cannot be used, and the remedies; empty if none answers.

    Args:
        kind: the kind of the server.
        said: the message of the client.
        server: the server that was asked.

    Returns:
        The reason first, and then each remedy.
    """
    user = server.user or "default"
    names = {"address": server.address, "scheme": server.scheme, "user": user}
    for known in _REFUSALS[kind]:
        if match := known.pattern.search(said):
            given = names | match.groupdict()
            return tuple(text.format(**given) for text in (known.reason, *known.remedies))
    return ()
