"""The values that migrations have read. A template fits only if they are still the same.

``recording`` collects their names while a template is migrated. The names are stored with the
template, each with a digest of its value, and a later run compares each value again. A name has a
kind and the name within that kind: ``file data/rates.csv``, ``setting COUNTRY``.
"""

import contextlib
import datetime
import decimal
import enum
import fnmatch
import glob
import json
import os
import re
import time
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path, PurePath
from typing import Final

from django.conf import settings
from django.utils.functional import Promise

from itkit import conf
from itkit.postgres.template import sources
from itkit.postgres.template.sources import ABSENT, DIGEST_BYTES, digest

_SHOWN: Final = {
    "code": "the code in",
    "directory": "the directory",
    "file": "the file",
    "path": "the path",
    "pattern": "the files",
    "setting": "the setting",
    "variable": "the environment variable",
}
_OF_FILES: Final = ("code", "file")
_MOST_SHOWN: Final = 3
_SETTLED_NS: Final = 2_000_000_000  # a newer file may change again within the same tick
_DEEPEST: Final = 8
_ADDRESS: Final = re.compile(r" at 0x[0-9a-f]+")
_HERE: Final = "<BASE_DIR>"


@dataclass(frozen=True)
class Reads:
    """The values that were read when one template was made.

    Attributes:
        base: the fingerprint, which does not depend on what the migrations read.
        values: a digest of each value, by its name. For a file it may be followed by the file's
            status, by which an unchanged file is recognised.
    """

    base: str
    values: Mapping[str, str]

    @property
    def text(self) -> str:
        """The reads in the form in which they are stored."""
        return json.dumps({"base": self.base, "values": dict(sorted(self.values.items()))})

    @classmethod
    def parse(cls, text: str) -> "Reads":
        """Return reads from their stored form; an empty text means that nothing was read."""
        return cls(**json.loads(text)) if text else cls("", {})

    def changed(self) -> list[str]:
        """Return the names whose values have changed."""
        ignored = conf.get().postgres.ignored_reads
        return [
            name
            for name, before in self.values.items()
            if not _is_same(name, before) and not _is_ignored(name, ignored)
        ]


class Finder:
    """Finds the template whose values are the present ones.

    Attributes:
        changed: if no template fits, the names whose values differ from the nearest one's.
    """

    def __init__(self) -> None:
        self.changed: list[str] = []

    def fits(self, reads: Iterable[Reads]) -> bool:
        """Return whether all reads have the present values."""
        changed = [name for read in reads for name in read.changed()]
        if changed and (not self.changed or len(changed) < len(self.changed)):
            self.changed = changed
        return not changed

    def fits_saved(self, text: str) -> bool:
        """Return whether all templates of a saved cluster fit, by the reads saved with it."""
        try:
            return self.fits([Reads.parse(one) for one in json.loads(text)])
        except (TypeError, ValueError):  # the file is damaged
            return False


def choose(base: str, known: Mapping[str, Reads]) -> tuple[str, list[str]]:
    """Return the fingerprint of the template that fits, or of a new one.

    Args:
        base: the fingerprint without reads, the result of ``fingerprint.of_state``.
        known: the reads of the templates that exist, by fingerprint.

    Returns:
        The fingerprint and, if no template fits, the changes since the nearest one was made.
    """
    of_base = {name: reads for name, reads in known.items() if reads.base == base}
    finder = Finder()
    for name, reads in of_base.items():
        if finder.fits([reads]):
            return name, []
    if not of_base:
        return base, []
    read = sorted({name for reads in of_base.values() for name in reads.values})
    now = [f"{name}={_now(name)}" for name in read]
    made, number = base, 0
    while made in of_base or made == base:
        made = digest("\0".join([base, str(number), *now]).encode())
        number += 1
    return made, finder.changed


def shown(changed: Iterable[str]) -> str:
    """Return changes in words: ``the file data/rates.csv has changed``."""
    found = [_shown(name) for name in changed]
    more = len(found) - _MOST_SHOWN
    parts = [*found[:_MOST_SHOWN], *([f"{more} more"] if more > 0 else [])]
    verb = "has" if len(found) == 1 else "have"
    return f"{' and '.join([', '.join(parts[:-1]), parts[-1]][len(parts) == 1 :])} {verb} changed"


@cache
def root() -> Path:
    """Return the directory that names of files are relative to: ``BASE_DIR`` or the current."""
    return Path(getattr(settings, "BASE_DIR", ".")).absolute()


def file_name(path: str) -> str:
    """Return the name of a file: relative to the root if it is below it, else the whole path."""
    here = str(root())
    whole = os.path.abspath(path)  # noqa: PTH100 - a Path would lose nothing, and cost more
    return whole[len(here) + 1 :] if whole.startswith(f"{here}/") else whole


def recorded(name: str) -> str:
    """Return the stored form of a value that is being read, as it is at this moment."""
    kind, what = name.split(" ", 1)
    value = _VALUES[kind](what)
    return f"{value} {_status(_what(name))}".rstrip() if kind in _OF_FILES else value


def digest_of(value: object) -> str:
    """Return a digest of a value, which is the same for equal values in all processes."""
    return digest(_canonical(value).replace(str(root()), _HERE).encode())


def _is_ignored(name: str, patterns: Iterable[str]) -> bool:
    what = _what(name)
    return any(fnmatch.fnmatch(what, pattern) for pattern in patterns)


def _what(name: str) -> str:
    kind, what = name.split(" ", 1)
    return sources.path_of(what) if kind == "code" else what


def _shown(name: str) -> str:
    kind = name.split(" ", 1)[0]
    return f"{_SHOWN[kind]} {_what(name) or '.'}"


def _is_same(name: str, before: str) -> bool:
    kind, what = name.split(" ", 1)
    if kind not in _OF_FILES:
        return _now(name) == before
    value, *more = before.split(" ")
    if more and _status(_what(name)) == more[-1]:
        return True
    # The text is compared first, as finding the used parts of it needs a parser.
    return _now(name) == value or (
        kind == "code" and sources.digest_of_parts(_path(_what(name)), what) == more[0]
    )


@cache
def _now(name: str) -> str:
    """Return the first value that this process has read, so that a run sees one state only."""
    kind, what = name.split(" ", 1)
    return _digest_of_file(_path(_what(name))) if kind == "code" else _VALUES[kind](what)


def _path(name: str) -> Path:
    return root() / name


def _file(name: str) -> str:
    return _digest_of_file(_path(name))


def _digest_of_file(path: Path) -> str:
    if not path.is_file():
        return ABSENT
    try:
        with path.open("rb") as file:
            found = blake2b(digest_size=DIGEST_BYTES)
            while chunk := file.read(1 << 20):
                found.update(chunk)
    except OSError:
        return ABSENT
    return found.hexdigest()


def _status(name: str) -> str:
    """Return the status by which a file is recognised as unchanged; empty if it is too new."""
    try:
        status = os.stat(f"{root()}/{name}" if name[:1] != "/" else name)  # noqa: PTH116 - for time
    except OSError:
        return ""
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < _SETTLED_NS:
        return ""
    return f"{status.st_size}.{status.st_mtime_ns}.{status.st_ctime_ns}.{status.st_ino}"


def _directory(name: str) -> str:
    try:
        found = [path.name for path in _path(name).iterdir()]
    except OSError:
        return ABSENT
    return digest("\0".join(sorted(filter(_is_listed, found))).encode())


def _is_listed(name: str) -> bool:
    """Return whether an entry counts, without files that tools put beside those of a project."""
    return not name.startswith(".") and name != "__pycache__" and not name.endswith(".pyc")


def _pattern(name: str) -> str:
    here = f"{glob.escape(str(root()))}/"
    pattern = name if name.startswith("/") else f"{here}{name}"
    found = sorted(map(file_name, glob.iglob(pattern, recursive=True)))  # noqa: PTH207 - as it was
    return digest("\0".join(found).encode())


def _existing(name: str) -> str:
    path = _path(name)
    return "directory" if path.is_dir() else "file" if path.exists() else ABSENT


def _setting(name: str) -> str:
    try:
        return digest_of(getattr(settings, name))
    except Exception:  # noqa: BLE001 - also one that says how it is meant to be set
        return ABSENT


def _variable(name: str) -> str:
    value = os.environ.get(name)
    return ABSENT if value is None else digest_of(value)


def _code(what: str) -> str:
    path = _path(sources.path_of(what))
    return f"{_digest_of_file(path)} {sources.digest_of_parts(path, what)}"


_VALUES: Final[Mapping[str, Callable[[str], str]]] = {
    "code": _code,
    "directory": _directory,
    "file": _file,
    "path": _existing,
    "pattern": _pattern,
    "setting": _setting,
    "variable": _variable,
}


def _canonical(value: object, depth: int = 0) -> str:  # noqa: PLR0911 - one line for each kind
    """Describe a value in the same words in each process, without its hash or address."""
    if depth > _DEEPEST:
        return "..."
    if isinstance(value, Mapping):
        items = (
            f"{_canonical(key, depth + 1)}:{_canonical(of, depth + 1)}" for key, of in value.items()
        )
        return f"{{{','.join(items)}}}"
    if isinstance(value, list | tuple):
        return f"({','.join(_canonical(item, depth + 1) for item in value)})"
    if isinstance(value, set | frozenset):
        return f"{{{','.join(sorted(_canonical(item, depth + 1) for item in value))}}}"
    if isinstance(value, Promise):
        return _canonical(value.__reduce__()[1][1:3], depth + 1)  # in any language
    if isinstance(value, re.Pattern):
        return str(value)
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType | types.ModuleType | type):
        name = getattr(value, "__qualname__", value.__name__)
        return f"{getattr(value, '__module__', '')}.{name}"
    plain = str | bytes | int | float | complex | PurePath | enum.Enum | None
    if isinstance(
        value, plain | datetime.date | datetime.time | datetime.timedelta | decimal.Decimal
    ):
        return repr(value)
    if type(value).__repr__ is not object.__repr__:
        with contextlib.suppress(Exception):
            return _ADDRESS.sub("", repr(value))
    # Only to a small depth, as it may refer to half of the program.
    held = _canonical(getattr(value, "__dict__", {}), depth + _DEEPEST // 2)
    return f"{type(value).__qualname__}{held}"
