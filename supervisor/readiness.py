"""When a command is ready: it has lived for a moment, or shows it in one of the ways that ``ready`` can name.

A ``Readiness`` is made anew for each start, before the process, which may need to be told something by it:

    readiness = readiness_of(config.ready, loop, became_ready, ...)
    process = spawn_command(..., {**environment, **readiness.environment}, ready=readiness.descriptor)
    readiness.begin(process.pid)     # the process is there; it may be its launcher still
    readiness.executed()             # the launcher has become the command
    readiness.printed(line)          # for each line of output
    readiness.cancel()               # the process has ended

``became_ready`` is called once, never after ``cancel``. How long a start may take is not decided here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path

from ..shared.config.model import Ready
from .inotify import forget_events, watch_directory
from .notifications import NotifySocket
from .probes import NotAsked, probe_tcp

LIVED = 0.1
"""How long a command without ``ready`` must have lived after its exec to be ready, in seconds."""
_ATTEMPT_TIMEOUT = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE, _PAUSE_FACTOR = 0.01, 0.25, 1.5
_LOOK_AGAIN = 0.05
_READ_SIZE = 4096


class Readiness:
    """What all ways have in common; by itself the one of a command without ``ready``."""

    environment: Mapping[str, str] = {}
    descriptor: tuple[int, int] | None = None
    waits_for = ""
    """What must happen, for people."""

    def __init__(self, loop: asyncio.AbstractEventLoop, became_ready: Callable[[], None]) -> None:
        self._loop = loop
        self._became_ready = became_ready
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False

    @property
    def status(self) -> str:
        """What the command says about itself, if it says anything."""
        return ""

    def begin(self, pid: int) -> None:
        """The process is there, and nothing was missed."""

    def executed(self) -> None:
        """The process has become the command."""
        self._call_later(LIVED, self._ready)

    def printed(self, line: str) -> None:
        """The command has printed a line."""

    def cancel(self) -> None:
        """Release everything: the process has ended."""
        self._release()

    def _ready(self) -> None:
        if not self._is_over:
            self._release()
            self._became_ready()

    def _release(self) -> None:
        """Stop waiting."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _call_later(self, delay: float, callback: Callable[[], None]) -> None:
        if not self._is_over:
            self._timer = self._loop.call_later(delay, callback)


class TcpReadiness(Readiness):
    """Ready when an address accepts connections; tried again and again, after pauses that grow to a quarter second."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        became_ready: Callable[[], None],
        address: str,
        probe: Callable[[str], Awaitable[str]] = probe_tcp,
    ) -> None:
        super().__init__(loop, became_ready)
        self._address = address
        self.waits_for = f"{address} to accept connections"
        self._probe = probe
        self._task: asyncio.Task[None] | None = None

    def executed(self) -> None:
        if not self._is_over and self._task is None:
            self._task = self._loop.create_task(self._try(), name="meshvisor-ready")

    def _release(self) -> None:
        super()._release()
        if self._task is not None and self._task is not asyncio.current_task(self._loop):
            self._task.cancel()

    async def _try(self) -> None:
        pause = _FIRST_PAUSE
        while not await self._is_there():
            await asyncio.sleep(pause)
            pause = min(pause * _PAUSE_FACTOR, _LONGEST_PAUSE)
        self._ready()

    async def _is_there(self) -> bool:
        with suppress(TimeoutError, NotAsked):
            async with asyncio.timeout(_ATTEMPT_TIMEOUT):
                return not await self._probe(self._address)
        return False


class FileReadiness(Readiness):
    """Ready when a file is there, which is removed first.

    The kernel tells of what is new in its directory. Where there is no directory yet, or no watch to be had, one
    looks again each 50 ms.

    Raises:
        OSError: If the file of the last time cannot be removed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, became_ready: Callable[[], None], file: Path) -> None:
        super().__init__(loop, became_ready)
        self._file = file
        self.waits_for = f"the file {file}"
        self._watch = -1
        with suppress(FileNotFoundError):
            file.unlink()

    def begin(self, pid: int) -> None:
        try:
            self._watch = watch_directory(self._file.parent)
        except OSError:
            self._look()
        else:
            self._loop.add_reader(self._watch, self._look)
            self._look()

    def executed(self) -> None:
        pass

    def _release(self) -> None:
        super()._release()
        if self._watch >= 0:
            self._loop.remove_reader(self._watch)
            os.close(self._watch)
            self._watch = -1

    def _look(self) -> None:
        if self._watch >= 0:
            forget_events(self._watch)
        if os.path.lexists(self._file):
            self._ready()
        elif self._watch < 0:
            self._call_later(_LOOK_AGAIN, self._look)


class LineReadiness(Readiness):
    """Ready when a line was written to a descriptor of the command's (as s6 has it).

    Whatever comes after it is read, too: a command that goes on writing must not be killed by SIGPIPE.

    Raises:
        OSError: If there are no descriptors left.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, became_ready: Callable[[], None], number: int) -> None:
        super().__init__(loop, became_ready)
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self._writer, True)
        self.descriptor = (self._writer, number)
        self.waits_for = f"a line on descriptor {number}"

    def begin(self, pid: int) -> None:
        self._close_writer()
        self._loop.add_reader(self._reader, self._read)

    def executed(self) -> None:
        pass

    def cancel(self) -> None:
        super().cancel()
        self._close_writer()
        if self._reader >= 0:
            self._loop.remove_reader(self._reader)
            os.close(self._reader)
            self._reader = -1

    def _read(self) -> None:
        try:
            data = os.read(self._reader, _READ_SIZE)
        except BlockingIOError:
            return
        if b"\n" in data:
            self._ready()
        elif not data:  # closed; if there was no line, there will never be one
            self._loop.remove_reader(self._reader)

    def _close_writer(self) -> None:
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1


class LogReadiness(Readiness):
    """Ready when a line of output contains a text."""

    def __init__(self, loop: asyncio.AbstractEventLoop, became_ready: Callable[[], None], text: str) -> None:
        super().__init__(loop, became_ready)
        self._text = text
        self.waits_for = f'"{text}" in its output'

    def executed(self) -> None:
        pass

    def printed(self, line: str) -> None:
        if self._text in line:
            self._ready()


class NotifyReadiness(Readiness):
    """Ready when the command says READY=1 over the socket in NOTIFY_SOCKET, which stays open as long as it lives."""

    waits_for = "READY=1 over NOTIFY_SOCKET"

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        became_ready: Callable[[], None],
        sock: NotifySocket,
        stopping: Callable[[], None],
    ) -> None:
        super().__init__(loop, became_ready)
        self._socket = sock
        self.environment = {"NOTIFY_SOCKET": sock.address}
        sock.on_ready = self._ready
        sock.on_stopping = stopping

    @property
    def status(self) -> str:
        return self._socket.status

    def begin(self, pid: int) -> None:
        self._socket.listen(self._loop, pid)

    def cancel(self) -> None:
        super().cancel()
        self._socket.close()

    def executed(self) -> None:
        pass


def readiness_of(
    ready: Ready | None,
    loop: asyncio.AbstractEventLoop,
    became_ready: Callable[[], None],
    open_socket: Callable[[], NotifySocket],
    stopping: Callable[[], None] = lambda: None,
) -> Readiness:
    """Return the way that ``ready`` names; ``open_socket`` is asked for a socket if that takes one.

    ``stopping`` is called when the command says by itself that it is about to end.

    Raises:
        OSError: If what it needs cannot be had; the start has then failed. ``Readiness.cancel`` is not needed then.
    """
    if ready is None:
        return Readiness(loop, became_ready)
    if ready.tcp is not None:
        return TcpReadiness(loop, became_ready, ready.tcp)
    if ready.file is not None:
        return FileReadiness(loop, became_ready, ready.file)
    if ready.fd is not None:
        return LineReadiness(loop, became_ready, ready.fd)
    if ready.log is not None:
        return LogReadiness(loop, became_ready, ready.log)
    return NotifyReadiness(loop, became_ready, open_socket(), stopping)
