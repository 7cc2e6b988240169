"""The accepting side by itself: links to whoever connects, one for each pair of incarnations."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import deque
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Self

from ..core.endpoint import Endpoint
from ..core.handshake import Identity, Offer, RefusalCode
from ..core.liveness import Heartbeat
from ..core.session import Limits, ProtocolFault
from ..errors import LinkClosed, PeerLeft, PeerLost
from ..transport.base import TransportAdapter, TransportOptions
from ..transport.registry import adapters_by_name
from .acceptor import Acceptor, Refuse
from .channel import SCRATCH
from .connection import ConnectionHandle
from .options import ConnectionHostOptions

_MAX_LINKS = 4096
_MAX_WAITING = 128
_PARTING = 0.5


class ConnectionHost:
    """Accepts links::

        async with ConnectionHost(ConnectionHostOptions(node_id="server", endpoints=["tcp:127.0.0.1:0"])) as host:
            async for connection in host:
                ...

    A peer that reconnects continues on the handle it has; one that was restarted gets a new one, and the old handle
    ends with ``PeerLost``. ``rng`` is where jitter comes from.
    """

    def __init__(
        self,
        options: ConnectionHostOptions,
        *,
        adapters: Iterable[TransportAdapter] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.endpoints: tuple[Endpoint, ...] = ()
        self._options = options
        self._links: dict[str, ConnectionHandle] = {}
        self._waiting: deque[ConnectionHandle] = deque()
        self._arrival = asyncio.Event()
        self._is_closed = False
        self._rng = rng or random.Random()
        self._scratch = memoryview(bytearray(SCRATCH))
        self._retiring: set[asyncio.Task[None]] = set()
        me = Identity(
            options.node_id,
            0,
            secrets.randbits(64) | 1,
            (options.max_queue_messages, options.max_queue_bytes),
            tuple((options.metadata or {}).items()),
        )
        self._acceptor = Acceptor(
            me,
            options.secret or b"",
            self._admit,
            adapters=adapters_by_name(adapters),
            options=TransportOptions(node_id=options.node_id),
            handshake_timeout=options.handshake_timeout,
            max_half_open=options.max_half_open,
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Bind the endpoints; ``endpoints`` then holds them with their ports filled in.

        Raises:
            OSError: If one cannot be bound.
        """
        self.endpoints = await self._acceptor.start(Endpoint.parse(str(item)) for item in self._options.endpoints)

    async def accept(self) -> ConnectionHandle:
        """Wait for the next new link and return it.

        Raises:
            LinkClosed: If the host is closed.
        """
        while not self._waiting:
            if self._is_closed:
                raise LinkClosed
            self._arrival.clear()
            await self._arrival.wait()
        return self._waiting.popleft()

    async def __aiter__(self) -> AsyncIterator[ConnectionHandle]:
        """Yield new links until the host is closed."""
        while True:
            try:
                link = await self.accept()
            except LinkClosed:
                return
            yield link

    async def close(self) -> None:
        """Drain and end all links, and stop listening; nothing is left when this returns."""
        self._is_closed = True
        self._arrival.set()
        await asyncio.gather(*(self.close_link(link) for link in list(self._links.values())))
        await self._acceptor.close()
        await asyncio.gather(*self._retiring)

    def _admit(self, offer: Offer) -> ConnectionHandle | Refuse:
        """Decide about an authenticated peer's connection."""
        peer = offer.peer
        if self._is_closed:
            return Refuse(RefusalCode.CLOSING)
        if peer.node == self._options.node_id:
            return Refuse(RefusalCode.MISMATCH, "this host has the same node id")
        link = self._links.get(peer.node)
        if link is not None and (link.epoch, link.session) == (peer.epoch, offer.session):
            try:
                link.check_resume(offer.received)
            except ProtocolFault as fault:
                return Refuse(RefusalCode.STALE, str(fault))
            return link
        if offer.received != (0, 0):
            return Refuse(RefusalCode.STALE, "the session is not known here")
        if link is not None:
            self._finish(link, link.lost())
        if len(self._waiting) >= _MAX_WAITING or not self._make_room():
            return Refuse(RefusalCode.BUSY, "too many links", retry_after=1.0)
        return self._new_link(peer, offer.session)

    def _make_room(self) -> bool:
        """Give up the oldest link without a connection if there are too many; return whether there is room."""
        if len(self._links) < _MAX_LINKS:
            return True
        absent = next((link for link in self._links.values() if not link.is_attached), None)
        if absent is not None:
            self._finish(absent, absent.lost())
        return absent is not None

    def _new_link(self, peer: Identity, session: bytes) -> ConnectionHandle:
        options = self._options
        link = self._links[peer.node] = ConnectionHandle(
            peer,
            session,
            self,
            limits=Limits(options.max_queue_messages, options.max_queue_bytes),
            max_message=options.max_message,
            scratch=self._scratch,
            heartbeat=Heartbeat(options.heartbeat_interval, options.heartbeat_timeout),
            dice=self._rng,
        )
        self._waiting.append(link)
        self._arrival.set()
        return link

    def _finish(self, link: ConnectionHandle, report: PeerLost | PeerLeft | LinkClosed) -> None:
        if self._links.get(link.node_id) is link:
            del self._links[link.node_id]
        link.finish(lambda: type(report)(*report.args))
        task = asyncio.get_running_loop().create_task(link.wait_closed())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def link_up(self, handle: ConnectionHandle) -> None:
        """A peer is back, or new: its link is where it belongs already."""

    def link_down(self, handle: ConnectionHandle, reason: str, *, broken: bool) -> None:
        """The peer finds its way back by itself."""

    def link_left(self, handle: ConnectionHandle) -> None:
        """The peer is done with this session."""
        self._finish(handle, PeerLeft(handle.node_id, handle.incarnation))

    def link_suspected(self, handle: ConnectionHandle) -> None:
        """Wait: it is heard again, or lost."""

    def link_recovered(self, handle: ConnectionHandle) -> None:
        """It was heard again."""

    def round_trip(self, rtt: float) -> None:
        """Nobody asks for this here."""

    async def close_link(self, handle: ConnectionHandle) -> None:
        """Drain one link, say goodbye, and end it."""
        if not handle.is_over:
            if handle.is_attached:
                await handle.drain(self._options.drain_timeout)
            await handle.part(_PARTING)
            self._finish(handle, LinkClosed(handle.node_id))
        await handle.wait_closed()
