"""Test data: created by factories, tracked, unique, and removed whatever the constraints."""

from itkit.data.ledger import close_in as close_ledger
from itkit.data.manager import TestDataManager
from itkit.data.mistakes import mistakes
from itkit.data.report import CleanupReport
from itkit.data.scenarios import Scenario, scenario
from itkit.data.unique import UniqueValues, follow
from itkit.data.world import World

__all__ = [
    "CleanupReport",
    "Scenario",
    "TestDataManager",
    "UniqueValues",
    "World",
    "close_ledger",
    "follow",
    "mistakes",
    "scenario",
]
