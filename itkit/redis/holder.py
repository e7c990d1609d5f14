"""The process that holds a lease, in the lease's value: whoever is beside it can see its end."""

import os
from pathlib import Path

_UNKNOWN = "alive"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PROCESSES = Path("/proc/self/ns/pid")


def this_process() -> str:
    """Return what tells this process from others, of other machines too, where the system can."""
    machine = _machine()
    return f"{machine} {os.getpid()}" if machine else _UNKNOWN


def has_ended(holder: str) -> bool:
    """Whether a holder has certainly ended; False as well where that cannot be seen from here."""
    machine, _, pid = holder.rpartition(" ")
    return bool(machine) and machine == _machine() and not _exists(int(pid))


def _machine() -> str | None:
    """Return the boot and the container in which process ids mean what they mean to us."""
    try:
        return f"{_BOOT.read_text().strip()} {_PROCESSES.readlink()}"
    except OSError:
        return None  # not Linux


def _exists(pid: int) -> bool:
    # Another process may have the id by now: then the lease lasts until it expires.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
