"""The accepting side by itself: links to whoever connects, one for each pair of incarnations."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from ..core.endpoint import Endpoint
from ..core.handshake import Identity, Offer, RefusalCode
from ..core.liveness import Heartbeat
from ..core.session import Limits, ProtocolFault
from ..errors import LinkClosed, PeerLeft, PeerLost
from ..transport.base import TransportAdapter, TransportOptions
from ..transport.registry import adapters_by_name
from .acceptor import Acceptor, Drop, Refuse
from .channel import SCRATCH
from .connection import ConnectionHandle
from .options import ConnectionHostOptions

_MAX_LINKS = 4096
_MAX_WAITING = 128
_MAX_FORMER = 4096
_PARTING = 0.5


@dataclass(frozen=True, slots=True)
class HostStatistics:
    """A snapshot of a host.

    Connections ``accepted``, ``refused`` (by code) and ``broken`` (established, until the peer broke a rule of the
    protocol); streams ``dropped`` in the handshake (by reason) and ``half_open`` now; ``links`` there are, and those
    ``attached`` to a connection; sessions ``expired``.
    """

    accepted: int
    refused: dict[RefusalCode, int]
    dropped: dict[Drop, int]
    broken: int
    half_open: int
    links: int
    attached: int
    expired: int


class ConnectionHost:
    """Accepts links::

        async with ConnectionHost(ConnectionHostOptions(node_id="server", endpoints=["tcp:127.0.0.1:0"])) as host:
            async for connection in host:
                ...

    A peer that reconnects continues on the handle it has; one that was restarted gets a new one, and the old handle
    ends with ``PeerLost``. So does the handle of a peer that is away for longer than ``session_expiry``. Of two
    incarnations of one node id the one that came later counts, and the earlier one is not let in any more (R16).
    ``rng`` is where jitter comes from.

    Raises:
        ValueError: If no adapter serves one of the endpoints.
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
        self._expiries: dict[ConnectionHandle, asyncio.TimerHandle] = {}
        self._former: dict[tuple[str, int], None] = {}  # incarnations that were replaced, oldest first
        self._broken = 0
        self._expired = 0
        self._waiting: deque[ConnectionHandle] = deque()
        self._arrival = asyncio.Event()
        self._is_closed = False
        self._rng = rng or random.Random()
        self._scratch = memoryview(bytearray(SCRATCH))
        self._retiring: set[asyncio.Task[None]] = set()
        by_name = adapters_by_name(adapters)
        missing = {Endpoint.parse(str(item)).transport for item in options.endpoints} - set(by_name)
        if missing:
            raise ValueError(f"endpoints: no adapter for the transport {', '.join(sorted(missing))}")
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
            adapters=by_name,
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

    def statistics(self) -> HostStatistics:
        """Return a snapshot of the host's counts."""
        acceptor, links = self._acceptor, self._links.values()
        return HostStatistics(
            accepted=acceptor.counts["accepted"],
            refused=dict(acceptor.refusals),
            dropped=dict(acceptor.drops),
            broken=self._broken,
            half_open=acceptor.half_open,
            links=len(links),
            attached=sum(link.is_attached for link in links),
            expired=self._expired,
        )

    def _admit(self, offer: Offer) -> ConnectionHandle | Refuse:
        """Decide about an authenticated peer's connection."""
        peer = offer.peer
        if self._is_closed:
            return Refuse(RefusalCode.CLOSING)
        if peer.node == self._options.node_id:
            return Refuse(RefusalCode.MISMATCH, "this host has the same node id")
        if (peer.node, peer.epoch) in self._former:
            return Refuse(RefusalCode.STALE, "a later incarnation of this node is known")
        link = self._links.get(peer.node)
        if link is not None and (link.epoch, link.session) == (peer.epoch, offer.session):
            try:
                link.check_resume(offer.received)
            except ProtocolFault as fault:
                return Refuse(RefusalCode.STALE, str(fault))
            return link
        if offer.resumes or offer.received != (0, 0):
            # R19: it may not be taken for a new one, in which everything would be delivered again.
            return Refuse(RefusalCode.STALE, "the session is not known here")
        if link is not None:
            if link.epoch != peer.epoch:
                self._bury(link)
            self._finish(link, link.lost())
        if len(self._waiting) >= _MAX_WAITING or not self._make_room():
            return Refuse(RefusalCode.BUSY, "too many links", retry_after=1.0)
        return self._new_link(peer, offer.session)

    def _bury(self, link: ConnectionHandle) -> None:
        """Take note that the incarnation at the other end of ``link`` was replaced."""
        if len(self._former) >= _MAX_FORMER:
            del self._former[next(iter(self._former))]
        self._former[link.node_id, link.epoch] = None

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
        self._cancel_expiry(link)
        link.finish(lambda: type(report)(*report.args))
        task = asyncio.get_running_loop().create_task(link.wait_closed())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def link_up(self, handle: ConnectionHandle) -> None:
        """A peer is back, or new: its link is where it belongs already."""
        self._cancel_expiry(handle)

    def link_down(self, handle: ConnectionHandle, reason: str, *, broken: bool) -> None:
        """The peer finds its way back by itself, in time or not (R20)."""
        self._broken += broken
        self._cancel_expiry(handle)
        loop = asyncio.get_running_loop()
        self._expiries[handle] = loop.call_later(self._options.session_expiry, self._expire, handle)

    def _cancel_expiry(self, handle: ConnectionHandle) -> None:
        timer = self._expiries.pop(handle, None)
        if timer is not None:
            timer.cancel()

    def _expire(self, handle: ConnectionHandle) -> None:
        self._expired += 1
        self._finish(handle, handle.lost())

    def link_left(self, handle: ConnectionHandle) -> None:
        """The peer is done with this session."""
        self._finish(handle, handle.departed())

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
