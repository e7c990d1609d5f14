"""The app: it registers the system checks and does nothing else."""

from django.apps import AppConfig


class ItkitConfig(AppConfig):
    """What ``"itkit"`` in INSTALLED_APPS stands for."""

    name = "itkit"
    verbose_name = "Integration tests"

    def ready(self) -> None:
        """Register the checks."""
        from itkit import checks

        checks.register()
