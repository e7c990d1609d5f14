"""The folder of a report: a page for each failure, and an index that is made anew with each."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from filelock import FileLock

from itkit.core import names
from itkit.exceptions import ConfigurationError
from itkit.report.page import IndexEntry, index_page, trace_page
from itkit.report.trace import Trace

_OFF: Final = "off"
_MARK: Final = ".itkit-report"
_OURS: Final = ("*.html", "*.json", "*.partial", _MARK, f"{_MARK}.lock")
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f]")


def chosen(value: str | None, setting: str | None, arguments: Sequence[str]) -> Path | None:
    """Return the directory of the report; None where there is to be none.

    Args:
        value: the value of the option ``--itkit-report``; None where it is not given.
        setting: the directory that the settings name, which the option replaces.
        arguments: the arguments of the command line.

    Raises:
        ConfigurationError: the option has taken what follows it, such as the name of a test.
    """
    usual = names.REPORT_DIRECTORY
    if value not in (None, usual) and f"--itkit-report={value}" not in arguments:
        raise ConfigurationError(
            f"--itkit-report has taken {value!r}, which follows it, for the directory of the"
            f" report. Write --itkit-report=DIR, or --itkit-report={usual} for the usual one."
        )
    found = value if value is not None else setting
    return Path(found).absolute() if found and found != _OFF else None


class Folder:
    """The pages of one run, which all of its processes write to.

    Args:
        path: the path of the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / f"{_MARK}.lock")
        self._known: dict[str, IndexEntry] = {}  # by the names of their files, which nobody changes

    def prepare(self) -> None:
        """Make the directory, or empty that of an earlier run.

        Raises:
            ConfigurationError: it has something else in it, or cannot be written to.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(self.path.iterdir()) and not (self.path / _MARK).exists():
                raise ConfigurationError(
                    f"The directory of the report, {self.path}, has other files in it, which a"
                    " report would stand between. Name an empty or a new one:"
                    " --itkit-report=DIR."
                )
            for pattern in _OURS:
                for file in self.path.glob(pattern):
                    file.unlink()
            (self.path / _MARK).touch()
            _write(self.path / "index.html", index_page([]))
        except OSError as error:
            raise ConfigurationError(
                f"The report cannot be written to {self.path}: {error}. Name another directory:"
                " --itkit-report=DIR."
            ) from error

    def add(self, trace: Trace) -> Path:
        """Write the page of a test, and the index; return the path of the page.

        A test that fails more than once, as in its tear-down, has a page for each time. The index
        comes with each failure; with tests that pass, ``write_index`` completes it.

        Raises:
            OSError: the directory cannot be written to.
        """
        name = _file_name(trace.test)
        page = self._new_page(name)
        _write(page, trace_page(trace))
        entry = IndexEntry(
            file=page.name,
            test=trace.test,
            worker=trace.worker,
            error=trace.error.partition("\n")[0][:300],
            crossings=trace.length,
            seconds=round(trace.seconds, 3),
        )
        _write(page.with_suffix(".json"), json.dumps(asdict(entry)))
        if trace.error:
            self.write_index()
        return page

    def write_index(self) -> None:
        """Write the index of all pages that there are."""
        with self._lock:
            _write(self.path / "index.html", index_page(self._entries()))

    def merge(self, other: Path) -> int:
        """Copy the pages of another report, such as one of another shard; return their number.

        Raises:
            ConfigurationError: there is no report.
        """
        if not (other / _MARK).exists():
            raise ConfigurationError(
                f"{other} is no report: a run with --itkit-report={other} would have made it."
            )
        entries = Folder(other)._entries()
        for entry in entries:
            page = self._new_page(Path(entry.file).stem)
            _write(page, (other / entry.file).read_text(encoding="utf-8"))
            _write(page.with_suffix(".json"), json.dumps(asdict(replace(entry, file=page.name))))
        self.write_index()
        return len(entries)

    def _new_page(self, name: str) -> Path:
        """Return the path of a page, which is made, and which no other process has."""
        number = 1
        while True:
            page = self.path / (f"{name}.html" if number == 1 else f"{name}-{number}.html")
            try:
                page.touch(exist_ok=False)
            except FileExistsError:
                number += 1
            else:
                return page

    def _entries(self) -> list[IndexEntry]:
        """Return the entries of all pages; those that were read before are not read again."""
        files = os.listdir(self.path)  # noqa: PTH208 - a Path for each takes most of the time
        names = sorted(name for name in files if name.endswith(".json"))
        for name in names:
            if name not in self._known:
                self._known[name] = IndexEntry(**json.loads((self.path / name).read_text()))
        return [self._known[name] for name in names]


def _file_name(test: str) -> str:
    """Return the name of a test as that of a file; a digest makes what is cut unique."""
    plain = re.sub(r"[^\w.-]+", "-", test).strip("-.")[-100:]
    if plain == test:
        return plain
    return f"{plain}-{hashlib.blake2s(test.encode(), digest_size=3).hexdigest()}"


def _write(file: Path, text: str) -> None:
    """Write a file so that who reads it finds all of it, or what was there before."""
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    plain = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)
    partial.write_text(plain, encoding="utf-8", errors="replace")
    partial.replace(file)
