"""Relays calls of backends from processes that a test has started to the test's own process.

The test's process listens, and a process that joins it sends each call of a fake. So a worker of
Celery gets the answers that the test programs, and its calls are on the test's timeline.

The thread that listens starts only when a process is started, as Python warns of a fork beside
threads.
"""

import os
import pickle
import secrets
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial, wraps
from multiprocessing import AuthenticationError, get_start_method
from multiprocessing import connection as channels
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

from itkit.core import processes
from itkit.core.text import repr_of
from itkit.exceptions import ElsewhereError, RelayError
from itkit.fakes import Call, Fake
from itkit.fakes.classes import returned
from itkit.fakes.classes.members import Kind
from itkit.timeline import audit, core
from itkit.timeline.core import Strand

_STARTING: Final = ("subprocess.Popen", "os.posix_spawn", "os.system", "pdb.Pdb")
"""Events after which another process may call; a debugger may be joined from another terminal."""

_PATIENCE_SECONDS: Final = 5.0


class RelayAddress(NamedTuple):
    """The address at which a test's process listens, and the secret that it requires."""

    endpoint: str
    secret: str


class Request(NamedTuple):
    """A call in the form in which it is sent."""

    backend: str
    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    site: tuple[str, int]
    thread: str


class Reply(NamedTuple):
    """The reply to a call: a value, an error to raise, or that the asking process has to answer."""

    kind: str
    value: Any = None


class Raised(NamedTuple):
    """An error in the form in which it is sent, without a call of its constructor."""

    kind: type[BaseException]
    args: tuple[Any, ...]
    state: dict[str, Any]

    @classmethod
    def of(cls, error: BaseException) -> "Raised":
        """Return the parts of an error for sending; parts that cannot be sent become texts."""
        state = {name: _sendable(value) for name, value in vars(error).items()}
        return cls(type(error), tuple(map(_sendable, error.args)), state)

    def error(self) -> BaseException:
        """Return the error, made from its parts."""
        made: BaseException = self.kind.__new__(self.kind, *self.args)
        vars(made).update(self.state)
        return made


class Unsendable:
    """Replaces an argument that cannot be sent to another process."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class _NotHereError(Exception):
    """Raised if a call can only be answered in the process in which it was made."""


class Relay:
    """The end of the relay in the test's process.

    Args:
        fakes: the fakes that answer, by the names of their backends.
        shared: functions that make an object of the real class to answer for one in another
            process, by the names of the backends that allow this.
    """

    def __init__(
        self, fakes: Mapping[str, Fake], shared: Mapping[str, Callable[[], Any]] | None = None
    ) -> None:
        self._fakes = fakes
        self._shared = shared or {}
        self._process = os.getpid()
        self._secret = secrets.token_hex(16)
        self._listener: channels.Listener  # since listening()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._is_in_child = False
        self._has_stayed = False

    @property
    def address(self) -> RelayAddress:
        """The address at which this listens."""
        endpoint: Any = self._listener.address
        text = endpoint.decode() if isinstance(endpoint, bytes) else endpoint
        return RelayAddress(text if isinstance(text, str) else f"{text[0]}:{text[1]}", self._secret)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen within a block, as soon as a process is started."""
        with ExitStack() as releases:
            self._listener = channels.Listener(_new_endpoint(), backlog=64)
            releases.callback(self.close)
            releases.enter_context(
                audit.listening(dict.fromkeys(_STARTING, lambda _arguments: self._start()))
            )
            releases.enter_context(
                audit.listening({"os.exec": lambda _arguments: self._stay_behind()})
            )
            releases.enter_context(_before_start(self._start))
            yield

    def continue_in_child(self) -> bool:
        """Answer, in a process that was just forked, the processes which that process starts.

        It answers them with its own fakes, at an address of its own. If the parent has begun to
        answer, it answers these processes as well, and nothing changes.

        Returns:
            Whether the address has changed.
        """
        if self._thread is not None or self._closed.is_set() or self._has_stayed:
            return False
        self._listener.close()  # the parent has it still
        self._listener = channels.Listener(_new_endpoint(), backlog=64)
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._is_in_child = True
        return True

    def _stay_behind(self) -> None:
        """Answer for a forked process that is about to become another program.

        Its fakes and its thread are gone then. A process that has no parent answers instead, with
        a copy of the fakes, until that program ends.
        """
        if not self._is_in_child or self._process != os.getpid() or self._has_stayed:
            return
        self._has_stayed = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a fork beside the threads of the application
            between = os.fork()
            if between:
                with suppress(ChildProcessError):  # nobody waits where SIGCHLD is ignored
                    os.waitpid(between, 0)
                return
            try:
                os.setsid()  # what is sent to the program's group of processes does not end it
                if os.fork() == 0:
                    processes.end_with(self._process, "itkit-relay-end")
                    nowhere = os.open(os.devnull, os.O_RDWR)
                    for stream in range(3):
                        os.dup2(nowhere, stream)
                    self._accept()
            finally:
                os._exit(0)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and self._process == os.getpid() and not self._closed.is_set():
                self._thread = _thread(self._accept)

    def close(self) -> None:
        """Stop answering. A second call does nothing."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._thread is not None and self._process == os.getpid():
            with suppress(OSError):
                _dial_endpoint(self.address.endpoint).close()  # wakes the thread that waits
            self._thread.join(_PATIENCE_SECONDS)
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            with suppress(OSError):  # the caller may have died meanwhile
                channel = self._listener.accept()
                if self._closed.is_set():
                    channel.close()
                else:
                    _thread(self._serve, channel)

    def _serve(self, channel: Any) -> None:
        key = self._secret.encode()
        with channel, suppress(OSError, EOFError, AuthenticationError):
            channels.deliver_challenge(channel, key)
            channels.answer_challenge(channel, key)
            while True:
                _send(channel, self._answer(_received(channel)))

    def _answer(self, request: Request | str | Exception) -> Reply:
        if isinstance(request, Exception):
            return _failed(f"The test's process cannot read a call: {request}")
        if isinstance(request, str):
            core.record_failure(ElsewhereError(request))
            return Reply("kept")
        try:
            return self._answer_call(request)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller gets it
            return Reply("error", Raised.of(error))

    def _answer_call(self, request: Request) -> Reply:
        method = self._fakes[request.backend].methods[request.method]
        call = Call(method, request.args, request.kwargs, _Frame(*request.site))
        call.strand = Strand(SimpleNamespace(name=request.thread))
        default = partial(self._answer_by_default, request.backend)
        try:
            return Reply("value", method.reply(call, None, request.args, request.kwargs, default))
        except _NotHereError:
            call.error = None
            return Reply("here")

    def _answer_by_default(
        self, backend: str, call: Call, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Answer a call for which nothing is programmed, without the object that was called.

        Raises:
            _NotHereError: only the process that has the object can answer.
        """
        fake, member = self._fakes[backend], call.method.member
        if fake.default == "real" and backend in self._shared:
            return fake.default_answer(call, self._shared[backend](), args, kwargs)
        if (
            fake.default in ("real", "lazy")
            or (fake.default == "lenient" and returned.neutral(member) is returned.UNKNOWN)
            or (fake.default == "strict" and member.kind is Kind.PROPERTY)
        ):
            raise _NotHereError
        return fake.default_answer(call, owner, args, kwargs)


class _Frame(NamedTuple):
    """The attributes of the caller's frame that a call needs."""

    path: str
    f_lineno: int

    @property
    def f_globals(self) -> dict[str, Any]:
        return {"__file__": self.path}


class Client:
    """The end of the relay in a process that a test has started.

    Args:
        address: the address of the test's process.
    """

    def __init__(self, address: RelayAddress) -> None:
        self._address = address
        self._local = threading.local()

    def use_for(self, fakes: Mapping[str, Fake]) -> None:
        """Let the test's process answer the calls of the fakes of these backends."""
        for name, fake in fakes.items():
            fake.answer_by(self._answering(name, fake))

    def keep(self, error: BaseException) -> None:
        """Send an error that fails the test to the test's process."""
        with suppress(RelayError):
            self._ask(f"{type(error).__name__}: {error}")

    def _answering(self, name: str, fake: Fake) -> Callable[..., Any]:
        default_answer = fake.default_answer

        def answer(call: Call, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            site = (call.site.path, call.site.line) if call.site is not None else ("", 0)
            request = Request(
                name, call.method.member.name, args, kwargs, site, f"{call.thread} of {_title()}"
            )
            reply = self._reply_to(request)
            if reply.kind == "error":
                raise reply.value.error()
            if reply.kind == "here":
                return default_answer(call, owner, args, kwargs)
            return reply.value

        return answer

    def _reply_to(self, request: Request) -> Reply:
        try:
            return self._ask(request)
        except RelayError as error:
            warnings.warn(f"{error} Calls are on no timeline.", RuntimeWarning, stacklevel=2)
            return Reply("here")

    def _ask(self, request: Any) -> Reply:
        try:
            channel = self._channel()
            _send(channel, request)
            reply: Reply | Exception = _received(channel)
        except (OSError, EOFError, AuthenticationError) as error:
            self._local.process = None
            raise RelayError(f"The test's process does not answer: {error!r}.") from error
        if isinstance(reply, Exception):
            return _failed(f"The test's answer cannot be read here: {reply!r}")
        return reply

    def _channel(self) -> Any:
        if getattr(self._local, "process", None) != os.getpid():  # else that of the parent
            self._local.channel = self._dial()
            self._local.process = os.getpid()
        return self._local.channel

    def _dial(self) -> Any:
        channel = _dial_endpoint(self._address.endpoint)
        key = self._address.secret.encode()
        if not channel.poll(_PATIENCE_SECONDS):
            raise TimeoutError(f"nothing heard for {_PATIENCE_SECONDS:g} s")
        channels.answer_challenge(channel, key)
        channels.deliver_challenge(channel, key)
        return channel


def _failed(text: str) -> Reply:
    return Reply("error", Raised.of(RelayError(text)))


def _new_endpoint() -> Any:
    """Return an address to listen at: on Linux a socket without a file, ended with the process."""
    return f"\0itkit-{secrets.token_hex(8)}" if sys.platform == "linux" else ("127.0.0.1", 0)


def _dial_endpoint(endpoint: str) -> Any:
    if endpoint.startswith("\0"):
        return channels.Client(endpoint)
    host, _, port = endpoint.rpartition(":")
    with audit.trusted():
        return channels.Client((host, int(port)))


def _send(channel: Any, message: Any) -> None:
    channel.send_bytes(_pickled(message))


def _pickled(message: Any) -> bytes:
    try:
        return pickle.dumps(message)
    except Exception as error:  # noqa: BLE001 - what is pickled may raise anything
        if isinstance(message, Request):
            args = tuple(map(_sendable, message.args))
            kwargs = {name: _sendable(value) for name, value in message.kwargs.items()}
            return pickle.dumps(message._replace(args=args, kwargs=kwargs))
        text = f"The answer {repr_of(message.value)} cannot be sent to another process: {error}"
        return pickle.dumps(_failed(text))


def _sendable(value: Any) -> Any:
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001 - as above
        return Unsendable(repr_of(value))
    return value


def _received(channel: Any) -> Any:
    data = channel.recv_bytes()
    try:
        return pickle.loads(data)  # noqa: S301 - of a process that knows the secret
    except Exception as error:  # noqa: BLE001 - a class may be unknown here
        return error


def _thread(target: Callable[..., None], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, name="itkit-relay", daemon=True)
    with core.unowned_threads():
        thread.start()
    return thread


@contextmanager
def _before_start(action: Callable[[], None]) -> Iterator[None]:
    """Call a function before each process of multiprocessing is started, within a block.

    There is no audit event for all start methods, so the method that they share is replaced.
    Checked with Python 3.11 and 3.13.
    """
    start = BaseProcess.start

    @wraps(start)
    def act_and_start(process: BaseProcess) -> None:
        # Another thread would make Python warn of the fork, and a forked process needs no relay.
        if (getattr(process, "_start_method", None) or get_start_method()) != "fork":
            action()
        start(process)

    BaseProcess.start = act_and_start  # type: ignore[method-assign, assignment]  # see above
    try:
        yield
    finally:
        if BaseProcess.start is act_and_start:
            BaseProcess.start = start  # type: ignore[method-assign]  # as it was


def _title() -> str:
    path = Path(sys.argv[0] if sys.argv else "")
    name = path.parent.name if path.name == "__main__.py" else path.name
    return f"{name or 'a process'} ({os.getpid()})"
