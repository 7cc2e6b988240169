"""The supervisor's end of a zygote: one process that forks workers on request, and what becomes of the requests.

The zygote answers one request after the other. What was asked of it is answered in any case: by it, or by its end.
It is killed when it leaves a request unanswered, or says what cannot be understood; others then make the processes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from ..shared.control.zygote import (
    MAX_PACKET,
    Check,
    Checked,
    Failed,
    Fork,
    Forked,
    FromZygote,
    Prepare,
    Prepared,
    ToZygote,
    ZygoteError,
    decode_from_zygote,
    encode,
)
from .reaper import reap, send
from .spawn import Process, SpawnError, is_shortage, reason_of

FORK_TIMEOUT = 2.0
"""Seconds without an answer after which a zygote is taken for hung."""

_WINDOW = 16  # requests under way: what the socket's buffer and the limit of descriptors in flight take for sure
_TAIL = 4096
_READ_SIZE = 65_536

ForkDone = Callable[[Process | SpawnError], None]
CheckDone = Callable[[tuple[str, ...] | None], None]


@dataclass(slots=True)
class _Order:
    """A request under way for a process, with our ends of what the process is given."""

    number: int
    done: ForkDone
    lifeline: socket.socket
    stdout: int
    stderr: int

    def close(self) -> None:
        self.lifeline.close()
        os.close(self.stdout)
        os.close(self.stderr)


@dataclass(slots=True)
class _Inquiry:
    done: CheckDone


class Zygote:
    """A zygote from its start to its end.

    ``prepared`` is called with what it has to say after its imports. ``ended`` is called once, with the reason, when
    the process is reaped; every request has been answered then.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        process: Process,
        prepare: Prepare,
        *,
        prepared: Callable[[Prepared], None],
        ended: Callable[[str], None],
    ) -> None:
        assert process.lifeline is not None
        self.pid = process.pid
        self._loop = loop
        self._process = process
        self._control = process.lifeline
        self._prepared = prepared
        self._ended = ended
        self._waiting: deque[tuple[ForkDone, bool]] = deque()
        self._asked: deque[_Order | _Inquiry] = deque()
        self._count = 0
        self._is_prepared = False
        self._timer: asyncio.TimerHandle | None = None
        self._blame = ""
        self._is_over = False
        self._tail = b""
        loop.add_reader(self._control, self._read)
        loop.add_reader(process.pidfd, self._died)
        for descriptor in (process.stdout, process.stderr):
            loop.add_reader(descriptor, self._read_output, descriptor)
        self._send(prepare)

    # Asked by its owner.

    @property
    def is_forking(self) -> bool:
        """Whether there may be a child of ours that we have not been told of."""
        return any(isinstance(asked, _Order) for asked in self._asked)

    @property
    def tail(self) -> str:
        """The last that it, or the modules it imported, have printed."""
        return self._tail.decode(errors="replace").strip()

    def fork(self, done: ForkDone, *, is_spare: bool = False) -> None:
        """Have ``done`` called with a new process, or with why there is none."""
        if self._is_over:
            done(SpawnError("the zygote has ended"))
            return
        self._waiting.append((done, is_spare))
        self._pump()

    def check(self, done: CheckDone) -> None:
        """Have ``done`` called with the files of its modules that have changed; with None if it has no answer."""
        if self._is_over or not self._send(Check()):
            done(None)
            return
        self._asked.append(_Inquiry(done))
        self._arm()

    def kill(self, reason: str) -> None:
        """End it for ``reason``; all else follows from its death."""
        if not self._is_over:
            self._blame = self._blame or reason
            send(self._process.pidfd, signal.SIGKILL)

    # Requests.

    def _pump(self) -> None:
        while self._is_prepared and self._waiting and len(self._asked) < _WINDOW and not self._is_over:
            done, is_spare = self._waiting.popleft()
            try:
                order = self._order(done, is_spare)
            except (OSError, MemoryError) as error:
                done(SpawnError(f"cannot start a process: {reason_of(error)}", is_shortage=is_shortage(error)))
            else:
                self._asked.append(order)
                self._arm()

    def _order(self, done: ForkDone, is_spare: bool) -> _Order:
        with ExitStack() as ours, ExitStack() as theirs:
            lifeline, lifeline_end = socket.socketpair()
            ours.callback(lifeline.close)
            theirs.callback(lifeline_end.close)
            lifeline.setblocking(False)
            read_ends, write_ends = [], []
            for _ in range(2):
                read_end, write_end = os.pipe2(os.O_CLOEXEC)
                ours.callback(os.close, read_end)
                theirs.callback(os.close, write_end)
                os.set_blocking(read_end, False)
                read_ends.append(read_end)
                write_ends.append(write_end)
            self._count += 1
            packet = encode(Fork(self._count, is_spare))
            socket.send_fds(self._control, [packet], [lifeline_end.fileno(), *write_ends])
            ours.pop_all()
        return _Order(self._count, done, lifeline, *read_ends)

    def _send(self, message: ToZygote) -> bool:
        try:
            self._control.send(encode(message))
        except (OSError, ZygoteError) as error:
            self.kill(f"it cannot be spoken to: {error}")
            return False
        return True

    def _arm(self) -> None:
        """Give it FORK_TIMEOUT from its last answer for the next one."""
        if self._timer is None and self._asked and not self._is_over:
            self._timer = self._loop.call_later(FORK_TIMEOUT, self.kill, f"it did not answer within {FORK_TIMEOUT:g} s")

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Answers.

    def _read(self) -> None:
        try:
            packet = self._control.recv(MAX_PACKET + 1)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # it ended with something of ours unread
            packet = b""
        if not packet:
            self._loop.remove_reader(self._control)
            self.kill("")  # without a socket it is of no use; how it ended will tell more
            return
        try:
            self._take(decode_from_zygote(packet))
        except ZygoteError as error:
            self._loop.remove_reader(self._control)
            self.kill(f"it sent garbage: {error}")

    def _take(self, message: FromZygote) -> None:
        self._disarm()
        if isinstance(message, Prepared):
            if self._is_prepared:
                raise ZygoteError("prepared twice")
            self._is_prepared = True
            self._prepared(message)
        else:
            asked = self._asked.popleft() if self._asked else None
            if isinstance(message, Checked) and isinstance(asked, _Inquiry):
                asked.done(message.changed)
            elif isinstance(message, Forked | Failed) and isinstance(asked, _Order) and asked.number == message.number:
                asked.done(_born(asked, message))
            else:
                if asked is not None:
                    self._asked.appendleft(asked)
                raise ZygoteError("an answer to nothing that was asked")
        self._arm()
        self._pump()

    def _read_output(self, descriptor: int) -> None:
        try:
            data = os.read(descriptor, _READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        if not data:
            self._loop.remove_reader(descriptor)
        self._tail = (self._tail + data)[-_TAIL:]

    # The end.

    def _died(self) -> None:
        exit = reap(self._process.pid, self._process.pidfd)
        if exit is None:
            return
        self._hear_the_rest()
        self._is_over = True
        self._disarm()
        process = self._process
        for descriptor in (self._control.fileno(), process.pidfd, process.stdout, process.stderr):
            self._loop.remove_reader(descriptor)
        process.close()
        reason = self._blame or (f"it was killed by {exit.signal}" if exit.signal else f"it ended with {exit.code}")
        self._answer_all(SpawnError(f"the zygote ended: {reason}"))
        self._ended(reason)

    def _hear_the_rest(self) -> None:
        """Take what it answered before it died: those processes are there."""
        with suppress(OSError, ZygoteError):
            while packet := self._control.recv(MAX_PACKET + 1):
                self._take(decode_from_zygote(packet))
        for descriptor in (self._process.stdout, self._process.stderr):
            self._read_output(descriptor)

    def _answer_all(self, error: SpawnError) -> None:
        asked, self._asked = self._asked, deque()
        waiting, self._waiting = self._waiting, deque()
        for one in asked:
            if isinstance(one, _Order):
                one.close()  # a process that got it all the same ends when it finds its lifeline closed
                one.done(error)
            else:
                one.done(None)
        for done, _ in waiting:
            done(error)


def _born(order: _Order, answer: Forked | Failed) -> Process | SpawnError:
    if isinstance(answer, Failed):
        order.close()
        return SpawnError(answer.text)
    try:
        pidfd = os.pidfd_open(answer.pid)
    except OSError as error:
        order.close()
        return SpawnError(f"process {answer.pid} cannot be watched: {error.strerror}")
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except ChildProcessError:
        os.close(pidfd)
        order.close()
        return SpawnError(f"process {answer.pid} is no child of ours: it was not adopted")
    return Process(answer.pid, pidfd, order.stdout, order.stderr, order.lifeline)
