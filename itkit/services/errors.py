"""The reasons why there is no server. These errors never leave this package.

They are a module of their own, as nearly all modules of the package raise them.
"""


class SearchError(Exception):
    """Base of the errors of the search for a server; the message is a line about one attempt.

    Args:
        reason: The reason why the attempt failed.
        remedies: Remedies that the reason does not contain; any one of them helps.
    """

    def __init__(self, reason: str, *remedies: str | None) -> None:
        super().__init__(reason)
        self.remedies = tuple(filter(None, remedies))


class SourceUnusableError(SearchError):
    """One source has no usable server; the next one may have one."""


class RefusedError(SourceUnusableError):
    """A server answers and cannot be used; this is reported even if another one is found."""


class ProgramFailedError(SourceUnusableError):
    """A program of ours has ended by itself or has failed; the message has the end of its log."""


class SearchEndedError(SearchError):
    """The time or the cache, which all sources share, has run out, so no other source can help."""
