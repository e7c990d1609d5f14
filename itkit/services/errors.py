"""Why there is no server. These errors never leave this package."""


class SearchError(Exception):
    """Base of the errors of the search for a server; the message is a line of what was tried.

    Args:
        reason: What is said of it.
        remedies: What helps, where the reason does not say so; any one of these.
    """

    def __init__(self, reason: str, *remedies: str | None) -> None:
        super().__init__(reason)
        self.remedies = tuple(filter(None, remedies))


class SourceUnusableError(SearchError):
    """One source has no server to offer; the next one may have."""


class RefusedError(SourceUnusableError):
    """A server answers and cannot be used, which is worth a word even if another one is found."""


class ProgramFailedError(SourceUnusableError):
    """A program of ours has ended by itself, or badly; the message has the end of its log."""


class SearchEndedError(SearchError):
    """What all sources share has failed, the time or the cache, so none that is left can help."""
