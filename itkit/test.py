"""Test cases with real commits, fakes at ``self.backends`` and test data at ``self.data``."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal
from unittest import SkipTest

from django.test import LiveServerTestCase, SimpleTestCase, TestCase, TransactionTestCase, tag
from django.test.testcases import TestData  # type: ignore[attr-defined]  # not in the stubs

from itkit import environment
from itkit.backends.registry import Registry
from itkit.core import benchmarking, names
from itkit.core.benchmarking import Benchmark
from itkit.data import TestDataManager
from itkit.observation.assertions import TimelineReader

__all__ = ["IntegrationLiveServerTestCase", "IntegrationMixin", "IntegrationTestCase"]

_SKIP_REASON = (
    f"{names.SKIP_REASON}; if you did, another app's 'test' command or a runner without itkit's"
    " mixin is in use (see the system check itkit.W001)"
)


# The type checker sees the mixin as a subclass of the class that it is mixed into.
if TYPE_CHECKING:
    from itkit.observation.budgets import Budget

    _TestCase = SimpleTestCase
else:
    _TestCase = object


class _Manager:
    """The manager of the data of a test or of a class, which is made when it is first used.

    Args:
        commits: whether it is that of a test after which Django resets the databases.
    """

    def __init__(self, *, commits: bool = False) -> None:
        self.manager: TestDataManager | None = None
        self._commits = commits

    def get(self) -> TestDataManager:
        """Return the manager."""
        if self.manager is None:
            self.manager = _environment().new_data_manager(commits=self._commits)
        return self.manager

    def end(self) -> None:
        """Remove what the manager has created, if there is one."""
        if self.manager is not None:
            self.manager.end()


class _Data:
    """``self.data`` of a test, and ``cls.data`` of its class."""

    def __get__(
        self, test: "IntegrationMixin | None", kind: type["IntegrationMixin"]
    ) -> TestDataManager:
        manager: _Manager | None = vars(kind if test is None else test).get("_itkit_data")
        if manager is not None:
            return manager.get()
        if test is None:
            # Not earlier, as a test loader reads the attributes of all classes.
            raise AttributeError(
                f"{kind.__name__}.data is there from super().setUpClass() on, as in setUpTestData()"
            )
        commits = isinstance(test, TransactionTestCase) and not isinstance(test, TestCase)
        test._itkit_data = _Manager(commits=commits)
        test.addCleanup(test._itkit_data.end)
        return test._itkit_data.get()


@tag(names.TAG)
class IntegrationMixin(_TestCase):
    """Gives a Django test case ``self.backends``, ``self.data`` and ``self.timeline``.

    List it first in the bases.
    With ``TestCase`` it makes an integration test that is rolled back instead of committed.

    Attributes:
        data: the manager of this test's data, whose rows are removed after the test. The manager of
            the class, ``cls.data``, is for ``setUpTestData()`` and ``setUpClass()``; each test of
            the class sees its rows.
    """

    data = _Data()
    _itkit_data: _Manager

    @classmethod
    def setUpClass(cls) -> None:
        """Set the class up, as Django does, and its data; skip it if there is no environment."""
        _environment()
        cls._itkit_data = _Manager()
        super().setUpClass()
        if not issubclass(cls, TestCase):
            cls._set_up_test_data()

    @classmethod
    def tearDownClass(cls) -> None:
        """Remove the data of the class, and tear it down as Django does."""
        try:
            cls._itkit_data.end()
        finally:
            super().tearDownClass()

    @classmethod
    def setUpTestData(cls) -> None:
        """Create rows for all tests of the class; each test finds them unchanged."""

    @classmethod
    def _set_up_test_data(cls) -> None:
        """Call ``setUpTestData()``, and give each test copies of what it assigns to the class.

        Django does this for a ``TestCase`` only, whose transaction ends with the class.
        """
        before = vars(cls).copy()
        cls.setUpTestData()
        for name, value in vars(cls).copy().items():
            if value is not before.get(name):
                setattr(cls, name, TestData(name, value))

    @property
    def backends(self) -> Registry:
        """The external backends of ``ITKIT["BACKENDS"]``, faked and recording."""
        return _environment().backends

    @property
    def timeline(self) -> TimelineReader:
        """The crossings of this test, in order."""
        return TimelineReader()

    def budget(self, name: str) -> "Budget":
        """Let a block send no more than the file of budgets allows; see ``itkit.budget``."""
        from itkit.observation.budgets import Budget

        return Budget(name)

    def benchmark(
        self, action: Callable[[], object], *, rounds: int = 50, warmup: int = 5
    ) -> Benchmark:
        """Return how long something takes; see ``itkit.benchmark``."""
        return benchmarking.benchmark(action, rounds=rounds, warmup=warmup)


class IntegrationTestCase(IntegrationMixin, TransactionTestCase):
    """A test that commits for real, on all databases; they are reset after it."""

    databases: set[str] | Literal["__all__"] = "__all__"


class IntegrationLiveServerTestCase(IntegrationMixin, LiveServerTestCase):
    """An ``IntegrationTestCase`` with Django's live server, which runs in a thread."""

    databases: set[str] | Literal["__all__"] = "__all__"


def _environment() -> environment.Environment:
    current = environment.current()
    if current is None:
        raise SkipTest(_SKIP_REASON)
    return current
