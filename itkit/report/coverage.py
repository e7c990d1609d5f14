"""Boundary coverage: which outcomes of which backends tests have seen, as plain values.

The first test by its name is kept for each, so that the figures are the same whichever worker ran
which test.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from itkit.exceptions import ConfigurationError
from itkit.report.page import coverage_page

VALUE: Final = "value"
TIMEOUT: Final = "timeout"
LOST: Final = "lost reply"
FILE: Final = "coverage.json"
PAGE: Final = "index.html"
SECTIONS: Final = ("tables", "hooks", "tasks", "mail_templates", "keys")
_MARK: Final = ".itkit-coverage"
_PART: Final = ".part.json"
_MOST_SHOWN: Final = 60


@dataclass
class Outcome:
    """One way in which a method of a backend can end.

    Attributes:
        is_declared: whether it is expected to be seen; others are listed and not counted.
        test: the first test, by its name, that has seen it; empty where none has.
        handler: the first line where the application has caught it.
    """

    is_declared: bool = False
    test: str = ""
    handler: str = ""

    def merge(self, other: "Outcome") -> None:
        """Take over what another run, or another worker, knows of it."""
        self.is_declared |= other.is_declared
        self.test = _first(self.test, other.test)
        self.handler = _first(self.handler, other.handler)


@dataclass
class Coverage:
    """What tests have seen.

    Attributes:
        outcomes: by the method, such as ``payments.charge``, and the name of the outcome.
        others: by the section, such as ``tables``, and the name: the first test that has seen it,
            or an empty text where none has.
        changes: how often something new was seen or declared.
    """

    outcomes: dict[str, dict[str, Outcome]] = field(default_factory=dict)
    others: dict[str, dict[str, str]] = field(
        default_factory=lambda: {section: {} for section in SECTIONS}
    )
    changes: int = field(default=0, compare=False)

    def declare(self, method: str, outcome: str) -> None:
        """Expect an outcome of a method."""
        self._merge(method, outcome, Outcome(is_declared=True))

    def see(self, method: str, outcome: str, test: str, handlers: Iterable[str] = ()) -> None:
        """Note that a test has seen an outcome, and where the application has caught it."""
        for handler in [*handlers] or [""]:
            self._merge(method, outcome, Outcome(test=test, handler=handler))

    def note(self, section: str, name: str, test: str = "") -> None:
        """Note that a test has seen something else; without one, that it is there to be seen."""
        found = self.others[section]
        first = _first(found.get(name, ""), test)
        if found.get(name) != first:
            found[name] = first
            self.changes += 1

    def merge(self, other: "Coverage") -> None:
        """Take over what another run, or another worker, has seen."""
        for method, outcomes in other.outcomes.items():
            for name, outcome in outcomes.items():
                self._merge(method, name, outcome)
        for section, names in other.others.items():
            for name, test in names.items():
                self.note(section, name, test)

    @property
    def counts(self) -> tuple[int, int]:
        """The numbers of declared outcomes that were seen, and of all."""
        declared = [one for _, _, one in self.rows() if one.is_declared]
        return sum(bool(one.test) for one in declared), len(declared)

    @property
    def percent(self) -> float:
        """The share of declared outcomes that were seen, rounded down to a tenth."""
        seen, total = self.counts
        return 1000 * seen // total / 10 if total else 100.0

    def rows(self) -> Iterator[tuple[str, str, Outcome]]:
        """Yield method, outcome, and what is known of it, in the order of their names."""
        for method in sorted(self.outcomes):
            for name in sorted(self.outcomes[method], key=_rank):
                yield method, name, self.outcomes[method][name]

    def lines(self, most: int | None = _MOST_SHOWN) -> list[str]:
        """Return what is printed at the end of a run.

        Args:
            most: the number of lines; None for all.
        """
        seen, total = self.counts
        lines = [f"itkit: boundary coverage {self.percent} %, {seen} of {total} outcomes"]
        missing: dict[str, list[str]] = {}
        unhandled: dict[str, list[str]] = {}
        for method, name, outcome in self.rows():
            if outcome.is_declared and not outcome.test:
                missing.setdefault(method, []).append(name)
            elif outcome.test and not outcome.handler and name != VALUE:
                unhandled.setdefault(method, []).append(name)
        lines += [f"  never seen: {name}: {', '.join(found)}" for name, found in missing.items()]
        lines += [
            f"  seen, but no handler of the application ran: {name}: {', '.join(found)}"
            for name, found in unhandled.items()
        ]
        for name, test in sorted(self.others["tables"].items()):
            if not test:
                lines.append(f"  never: {name}")
        if most is not None and len(lines) > most:
            lines[most:] = [f"  and {len(lines) - most} more, on the page"]
        return lines

    def as_json(self) -> str:
        """Return the text of its file."""
        return json.dumps(
            {
                "version": 1,
                "outcomes": {
                    method: {
                        name: {
                            "declared": outcome.is_declared,
                            "test": outcome.test,
                            "handler": outcome.handler,
                        }
                        for name, outcome in outcomes.items()
                    }
                    for method, outcomes in self.outcomes.items()
                },
                **self.others,
            },
            indent=1,
            sort_keys=True,
        )

    @classmethod
    def read(cls, file: Path) -> "Coverage":
        """Return what a file has.

        Raises:
            ConfigurationError: it is not there, or is no file of boundary coverage.
        """
        try:
            found = json.loads((file / FILE if file.is_dir() else file).read_text())
            coverage = cls()
            for method, outcomes in found["outcomes"].items():
                coverage.outcomes[method] = {
                    name: Outcome(one["declared"], one["test"], one["handler"])
                    for name, one in outcomes.items()
                }
            coverage.others = {section: dict(found.get(section, {})) for section in SECTIONS}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"{file} has no boundary coverage ({type(error).__name__}: {error}). Run the tests"
                " with --integration --itkit-coverage, which writes itkit-coverage/coverage.json."
            ) from error
        return coverage

    def write(self, directory: Path) -> None:
        """Write its file and its page."""
        _write(directory / FILE, f"{self.as_json()}\n")
        _write(directory / PAGE, coverage_page(self._page()))

    def _page(self) -> dict[str, Any]:
        seen, total = self.counts
        return {
            "percent": self.percent,
            "seen": seen,
            "total": total,
            "rows": [
                {"method": method, "name": name, "outcome": outcome, "is_error": name != VALUE}
                for method, name, outcome in self.rows()
            ],
            "others": [
                (section.replace("_", " "), sorted(self.others[section].items()))
                for section in SECTIONS
                if self.others[section]
            ],
        }

    def _merge(self, method: str, name: str, seen: Outcome) -> None:
        outcomes = self.outcomes.setdefault(method, {})
        before = outcomes.get(name)
        merged = Outcome() if before is None else replace(before)
        merged.merge(seen)
        if merged != before:
            outcomes[name] = merged
            self.changes += 1


def prepare(directory: Path) -> None:
    """Make the directory of a run, or empty that of an earlier one.

    Raises:
        ConfigurationError: it has something else in it, or cannot be written to.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(directory.iterdir()) and not (directory / _MARK).exists():
            raise ConfigurationError(
                f"The directory of the boundary coverage, {directory}, has other files in it. Name"
                ' an empty or a new one as ITKIT["REPORT"]["COVERAGE"].'
            )
        for file in [directory / FILE, directory / PAGE, *directory.glob(f"*{_PART}")]:
            file.unlink(missing_ok=True)
        (directory / _MARK).touch()
    except OSError as error:
        raise ConfigurationError(
            f"The boundary coverage cannot be written to {directory}: {error}."
        ) from error


def write_part(directory: Path, name: str, coverage: Coverage) -> None:
    """Write what one process has seen until now."""
    _write(directory / f"{name}{_PART}", coverage.as_json())


def collect(directory: Path) -> Coverage:
    """Return what all processes of a run have seen, and replace their parts by it."""
    merged = Coverage()
    parts = sorted(directory.glob(f"*{_PART}"))
    for part in parts:
        merged.merge(Coverage.read(part))
    merged.write(directory)
    for part in parts:
        part.unlink()
    return merged


def differences(old: Coverage, new: Coverage) -> tuple[list[str], list[str]]:
    """Return what tests have seen in the old one only, and what is seen, or to be seen, now only.

    Returns:
        Lines of what is worse, and of what is otherwise.
    """
    before = {(method, name): one for method, name, one in old.rows()}
    after = {(method, name): one for method, name, one in new.rows()}
    worse, otherwise = [], []
    for key in sorted(before.keys() | after.keys()):
        was, now = before.get(key), after.get(key)
        what = ": ".join(key)
        if now is None:
            otherwise.append(f"  gone: {what}")
        elif was is not None and was.test and not now.test:
            worse.append(f"  not seen any more: {what} (was in {was.test})")
        elif not now.test and was is None and now.is_declared:
            worse.append(f"  new and never seen: {what}")
        elif now.test and (was is None or not was.test):
            otherwise.append(f"  seen now: {what} (in {now.test})")
        if was is not None and now is not None and was.handler and not now.handler and now.test:
            worse.append(f"  no handler runs any more: {what} (was at {was.handler})")
    return worse, otherwise


def _first(one: str, other: str) -> str:
    return min(filter(None, (one, other)), default="")


def _rank(outcome: str) -> tuple[int, str]:
    return ({VALUE: 0, TIMEOUT: 2, LOST: 3}.get(outcome, 1), outcome)


def _write(file: Path, text: str) -> None:
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8", errors="replace")
    partial.replace(file)
