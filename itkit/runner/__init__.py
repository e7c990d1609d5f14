"""Django's door to the environment: ``manage.py test --integration``.

Read in this order: ``runner`` (the test runner), ``scopes`` (the scope of each test of unittest),
``sweeping`` (a swept test, run again and again), ``parallel`` (the workers of ``--parallel``),
``workers`` (processes side by side, whose death is noticed).
"""

from itkit.runner.runner import (
    IntegrationRunner,
    IntegrationRunnerMixin,
    add_integration_option,
    mix_into,
    start,
    stop,
)

__all__ = [
    "IntegrationRunner",
    "IntegrationRunnerMixin",
    "add_integration_option",
    "mix_into",
    "start",
    "stop",
]
