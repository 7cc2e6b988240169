"""What has arrived and waits for the worker's hooks.

Each sender has a line of its own, in which everything keeps its order: the link is up, its messages, the link is
down, the next incarnation is up. The lines take turns, message by message, so a talkative sender delays nobody more
than it must. The links bound what waits here: none hands over more than its window before messages are consumed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from ..shared.core.message import Message
from ..shared.core.session import Body
from ..shared.errors import PeerLeft, PeerLost


class Link(Protocol):
    """What a worker uses of a link (a ``ConnectionHandle``, or the ``Loopback`` to itself)."""

    node_id: str
    incarnation: int

    @property
    def calls_behind(self) -> int:
        """See ``ConnectionHandle.calls_behind``."""

    def when_calls_taken(self, callback: Callable[[], None]) -> None:
        """See ``ConnectionHandle.when_calls_taken``."""

    async def send(self, body: bytes | bytearray | memoryview, timeout: float | None = None) -> int:
        """See ``ConnectionHandle.send``."""

    def send_nowait(self, body: bytes | bytearray | memoryview) -> int:
        """See ``ConnectionHandle.send_nowait``."""

    def post(self, body: bytes) -> int:
        """See ``ConnectionHandle.post``."""

    def post_together(self, bodies: Sequence[Body]) -> None:
        """See ``ConnectionHandle.post_together``."""

    def consumed(self, number: int) -> None:
        """See ``ConnectionHandle.consumed``."""

    def turn_away(self) -> None:
        """See ``ConnectionHandle.turn_away``."""

    def message_counts(self) -> tuple[int, int]:
        """See ``ConnectionHandle.message_counts``."""


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The link to a peer's incarnation is up."""

    link: Link


@dataclass(frozen=True, slots=True)
class LinkDown:
    """It is over, and all its messages were taken before."""

    link: Link
    reason: PeerLost | PeerLeft


class Arrived(msgspec.Struct, gc=False):
    """One message; ``link.consumed`` is owed for it."""

    link: Link
    message: Message


@dataclass(slots=True)
class _Batch:
    link: Link
    first: int
    bodies: list[bytes | bytearray]
    position: int = 0


Entry = LinkUp | LinkDown | Arrived


class Inbox:
    """The lines of all senders; one task takes from it."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[LinkUp | LinkDown | _Batch]] = {}
        self._turns: deque[str] = deque()
        self._taker: asyncio.Future[None] | None = None
        self._has_rest = asyncio.Event()  # the taker waits: all that came is handled
        self.is_closed = False

    @property
    def is_at_rest(self) -> bool:
        """Whether whoever takes from it has finished all that came."""
        return self._has_rest.is_set() and not self._turns

    async def rest(self) -> None:
        """Wait until it is at rest."""
        while not self.is_at_rest:
            self._has_rest.clear()
            await self._has_rest.wait()

    def peer_up(self, link: Link) -> None:
        """Put the news in line that ``link`` is up."""
        self._append(link.node_id, LinkUp(link))

    def peer_down(self, link: Link, reason: PeerLost | PeerLeft) -> None:
        """Put the news in line that ``link`` is over."""
        self._append(link.node_id, LinkDown(link, reason))

    def messages(self, link: Link, first: int, bodies: list[bytes | bytearray]) -> None:
        """Put messages ``first``, ``first + 1``... in line."""
        if bodies:
            self._append(link.node_id, _Batch(link, first, bodies))

    def close(self) -> None:
        """Give nothing out any more."""
        self.is_closed = True
        self._wake()

    def next(self) -> Entry | None:
        """Return the next entry, or None if there is none now, or the inbox is closed."""
        return self._take() if self._turns and not self.is_closed else None

    async def wait(self) -> None:
        """Wait until ``next`` has something, or the inbox is closed."""
        while not (self._turns or self.is_closed):
            self._taker = asyncio.get_running_loop().create_future()
            self._has_rest.set()
            try:
                await self._taker
            finally:
                self._taker = None
                self._has_rest.clear()

    def _append(self, sender: str, entry: LinkUp | LinkDown | _Batch) -> None:
        line = self._lines.get(sender)
        if line is None:
            line = self._lines[sender] = deque()
        if not line:
            self._turns.append(sender)
        line.append(entry)
        self._wake()

    def _take(self) -> Entry:
        sender = self._turns.popleft()
        line = self._lines[sender]
        head = line[0]
        entry: Entry
        if isinstance(head, _Batch):
            body = head.bodies[head.position]
            head.bodies[head.position] = b""  # The body belongs to the application from here on, and may be large.
            entry = Arrived(head.link, Message(sender, body, head.first + head.position))
            head.position += 1
            if head.position == len(head.bodies):
                line.popleft()
        else:
            entry = head
            line.popleft()
        if line:
            self._turns.append(sender)
        else:
            del self._lines[sender]
        return entry

    def _wake(self) -> None:
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)
