"""The link of a node to itself: messages and calls to the own name take the same path as all others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from ..shared.core.frames import LARGE
from ..shared.core.session import Body, view_of
from ..shared.errors import LinkClosed, QueueFull, SendTimeout
from .inbox import Link

WINDOW_MESSAGES = 8192
WINDOW_BYTES = 4 * 1024 * 1024


class Receiver(Protocol):
    """Takes what comes out at the other end, which is this one."""

    def messages_received(self, link: Link, first: int, bodies: list[bytes | bytearray]) -> None:
        """See ``MeshHandler.messages_received``."""

    def calls_received(self, link: Link, bodies: list[bytes | bytearray]) -> None:
        """See ``MeshHandler.calls_received``."""


class Loopback:
    """A ``Link`` whose peer is its own node; bounded as the others are, in messages and bytes not yet consumed."""

    def __init__(self, node_id: str, incarnation: int, receiver: Receiver) -> None:
        self.node_id = node_id
        self.incarnation = incarnation
        self.calls_behind = 0  # What is posted here has arrived.
        self._receiver = receiver
        self._sent = 0
        self._posted = 0
        self._sizes: deque[int] = deque()  # of the messages not consumed; the last one has the number _sent
        self._held = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._is_closed = False

    async def send(self, body: bytes | bytearray | memoryview, timeout: float | None = None) -> int:
        """See ``ConnectionHandle.send``."""
        if self._has_room(body):
            return self._deliver(body)
        try:
            async with asyncio.timeout(timeout):
                while not self._has_room(body):
                    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiters.append(waiter)
                    try:
                        await waiter
                    finally:
                        self._waiters.remove(waiter)
        except TimeoutError:
            assert timeout is not None
            raise SendTimeout(self.node_id, timeout) from None
        return self._deliver(body)

    def send_nowait(self, body: bytes | bytearray | memoryview) -> int:
        """See ``ConnectionHandle.send_nowait``."""
        if not self._has_room(body):
            raise QueueFull(self.node_id, len(self._sizes), self._held)
        return self._deliver(body)

    def post(self, body: bytes) -> int:
        """See ``ConnectionHandle.post``."""
        if self._is_closed:
            raise LinkClosed(self.node_id)
        self._posted += 1
        self._receiver.calls_received(self, [body])
        return self._posted

    def post_together(self, bodies: Sequence[Body]) -> None:
        """See ``ConnectionHandle.post_together``."""
        if self._is_closed:
            raise LinkClosed(self.node_id)
        self._posted += len(bodies)
        self._receiver.calls_received(self, [_copy(body) for body in bodies])

    def when_calls_taken(self, callback: Callable[[], None]) -> None:
        """See ``ConnectionHandle.when_calls_taken``."""

    def consumed(self, number: int) -> None:
        """See ``ConnectionHandle.consumed``."""
        while len(self._sizes) > self._sent - number:
            self._held -= self._sizes.popleft()
        self._wake()

    def turn_away(self) -> None:
        """See ``ConnectionHandle.turn_away``; nobody asks for that here, as nobody takes his own place."""

    def message_counts(self) -> tuple[int, int]:
        """See ``ConnectionHandle.message_counts``."""
        return self._sent, self._sent

    def close(self) -> None:
        """Let nothing in any more."""
        self._is_closed = True
        self._wake()

    def _has_room(self, body: bytes | bytearray | memoryview) -> bool:
        if self._is_closed:
            raise LinkClosed(self.node_id)
        size = view_of(body).nbytes
        return not self._sizes or (len(self._sizes) < WINDOW_MESSAGES and self._held + size <= WINDOW_BYTES)

    def _deliver(self, body: bytes | bytearray | memoryview) -> int:
        size = memoryview(body).nbytes
        self._sent += 1
        self._sizes.append(size)
        self._held += size
        self._receiver.messages_received(self, self._sent, [_copy(body)])
        return self._sent

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


def _copy(body: Body) -> bytes | bytearray:
    """Return what would come out of any link: the sender may go on to change its buffer."""
    return bytearray(body) if memoryview(body).nbytes >= LARGE else bytes(body)
