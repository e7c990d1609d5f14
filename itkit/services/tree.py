"""Copy directory trees as fast as the machine can."""

import os
import shutil
import sys
from pathlib import Path

from itkit.services.errors import SourceUnusableError
from itkit.services.run import Run
from itkit.services.user import current_user


def copy_tree(source: Path, target: Path, run: Run) -> None:
    """Copy a directory with its owners, by ``cp`` where it can: it is several times as fast.

    Raises:
        SourceUnusableError: it cannot be copied.
        SearchEndedError: it was not copied before the deadline.
    """
    clone = "-c" if sys.platform == "darwin" else "--reflink=auto"
    copy: list[str | Path] = ["cp", "-a", clone, source, target]
    try:
        run.supervisor.run_to_end("cp", copy, current_user(), run.deadline)
    except SourceUnusableError:  # no cp, or one that does not know these flags
        _copy_tree_slowly(source, target)


def _copy_tree_slowly(source: Path, target: Path) -> None:
    try:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, symlinks=True)
        if os.geteuid() == 0:
            _copy_owners(source, target)
    except OSError as error:
        raise SourceUnusableError(f"{source} cannot be copied to {target}: {error}") from error


def _copy_owners(source: Path, target: Path) -> None:
    for path in (target, *target.rglob("*")):
        original = (source / path.relative_to(target)).lstat()
        os.lchown(path, original.st_uid, original.st_gid)
