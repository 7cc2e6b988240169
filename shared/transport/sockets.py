"""What TCP and Unix sockets have in common: streams and listeners over non-blocking sockets.

The loop's ``sock_*`` methods are not used: they cannot be interrupted by a ``close`` on this side, and they take the
EAGAIN of a full AF_UNIX backlog for a connection. Everything here tries the system call first and registers with the
loop only when the kernel says "would block"; a descriptor is always unregistered before it is closed, since its number
may be another file's the moment after.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable

from ..core.endpoint import Endpoint
from .base import HasSocket, Listener, Stream

_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 1.0

# The listening socket itself is broken or was closed behind our back: waiting does not help.
_FATAL_ON_ACCEPT = {errno.EBADF, errno.EINVAL, errno.ENOTSOCK}


def closed_error(what: str) -> OSError:
    """Return the error of an operation on something that this side closed."""
    return OSError(errno.EBADF, f"the {what} is closed")


class Readiness:
    """Waits until one socket can be read or written; ``stop`` ends the waits with an error."""

    __slots__ = ("_fd", "_is_watched", "_loop", "_reader", "_what", "_writer", "stopped")

    def __init__(self, sock: socket.socket, what: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._fd = sock.fileno()
        self._what = what
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._is_watched = False
        self.stopped = False

    async def readable(self) -> None:
        """Wait until a read would not block.

        Raises:
            OSError: If ``stop`` was called.
        """
        if self._reader is not None:
            raise RuntimeError(f"two tasks read from one {self._what}")
        waiter = self._reader = self._loop.create_future()
        self._loop.add_reader(self._fd, _wake, waiter)
        try:
            await waiter
        finally:
            self._reader = None
            if not self.stopped:
                self._loop.remove_reader(self._fd)

    async def writable(self) -> None:
        """Wait until a write would not block.

        Raises:
            OSError: If ``stop`` was called.
        """
        if self._writer is not None:
            raise RuntimeError(f"two tasks write to one {self._what}")
        waiter = self._writer = self._loop.create_future()
        self._loop.add_writer(self._fd, _wake, waiter)
        try:
            await waiter
        finally:
            self._writer = None
            if not self.stopped:
                self._loop.remove_writer(self._fd)

    def watch(self, ready: Callable[[], None]) -> None:
        """Call ``ready`` whenever a read would not block, until ``unwatch``, ``stop`` or another registration."""
        self._is_watched = True
        self._loop.add_reader(self._fd, ready)

    def unwatch(self) -> None:
        """Call it no longer."""
        if self._is_watched:
            self._is_watched = False
            self._loop.remove_reader(self._fd)

    def stop(self) -> None:
        """Unregister the descriptor and end whoever waits; call it before the socket is closed."""
        if self.stopped:
            return
        self.stopped = True
        self.unwatch()
        # Only what is ours: a driver may have registered the descriptor for itself.
        if self._reader is not None:
            self._loop.remove_reader(self._fd)
            self._fail(self._reader)
        if self._writer is not None:
            self._loop.remove_writer(self._fd)
            self._fail(self._writer)

    def _fail(self, waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_exception(closed_error(self._what))


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class SocketStream:
    """A ``Stream`` over a connected, non-blocking socket, which it owns. One reader and one writer at a time.

    Beside what every stream can do, it can be watched, and so be read and written by callbacks
    instead of tasks that wait.
    """

    __slots__ = ("_ready", "socket")

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._ready = Readiness(sock, "stream")

    def watch(self, ready: Callable[[], None]) -> None:
        """Call ``ready`` whenever something can be read, until ``unwatch``, ``close`` or another registration."""
        self._ready.watch(ready)

    def unwatch(self) -> None:
        """Call it no longer."""
        self._ready.unwatch()

    def write_now(self, data: bytes) -> None:
        """Hand ``data`` over, so little and so early in the stream's life that there is room for it.

        Raises:
            OSError: If there is none all the same, or the stream broke; any part of ``data`` may be on its way.
        """
        try:
            sent = self.socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        if sent < len(data):
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    async def read(self, limit: int, /) -> bytes:
        """See ``Stream.read``."""
        while not self._ready.stopped:
            try:
                return self.socket.recv(limit)
            except BlockingIOError:
                await self._ready.readable()
        raise closed_error("stream")

    async def write(self, data: bytes | bytearray | memoryview, /) -> None:
        """See ``Stream.write``. After a cancellation the peer may have got any part of ``data``."""
        with memoryview(data) as view, view.cast("B") as octets:
            sent = 0
            while not self._ready.stopped:
                if sent == len(octets):
                    return
                try:
                    sent += self.socket.send(octets[sent:])
                except BlockingIOError:
                    await self._ready.writable()
        raise closed_error("stream")

    def close(self) -> None:
        """See ``Stream.close``."""
        self._ready.stop()
        self.socket.close()


class SocketListener:
    """A ``Listener`` over a listening, non-blocking socket, which it owns. It can be watched, as its streams can."""

    def __init__(self, sock: socket.socket, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._socket = sock
        self._ready = Readiness(sock, "listener")
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def accept(self) -> SocketStream:
        """See ``Listener.accept``.

        The pauses grow from 5 ms to 1 s as those of memberlist's accept loop do; whatever ends one try (no descriptor,
        no memory, a peer that gave up meanwhile) never ends accepting.
        """
        pause = _FIRST_PAUSE
        while not self._ready.stopped:
            try:
                stream = self.accept_now()
            except OSError as error:
                if error.errno in _FATAL_ON_ACCEPT:
                    raise
                await asyncio.wait([self._ended], timeout=pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            if stream is not None:
                return stream
            await self._ready.readable()
        raise closed_error("listener")

    def watch(self, ready: Callable[[], None]) -> None:
        """Call ``ready`` whenever somebody knocks, until ``unwatch`` or ``close``."""
        self._ready.watch(ready)

    def unwatch(self) -> None:
        """Call it no longer."""
        self._ready.unwatch()

    def accept_now(self) -> SocketStream | None:
        """Return the next stream, or None if there is none yet.

        Raises:
            OSError: If there is none for a reason that ``accept`` waits for the end of, or the listener was closed.
        """
        while True:
            try:
                accepted, _ = self._socket.accept()
            except BlockingIOError:
                return None
            if self._welcome(accepted):
                return SocketStream(accepted)
            accepted.close()

    def close(self) -> None:
        """See ``Listener.close``."""
        self._ready.stop()
        if not self._ended.done():
            self._ended.set_result(None)
        self._socket.close()

    def _welcome(self, accepted: socket.socket) -> bool:
        """Prepare a new socket; False turns it away."""
        accepted.setblocking(False)
        return True


async def finish_connect(sock: socket.socket) -> None:
    """Wait for the outcome of a non-blocking connect that has begun.

    Raises:
        OSError: If there is no connection.
    """
    await Readiness(sock, "stream").writable()
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


_stream: type[Stream] = SocketStream
_socket: type[HasSocket] = SocketStream
_listener: type[Listener] = SocketListener
