"""Worker processes: the death of one is noticed, and does not stop the others.

A pool of ``multiprocessing`` has one queue with one lock for all of its workers. A worker that dies
while it holds the lock stops all others, and no process learns of the death. Here each worker has a
socket of its own. The main process only waits for events: a socket can be read or written, a
process has ended, or somebody has called ``stop()``.
"""

import multiprocessing
import os
import pickle
import selectors
import signal
import socket
import struct
import sys
import time
import traceback
import unittest
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, Final, NamedTuple

_PATIENCE: Final = 10.0  # seconds for a process to end by itself, and again after SIGTERM
_CHUNK: Final = 1 << 16
_HEADER: Final = struct.Struct("!cQ")  # the kind of a message, and its length
_READY, _SENT, _DONE, _REFUSED, _FAILED = b"r", b"t", b"d", b"u", b"f"
_JOB, _END = b"j", b"e"

Send = Callable[[Any], None]


class Sent(NamedTuple):
    """A value that a worker reports while it works on a job."""

    job: int
    value: Any


class Done(NamedTuple):
    """The result of a job."""

    job: int
    value: Any


class Failed(NamedTuple):
    """A job, or the start of a worker, has failed; the worker has ended too if its start failed.

    Attributes:
        worker: the number of the worker, from 1; 0 if the job never reached a worker.
        job: the job; None for the worker's start.
        text: the traceback.
    """

    worker: int
    job: int | None
    text: str


class Died(NamedTuple):
    """A worker has ended unexpectedly.

    Attributes:
        worker: the number of the worker, from 1.
        job: the job that it was working on, if any.
        code: the exit code; negative for a signal, as in ``multiprocessing``.
    """

    worker: int
    job: int | None
    code: int

    def __str__(self) -> str:
        if self.code < 0:
            return f"worker {self.worker} was killed by {_name_of(-self.code)}"
        return f"worker {self.worker} has ended itself with the exit code {self.code}"


Happened = Sent | Done | Failed | Died


class _Worker:
    """A worker process, as the main process sees it."""

    def __init__(self, number: int, process: BaseProcess, channel: socket.socket) -> None:
        self.number = number
        self.process = process
        self.channel = channel
        self.job: int | None = None
        self.has_failed = False
        self.has_ended = False
        self.received = bytearray()
        self.to_send = bytearray()
        # The sentinel of a forked process is a pipe, which stays open while a child of it lives.
        try:
            self.ended = os.pidfd_open(process.pid or 0)
        except (AttributeError, OSError):  # not on macOS; or it has ended already
            self.ended = os.dup(process.sentinel)

    def take_messages(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield each complete message until now; a message that its death has cut is lost."""
        while len(self.received) >= _HEADER.size:
            kind, length = _HEADER.unpack_from(self.received)
            end = _HEADER.size + length
            if len(self.received) < end:
                return
            content = bytes(self.received[_HEADER.size : end])
            del self.received[:end]
            yield kind, content


class Workers:
    """Starts processes, gives them jobs, and yields what happens in them.

    Args:
        count: the number of processes.
        begin: called first in each process, with the process's number from 1.
        work: called in a process for each job, with a function that reports a value at once, and
            with the job. Its return value is the job's result.
    """

    def __init__(
        self, count: int, *, begin: Callable[[int], None], work: Callable[[Send, Any], Any]
    ) -> None:
        self._count = count
        self._begin = begin
        self._work = work
        self._workers: list[_Worker] = []
        self._waiting: deque[int] = deque()
        self._jobs: Sequence[Any] = ()
        self._is_stopped = False
        self._selector = selectors.DefaultSelector()
        self._woken, self._waking = socket.socketpair()
        self._waking.settimeout(0)

    def stop(self) -> None:
        """End ``run()`` at once, also during jobs; the handler of a signal may call this.

        ``run()`` still yields the events until then.
        """
        self._is_stopped = True
        with suppress(OSError):  # it is full and wakes the loop anyway, or the run is over
            self._waking.send(b"s")

    def run(self, jobs: Sequence[Any]) -> Generator[Happened]:
        """Yield events until all jobs are done, or no worker is left to do them.

        Code that leaves the iteration early has to close it, which ends the processes.
        """
        self._jobs = jobs
        self._waiting.extend(range(len(jobs)))
        is_over = False
        try:
            self._selector.register(self._woken, selectors.EVENT_READ)
            for number in range(1, self._count + 1):
                self._start(number)
            while self._is_at_work() and not self._is_stopped:
                yield from self._handle_events(self._selector.select())
            if self._is_stopped:
                # Earlier events are reported, such as the death of a worker.
                yield from self._handle_events(self._selector.select(0))
            is_over = not self._is_stopped
        finally:
            self._close(is_over=is_over)

    def _handle_events(self, found: list[tuple[selectors.SelectorKey, int]]) -> Iterator[Happened]:
        for key, events in found:
            if key.data is not None:
                worker, is_end = key.data
                yield from self._handle(worker, events, is_end=is_end)

    def _is_at_work(self) -> bool:
        alive = [worker for worker in self._workers if not worker.has_ended]
        return any(worker.job is not None for worker in alive) or bool(self._waiting and alive)

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            process = multiprocessing.get_context().Process(
                target=_serve, args=(theirs, number, self._begin, self._work), daemon=True
            )
            process.start()
        ours.settimeout(0)
        worker = _Worker(number, process, ours)
        self._workers.append(worker)
        self._selector.register(ours, selectors.EVENT_READ, (worker, False))
        self._selector.register(worker.ended, selectors.EVENT_READ, (worker, True))

    def _handle(self, worker: _Worker, events: int, *, is_end: bool) -> Iterator[Happened]:
        if worker.has_ended:
            return
        if is_end:
            worker.has_ended = True
            yield from self._read(worker)
            self._forget(worker)
            if not worker.has_failed:
                yield Died(worker.number, worker.job, worker.process.exitcode or 0)
            return
        if events & selectors.EVENT_WRITE:
            self._write(worker)
        if events & selectors.EVENT_READ:
            yield from self._read(worker)

    def _read(self, worker: _Worker) -> Iterator[Happened]:
        while True:
            try:
                chunk = worker.channel.recv(_CHUNK)
            except BlockingIOError:
                break
            except OSError:
                chunk = b""
            if not chunk:
                # It has closed its end; the end of the process is another event.
                if worker.channel.fileno() in self._selector.get_map():
                    self._selector.unregister(worker.channel)
                break
            worker.received += chunk
        for kind, content in worker.take_messages():
            yield from self._received(worker, kind, content)

    def _received(self, worker: _Worker, kind: bytes, content: bytes) -> Iterator[Happened]:
        job = worker.job
        if kind in (_REFUSED, _FAILED):
            worker.has_failed = kind == _FAILED
            yield Failed(worker.number, job, content.decode(errors="replace"))
        elif kind in (_SENT, _DONE) and job is not None:
            try:
                value = pickle.loads(content)  # noqa: S301 - from a process of ours
            except Exception:  # noqa: BLE001 - a class of the project's may raise anything there
                yield Failed(worker.number, job, traceback.format_exc())
            else:
                yield Sent(job, value) if kind == _SENT else Done(job, value)
        if kind != _SENT:
            worker.job = None
            if not (worker.has_ended or worker.has_failed):
                yield from self._give(worker)

    def _give(self, worker: _Worker) -> Iterator[Happened]:
        """Give a worker the next job, if there is one."""
        while self._waiting and worker.job is None:
            job = self._waiting.popleft()
            try:
                content = bytes(_JobPickler.dumps(self._jobs[job]))
            except Exception:  # noqa: BLE001 - a class of the project's may raise anything there
                yield Failed(0, job, traceback.format_exc())
                continue
            worker.job = job
            self._send(worker, _JOB, content)

    def _send(self, worker: _Worker, kind: bytes, content: bytes = b"") -> None:
        worker.to_send += _HEADER.pack(kind, len(content)) + content
        self._write(worker)

    def _write(self, worker: _Worker) -> None:
        try:
            while worker.to_send:
                del worker.to_send[: worker.channel.send(worker.to_send)]
        except BlockingIOError:
            pass  # the rest follows when the socket can be written
        except OSError:
            worker.to_send.clear()  # it has ended, which another event reports
        if worker.channel.fileno() in self._selector.get_map():
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.to_send else 0)
            self._selector.modify(worker.channel, wanted, (worker, False))

    def _forget(self, worker: _Worker) -> None:
        """Release the resources of a process that has ended."""
        worker.has_ended = True
        for file in (worker.channel.fileno(), worker.ended):
            if file in self._selector.get_map():
                self._selector.unregister(file)
        worker.process.join()
        worker.channel.close()
        os.close(worker.ended)

    def _close(self, *, is_over: bool) -> None:
        """End all processes: idle ones end by themselves, others by a signal."""
        self._waiting.clear()
        try:
            if is_over:
                for worker in self._alive():
                    self._send(worker, _END)
                self._wait()
            for worker in self._alive():
                worker.process.terminate()
            self._wait()
        finally:
            for worker in self._alive():
                worker.process.kill()
                self._forget(worker)
            self._selector.close()
            self._woken.close()
            self._waking.close()

    def _wait(self) -> None:
        """Wait for the ends of all processes, for a limited time."""
        deadline = time.monotonic() + _PATIENCE
        while self._alive() and (left := deadline - time.monotonic()) > 0:
            for key, events in self._selector.select(left):
                if key.data is None:
                    self._woken.recv(_CHUNK)
                elif key.data[1]:
                    self._forget(key.data[0])
                else:
                    self._drop(key.data[0], events)

    def _drop(self, worker: _Worker, events: int) -> None:
        """Write the rest to a process that will end, and read and drop its replies."""
        if events & selectors.EVENT_WRITE:
            self._write(worker)
        if events & selectors.EVENT_READ:
            for _ in self._read(worker):
                pass

    def _alive(self) -> list[_Worker]:
        return [worker for worker in self._workers if not worker.has_ended]


class _Main:
    """The main process, as a worker sees it."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def send_value(self, value: Any) -> None:
        self.send(_SENT, bytes(ForkingPickler.dumps(value)))

    def send(self, kind: bytes, content: bytes = b"") -> None:
        self._channel.sendall(_HEADER.pack(kind, len(content)) + content)

    def receive(self) -> bytes | None:
        """Return the next job; None if there is none any more."""
        header = self._exactly(_HEADER.size)
        if header is None:
            return None
        kind, length = _HEADER.unpack(header)
        return self._exactly(length) if kind == _JOB else None

    def _exactly(self, length: int) -> bytes | None:
        received = bytearray()
        while len(received) < length:
            chunk = self._channel.recv(min(length - len(received), _CHUNK))
            if not chunk:
                return None
            received += chunk
        return bytes(received)


def _serve(
    channel: socket.socket,
    number: int,
    begin: Callable[[int], None],
    work: Callable[[Send, Any], Any],
) -> None:
    """Work, in a process of its own."""
    main = _Main(channel)
    try:
        begin(number)
    except BaseException:  # noqa: BLE001 - sys.exit() as well: the main process reports it
        main.send(_FAILED, traceback.format_exc().encode())
        sys.exit(1)
    main.send(_READY)
    while True:
        try:
            job = main.receive()
        except KeyboardInterrupt:  # the main process has received the signal too
            return
        if job is None:
            return
        try:
            loaded = pickle.loads(job)  # noqa: S301 - from the process that has started this one
        except BaseException:  # noqa: BLE001 - as above
            main.send(_REFUSED, traceback.format_exc().encode())
            continue
        try:
            done = bytes(ForkingPickler.dumps(work(main.send_value, loaded)))
        except BaseException:  # noqa: BLE001 - as above
            # The job was interrupted, and its remains would meet the next job.
            main.send(_FAILED, traceback.format_exc().encode())
            sys.exit(1)
        main.send(_DONE, done)


class _JobPickler(ForkingPickler):
    """Pickles tests of ``IsolatedAsyncioTestCase``, each by its class and its name.

    Such a test holds a context of its own from the beginning, which cannot be pickled.
    """

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, unittest.IsolatedAsyncioTestCase):
            return type(obj), (obj._testMethodName,)
        return NotImplemented


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
