"""The gate, without a project: which threads a crash ends."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

from itkit.core import names
from itkit.sweep.choosing import Choice, FaultSpec
from itkit.sweep.gate.gate import Crash, Gate, Point


class Sent(Point):
    """A crossing of no particular kind."""

    def fail(self, kind: str) -> NoReturn:
        raise ConnectionError(kind)

    def lose(self) -> NoReturn:
        raise ConnectionError


def test_a_crash_ends_a_thread_but_not_that_of_a_pool() -> None:
    gate = Gate(Choice(), names.SWEEP_QUICK, [FaultSpec.parse("send:crash_before")])

    def act() -> None:
        with gate.passing(Sent("send", sys._getframe())):
            pass

    def die() -> None:
        try:
            act()
        except Crash:
            died.append(threading.current_thread())

    died: list[threading.Thread] = []
    thread = threading.Thread(target=die)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(die).result(30)
        thread.start()
        thread.join(30)
    assert len(died) == 2
    assert gate.crashed == {thread}
