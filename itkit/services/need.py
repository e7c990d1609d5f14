"""A need of a run: a kind of server, and the user's choice of its source.

It is a module of its own, as it is what callers pass to this package, whose modules all know it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["postgres", "redis"]
LabelledUrl = tuple[str, str]
"""Where a URL was given, in words, and the URL."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """One server that a run needs.

    Attributes:
        kind: ``postgres`` or ``redis``; Valkey counts as Redis.
        given: The URL that the user gave to itkit. It is always used, and the server must answer.
        project: The project's own server. It is used if it answers and is on this machine.
        allow_remote: Whether the project's own server may be used on another machine, too.
        binary: The path of an installation: for Postgres the directory of ``postgres`` and
            ``initdb``, for Redis the program or its directory. No other installation is tried then.
        probe: Returns product and version of the server at a URL, such as ``Postgres 18.6``, within
            a number of seconds. Any exception means that it does not answer.
    """

    kind: Kind
    given: LabelledUrl | None = field(default=None, repr=False)  # may hold a password
    project: LabelledUrl | None = field(default=None, repr=False)
    allow_remote: bool = False
    binary: str | None = None
    probe: Callable[[str, float], str]
