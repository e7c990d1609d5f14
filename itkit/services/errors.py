"""Why a source of servers cannot be used. These errors never leave this package."""


class SourceUnusableError(Exception):
    """One source has no server to offer; the message is its line in the list of what was tried."""


class ProgramFailedError(SourceUnusableError):
    """A program of ours has ended by itself, or badly; the message has the end of its log."""
