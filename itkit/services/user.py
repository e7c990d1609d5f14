"""The user who runs Postgres: ourselves, or an unprivileged user if we are root."""

import os
import pwd
from dataclasses import dataclass
from typing import Any, Final

from itkit.services.errors import SourceUnusableError

UNPRIVILEGED: Final = ("postgres", "nobody")
"""The first one that exists is used: other programs may run as ``nobody``, none as ``postgres``."""


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The user of a server; ``switch`` says whether this is another user than ours."""

    uid: int
    gid: int
    switch: bool

    @property
    def name(self) -> str | None:
        """The user's name; None if the machine has no entry for the id."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return None

    @property
    def process_arguments(self) -> dict[str, Any]:
        """The arguments of ``subprocess.run`` that run a program as this user."""
        if not self.switch:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def current_user() -> ServerUser:
    """Return ourselves."""
    return ServerUser(os.geteuid(), os.getegid(), switch=False)


def unprivileged_user() -> ServerUser:
    """Return a user who may run Postgres, which refuses root.

    Raises:
        SourceUnusableError: we are root, and there is no suitable other user.
    """
    if os.geteuid() != 0:
        return current_user()
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return ServerUser(entry.pw_uid, entry.pw_gid, switch=True)
    raise SourceUnusableError(
        "the tests run as root, Postgres refuses to, and this machine has no user "
        f"{' or '.join(UNPRIVILEGED)} to run it as; add one, or run the tests as another user"
    )
