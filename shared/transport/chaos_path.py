"""The way under a chaotic stream: a tunnel that can turn into a black hole, and a line on which bytes take their time.

Both behave as a network does and never as a thief: what is on its way when a fault ends arrives, whole and in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from .base import Stream
from .chaos_faults import Direction, Faults, Operation

HELD = 256 * 1024
"""Bytes that a black hole or a line takes from a writer before it makes the writer wait, as a send buffer would."""

_PART = 64 * 1024

Data = bytes | bytearray | memoryview
Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[object]]


def closed_error() -> OSError:
    """Return what every operation raises once this side has closed the stream."""
    return OSError(errno.EBADF, "the stream is closed")


class Bell:
    """Wakes everyone who waits for a change."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], None] = {}  # a set has no order, and would wake in none

    def next(self) -> asyncio.Future[None]:
        """Return what is done at the next ``ring``."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = None
        waiter.add_done_callback(self._waiting.pop)
        return waiter

    async def wait(self) -> None:
        """Wait for the next ``ring``."""
        await self.next()

    def ring(self) -> None:
        """End all the waits there are."""
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)


class Path(Stream, Protocol):
    """A stream whose ``close`` may take its time, as ``abort`` never does."""

    @property
    def is_released(self) -> bool:
        """Whether the inner stream is closed and nothing runs any more (or is about to end, being cancelled)."""

    def abort(self) -> None:
        """Close the inner stream at once; what is still on its way is lost."""

    async def wait_closed(self) -> None:
        """Wait until nothing of this path runs any more."""


class Tunnel:
    """A ``Path`` over ``inner`` that can swallow what goes in, or withhold what comes out, until it is healed.

    A writer into a black hole notices nothing until ``HELD`` bytes are in it, and then waits. (A write that already
    waited for the inner stream when the hole opened is in the network, and arrives.) Nor is a close heard through
    a hole: with ``keeps_silence`` the inner stream stays open until ``heal`` or ``abort``.
    """

    def __init__(self, inner: Stream, *, keeps_silence: bool = False) -> None:
        self._keeps_silence = keeps_silence
        self.is_released = False
        self._inner = inner
        self._holes: set[Operation] = set()
        self._withheld = b""
        self._held = bytearray()
        self._flushing: asyncio.Task[None] | None = None
        self._changed = Bell()
        self._closed = False

    @property
    def is_mute(self) -> bool:
        """Whether what is written goes nowhere now."""
        return Operation.WRITE in self._holes

    def black_hole(self, direction: Direction) -> None:
        """Let nothing pass in ``direction`` until ``heal``."""
        self._holes.update(operation for operation in Operation if direction.includes(operation))

    def heal(self) -> None:
        """Let everything pass again, what was withheld first."""
        self._holes.clear()
        self._changed.ring()
        if self._flushing is None and (self._held or (self._closed and not self.is_released)):
            self._flushing = asyncio.get_running_loop().create_task(self._flush())

    async def read(self, limit: int, /) -> bytes:
        """See ``Stream.read``."""
        while not self._closed:
            if Operation.READ in self._holes:
                await self._changed.wait()
            elif self._withheld:
                data, self._withheld = self._withheld[:limit], self._withheld[limit:]
                return data
            else:
                try:
                    data = await self._inner.read(limit)
                except OSError:
                    if Operation.READ in self._holes:
                        continue  # It is met again, once the hole is healed.
                    raise
                if Operation.READ not in self._holes:
                    return data
                self._withheld = data
        raise closed_error()

    async def write(self, data: Data, /) -> None:
        """See ``Stream.write``."""
        taken = 0
        while not self._closed:
            if self.is_mute:
                room = HELD - len(self._held)
                self._held += data[taken : taken + room]
                taken = min(taken + room, len(data))
                if taken == len(data):
                    return
                await self._changed.wait()
            elif self._flushing is not None:
                await self._changed.wait()
            else:
                await self._inner.write(data[taken:] if taken else data)
                return
        raise closed_error()

    async def _flush(self) -> None:
        """Write what the hole held; then close, if that was asked for meanwhile."""
        try:
            while self._held and not self.is_mute:
                part = bytes(self._held[:_PART])
                await self._inner.write(part)
                del self._held[: len(part)]
        except OSError:
            self._held.clear()  # Whoever writes next finds the same end.
        finally:
            self._flushing = None
            self._changed.ring()
        if self._closed and not self.is_mute:
            self._release()

    def close(self) -> None:
        """See ``Stream.close``; what a healed hole still has to give arrives before the end."""
        if self._closed:
            return
        self._closed = True
        self._changed.ring()
        if self._flushing is None and not (self.is_mute and self._keeps_silence):
            self._release()

    def abort(self) -> None:
        """See ``Path.abort``."""
        self._closed = True
        self._held.clear()
        self._changed.ring()
        if self._flushing is not None:
            self._flushing.cancel()
        self._release()

    def _release(self) -> None:
        self.is_released = True
        self._inner.close()

    async def wait_closed(self) -> None:
        """See ``Path.wait_closed``."""
        if self._flushing is not None:
            await asyncio.wait([self._flushing])


class _Belt:
    """Bytes on their way in one direction: each part is due at its moment, none before the one in front of it."""

    def __init__(self, latency: Callable[[], float], clock: Clock, sleep: Sleep) -> None:
        self._latency = latency
        self._clock = clock
        self._sleep = sleep
        self._parts: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._is_shut = False
        self._changed = Bell()

    @property
    def is_empty(self) -> bool:
        return not self._parts

    async def put(self, part: bytes) -> None:
        """Set ``part`` off, waiting while ``HELD`` bytes are on their way.

        Raises:
            OSError: If the belt is shut.
        """
        while self._size >= HELD and not self._is_shut:
            await self._changed.wait()
        if self._is_shut:
            raise closed_error()
        due = self._clock() + self._latency()
        if self._parts:
            due = max(due, self._parts[-1][0])
        self._parts.append((due, part))
        self._size += len(part)
        self._changed.ring()

    async def arrival(self) -> bytes:
        """Wait until the first part is due and return it; it stays where it is until ``take``.

        Raises:
            OSError: If the belt is shut and empty.
        """
        while True:
            while not self._parts:
                if self._is_shut:
                    raise closed_error()
                await self._changed.wait()
            first = self._parts[0]
            wait = first[0] - self._clock()
            if wait > 0:
                await self._sleep(wait)
            if self._parts and self._parts[0] is first:  # Not lost meanwhile.
                return first[1]

    def take(self, count: int) -> None:
        """Remove the first ``count`` bytes of the first part."""
        due, part = self._parts.popleft()
        if count < len(part):
            self._parts.appendleft((due, part[count:]))
        self._size -= count
        self._changed.ring()

    def shut(self) -> None:
        """Take nothing more; what is on its way still arrives."""
        self._is_shut = True
        self._changed.ring()

    def clear(self) -> None:
        """Lose what is on its way."""
        self._parts.clear()
        self._size = 0
        self._changed.ring()

    async def wait_empty(self) -> None:
        """Wait until everything has arrived."""
        while self._parts:
            await self._changed.wait()


class Line:
    """A ``Path`` over a tunnel on which bytes travel for the latency that ``faults`` draw, and a close for its delay.

    Neither holds up whoever writes or closes. Two tasks carry the bytes, one each way, from the first use until the
    line is closed and empty; ``wait_closed`` waits for their end.
    """

    def __init__(self, tunnel: Tunnel, faults: Faults, *, clock: Clock, sleep: Sleep) -> None:
        self._tunnel = tunnel
        self._faults = faults
        self._sleep = sleep
        self._outgoing = _Belt(faults.latency, clock, sleep)
        self._incoming = _Belt(faults.latency, clock, sleep)
        self._carriers: list[asyncio.Task[None]] = []
        self._finishing: asyncio.Task[None] | None = None
        self._read_failure: OSError | None = None
        self._write_failure: OSError | None = None
        self._closed = False

    @property
    def is_released(self) -> bool:
        """See ``Path.is_released``."""
        return self._tunnel.is_released

    async def read(self, limit: int, /) -> bytes:
        """See ``Stream.read``."""
        self._begin()
        part = await self._incoming.arrival()
        if part:
            self._incoming.take(min(limit, len(part)))
        elif self._read_failure is not None:
            raise self._read_failure
        return part[:limit]

    async def write(self, data: Data, /) -> None:
        """See ``Stream.write``; an error shows in the write after the one that met it."""
        self._begin()
        if self._write_failure is not None:
            raise self._write_failure
        for at in range(0, len(data), _PART):
            await self._outgoing.put(bytes(data[at : at + _PART]))

    def _begin(self) -> None:
        if self._closed:
            raise closed_error()
        if not self._carriers:
            loop = asyncio.get_running_loop()
            self._carriers = [loop.create_task(self._carry_in()), loop.create_task(self._carry_out())]

    async def _carry_in(self) -> None:
        part = b"?"
        while part and not self._closed:
            try:
                part = await self._tunnel.read(_PART)
            except OSError as error:
                self._read_failure = error
                part = b""
            with contextlib.suppress(OSError):  # closed meanwhile
                await self._incoming.put(part)  # b"": the end, which is never taken

    async def _carry_out(self) -> None:
        try:
            while True:
                part = await self._outgoing.arrival()
                await self._tunnel.write(part)
                self._outgoing.take(len(part))
        except OSError as error:
            self._write_failure = error
            self._outgoing.clear()

    def close(self) -> None:
        """See ``Stream.close``; the peer sees it after everything that is on its way, and ``close_delay``."""
        if self._closed:
            return
        self._shut()
        if self._tunnel.is_mute or (self._outgoing.is_empty and not self._faults.options.close_delay):
            self._stop()
            self._tunnel.close()
        else:
            self._finishing = asyncio.get_running_loop().create_task(self._finish())

    async def _finish(self) -> None:
        await self._outgoing.wait_empty()
        delay = self._faults.options.close_delay
        if delay:
            await self._sleep(delay)
        self._stop()
        self._tunnel.close()

    def abort(self) -> None:
        """See ``Path.abort``."""
        self._shut()
        if self._finishing is not None:
            self._finishing.cancel()
        self._stop()
        self._outgoing.clear()
        self._tunnel.abort()

    def _shut(self) -> None:
        self._closed = True
        self._incoming.shut()
        self._incoming.clear()
        self._outgoing.shut()

    def _stop(self) -> None:
        for carrier in self._carriers:
            carrier.cancel()

    async def wait_closed(self) -> None:
        """See ``Path.wait_closed``."""
        running = [*self._carriers, *([] if self._finishing is None else [self._finishing])]
        if running:
            await asyncio.wait(running)
        await self._tunnel.wait_closed()


_paths: tuple[type[Path], ...] = (Tunnel, Line)
