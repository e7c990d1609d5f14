"""Test data: created by factories, tracked, unique, and removed whatever the constraints.

Read in this order: ``manager`` (what a test holds), ``aliases`` (``create_order()``, and the
mistakes in the settings), ``factories``, ``create``, ``unique``, ``bulk`` with ``progress``,
``cleanup``, ``marks`` (of bystanders and secrets), ``scenarios``, ``lint`` and ``profile``
(commands that examine factories).
"""

from itkit.data.aliases import mistakes
from itkit.data.cleanup.deletion import take_left
from itkit.data.cleanup.ledger import close_in as close_ledger
from itkit.data.cleanup.report import CleanupReport
from itkit.data.manager import TestDataManager
from itkit.data.scenarios.scenarios import Scenario, scenario
from itkit.data.scenarios.world import World
from itkit.data.unique import UniqueValues, follow

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
    "take_left",
]
