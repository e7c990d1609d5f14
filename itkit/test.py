"""Test cases with real commits, fakes at ``self.backends`` and test data at ``self.data``."""

from typing import TYPE_CHECKING, Literal
from unittest import SkipTest

from django.test import LiveServerTestCase, SimpleTestCase, TransactionTestCase, tag

from itkit import environment, names
from itkit.data import TestDataManager
from itkit.registry import Registry
from itkit.timeline import TimelineReader

__all__ = ["IntegrationLiveServerTestCase", "IntegrationMixin", "IntegrationTestCase"]

_SKIP_REASON = (
    f"{names.SKIP_REASON}; if you did, another app's 'test' command or a runner without itkit's"
    " mixin is in use (see the system check itkit.W001)"
)


# For the type checker, the mixin is what it is mixed into.
if TYPE_CHECKING:
    _TestCase = SimpleTestCase
else:
    _TestCase = object


@tag(names.TAG)
class IntegrationMixin(_TestCase):
    """Gives a Django test case ``self.backends``, ``self.data`` and ``self.timeline``.

    List it first in the bases.
    With ``TestCase`` it makes an integration test that is rolled back instead of committed.
    """

    _data: TestDataManager | None = None

    @classmethod
    def setUpClass(cls) -> None:
        """Skip the class where there is no environment to run it in."""
        _environment()
        super().setUpClass()

    @property
    def backends(self) -> Registry:
        """The external backends of ``ITKIT["BACKENDS"]``, faked and recording."""
        return _environment().backends

    @property
    def timeline(self) -> TimelineReader:
        """What has left the process in this test, in order."""
        return TimelineReader()

    @property
    def data(self) -> TestDataManager:
        """The manager of this test's data; what it creates is removed after the test."""
        if self._data is None:
            self._data = _environment().new_data_manager()
            self.addCleanup(self._data.end)
        return self._data


class IntegrationTestCase(IntegrationMixin, TransactionTestCase):
    """A test that commits for real, on all databases; they are reset after it."""

    databases: set[str] | Literal["__all__"] = "__all__"


class IntegrationLiveServerTestCase(IntegrationMixin, LiveServerTestCase):
    """The same with Django's live server running in a thread."""

    databases: set[str] | Literal["__all__"] = "__all__"


def _environment() -> environment.Environment:
    current = environment.current()
    if current is None:
        raise SkipTest(_SKIP_REASON)
    return current
