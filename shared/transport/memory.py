"""Endpoints inside one process: bounded pipes instead of sockets, no I/O, and so at home on virtual time.

A pipe behaves as a socket does where it matters: it holds a bounded number of bytes and makes the writer wait, what
was written before a close is still read after it, and writing to a closed end fails.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
from collections import deque

from ..core.endpoint import Endpoint
from .base import Listener, Stream, TransportAdapter, TransportConnection, TransportOptions

PIPE_SIZE = 256 * 1024
"""How many bytes one direction of a stream holds before its writer waits."""


def _closed_error(what: str) -> OSError:
    return OSError(errno.EBADF, f"the {what} is closed")


class _Waiter:
    """At most one task that waits for a change, and ``wake``, which ends the wait."""

    def __init__(self) -> None:
        self._future: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        if self._future is not None:
            raise RuntimeError("two tasks wait for one end of a memory stream")
        self._future = asyncio.get_running_loop().create_future()
        try:
            await self._future
        finally:
            self._future = None

    def wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class _Pipe:
    """One direction: bytes from one writer to one reader."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._readable = _Waiter()
        self._writable = _Waiter()
        self._has_reader = True
        self._has_writer = True

    async def read(self, limit: int) -> bytes:
        while self._has_reader:
            if self._buffer:
                data = bytes(self._buffer[:limit])
                del self._buffer[:limit]
                self._writable.wake()
                return data
            if not self._has_writer:
                return b""
            await self._readable.wait()
        raise _closed_error("stream")

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        with memoryview(data) as view, view.cast("B") as octets:
            sent = 0
            while self._has_writer:
                if not self._has_reader:
                    raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
                part = octets[sent : sent + PIPE_SIZE - len(self._buffer)]
                if part:
                    self._buffer += part
                    sent += len(part)
                    self._readable.wake()
                part.release()
                if sent == len(octets):
                    return
                await self._writable.wait()
        raise _closed_error("stream")

    def close_reader(self) -> None:
        self._has_reader = False
        self._buffer.clear()
        self._wake_both()

    def close_writer(self) -> None:
        self._has_writer = False
        self._wake_both()

    def _wake_both(self) -> None:
        self._readable.wake()
        self._writable.wake()


class MemoryStream:
    """A ``Stream`` made of two pipes. One reader and one writer at a time."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    async def read(self, limit: int, /) -> bytes:
        """See ``Stream.read``."""
        return await self._incoming.read(limit)

    async def write(self, data: bytes | bytearray | memoryview, /) -> None:
        """See ``Stream.write``."""
        await self._outgoing.write(data)

    def close(self) -> None:
        """See ``Stream.close``."""
        self._incoming.close_reader()
        self._outgoing.close_writer()


def memory_pair() -> tuple[MemoryStream, MemoryStream]:
    """Return the two ends of a new stream."""
    one, other = _Pipe(), _Pipe()
    return MemoryStream(one, other), MemoryStream(other, one)


class MemoryListener:
    """A ``Listener`` at a name of a ``MemoryNetwork``."""

    def __init__(self, network: MemoryNetwork, endpoint: Endpoint, backlog: int) -> None:
        self.endpoint = endpoint
        self._network = network
        self._backlog = backlog
        self._queue: deque[MemoryStream] = deque()
        self._arrived = _Waiter()
        self._closed = False

    async def accept(self) -> MemoryStream:
        """See ``Listener.accept``."""
        while not self._closed:
            if self._queue:
                return self._queue.popleft()
            await self._arrived.wait()
        raise _closed_error("listener")

    def close(self) -> None:
        """See ``Listener.close``. Whoever was not accepted yet sees the end of the stream."""
        if self._closed:
            return
        self._closed = True
        self._network.release(self)
        while self._queue:
            self._queue.popleft().close()
        self._arrived.wake()

    def dial(self) -> MemoryStream:
        """Return the dialling end of a new stream whose other end waits to be accepted.

        Raises:
            ConnectionRefusedError: If ``backlog`` streams wait already.
        """
        if len(self._queue) >= self._backlog:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"the queue of {self.endpoint} is full")
        near, far = memory_pair()
        self._queue.append(far)
        self._arrived.wake()
        return near


class MemoryNetwork:
    """The names that can be dialled. Nodes on different networks do not see each other."""

    def __init__(self) -> None:
        self._listeners: dict[str, MemoryListener] = {}
        self._numbers = itertools.count(1)

    def new_endpoint(self) -> Endpoint:
        """Return an endpoint that no one listens at and that is never returned again: ``memory:1``, ``memory:2``..."""
        while (name := str(next(self._numbers))) in self._listeners:
            pass
        return Endpoint.parse(f"memory:{name}")

    def bind(self, endpoint: Endpoint, backlog: int) -> MemoryListener:
        """Return a listener at ``endpoint``.

        Raises:
            OSError: If there is one (EADDRINUSE).
        """
        if endpoint.path in self._listeners:
            raise OSError(errno.EADDRINUSE, f"{endpoint} is already listened at")
        listener = self._listeners[endpoint.path] = MemoryListener(self, endpoint, backlog)
        return listener

    def release(self, listener: MemoryListener) -> None:
        """Make the name of ``listener`` free again."""
        if self._listeners.get(listener.endpoint.path) is listener:
            del self._listeners[listener.endpoint.path]

    def dial(self, endpoint: Endpoint) -> MemoryStream:
        """Return the near end of a new stream to ``endpoint``.

        Raises:
            ConnectionRefusedError: If no one listens there, or the queue is full.
        """
        listener = self._listeners.get(endpoint.path)
        if listener is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"no route to {endpoint.path}")
        return listener.dial()


_default_network = MemoryNetwork()


class MemoryTransportAdapter:
    """Dials and listens at ``memory:NAME`` on ``network`` (None: the one that the whole process shares)."""

    transport = "memory"

    def __init__(self, network: MemoryNetwork | None = None) -> None:
        self.network = _default_network if network is None else network

    async def connect(self, endpoint: Endpoint, options: TransportOptions, /) -> TransportConnection:
        """See ``TransportAdapter.connect``."""
        control = self.network.dial(endpoint)
        try:
            data = self.network.dial(endpoint)
        except BaseException:
            control.close()
            raise
        return TransportConnection(control, data)

    async def listen(self, endpoint: Endpoint, options: TransportOptions, /) -> MemoryListener:
        """See ``TransportAdapter.listen``."""
        return self.network.bind(endpoint, options.backlog)


_stream: type[Stream] = MemoryStream
_listener: type[Listener] = MemoryListener
_adapter: type[TransportAdapter] = MemoryTransportAdapter
