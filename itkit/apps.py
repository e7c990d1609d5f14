"""The app: it registers the system checks, and joins a test that has started this process."""

import os

from django.apps import AppConfig

from itkit.core import names


class ItkitConfig(AppConfig):
    """What ``"itkit"`` in INSTALLED_APPS stands for."""

    name = "itkit"
    verbose_name = "Integration tests"

    def ready(self) -> None:
        """Register the checks, and join the test that has started this process, if one has."""
        from itkit import checks

        checks.register()
        if names.INVITATION_VARIABLE in os.environ:
            from itkit.environment import child

            child.join()
