"""Run a function as another request would: in a thread, on its own connection."""

from concurrent.futures import ThreadPoolExecutor

from django.db import connections


def in_threads(function, *arguments):
    """Call a function once per argument, all at the same time, and return the results."""
    with ThreadPoolExecutor(len(arguments)) as pool:
        return list(pool.map(lambda argument: _call(function, argument), arguments))


def _call(function, argument):
    try:
        return function(argument)
    finally:
        connections.close_all()
