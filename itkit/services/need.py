"""What a run needs: a kind of server, and where the user says it may come from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["postgres", "redis"]
LabelledUrl = tuple[str, str]
"""Where a URL was given, for people, and the URL."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """One server that a run needs.

    Attributes:
        kind: Postgres, or Redis, which may be a Valkey.
        given: The URL that the user gave to itkit. It always wins, and must answer.
        project: The project's own server. It is used if it answers and is on this machine.
        allow_remote: Also use the project's own server when it is on another machine.
        binary: Where a server is installed: for Postgres the directory of ``postgres`` and
            ``initdb``, for Redis the program or its directory. No other installation is tried.
        probe: Asks the server at a URL, for at most so many seconds, what it is, and returns its
            product and version such as ``Postgres 18.6``. Any exception means no answer.
    """

    kind: Kind
    given: LabelledUrl | None = field(default=None, repr=False)  # may hold a password
    project: LabelledUrl | None = field(default=None, repr=False)
    allow_remote: bool = False
    binary: str | None = None
    probe: Callable[[str, float], str]
