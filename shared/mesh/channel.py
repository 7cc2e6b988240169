"""One stream of a connection, read and written as fast as it allows.

A stream over a socket is read and written directly, when the kernel says so: no task, no future and no copy stands
between the socket and the core. Any other stream is served by two tasks through its ``read`` and ``write``.

A channel reports to its owner by three callbacks, and to nobody once it is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Protocol, cast

from ..core.frames import Frame, FrameReader, Kind
from ..core.session import Body
from ..transport.base import HasSocket, Stream

SCRATCH = 256 * 1024
"""Bytes of the buffer that all channels of one owner receive into."""

_READS_PER_TURN = 4

_LAST_WORDS = 0.1
"""Seconds that the reader has after a write failed: it usually finds the same end, after what the peer still said."""


class ChannelOwner(Protocol):
    """Whoever a channel reports to."""

    def frames_arrived(self, channel: Channel, frames: list[Frame]) -> None:
        """``frames`` were cut from what arrived."""

    def bytes_arrived(self) -> None:
        """Bytes arrived that make no whole frame yet: the peer lives."""

    def channel_writable(self, channel: Channel) -> None:
        """Everything written so far was handed over; more may be written."""

    def channel_lost(self, channel: Channel, reason: str, *, broken: bool) -> None:
        """Nothing more will arrive; ``broken`` if the peer broke a rule of the protocol."""


class Channel:
    """What both kinds of channel share: the reader of frames, and the end."""

    def __init__(
        self, stream: Stream, owner: ChannelOwner, kinds: frozenset[Kind], limit: int, scratch: memoryview
    ) -> None:
        self.is_blocked = False
        self.bytes_in = 0
        self.bytes_out = 0
        self._stream = stream
        self._owner = owner
        self._reader = FrameReader(kinds, limit)
        self._scratch = scratch
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._last_words: asyncio.TimerHandle | None = None

    def write(self, buffers: Sequence[Body]) -> None:
        """Hand ``buffers`` over; afterwards ``is_blocked`` tells whether to wait for ``channel_writable``."""
        raise AssertionError("a kind of channel defines this")

    def start(self) -> None:
        """Begin to read."""
        raise AssertionError("a kind of channel defines this")

    def drain(self) -> None:
        """Read what has arrived already, for a last time."""

    def close(self) -> None:
        """Stop, and close the stream; nothing is reported any more."""
        self._closed = True
        if self._last_words is not None:
            self._last_words.cancel()
        self._stream.close()

    @property
    def is_running(self) -> bool:
        """Whether something of this channel still runs, perhaps after ``close``."""
        return False

    async def wait_closed(self) -> None:
        """Wait until nothing of this channel runs any more."""

    def _arrived(self, frames: list[Frame]) -> None:
        if frames:
            self._owner.frames_arrived(self, frames)
        else:
            self._owner.bytes_arrived()
        if self._reader.fault is not None:
            self._lost(self._reader.fault, broken=True)

    def _lost(self, reason: str, *, broken: bool = False) -> None:
        if not self._closed:
            self._owner.channel_lost(self, reason, broken=broken)

    def _cannot_write(self, error: OSError) -> None:
        """End soon, even if reading goes on as if nothing were: a way that is open in one direction is no way."""
        if self._last_words is None and not self._closed:
            self._last_words = self._loop.call_later(_LAST_WORDS, self._lost, error.strerror or str(error))


class SocketChannel(Channel):
    """A channel over a non-blocking socket."""

    def __init__(
        self, stream: Stream, owner: ChannelOwner, kinds: frozenset[Kind], limit: int, scratch: memoryview
    ) -> None:
        super().__init__(stream, owner, kinds, limit, scratch)
        self._socket = cast(HasSocket, stream).socket
        self._backlog: deque[memoryview] | None = None  # once there is any

    def start(self) -> None:
        self._loop.add_reader(self._socket.fileno(), self._read_ready)

    def _read_ready(self) -> None:
        reads = 1
        while self._read_once() and reads < _READS_PER_TURN and not self._closed:
            reads += 1

    def drain(self) -> None:
        while not self._closed and self._read_once():
            pass

    def _read_once(self) -> bool:
        """Receive once; return whether there may be more."""
        vacancy = self._reader.vacancy()
        room = self._scratch if vacancy is None else vacancy
        try:
            count = self._socket.recv_into(room)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._lost(error.strerror or str(error))
            return False
        if not count:
            self._lost("the peer closed the connection")
            return False
        self.bytes_in += count
        if vacancy is None:
            self._arrived(self._reader.receive(self._scratch[:count]))
        else:
            self._arrived(self._reader.filled(count))
        return count == len(room)

    def write(self, buffers: Sequence[Body]) -> None:
        if self._closed:
            return
        sent = 0
        if not self._backlog:
            try:
                sent = self._socket.sendmsg(buffers)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                self.is_blocked = True  # for good: nothing may go out after a gap
                self._cannot_write(error)
            self.bytes_out += sent
        self._keep(buffers, sent)

    def _keep(self, buffers: Sequence[Body], sent: int) -> None:
        for buffer in buffers:
            size = len(buffer)
            if sent >= size:
                sent -= size
                continue
            if self._backlog is None:
                self._backlog = deque()
            self._backlog.append(memoryview(buffer)[sent:])
            sent = 0
        if self._backlog and not self.is_blocked:
            self.is_blocked = True
            self._loop.add_writer(self._socket.fileno(), self._write_ready)

    def _write_ready(self) -> None:
        backlog = self._backlog or deque()
        try:
            sent = self._socket.sendmsg(list(backlog)[:512])
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._loop.remove_writer(self._socket.fileno())
            self._cannot_write(error)
            return
        self.bytes_out += sent
        while sent and backlog:
            first = backlog[0]
            if sent < len(first):
                backlog[0] = first[sent:]
                return
            sent -= len(first)
            backlog.popleft()
        if not backlog:
            self.is_blocked = False
            self._loop.remove_writer(self._socket.fileno())
            self._owner.channel_writable(self)

    def close(self) -> None:
        if not self._closed:
            # Before the socket is closed: its number may belong to another file a moment later.
            self._loop.remove_reader(self._socket.fileno())
            if self.is_blocked:
                self._loop.remove_writer(self._socket.fileno())
            self._backlog = None
            super().close()


class StreamChannel(Channel):
    """A channel over any stream that can ``read`` and ``write``."""

    def __init__(
        self, stream: Stream, owner: ChannelOwner, kinds: frozenset[Kind], limit: int, scratch: memoryview
    ) -> None:
        super().__init__(stream, owner, kinds, limit, scratch)
        self._outgoing: list[Body] = []
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]

    async def _read(self) -> None:
        while not self._closed:
            try:
                data = await self._stream.read(SCRATCH)
            except OSError as error:
                self._lost(error.strerror or str(error))
                return
            if not data:
                self._lost("the peer closed the connection")
                return
            self.bytes_in += len(data)
            self._arrived(self._reader.receive(data))

    async def _write(self) -> None:
        while not self._closed:
            await self._wake.wait()
            self._wake.clear()
            data = b"".join(self._outgoing)
            self._outgoing.clear()
            if data:
                try:
                    await self._stream.write(data)
                except OSError as error:
                    self._cannot_write(error)
                    return
                self.bytes_out += len(data)
            if not self._outgoing:
                self.is_blocked = False
                if not self._closed:
                    self._owner.channel_writable(self)

    def write(self, buffers: Sequence[Body]) -> None:
        if not self._closed:
            self._outgoing += buffers
            self.is_blocked = True
            self._wake.set()

    def close(self) -> None:
        if not self._closed:
            super().close()
            for task in self._tasks:
                task.cancel()

    @property
    def is_running(self) -> bool:
        return not all(task.done() for task in self._tasks)

    async def wait_closed(self) -> None:
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                with contextlib.suppress(asyncio.CancelledError):
                    await task


def open_channel(
    stream: Stream, owner: ChannelOwner, kinds: frozenset[Kind], limit: int, scratch: memoryview
) -> Channel:
    """Return the fastest channel that ``stream`` allows; the caller starts and closes it."""
    # Not isinstance(stream, HasSocket): that costs ten times as much, and is asked for every connection.
    kind = SocketChannel if hasattr(stream, "socket") else StreamChannel
    return kind(stream, owner, kinds, limit, scratch)
