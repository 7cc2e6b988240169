"""All links of one node: who is dialled when, who is let in, and who is gone.

The roster says who there is. Of any two nodes the newcomer dials: whoever is already in the roster when a node
announces itself waits for it, and dials only if nothing has come after a quarter of a second. If both dial all the
same, the dial of the node with the lower id wins. One link, one session and one pair of incarnations are the same
thing here, so the session's id is derived from the pair and both ends know it without asking.

A spare is linked like any node, and takes no part: its links are kept aside by both ends, and nobody is told of them.
When it takes the place of a node that died, the roster shows its epoch under the node's name, and whoever reads that
makes the link that is there already the node's. The news reach the processes at different times, so until both ends
have them, what arrives is put on a shelf; and since an epoch is the name of a process that never changes, it is by
epochs that a node and a spare are recognised as one.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

import msgspec

from ..control.links import LinkStatus, LinkTotals
from ..core.endpoint import Endpoint
from ..core.handshake import Identity, Offer, RefusalCode
from ..core.liveness import Heartbeat
from ..core.peering import NEWCOMER_GRACE, courtesy, redial_delay, session_id
from ..core.roster import NodeRecord, NodeStatus, Roster
from ..core.session import Limits, ProtocolFault
from ..errors import HandshakeError, LinkClosed, PeerLeft, PeerLost, PeerUnavailable, UnknownPeer
from ..transport.base import TransportAdapter, TransportOptions
from .acceptor import Acceptor, Refuse
from .channel import SCRATCH
from .connection import ConnectionHandle
from .dialer import AttemptFailed, Dialer, Dialled, Proposal, shared_budget
from .direct import DirectDialer
from .options import MeshOptions as MeshOptions
from .overview import carried, overview
from .parties import Receiver
from .peer import Peer
from .penalties import Blacklist, penalty_table
from .shelf import Shelf

log = logging.getLogger("meshvisor.mesh")

_DEATH_GRACE = 1.0
"""Seconds that the connection of a dead peer may take to run dry."""

_PROVED = 1.0
"""Seconds that a connection must have lived for the next one to be dialled without back-off."""

_PARTING = 0.5
"""Seconds that peers are given to take in a goodbye."""

_PATIENCE = 40
"""How often a dial of a newcomer is put off by a quarter of the grace because the newcomer may be dialling already."""

_MAX_DIALS = 32

_SPACING = 0.01
"""Seconds between two dials of one endpoint, at least (RFC 8305 never allows less); full jitter alone may draw 0."""


class MeshHandler(Receiver, Protocol):
    """Who hears of the links. All of it is called on the loop, in order, and must neither raise nor wait."""

    def peer_up(self, link: ConnectionHandle) -> None:
        """The link to one incarnation of a peer is up for the first time."""

    def peer_down(self, link: ConnectionHandle, reason: PeerLost | PeerLeft) -> None:
        """That link is over; all its messages were handed over before."""

    def links_changed(self, up: int, total: int) -> None:
        """``up`` of ``total`` other nodes are linked."""


class Mesh:
    """All links of one node; see the module. ``blacklist`` holds its penalties, and stays the caller's to close.

    Without a ``handler`` it is a spare's: ``become`` gives it one, and a name. ``roster`` never shows any spares.
    """

    def __init__(
        self,
        options: MeshOptions,
        handler: MeshHandler | None,
        *,
        adapters: Iterable[TransportAdapter],
        blacklist: Blacklist | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.roster = Roster()
        self._loop = asyncio.get_running_loop()  # asked once: each question is a system call before Python 3.12
        self._options = options
        self._handler = handler
        self._rng = rng or random.Random()
        self._me = Identity(
            options.node_id, options.incarnation, options.epoch, (options.max_queue_messages, options.max_queue_bytes)
        )
        self._limits = Limits(options.max_queue_messages, options.max_queue_bytes)
        self._heartbeat = None
        if options.heartbeat_interval is not None:
            self._heartbeat = Heartbeat(options.heartbeat_interval, options.heartbeat_timeout)
        self._peers: dict[str, Peer] = {}
        self._spares: dict[str, Peer] = {}
        self._spare_roster = Roster()
        by_name = {adapter.transport: adapter for adapter in adapters}
        self._dialer = Dialer(
            self._me,
            options.secret,
            adapters=by_name,
            attempt_timeout=options.attempt_timeout,
            penalties=penalty_table(blacklist, options.blacklist_duration),
        )
        self._direct = DirectDialer(self._dialer)
        self._unsubscribe: Callable[[], None] | None = None  # from what happens to penalties
        self._dials = asyncio.Semaphore(_MAX_DIALS)
        self._scratch = memoryview(bytearray(SCRATCH))
        self._tasks: set[asyncio.Task[None]] = set()
        self._bound: tuple[str, ...] | None = None  # where it listens, once it does
        self._is_announced = False  # the roster lists this node itself as listening
        self._is_closing = False
        self._is_draining = False  # closing, and links that still owe something may be resumed
        self._past = LinkTotals()  # what links have carried that are over
        self._links = [0, 0]  # how many peers are linked, and how many could be
        self._links_told = (-1, -1)
        self._uncounted: set[Peer] = set()  # those of whom that may have changed since
        self._is_telling = False
        self._acceptor = Acceptor(
            self._me,
            options.secret,
            self._admit,
            adapters=by_name,
            options=TransportOptions(node_id=options.node_id),
            handshake_timeout=options.handshake_timeout,
            max_half_open=256,
        )

    # Asked by the node.

    async def start(self) -> tuple[str, ...]:
        """Begin to listen, and to dial whoever the roster lists; return the bound endpoints. Again: return them.

        Raises:
            OSError: If an endpoint cannot be bound.
        """
        if self._bound is None:
            bound = await self._acceptor.start([Endpoint.parse(text) for text in self._options.listen])
            self._bound = tuple(str(endpoint) for endpoint in bound)
            self._unsubscribe = self._dialer.penalties.subscribe(self._freed)
            for peer in self._everybody():
                self._plan_dial(peer, 0.0)
        return self._bound

    def become(self, node: str, incarnation: int, handler: MeshHandler) -> None:
        """Be no spare any more, but this incarnation of ``node``; all links that are up are announced in here."""
        self._forget(node)  # the incarnation that died
        self._me = msgspec.structs.replace(self._me, node=node, incarnation=incarnation)
        self._dialer.me = self._acceptor.me = self._me
        self._handler = handler
        for peer in list(self._peers.values()):
            self._announce(peer)
        self._tell_links()

    def link(self, node: str) -> ConnectionHandle | None:
        """Return the link to the current incarnation of ``node``, if there is one (it may be reconnecting)."""
        peer = self._peers.get(node)
        return peer.handle if peer is not None and peer.is_announced and not peer.is_doomed else None

    def links(self) -> list[ConnectionHandle]:
        """Return the links to all peers that are there now."""
        return [
            peer.handle
            for peer in self._peers.values()
            if peer.handle is not None and peer.is_announced and not peer.is_doomed
        ]

    def message_counts(self) -> tuple[int, int]:
        """Return how many messages have come and gone over all links that there were so far."""
        received, sent = self._past.messages_in, self._past.messages_out
        for peer in self._peers.values():
            if peer.handle is not None:
                came, went = peer.handle.message_counts()
                received += came
                sent += went
        return received, sent

    def report(self, *, each: bool = True) -> tuple[LinkTotals, tuple[LinkStatus, ...]]:
        """Return what all links carried so far, and how ``each`` is that there is, or should be."""
        peers = self._peers.values()
        if not each:
            return self._past.plus(*map(carried, peers)), ()
        return overview(peers, self._past, self._loop.time())

    async def wait_link(self, node: str) -> ConnectionHandle:
        """Wait for a link to ``node`` and return it.

        Raises:
            UnknownPeer: If there is no such node (any more).
            PeerUnavailable: If it is stopped, failed or parked.
            LinkClosed: If this node is closing.
        """
        while True:
            handle = self.link(node)
            if handle is not None:
                return handle
            peer = self._peers.get(node)
            if peer is None:
                raise UnknownPeer(node, sorted(self._peers))
            if self._is_closing:
                raise LinkClosed(node)
            if peer.record.status is NodeStatus.GONE:
                raise PeerUnavailable(node, peer.record.why or "stopped")
            waiter: asyncio.Future[None] = self._loop.create_future()
            peer.waiters[waiter] = None
            try:
                await waiter
            finally:
                peer.waiters.pop(waiter, None)

    async def close(self, drain: float = 0.0, *, is_succeeded: bool = False) -> None:
        """Drain for up to ``drain`` seconds what was accepted, say goodbye, and end everything.

        If this node ``is_succeeded`` by another process, it is enough that what was accepted has arrived: whoever
        handles it may wait for the successor.
        """
        self._is_closing, self._is_draining = True, drain > 0
        for peer in self._everybody():
            if self._is_done_with(peer):
                peer.cancel_dial()
            peer.wake()
        if drain > 0:
            behind = [handle for handle in self.links() if not (is_succeeded and handle.is_attached)]
            await asyncio.gather(*(handle.drain(drain) for handle in behind))
        self._is_draining = False
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        for peer in self._everybody():
            peer.cancel_dial()
        self._direct.close()
        await self._acceptor.close()
        handles = [peer.handle for peer in self._everybody() if peer.handle is not None and not peer.is_doomed]
        parting = max(drain, _PARTING) if is_succeeded else _PARTING
        await asyncio.gather(*(handle.part(parting) for handle in handles))
        for peer in self._everybody():
            self._finish(peer, closing=True)
        # What is left are dials, cancelled above, and connections that are being closed.
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Told by the supervisor.

    def apply(self, records: Iterable[NodeRecord]) -> None:
        """Take news of the roster in."""
        records = list(records)
        changes = self.roster.apply(record for record in records if not record.is_spare)
        # After the nodes: the link of one that is removed may be a node's by then.
        changes += self._spare_roster.apply(record for record in records if record.is_spare)
        before = self._is_announced
        for _, record in changes:
            if self._is_own(record) and record.status is not NodeStatus.REMOVED:
                self._is_announced = record.is_listening
        for _, record in changes:
            if not self._is_own(record):
                self._apply_one(record, newcomer_is_other=before)
            elif record.name != self._me.node:
                self._forget(record.name)  # the incarnation whose place this spare is about to take
        self._tell_links()  # also that there is nobody

    def _is_own(self, record: NodeRecord) -> bool:
        return record.name == self._me.node or record.epoch == self._me.epoch

    def _apply_one(self, record: NodeRecord, *, newcomer_is_other: bool) -> None:
        peers = self._spares if record.is_spare else self._peers
        peer = peers.get(record.name)
        if peer is not None and peer.record.endpoints != record.endpoints:
            # Somebody may have dialled the dying peer before the news was here.
            self._forgive(set(peer.record.endpoints).difference(record.endpoints))
        if record.status is NodeStatus.REMOVED:
            self._forget(record.name)
            return
        if record.is_spare and self._peer_of(record.epoch) is not None:
            return  # it has taken a place already, and was faster than its own news
        is_first_sight = peer is None and not newcomer_is_other
        if peer is None:
            peer = peers[record.name] = Peer(record, self._loop.time())
            has_begun = record.is_listening
        else:
            has_begun = peer.standing.update(record)
        self._tell_links(peer)
        self._take_place(peer, record.incarnation, record.epoch)
        if peer.handle is not None and peer.handle.incarnation <= peer.standing.buried:
            self._expire(peer)
        if not record.is_listening or has_begun:
            peer.cancel_dial()
        if has_begun:
            if not is_first_sight:  # to a newcomer all are new; others may know something against them
                self._forgive(record.endpoints)
            peer.backoff.reset()
            me = self._me.node
            delay = courtesy(me, record.name, newcomer_is_other=newcomer_is_other, together=self._is_announced)
            peer.patience = _PATIENCE if delay else 0
            self._plan_dial(peer, delay)
        peer.wake()

    def _forgive(self, endpoints: Iterable[str]) -> None:
        for endpoint in endpoints:
            self._dialer.penalties.forgive(endpoint)

    def _forget(self, name: str) -> None:
        peer = self._peers.pop(name, None) or self._spares.pop(name, None)
        if peer is not None:
            peer.cancel_dial()
            self._finish(peer)
            self._tell_links(peer)
            peer.wake()

    # Spares.

    def _everybody(self) -> list[Peer]:
        return [*self._peers.values(), *self._spares.values()]

    def _peer_of(self, epoch: int) -> Peer | None:
        """Return the peer, no spare, that lives under ``epoch`` now."""
        return next((peer for peer in self._peers.values() if epoch in peer.epochs), None)

    def _take_place(self, peer: Peer, incarnation: int, epoch: int) -> None:
        """If that incarnation of ``peer`` was a spare until now, make the spare's link the peer's."""
        spare = next((spare for spare in self._spares.values() if epoch in spare.epochs), None)
        if spare is None or spare is peer:
            return
        del self._spares[spare.record.name]
        spare.cancel_dial()
        if spare.handle is None:
            return
        linked = peer.handle.incarnation if peer.handle is not None else 0
        if incarnation <= max(linked, peer.standing.buried):  # one that came after it was faster than the news
            self._finish(spare)
            return
        if peer.handle is not None:
            peer.handle.hear_out()
            self._finish(peer)
        peer.take_link(spare, incarnation)
        self._tell_links(peer)
        self._announce(peer)

    def _announce(self, peer: Peer) -> None:
        """Tell of a link that is up for the first time, once neither end of it is a spare (any more)."""
        handler, handle = self._handler, peer.handle
        if handler is None or handle is None or peer.record.is_spare or peer.is_announced:
            return
        if handle.is_attached and not peer.is_doomed:
            peer.is_announced = True
            handler.peer_up(handle)
            if peer.shelf is not None:
                peer.shelf.clear_for(handle, handler)
                peer.shelf = None
            peer.wake()

    # Dialling.

    def _is_done_with(self, peer: Peer) -> bool:
        """Whether there is no more to say to ``peer``: at the end, what was accepted is still delivered."""
        if not self._is_closing:
            return False
        return not self._is_draining or peer.handle is None or peer.is_doomed or peer.handle.is_drained

    def _plan_dial(self, peer: Peer, delay: float) -> None:
        """See to it that ``peer`` is dialled in ``delay`` seconds, unless it is linked by then."""
        if peer.timer is None and peer.dial is None and not self._is_done_with(peer):
            loop = self._loop
            if delay:
                peer.timer = loop.call_later(delay, self._begin_dial, peer)
            else:
                peer.timer = loop.call_soon(self._begin_dial, peer)

    def _freed(self, key: str) -> None:
        """An endpoint is barred no longer: whoever waits for that waits no longer."""
        for peer in self._everybody():
            if peer.is_barred and peer.timer is not None and key in peer.record.endpoints:
                peer.timer.cancel()
                self._begin_dial(peer)

    def _begin_dial(self, peer: Peer) -> None:
        peer.timer, peer.is_barred = None, False
        if peer.patience and self._acceptor.half_open:
            # Somebody is just dialling us, and it may well be this one: if all are slow, so are the newcomers. A dial
            # of ours would be one too many, and make it worse.
            peer.patience -= 1
            self._plan_dial(peer, NEWCOMER_GRACE / 4)
            return
        peer.patience = 0
        is_linked = peer.handle is not None and (peer.handle.is_attached or peer.is_doomed)
        if self._bound is None or self._is_done_with(peer) or is_linked or not peer.record.is_listening:
            return
        if len(peer.record.endpoints) != 1 or peer.backoff.tries or not self._dial_directly(peer):
            peer.dial = task = asyncio.create_task(self._dial(peer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _dial_directly(self, peer: Peer) -> bool:
        """Dial the one endpoint of ``peer`` for the first time since the news of it, if that can be had so quickly."""
        try:
            peer.dial = self._direct.begin(
                Endpoint.parse(peer.record.endpoints[0]), partial(self._propose, peer), partial(self._dialled, peer)
            )
        except AttemptFailed as failure:
            self._dialled(peer, failure)
        else:
            if peer.dial is None:
                return False
        shared_budget().deposit(self._direct.now())
        return True

    def _dialled(self, peer: Peer, outcome: Dialled | AttemptFailed) -> None:
        peer.dial = None
        if isinstance(outcome, Dialled):
            self._established(peer, outcome)
            return
        log.debug("dialling %s at %s: %s", peer.record.name, peer.record.endpoints[0], outcome)
        peer.failed(str(outcome), self._direct.now())
        self._dial_again(peer, None)

    async def _dial(self, peer: Peer) -> None:
        """Try each endpoint of ``peer`` that is not barred; plan the next round if none of them led anywhere."""
        record = peer.record
        now = self._loop.time
        wait = None
        for text in record.endpoints:
            barred = self._dialer.penalties.remaining(text, now())
            if not barred and not self._may_try(peer, now()):
                continue
            if barred:
                wait = barred if wait is None else min(wait, barred)
                continue
            try:
                async with self._dials:
                    dialled = await self._dialer.attempt(
                        Endpoint.parse(text), lambda identity: self._propose(peer, identity)
                    )
            except AttemptFailed as failure:
                log.debug("dialling %s at %s: %s", record.name, text, failure)
                peer.failed(str(failure), now())
                continue
            peer.dial = None
            self._established(peer, dialled)
            return
        peer.dial = None
        self._dial_again(peer, wait)

    def _dial_again(self, peer: Peer, wait: float | None) -> None:
        """Plan the next round: after a pause, and not before ``wait`` is over if all that is left to try is barred."""
        pause = max(_SPACING, peer.backoff.next(self._rng))
        if wait is not None:
            peer.left_alone(f"it is barred for {wait:.3g} s", self._direct.now())
            pause = max(pause, wait + self._rng.random() * self._dialer.penalties.spread)
        peer.is_barred = wait is not None
        self._plan_dial(peer, pause)

    def _may_try(self, peer: Peer, now: float) -> bool:
        """Pay for an attempt: the first one after news of a peer is a deposit, each further one costs a token."""
        budget = shared_budget()
        if peer.backoff.tries:
            return budget.try_withdraw(now)
        budget.deposit(now)
        return True

    def _propose(self, peer: Peer, identity: Identity) -> Proposal:
        """Say which session is wanted of the node that answered, if it is the right one."""
        record = peer.record
        if identity.epoch != record.epoch:
            raise HandshakeError(f"{identity.node} (incarnation {identity.incarnation}) answered for {record.name}")
        handle = peer.handle
        received = handle.received if handle is not None and handle.epoch == identity.epoch else (0, 0)
        return Proposal(session_id(self._me, identity), received)

    def _established(self, peer: Peer, dialled: Dialled) -> None:
        if self._is_done_with(peer):
            dialled.connection.close()
            return
        handle = self._handle_for(peer, peer.identify(dialled.peer))
        try:
            handle.check_resume(dialled.received)
        except ProtocolFault as fault:
            dialled.connection.close()
            log.error("the link to %s cannot be resumed: %s", peer.record.name, fault)
            self._finish(peer)
            self._plan_dial(peer, redial_delay(self._me.node, peer.record.name))
            return
        peer.dialled_at = self._loop.time()
        peer.rtt = dialled.rtt
        handle.attach(dialled.connection, str(dialled.endpoint), dialled.peer, dialled.received, rtt=dialled.rtt)

    # Accepting.

    def _admit(self, offer: Offer) -> ConnectionHandle | Refuse:
        """Decide about an authenticated peer's connection."""
        node = offer.peer.node
        peer = self._peers.get(node) or self._spares.get(node) or self._peer_of(offer.peer.epoch)
        if self._is_closing and (peer is None or self._is_done_with(peer)):
            return Refuse(RefusalCode.CLOSING)
        if node == self._me.node or offer.peer.epoch == self._me.epoch:
            return Refuse(RefusalCode.MISMATCH, "this is the node that dials")
        if peer is None:
            return Refuse(RefusalCode.UNKNOWN, f"{node} is not in our roster yet", 0.1)
        identity = peer.identify(offer.peer)
        if not peer.standing.is_current(identity, peer.handle.incarnation if peer.handle else 0):
            return Refuse(RefusalCode.STALE, f"incarnation {peer.record.incarnation} of {node} is the current one")
        if self._own_dial_wins(peer):
            return Refuse(RefusalCode.DUPLICATE, "both sides dialled, and the lower node id wins")
        if offer.session != session_id(self._me, identity):
            return Refuse(RefusalCode.MISMATCH, "not the session of these two incarnations")
        handle = self._handle_for(peer, identity)
        try:
            handle.check_resume(offer.received)
        except ProtocolFault as fault:
            return Refuse(RefusalCode.STALE, str(fault))
        peer.cancel_dial()
        peer.dialled_at = peer.rtt = None
        return handle

    def _own_dial_wins(self, peer: Peer) -> bool:
        if self._me.node > peer.record.name:
            return False
        if peer.dial is not None:
            return True
        is_fresh = peer.dialled_at is not None and self._loop.time() - peer.dialled_at < self._options.attempt_timeout
        return is_fresh and peer.handle is not None and peer.handle.is_attached

    def _handle_for(self, peer: Peer, identity: Identity) -> ConnectionHandle:
        """Return the handle of the link to this incarnation, made if need be; that of an older one ends."""
        self._take_place(peer, identity.incarnation, identity.epoch)
        if peer.handle is not None and peer.handle.epoch == identity.epoch:
            return peer.handle
        self._finish(peer)
        handler = None if peer.record.is_spare else self._handler
        peer.shelf = Shelf() if handler is None else None
        peer.handle = ConnectionHandle(
            identity,
            session_id(self._me, identity),
            self,
            limits=self._limits,
            max_message=self._options.max_message,
            scratch=self._scratch,
            heartbeat=self._heartbeat,
            dice=self._rng,
            receiver=handler or peer.shelf,
        )
        return peer.handle

    # Told by the links.

    def link_up(self, handle: ConnectionHandle) -> None:
        """Announce a new link; a reconnect is nobody's business."""
        peer = self._owner_of(handle)
        if peer is not None:
            peer.attached(self._loop.time())
            self._announce(peer)
            self._tell_links(peer)

    def _owner_of(self, handle: ConnectionHandle) -> Peer | None:
        peer = self._peers.get(handle.node_id) or self._spares.get(handle.node_id)
        return peer if peer is not None and peer.handle is handle else None

    def link_down(self, handle: ConnectionHandle, reason: str, *, broken: bool) -> None:
        """Find another connection, unless the roster says that the peer is dead."""
        peer = self._owner_of(handle)
        if peer is None:
            return
        if broken:
            log.error("the connection to %s was given up: %s", handle.node_id, reason)
        if peer.is_doomed:
            self._finish(peer)
        else:
            now = self._loop.time()
            peer.lost(reason, now)
            # Usually the news that the peer has died is faster.
            delay = redial_delay(self._me.node, handle.node_id)
            if now - peer.attached_at >= _PROVED:
                peer.backoff.reset()
                self._plan_dial(peer, delay)
            else:
                self._plan_dial(peer, max(delay, peer.backoff.next(self._rng)))
        self._tell_links(peer)

    def link_left(self, handle: ConnectionHandle) -> None:
        """The peer is leaving in an orderly way."""
        peer = self._owner_of(handle)
        if peer is not None:
            peer.standing.bury(handle.incarnation)
            peer.cancel_dial()
            self._finish(peer, left=True)

    def link_suspected(self, handle: ConnectionHandle) -> None:
        """Wait: it is heard again, or lost."""

    def link_recovered(self, handle: ConnectionHandle) -> None:
        """It was heard again."""

    def round_trip(self, rtt: float) -> None:
        """Nobody asks for this here."""

    async def close_link(self, handle: ConnectionHandle) -> None:
        """Refuse: a mesh's links are the mesh's."""
        raise RuntimeError("a link of a mesh is closed by closing the mesh")

    # The end of a link.

    def _expire(self, peer: Peer) -> None:
        """The process behind the peer's handle is dead: read what it still said, then end the link."""
        handle = peer.handle
        if handle is None or peer.is_doomed:
            return
        if not handle.is_attached:
            self._finish(peer)
            return
        peer.is_doomed = True
        self._tell_links(peer)
        self._loop.call_later(_DEATH_GRACE, self._finish_if_still, peer, handle)

    def _finish_if_still(self, peer: Peer, handle: ConnectionHandle) -> None:
        if peer.handle is handle:
            self._finish(peer)

    def _finish(self, peer: Peer, *, left: bool = False, closing: bool = False) -> None:
        """End the link to the peer's incarnation, and say so exactly once."""
        handle = peer.handle
        if handle is None:
            return
        report = handle.farewell() if left else handle.lost()
        announced = peer.is_announced
        self._past = self._past.plus(carried(peer))
        peer.forget_link(self._loop.time())
        if closing:
            handle.finish(lambda: LinkClosed(handle.node_id))
        else:
            # A new one for each who asks: a raised exception belongs to the one who catches it.
            handle.finish(lambda: type(report)(*report.args))
        self._retire(handle)
        if announced and not closing and self._handler is not None:
            self._handler.peer_down(handle, report)
        if not closing:
            self._tell_links(peer)

    def _retire(self, handle: ConnectionHandle) -> None:
        task = self._loop.create_task(handle.wait_closed())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tell_links(self, *changed: Peer) -> None:
        """Say how many links there are, once in this turn of the loop, however many come and go in it.

        Whatever changes what ``changed`` adds to that must call this: only those are counted anew.
        """
        self._uncounted.update(changed)
        if not self._is_telling:
            self._is_telling = True
            self._loop.call_soon(self._tell_links_now)

    def _tell_links_now(self) -> None:
        self._is_telling = False
        for peer in self._uncounted:
            self._count(peer)
        self._uncounted.clear()
        up, total = self._links
        if self._handler is not None and (up, total) != self._links_told:
            self._links_told = (up, total)
            self._handler.links_changed(up, total)

    def _count(self, peer: Peer) -> None:
        """Bring the sums up to date with what ``peer`` adds to them now: nothing, unless it is one of the peers."""
        is_one = self._peers.get(peer.record.name) is peer and peer.record.status is not NodeStatus.GONE
        is_up = is_one and peer.handle is not None and peer.handle.is_attached and not peer.is_doomed
        before, peer.counted = peer.counted, (int(is_up), int(is_one))
        self._links[0] += peer.counted[0] - before[0]
        self._links[1] += peer.counted[1] - before[1]
