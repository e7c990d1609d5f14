"""What ``sys.executable`` is in a fork of ``tests/support/warm.py``: asks for another fork, and stands for it.

It starts with nothing but builtin modules, as it stands where a Python would be ready in no time.
Where the fork would not be what a process of its own is, it becomes that process.
"""

import _signal
import _socket
import marshal
import posix
import sys

_FORWARDED = [
    *(_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGABRT),
    *(_signal.SIGUSR1, _signal.SIGUSR2, _signal.SIGTERM),
]


def ask(address: str, command: list[str]) -> tuple[_socket.socket, int] | None:
    """Ask for a fork that has our input, output and environment; return its process id."""
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    environment = {
        name.decode(errors="surrogateescape"): text.decode(errors="surrogateescape")
        for name, text in posix.environ.items()
    }
    posix.umask(umask := posix.umask(0))
    request = {
        "command": command,
        "cwd": posix.getcwd(),
        "environment": environment,
        "umask": umask,
        "proxy": posix.getpid(),
        "leads": posix.getpgid(0) == posix.getpid(),
    }
    descriptors = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptors)
    try:
        channel.connect(address)
        channel.sendmsg([marshal.dumps(request)], [rights])
        pid = int(channel.recv(64) or 0)
    except OSError:
        return None
    return (channel, pid) if pid else None


def stand_for(channel: _socket.socket, pid: int) -> None:
    """Hand our signals on to the fork, and end as it does."""

    def forward(number: int, _: object) -> None:
        posix.kill(pid, number)

    for number in _FORWARDED:
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, forward)
    for descriptor in (0, 1, 2):
        posix.close(descriptor)
    status = int(channel.recv(64) or 70)
    if status < 0:
        if -status in _FORWARDED:
            _signal.signal(-status, _signal.SIG_DFL)
        posix.kill(posix.getpid(), -status)
    posix._exit(status)


if __name__ == "__main__":
    _python, _address, *_command = sys.argv[1:]
    if (_asked := ask(_address, _command)) is not None:
        stand_for(*_asked)
    posix.execv(_python, [_python, *_command])
