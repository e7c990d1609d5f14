"""Integration tests for Django that are real, isolated, fast and easy.

``"itkit"`` in INSTALLED_APPS is all that a project needs; test cases are in ``itkit.test``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from itkit.exceptions import (
    AtomicityError,
    BenchmarkError,
    BindingError,
    BudgetError,
    CallMismatchError,
    ConfigurationError,
    DataError,
    EffectError,
    ElsewhereError,
    EscapeError,
    FaultError,
    FoundError,
    HangError,
    ImpossibleReturnError,
    IsolationError,
    ItkitError,
    LateCallError,
    LeakedKeysError,
    LeakedMarkError,
    LeakedPatchError,
    LeakedRowsError,
    LeftKeysError,
    NeverRunError,
    NotRunError,
    ObservationError,
    OpenTransactionError,
    OrderError,
    ProcessLeftError,
    RaceError,
    RelayError,
    RepeatError,
    ScopeError,
    ServiceUnavailableError,
    StateError,
    SwallowedError,
    SweepError,
    TaskCrashError,
    TestError,
    UnexpectedCallError,
    UnknownAliasError,
    UnknownBackendError,
    UnknownMethodError,
    UnprogrammedReturnError,
    UnusedAnswerError,
    WorkerError,
)

if TYPE_CHECKING:
    from itkit.backends.container import TestContainer, measure_integration_coverage
    from itkit.backends.registry import Registry as Backends
    from itkit.backends.tracking import ServiceCoverage
    from itkit.core.benchmarking import Benchmark, benchmark, benchmark_integration_performance
    from itkit.data import TestDataManager, scenario
    from itkit.fakes import Call, Handle, MethodHandle, RecordingFake
    from itkit.observation.assertions import TimelineReader as Timeline
    from itkit.observation.budgets import Budget, budget
    from itkit.observation.observe import Observation, observe

__all__ = [
    "AtomicityError",
    "Backends",
    "Benchmark",
    "BenchmarkError",
    "BindingError",
    "Budget",
    "BudgetError",
    "Call",
    "CallMismatchError",
    "ConfigurationError",
    "DataError",
    "EffectError",
    "ElsewhereError",
    "EscapeError",
    "FaultError",
    "FoundError",
    "Handle",
    "HangError",
    "ImpossibleReturnError",
    "IsolationError",
    "ItkitError",
    "LateCallError",
    "LeakedKeysError",
    "LeakedMarkError",
    "LeakedPatchError",
    "LeakedRowsError",
    "LeftKeysError",
    "MethodHandle",
    "NeverRunError",
    "NotRunError",
    "Observation",
    "ObservationError",
    "OpenTransactionError",
    "OrderError",
    "ProcessLeftError",
    "RaceError",
    "RecordingFake",
    "RelayError",
    "RepeatError",
    "ScopeError",
    "ServiceCoverage",
    "ServiceUnavailableError",
    "StateError",
    "SwallowedError",
    "SweepError",
    "TaskCrashError",
    "TestContainer",
    "TestDataManager",
    "TestError",
    "Timeline",
    "UnexpectedCallError",
    "UnknownAliasError",
    "UnknownBackendError",
    "UnknownMethodError",
    "UnprogrammedReturnError",
    "UnusedAnswerError",
    "WorkerError",
    "benchmark",
    "benchmark_integration_performance",
    "budget",
    "measure_integration_coverage",
    "observe",
    "scenario",
]

# Every pytest of the machine imports this package for its plugin; these would load the ORM.
_LAZY = {
    "Backends": ("itkit.backends.registry", "Registry"),
    "Benchmark": ("itkit.core.benchmarking", "Benchmark"),
    "Budget": ("itkit.observation.budgets", "Budget"),
    "Call": ("itkit.fakes", "Call"),
    "Handle": ("itkit.fakes", "Handle"),
    "MethodHandle": ("itkit.fakes", "MethodHandle"),
    "Observation": ("itkit.observation.observe", "Observation"),
    "RecordingFake": ("itkit.fakes", "RecordingFake"),
    "ServiceCoverage": ("itkit.backends.tracking", "ServiceCoverage"),
    "TestContainer": ("itkit.backends.container", "TestContainer"),
    "TestDataManager": ("itkit.data", "TestDataManager"),
    "Timeline": ("itkit.observation.assertions", "TimelineReader"),
    "benchmark": ("itkit.core.benchmarking", "benchmark"),
    "benchmark_integration_performance": (
        "itkit.core.benchmarking",
        "benchmark_integration_performance",
    ),
    "budget": ("itkit.observation.budgets", "budget"),
    "measure_integration_coverage": (
        "itkit.backends.container",
        "measure_integration_coverage",
    ),
    "observe": ("itkit.observation.observe", "observe"),
    "scenario": ("itkit.data", "scenario"),
}


def __getattr__(name: str) -> object:
    """Import a name on its first use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, own_name = _LAZY[name]
    return getattr(import_module(module), own_name)
