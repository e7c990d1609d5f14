"""pytest's door to the environment: ``pytest --integration``.

This package is imported by every pytest on the machine, so it imports nothing of Django, Postgres
or Redis. All but the options exists only in projects that have ``"itkit"`` in INSTALLED_APPS.

Read ``plugin`` (the scopes, the fixtures and the reports of a run), ``sweeping`` (a test that is
run once for each variation), ``reports`` (the lines and annotations of a failure) and ``arguments``
(how a command names its tests).
"""

from __future__ import annotations

import sys
from functools import partial
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Final

import pytest

from itkit.core.options import OPTIONS, without_integration
from itkit.pytest_plugin import arguments
from itkit.pytest_plugin.plugin import IntegrationPlugin

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from importlib.machinery import ModuleSpec

_ONE_TEST: Final = (
    "--itkit-bisect is for one test, with --integration, as the report of a failure prints it:"
    " pytest 'tests/test_a.py::test_a' --integration --itkit-seed=5f3a9c01:17 --itkit-bisect"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--integration`` and the options that belong to it."""
    group = parser.getgroup("itkit", "integration tests")
    for option, settings in OPTIONS.items():
        group.addoption(option, **settings)


# A wrapper is called before pytest-django's hook, which imports the project's apps.
@pytest.hookimpl(tryfirst=True, wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Let Python load itkit's own modules, instead of pytest."""
    sys.meta_path.insert(0, _OwnModules)
    early_config.add_cleanup(partial(sys.meta_path.remove, _OwnModules))
    return (yield)


class _OwnModules:
    """A finder that leaves itkit's own modules as they are.

    pytest rewrites the asserts of all modules of a distribution that has a plugin, to explain them.
    itkit's asserts explain nothing to a test's author, and each of its 200 modules would be
    compiled anew by the first run of an installation, and by every run that may not write bytecode.
    That takes more than a second of CPU time in each process.
    """

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, _target: object = None
    ) -> ModuleSpec | None:
        """Return where a module of itkit is, and nothing for other modules."""
        return PathFinder.find_spec(name, path) if name.startswith("itkit.") else None


def pytest_configure(config: pytest.Config) -> None:
    """Add the fixtures, the marker and the scopes, in projects that use itkit."""
    is_alone = not config.getoption("integration") and not hasattr(config, "workerinput")
    if is_alone and (wrong := without_integration(config.invocation_params.args)):
        raise pytest.UsageError(wrong)
    obstacle = _obstacle(config)
    if obstacle is None:
        from itkit.environment import child

        child.leave()
        config.pluginmanager.register(IntegrationPlugin(config), "itkit-integration")
    elif config.getoption("integration"):
        raise pytest.UsageError(f"--integration needs {obstacle}")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Run a bisection instead of the tests, where an option asks for it."""
    if not config.getoption("itkit_bisect"):
        return None
    obstacle = _obstacle(config)
    tests = config.option.file_or_dir
    if obstacle is not None:
        raise pytest.UsageError(f"--itkit-bisect needs {obstacle}")
    if not config.getoption("integration") or len(tests) != 1:
        raise pytest.UsageError(_ONE_TEST)
    from itkit.environment.bisection import bisection
    from itkit.exceptions import ItkitError

    options = bisection.options(config.invocation_params.args, tests)
    if config.getoption("numprocesses", None):  # of pytest-xdist
        options.append("-n0")
    command = bisection.Command(
        start=arguments.start_of(config),
        shown=["pytest"],
        options=options,
        argument=partial(arguments.named, config),
    )
    try:
        return bisection.run(
            command, arguments.id_of(config, tests[0]), config.getoption("itkit_seed"), _write_line
        )
    except ItkitError as error:
        raise pytest.UsageError(f"itkit: {error}") from error


def _obstacle(config: pytest.Config) -> str | None:
    """Return what is missing for a project to use itkit; None when it does."""
    if not config.pluginmanager.hasplugin("django"):
        return "pytest-django: pip install 'django-itkit[pytest]'"
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    if settings is None or not settings.configured:
        return (
            "Django's settings: set DJANGO_SETTINGS_MODULE in pytest's configuration, in the"
            " environment, or by --ds"
        )
    if not any(app.partition(".")[0] == "itkit" for app in settings.INSTALLED_APPS):
        return '"itkit" in INSTALLED_APPS'
    return None


def _write_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
