"""What a migration needs and a build of Postgres lacks, said with where it is to be had."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.db.utils import DatabaseError

from itkit.exceptions import ServiceUnavailableError

_NEEDS_ICU: Final = re.compile(
    r"ICU is not supported in this build|collation \"[^\"]+-x-icu\" .*does not exist"
)


@contextmanager
def lacking_explained() -> Iterator[None]:
    """Explain failures of migrations, within a block, that are the build's and not theirs.

    Raises:
        ServiceUnavailableError: a migration needs ICU, which the server was built without.
    """
    try:
        yield
    except DatabaseError as error:
        first_line = str(error).partition("\n")[0]
        if not _NEEDS_ICU.search(first_line):
            raise
        raise ServiceUnavailableError(
            f"A migration needs a collation of ICU, which this Postgres was built without"
            f" ({first_line}). The embedded one has none: install a system Postgres, which has it,"
            " and set ITKIT_SOURCE=system, or name a server that has it by"
            " ITKIT_POSTGRES_URL=postgresql://…"
        ) from error
