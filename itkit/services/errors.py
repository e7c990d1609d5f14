"""Why there is no server. These errors never leave this package."""


class SearchError(Exception):
    """Base of the errors of the search for a server; the message is a line of what was tried.

    Attributes:
        remedy: What helps, where the message does not say so.
    """

    def __init__(self, reason: str, remedy: str | None = None) -> None:
        super().__init__(reason)
        self.remedy = remedy


class SourceUnusableError(SearchError):
    """One source has no server to offer; the next one may have."""


class ProgramFailedError(SourceUnusableError):
    """A program of ours has ended by itself, or badly; the message has the end of its log."""


class SearchEndedError(SearchError):
    """What all sources share has failed, the time or the cache, so none that is left can help."""
