"""The one limit on the path of a Unix socket: its length."""

import os
import sys
from pathlib import Path

from itkit.services.errors import SourceUnusableError

_LONGEST = 103 if sys.platform == "darwin" else 107


def require_fit(path: Path) -> Path:
    """Return the path, if the system can bind a socket to it.

    Raises:
        SourceUnusableError: it is too long.
    """
    length = len(os.fsencode(path))
    if length > _LONGEST:
        raise SourceUnusableError(
            f"the path of its socket, {path}, has {length} bytes and the system allows {_LONGEST}; "
            "name a shorter directory in ITKIT_DATA_ROOT"
        )
    return path
