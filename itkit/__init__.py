"""Integration tests for Django that are real, isolated, fast and easy.

``"itkit"`` in INSTALLED_APPS is all that a project needs; test cases are in ``itkit.test``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from itkit.exceptions import (
    BindingError,
    CallMismatchError,
    ConfigurationError,
    DataError,
    EffectError,
    ElsewhereError,
    EscapeError,
    FoundError,
    ImpossibleReturnError,
    IsolationError,
    ItkitError,
    LateCallError,
    LeakedPatchError,
    LeakedRowsError,
    LeftKeysError,
    NeverRunError,
    NotRunError,
    ObservationError,
    OpenTransactionError,
    OrderError,
    ProcessLeftError,
    RelayError,
    ScopeError,
    ServiceUnavailableError,
    SwallowedError,
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
    from itkit.container import TestContainer
    from itkit.data import TestDataManager, scenario
    from itkit.fakes import Call, Handle, MethodHandle, RecordingFake
    from itkit.observation import Observation, observe
    from itkit.registry import Registry as Backends
    from itkit.timeline import TimelineReader as Timeline

__all__ = [
    "Backends",
    "BindingError",
    "Call",
    "CallMismatchError",
    "ConfigurationError",
    "DataError",
    "EffectError",
    "ElsewhereError",
    "EscapeError",
    "FoundError",
    "Handle",
    "ImpossibleReturnError",
    "IsolationError",
    "ItkitError",
    "LateCallError",
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
    "RecordingFake",
    "RelayError",
    "ScopeError",
    "ServiceUnavailableError",
    "SwallowedError",
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
    "observe",
    "scenario",
]

# Every pytest of the machine imports this package for its plugin; these would load the ORM.
_LAZY = {
    "Backends": ("itkit.registry", "Registry"),
    "Call": ("itkit.fakes", "Call"),
    "Handle": ("itkit.fakes", "Handle"),
    "MethodHandle": ("itkit.fakes", "MethodHandle"),
    "Observation": ("itkit.observation", "Observation"),
    "RecordingFake": ("itkit.fakes", "RecordingFake"),
    "TestContainer": ("itkit.container", "TestContainer"),
    "TestDataManager": ("itkit.data", "TestDataManager"),
    "Timeline": ("itkit.timeline", "TimelineReader"),
    "observe": ("itkit.observation", "observe"),
    "scenario": ("itkit.data", "scenario"),
}


def __getattr__(name: str) -> object:
    """Import a name on its first use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, own_name = _LAZY[name]
    return getattr(import_module(module), own_name)
