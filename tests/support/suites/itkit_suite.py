"""pytest plugin that runs somebody else's suite under an isolation: see test_suites."""

import functools
import importlib.metadata
import os

import pytest
from django.conf import settings

from itkit.redis import PrefixIsolation

# What a suite does to a server of its own, and could not be run without.
ALLOWED = ["SCRIPT", "CONFIG", "SLOWLOG", "ACL", "CLIENT", "FUNCTION", "LATENCY"]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Isolate redis-py before anything of the suite connects."""
    # Each connection of redis-py looks it up, which takes more than most of the tests.
    importlib.metadata.version = functools.cache(importlib.metadata.version)
    if "DJANGO_SETTINGS_MODULE" not in os.environ:
        settings.configure()
    settings.ITKIT = {"REDIS": {"ALLOW_COMMANDS": ALLOWED}}
    isolation = PrefixIsolation(
        server=os.environ["SUITE_SERVER"],
        run="0123abcd",
        worker="w1",
        owned=False,
        project=[("the suite", "redis://localhost:6379"), ("the suite", "redis://127.0.0.1:6379")],
        secret="s",
    )
    isolation.install()
    config.add_cleanup(isolation.uninstall)
    config.add_cleanup(isolation.clear)
