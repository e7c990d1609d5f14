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
    RelayError,
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
)

if TYPE_CHECKING:
    from itkit.container import TestContainer
    from itkit.data import TestDataManager, scenario
    from itkit.fakes import Call, Handle, MethodHandle, RecordingFake
    from itkit.observation import Observation, observe

__all__ = [
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
    "RecordingFake",
    "RelayError",
    "ServiceUnavailableError",
    "SwallowedError",
    "TaskCrashError",
    "TestContainer",
    "TestDataManager",
    "TestError",
    "UnexpectedCallError",
    "UnknownAliasError",
    "UnknownBackendError",
    "UnknownMethodError",
    "UnprogrammedReturnError",
    "UnusedAnswerError",
    "observe",
    "scenario",
]

# Every pytest of the machine imports this package for its plugin; these would load the ORM.
_LAZY = {
    "Call": "itkit.fakes",
    "Handle": "itkit.fakes",
    "MethodHandle": "itkit.fakes",
    "Observation": "itkit.observation",
    "RecordingFake": "itkit.fakes",
    "TestContainer": "itkit.container",
    "TestDataManager": "itkit.data",
    "observe": "itkit.observation",
    "scenario": "itkit.data",
}


def __getattr__(name: str) -> object:
    """Import a name on its first use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
