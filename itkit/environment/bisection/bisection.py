"""Which of the tests that ran before one make it fail: ``--itkit-bisect``.

An earlier test may have left something behind in the process. So each trial is a run in a new
process, by the runner's own command, with an option that names the tests and their order.
"""

import json
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from itkit.core.seed import Seed
from itkit.environment.bisection import orders
from itkit.environment.bisection.orders import Begun, Order
from itkit.exceptions import ConfigurationError, WorkerError

_AGAIN: Final = 2
_SHOWN: Final = 2_000  # characters that are shown of the end of a run's output
_NOT_KNOWN: Final = (
    "--itkit-bisect: no run of this seed is known on this machine in which {test} has failed after"
    " other tests. Run all tests here as they ran there, with --itkit-seed={seed}; if it fails,"
    " use --itkit-bisect with the command that the failure prints."
)
_NOT_BY_THEM: Final = (
    "{test} passes alone, and after the {count} that ran before it in its process, so these do"
    " not make it fail. It may depend on chance, on the clock, on what other processes did at"
    " the same time, or on modules that only a run of all tests imports."
)
_FLAKY: Final = (
    "{test} sometimes passes and sometimes fails after the same tests, so these alone do not make"
    " it fail. It may depend on chance, on the clock, or on what other processes do."
)


class Command(NamedTuple):
    """The command of a runner, in its parts.

    Attributes:
        start: the command that starts the runner.
        shown: the same command as a user types it.
        options: all arguments but the tests.
        argument: returns the argument that selects a test, by the test's id.
    """

    start: Sequence[str]
    shown: Sequence[str]
    options: Sequence[str]
    argument: Callable[[str], str]

    def line(self, tests: Sequence[Begun], seed: str) -> list[str]:
        """Return the arguments that run tests in this order, with their own random values."""
        indexes = Seed(seed, tuple(begun.number for begun in tests))
        named = [self.argument(begun.test) for begun in tests]
        return [*named, *self.options, f"--itkit-seed={indexes}"]


def options(arguments: Sequence[str], tests: Sequence[str]) -> list[str]:
    """Return the arguments of a command, without tests and options that a bisection sets."""
    left, rest = [], iter(arguments)
    for argument in rest:
        if argument == "--itkit-seed":
            next(rest, None)
        elif not (
            argument in tests
            or argument == "--itkit-bisect"
            or argument.startswith("--itkit-seed=")
        ):
            left.append(argument)
    return left


class Trial:
    """The file through which a bisection gives a run its tests, and learns how they have ended.

    Args:
        path: the path of the file.

    Attributes:
        tests: the ids of the tests to run, in their order; None where the command names them.
        seed: the seed of the random values of the tests.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        read = json.loads(self._path.read_text())
        self.tests: list[str] | None = read["tests"]
        self.seed: str = read["seed"]

    def end(self, order: Order) -> None:
        """Write down how the tests have ended."""
        begun = [begun.test for begun in order.begun]
        self._path.write_text(json.dumps({"begun": begun, "failed": sorted(order.failed)}))


def run(command: Command, test: str, seed: str | None, say: Callable[[str], object]) -> int:
    """Find and print the smallest set of tests that makes a test fail, although it passes alone.

    Args:
        command: the command of the runner.
        test: the id of the test that fails.
        seed: the seed of the run in which the test has failed.
        say: prints a line.

    Returns:
        The exit code: 1 where the test was seen to fail, else 0.

    Raises:
        ConfigurationError: no run is known in which the test has failed after others.
        WorkerError: a trial ended before it reached the test.
    """
    if seed is None:
        raise ConfigurationError(
            "--itkit-bisect needs the --itkit-seed of the run in which the test has failed: use the"
            " command that the failure prints."
        )
    text = Seed.parse(seed).text
    begun = orders.up_to(test, text)
    if not begun:
        raise ConfigurationError(_NOT_KNOWN.format(test=test, seed=text))
    *before, target = begun
    search = _Search(command, before, target, text, say)
    verdict, needed = search.run()
    if needed is None:
        say(f"itkit: {verdict}")
        return 0
    say("\n".join([f"itkit: {verdict}", *(f"  {one.test}" for one in needed)]))
    say(f"to repeat it: {search.shown(needed)}")
    return 1


class _Search:
    """The trials.

    Args:
        command: the command of the runner.
        before: the tests that ran before.
        target: the test that fails.
        seed: the seed of the run.
        say: prints a line.
    """

    def __init__(
        self,
        command: Command,
        before: list[Begun],
        target: Begun,
        seed: str,
        say: Callable[[str], object],
    ) -> None:
        self._command = command
        self._before = before
        self._target = target
        self._seed = seed
        self._say = say
        self._known: dict[tuple[int, ...], bool] = {}

    def run(self) -> tuple[str, list[Begun] | None]:
        """Return a sentence with the result, and the tests that make it fail, if any."""
        test, count = self._target.test, _counted(len(self._before))
        if self._fails([]):
            return f"{test} fails alone: no test has to run before it.", []
        everything = list(range(len(self._before)))
        if not self._fails(everything):
            return _NOT_BY_THEM.format(test=test, count=count), None
        needed = sorted(self._smallest([], everything, is_known_to_pass=True))
        chosen = self._chosen(needed)
        for _ in range(_AGAIN):  # once by the command that is printed, and once alone
            if not self._try(chosen, is_as_printed=True) or self._try([]):
                return _FLAKY.format(test=test), None
        return (
            f"{test} passes alone, and fails if these tests ran before it in its process:",
            chosen,
        )

    def shown(self, needed: list[Begun]) -> str:
        """Return the command that runs these tests and then the one that fails."""
        line = self._command.line([*needed, self._target], self._seed)
        return shlex.join([*self._command.shown, *line])

    def _smallest(
        self, given: list[int], candidates: list[int], *, is_known_to_pass: bool
    ) -> list[int]:
        """Return the smallest part of the candidates that makes the test fail after those given.

        It halves the candidates, as "QuickXplain" by Junker (2004) does: about ten trials find one
        test among a thousand, and each further test takes as many again.

        Args:
            given: the positions of tests that run in any case.
            candidates: the positions of further tests; with all of them the test fails.
            is_known_to_pass: whether the test is known to pass with the given ones alone.
        """
        if not is_known_to_pass and self._fails(given):
            return []
        if len(candidates) == 1:
            return candidates
        middle = len(candidates) // 2
        early, late = candidates[:middle], candidates[middle:]
        of_late = self._smallest([*given, *early], late, is_known_to_pass=False)
        of_early = self._smallest([*given, *of_late], early, is_known_to_pass=not of_late)
        return [*of_early, *of_late]

    def _fails(self, positions: Iterable[int]) -> bool:
        key = tuple(sorted(positions))
        if key not in self._known:
            self._known[key] = self._try(self._chosen(key))
        return self._known[key]

    def _chosen(self, positions: Iterable[int]) -> list[Begun]:
        return [self._before[position] for position in positions]

    def _try(self, chosen: list[Begun], *, is_as_printed: bool = False) -> bool:
        """Run tests and then the one that fails; return whether it fails again."""
        tests, started = [*chosen, self._target], time.monotonic()
        named = tests if is_as_printed else [self._target]
        seed = Seed(self._seed, tuple(begun.number for begun in tests))
        ids = None if is_as_printed else [begun.test for begun in tests]
        with tempfile.TemporaryDirectory(prefix="itkit-") as directory:
            file = Path(directory, "trial")
            file.write_text(json.dumps({"tests": ids, "seed": str(seed)}))
            line = self._command.line(named, self._seed)
            ended = subprocess.run(  # noqa: S603 - the command that the user has typed
                [*self._command.start, *line, f"--itkit-trial={file}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
            )
            result = json.loads(file.read_text())
        if self._target.test not in result.get("begun", ()):
            raise WorkerError(
                f"--itkit-bisect: {self._target.test} was not run by\n"
                f"  {self.shown(chosen)}\n{ended.stdout[-_SHOWN:]}"
            )
        fails = self._target.test in result["failed"]
        self._say(
            f"itkit: after {len(chosen)} of {_counted(len(self._before))} it"
            f" {'fails' if fails else 'passes'} ({time.monotonic() - started:.1f} s)"
        )
        return fails


def _counted(tests: int) -> str:
    return "1 test" if tests == 1 else f"{tests:,} tests"
