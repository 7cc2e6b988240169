"""Our end of the guardian: a process that ends what we leave behind if we are killed.

It is told which processes to end; it is started again when it dies, and told again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from ..shared.config.model import Backoff
from ..shared.errors import SupervisorError
from .backoff import restart_delay
from .guardian import IGNORED
from .leftovers import Mark, start_time, wait_readable
from .reaper import kill_group, reap
from .spawn import interpreter, reason_of

_SCRIPT = str(Path(__file__).with_name("guardian.py"))
_BACKOFF = Backoff(initial=0.1, max=30.0, factor=2.0, jitter=0.0, reset_after=5.0)
_PATIENCE = 1.0
_AGAIN = 1.0


class Guard:
    """Belongs to the thread of ``loop``. ``on_event`` hears ``guardian-died`` (pid, reason, delay)."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, mark: Mark, on_event: Callable[..., None] = lambda name, **facts: None
    ) -> None:
        self.pid: int | None = None
        self._loop = loop
        self._mark = mark
        self._on_event = on_event
        self._pidfd = -1
        self._socket: socket.socket | None = None
        self._is_full = False  # the socket, so that we are told when it has room
        self._recorded: dict[int, int] = {}
        self._news: dict[int, int | None] = {}  # what the guardian has not been told yet; None: to be forgotten
        self._started_at = 0.0
        self._failures = 0
        self._timer: asyncio.TimerHandle | None = None
        self._unread: set[int] = set()  # children of whom it cannot be read now when they started
        self._reading: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the guardian.

        Raises:
            SupervisorError: If there is no process now.
        """
        try:
            self._start()
        except (OSError, ValueError) as error:
            raise SupervisorError(f"the guardian cannot be started: {error}") from error

    def record(self, pid: int) -> None:
        """Have the process group and the session that our child ``pid`` leads ended with us."""
        started = start_time(pid)
        if started is not None:
            self._recorded[pid] = self._news[pid] = started
            self._tell()
            return
        self._unread.add(pid)  # there is no descriptor to look with; or it is dead, and is forgotten in a moment
        if self._reading is None:
            self._reading = self._loop.call_later(_AGAIN, self._read_again)

    def forget(self, pid: int) -> None:
        """Take ``pid`` back: it has ended. Call it before the number can be anybody else's."""
        self._unread.discard(pid)
        if self._recorded.pop(pid, None) is not None:
            self._news[pid] = None
            self._tell()

    async def close(self) -> None:
        """Let the guardian end without killing anything, and wait for that."""
        for timer in (self._timer, self._reading):
            if timer is not None:
                timer.cancel()
        if self.pid is None or self._socket is None:
            return
        self._loop.remove_reader(self._pidfd)
        self._listen_no_more()
        try:
            self._socket.send(b".")
        except OSError:  # it does not listen, and must not take the end of the socket for our death
            kill_group(self.pid)
        await wait_readable(self._pidfd, self._loop.time() + _PATIENCE)
        if reap(self.pid, self._pidfd) is None:
            kill_group(self.pid)
            await wait_readable(self._pidfd, self._loop.time() + _PATIENCE)
            reap(self.pid, self._pidfd)
        self._release()

    def _read_again(self) -> None:
        self._reading = None
        unread, self._unread = self._unread, set()
        for pid in unread:
            self.record(pid)

    def _start(self) -> None:
        self._timer = None
        with ExitStack() as stack:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.callback(ours.close)
            with theirs:
                title = f"meshvisor guardian {self._mark.mesh}"  # for who reads ps
                pid = _execute([_SCRIPT, str(theirs.fileno()), str(self._mark), title], theirs.fileno())
            try:
                self._pidfd = os.pidfd_open(pid)
            except OSError:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise
            stack.pop_all()
        ours.setblocking(False)
        self.pid, self._socket, self._started_at = pid, ours, self._loop.time()
        self._loop.add_reader(self._pidfd, self._died)
        self._news = dict(self._recorded)
        self._tell()

    def _tell(self) -> None:
        if self._socket is None:
            return
        while self._news:
            pid, started = next(iter(self._news.items()))
            try:
                self._socket.send(b"-%d" % pid if started is None else b"+%d %d" % (pid, started))
            except (BlockingIOError, InterruptedError):
                self._is_full = True
                self._loop.add_writer(self._socket, self._tell)
                return
            except OSError:  # it has died, and its successor will be told everything
                break
            del self._news[pid]
        self._listen_no_more()

    def _listen_no_more(self) -> None:
        # Asked first: asyncio looks up what was never registered by way of an exception.
        if self._is_full and self._socket is not None:
            self._is_full = False
            self._loop.remove_writer(self._socket)

    def _died(self) -> None:
        assert self.pid is not None
        if reap(self.pid, self._pidfd) is None:
            return
        pid = self.pid
        self._release()
        self._failures = self._failures + 1 if self._loop.time() - self._started_at < _BACKOFF.reset_after else 1
        self._start_later(pid)

    def _start_later(self, pid: int | None, reason: str = "") -> None:
        delay = restart_delay(_BACKOFF, self._failures, 0.0)
        self._on_event("guardian-died", pid=pid, reason=reason, delay=delay)
        self._timer = self._loop.call_later(delay, self._start_again)

    def _start_again(self) -> None:
        try:
            self._start()
        except (OSError, ValueError, MemoryError) as error:
            self._failures += 1
            self._start_later(None, reason_of(error))

    def _release(self) -> None:
        self._loop.remove_reader(self._pidfd)
        if self._socket is not None:
            self._listen_no_more()
            self._socket.close()
            self._socket = None
        os.close(self._pidfd)
        self.pid, self._pidfd = None, -1


def _execute(arguments: list[str], inherited: int) -> int:
    # What the guardian will ignore must not end it before it does.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
    try:
        process = subprocess.Popen(
            [interpreter(), "-I", "-S", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},  # above all without the mark, by which it would be found and ended itself
            pass_fds=(inherited,),
            start_new_session=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    process.returncode = 0  # its death notice is ours to take
    return process.pid
