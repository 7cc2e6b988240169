"""A node of a simulated mesh: its mesh, its way to the network, its news, and the application on top."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable

from tests.mesh.fleet import end_abruptly
from tests.simulation import history as h
from tests.simulation.history import History, Life
from tests.simulation.invariants import SPACING
from tests.simulation.plan import Plan

from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.core.roster import SPARES, NodeRecord, NodeStatus
from meshvisor.shared.errors import LinkError, PeerLeft, PeerLost
from meshvisor.shared.memory.blacklist import SharedBlacklist
from meshvisor.shared.mesh.connection import ConnectionHandle
from meshvisor.shared.mesh.mesh import Mesh, MeshOptions
from meshvisor.shared.transport.base import Listener, TransportConnection, TransportOptions
from meshvisor.shared.transport.chaos import ChaosConnection, ChaosTransportAdapter
from meshvisor.shared.transport.memory import MemoryNetwork, MemoryTransportAdapter

MESSAGES = "messages"
CALLS = "calls"

WINDOWS = ((2, 200_000), (16, 2_000), (64, 64 * 1024), (8192, 4 * 1024 * 1024))
"""Windows to draw from: messages and bytes."""

MAX_MESSAGE = 256 * 1024


def now() -> float:
    """Return the virtual time in seconds."""
    return asyncio.get_running_loop().time()


def digest(body: bytes | bytearray) -> str:
    """Return a short name for a body."""
    return hashlib.blake2b(body, digest_size=8).hexdigest()


Owners = dict[str, Life]
"""Who listens at which place, by its path."""


class Wire:
    """A node's adapter: the memory transport, with the chaos of the plan and ways to single peers that are severed.

    ``known`` says who is at an endpoint as far as the node knows: to others a spare may have a name already.
    """

    transport = "memory"

    def __init__(
        self,
        life: Life,
        plan: Plan,
        network: MemoryNetwork,
        history: History,
        severed: set[str],
        owners: Owners,
        known: Callable[[Endpoint], Life],
    ) -> None:
        seed = plan.dice(f"chaos of {life}").getrandbits(32)
        self.chaos = ChaosTransportAdapter(
            MemoryTransportAdapter(network), plan.chaos_with(seed), shared_fate=plan.shared_fate
        )
        self._life = life
        self._history = history
        self._owners = owners
        self._known = known
        self._severed = severed
        self._dialled_at: dict[Life, float] = {}
        self._isolations = 0

    async def connect(self, endpoint: Endpoint, options: TransportOptions, /) -> TransportConnection:
        """See ``TransportAdapter.connect``. A severed way looks like a peer that does not answer."""
        peer = self._known(endpoint)
        self._history.add(h.Dialled(now(), self._life, peer))
        self._dialled_at[peer] = now()
        connection = await self.chaos.connect(endpoint, options)
        if self._owner(endpoint) in self._severed:
            self.chaos.connections[-1].black_hole()
        return connection

    async def listen(self, endpoint: Endpoint, options: TransportOptions, /) -> Listener:
        """See ``TransportAdapter.listen``."""
        return await self.chaos.listen(endpoint, options)

    def take_place(self, life: Life, severed: set[str]) -> None:
        """Be the wire of ``life`` from now on."""
        self._life, self._severed = life, severed
        for peer in sorted(severed):
            self.sever(peer)

    def _owner(self, endpoint: Endpoint) -> str:
        return self._owners[endpoint.path].name

    def sever(self, peer: str) -> None:
        """Let nothing pass on connections that were dialled to ``peer``; ``severed`` says so for those to come."""
        for connection in self._dialled_to(peer):
            connection.black_hole()

    def mend(self, peer: str) -> None:
        """Let everything pass again."""
        for connection in self._dialled_to(peer):
            self.heal(connection)

    def isolate(self) -> None:
        """Let nothing pass on any connection until ``release`` was called as often."""
        self._isolations += 1
        self.chaos.black_hole()

    def release(self) -> None:
        """End what ``isolate`` began; what is severed stays severed."""
        self._isolations -= 1
        if not self._isolations:
            self._history.add(h.Released(now(), self._life))
            self.chaos.heal()
            for peer in sorted(self._severed):
                self.sever(peer)

    def heal(self, connection: ChaosConnection) -> None:
        """Let everything pass on ``connection``, unless another fault forbids it."""
        is_severed = not connection.is_accepted and self._owner(connection.endpoint) in self._severed
        if not (self._isolations or is_severed):
            self._history.add(h.Released(now(), self._life))
            connection.heal()

    def _dialled_to(self, peer: str) -> list[ChaosConnection]:
        return [
            connection
            for connection in self.chaos.connections
            if not connection.is_accepted and self._owner(connection.endpoint) == peer
        ]

    def may_dial(self, peer: Life) -> bool:
        """Return whether the latest dial to ``peer`` was long enough ago."""
        return now() - self._dialled_at.get(peer, -SPACING) >= SPACING

    def dialled_connections(self, peer: str) -> int:
        """Return how many connections to ``peer`` there are that were dialled from here."""
        return len(self._dialled_to(peer))


class Newswire:
    """News of the roster on its way to one node: in order, late, and now and then several in one."""

    def __init__(self, node: Node, plan: Plan) -> None:
        self._node = node
        self._within = plan.news_within
        self._coalesce = plan.coalesce
        self._dice = plan.dice(f"news for {node.life}")
        self._pending: list[NodeRecord] = []
        self._waiting = 0
        self._due = 0.0

    def send(self, record: NodeRecord) -> None:
        """Let the node know of ``record`` some time soon."""
        self._pending.append(record)
        self._waiting += 1
        self._due = max(self._due, now() + self._dice.uniform(*self._within))
        asyncio.get_running_loop().call_at(self._due, self._arrive)

    def _arrive(self) -> None:
        self._waiting -= 1
        if self._waiting and self._dice.random() < self._coalesce:
            return  # With the next.
        count = len(self._pending) - self._waiting
        news, self._pending = self._pending[:count], self._pending[count:]
        if self._coalesce:
            news = list({record.name: record for record in news}.values())
        self._node.hear(news)


class Node:
    """One incarnation, and everything that its mesh tells it, which goes into the history."""

    def __init__(
        self,
        life: Life,
        plan: Plan,
        network: MemoryNetwork,
        history: History,
        severed: set[str],
        blacklist: SharedBlacklist | None,
        owners: Owners,
    ) -> None:
        dice = plan.dice(f"node {life}")
        self.life = life
        self.epoch = dice.getrandbits(64)
        self.is_alive = True
        self.is_busy = False  # something is being done to it that excludes other such things
        self.paused_until = 0.0
        self.is_hasty = False  # consumes at once, whatever the plan says
        self.window = dice.choice(WINDOWS)
        self.wire = Wire(life, plan, network, history, severed, owners, self._known)
        self.news = Newswire(self, plan)
        self._history = history
        self._consume_within = plan.consume_within
        self._consume_dice = plan.dice(f"consumer {life}")
        self._consumed_at: dict[Life, float] = {}
        self._calls_received: dict[Life, int] = {}
        self._linked: set[Life] = set()
        self._told: dict[str, tuple[Life, bool]] = {}
        self._acknowledged: dict[Life, int] = {}
        self._bodies = 0
        path = f"{life.name}-{life.incarnation}"
        owners[path] = life
        interval, timeout = plan.heartbeat or (None, 2.0)
        self._options = MeshOptions(
            life.name,
            life.incarnation,
            self.epoch,
            (f"memory:{path}",),
            b"secret",
            heartbeat_interval=interval,
            heartbeat_timeout=timeout,
            blacklist_duration=plan.blacklist_duration,
            attempt_timeout=plan.attempt_timeout,
            max_message=MAX_MESSAGE,
            max_queue_messages=self.window[0],
            max_queue_bytes=self.window[1],
        )
        rng = random.Random(dice.random())
        handler = None if life.name.startswith(SPARES) else self
        self.mesh = Mesh(self._options, handler, adapters=[self.wire], blacklist=blacklist, rng=rng)

    def record(self, status: NodeStatus, why: str = "") -> NodeRecord:
        """Return the supervisor's record of this incarnation."""
        name, incarnation = self.life
        endpoints = self._options.listen if status is NodeStatus.LISTENING else ()
        group = SPARES if name.startswith(SPARES) else name
        return NodeRecord(name, group, 0, incarnation, self.epoch, status, endpoints, why)

    # The process.

    async def start(self) -> None:
        """Begin to listen and to dial."""
        self._history.add(h.Born(now(), self.life, *self.window))
        await self.mesh.start()

    def take_place(self, life: Life, severed: set[str]) -> None:
        """Be ``life``, as the supervisor decides; ``become`` is when the process hears of it."""
        self.life = life
        self.wire.take_place(life, severed)
        self._history.add(h.Born(now(), life, *self.window))
        for peer, is_listening in self._told.values():
            self._history.add(h.Told(now(), life, peer, is_listening))

    def become(self) -> None:
        """Hear whose place it has taken."""
        if self.is_alive:
            self.mesh.become(*self.life, self)

    def _known(self, endpoint: Endpoint) -> Life:
        records = [*self.mesh.roster, *self.mesh._spare_roster]
        return next(Life(one.name, one.incarnation) for one in records if str(endpoint) in one.endpoints)

    async def kill(self, *, resets: bool) -> None:
        """End as by SIGKILL; with ``resets`` what was on its way is lost, too, as when a whole machine ends."""
        self._history.add(h.Died(now(), self.life))
        self.is_alive = False
        if resets:
            self.wire.chaos.cut()
        await end_abruptly(self.mesh)
        if resets:
            await self.wire.chaos.close()

    async def leave(self, drain: float) -> None:
        """Leave in an orderly way."""
        self._history.add(h.Leaving(now(), self.life))
        await self.mesh.close(drain)
        self.is_alive = False
        self._history.add(h.Died(now(), self.life))

    def hear(self, news: list[NodeRecord]) -> None:
        """Take news of the roster in."""
        if not self.is_alive:
            return
        for record in news:
            if record.epoch != self.epoch:
                peer = Life(record.name, record.incarnation)
                self._told[record.name] = peer, record.is_listening
                self._history.add(h.Told(now(), self.life, peer, record.is_listening))
        self.mesh.apply(news)

    def dial_again(self, name: str) -> None:
        """Dial a peer to which there is a connection, as a node does whose peer has not yet found out that it broke."""
        peer = self.mesh._peers.get(name)
        if not self.is_alive or peer is None or peer.handle is None or not peer.handle.is_attached or peer.is_doomed:
            return
        life = Life(name, peer.record.incarnation)
        if peer.dial is None and peer.timer is None and peer.record.is_listening and self.wire.may_dial(life):
            peer.dial = asyncio.create_task(self.mesh._dial(peer))
            self.mesh._tasks.add(peer.dial)
            peer.dial.add_done_callback(self.mesh._tasks.discard)

    def handle_of(self, other: Node) -> ConnectionHandle | None:
        """Return the link to ``other``, whatever that is called."""
        peers = self.mesh._everybody()
        return next((peer.handle for peer in peers if other.epoch in peer.epochs), None)

    # The application.

    def body(self, size: int) -> bytes:
        """Return a body of about ``size`` bytes that there is only once."""
        self._bodies += 1
        return f"{self.life} {self._bodies} ".encode().ljust(size, b".")

    def chatter(self, name: str, size: int) -> None:
        """Send to a peer if there is a link with room."""
        link = self.mesh.link(name) if self.is_alive else None
        if link is not None:
            self.send_nowait(link, self.body(size))

    async def send(self, link: ConnectionHandle, body: bytes, timeout: float | None) -> None:
        """Send; what is accepted goes into the history in the same step."""
        try:
            number = await link.send(body, timeout)
        except LinkError:
            return
        self._accepted(link, MESSAGES, number, body)

    def send_nowait(self, link: ConnectionHandle, body: bytes) -> None:
        """Send if there is room."""
        try:
            number = link.send_nowait(body)
        except LinkError:
            return
        self._accepted(link, MESSAGES, number, body)

    def post(self, link: ConnectionHandle, body: bytes) -> None:
        """Send on the calls lane."""
        try:
            number = link.post(body)
        except LinkError:
            return
        self._accepted(link, CALLS, number, body)

    def _accepted(self, link: ConnectionHandle, lane: str, number: int, body: bytes) -> None:
        peer = self._peer(link)
        self._history.add(h.Accepted(now(), self.life, peer, lane, number, len(body), digest(body)))

    @staticmethod
    def _peer(link: ConnectionHandle) -> Life:
        return Life(link.node_id, link.incarnation)

    def sample(self) -> None:
        """Put what has been acknowledged since the last time into the history."""
        for link in self.mesh.links() if self.is_alive else ():
            peer, number = self._peer(link), link.lost().first - 1
            if self._acknowledged.get(peer, 0) != number:
                self._acknowledged[peer] = number
                self._history.add(h.Acknowledged(now(), self.life, peer, number))

    # Told by the mesh.

    def peer_up(self, link: ConnectionHandle) -> None:
        """See ``MeshHandler``."""
        self._history.add(h.Up(now(), self.life, self._peer(link)))

    def peer_down(self, link: ConnectionHandle, reason: PeerLost | PeerLeft) -> None:
        """See ``MeshHandler``."""
        if not self.is_alive:
            return
        peer = Life(reason.peer, reason.incarnation)
        if isinstance(reason, PeerLeft):
            self._history.add(h.Left(now(), self.life, peer))
        else:
            self._history.add(h.Lost(now(), self.life, peer, reason.first, reason.last, reason.count))

    def messages_received(self, link: ConnectionHandle, first: int, bodies: list[bytes | bytearray]) -> None:
        """See ``Receiver``."""
        peer = self._peer(link)
        for number, body in enumerate(bodies, first):
            self._history.add(h.Delivered(now(), self.life, peer, MESSAGES, number, digest(body)))
        wait = 0.0 if self.is_hasty else self._consume_dice.uniform(*self._consume_within)
        due = max(self._consumed_at.get(peer, 0.0), self.paused_until, now() + wait)
        self._consumed_at[peer] = due
        last = first + len(bodies) - 1
        if due <= now():
            self._consume(link, last)
        else:
            asyncio.get_running_loop().call_at(due, self._consume, link, last)

    def _consume(self, link: ConnectionHandle, number: int) -> None:
        if self.is_alive:
            self._history.add(h.Consumed(now(), self.life, self._peer(link), number))
            link.consumed(number)

    def calls_received(self, link: ConnectionHandle, bodies: list[bytes | bytearray]) -> None:
        """See ``Receiver``."""
        peer = self._peer(link)
        for body in bodies:
            number = self._calls_received[peer] = self._calls_received.get(peer, 0) + 1
            self._history.add(h.Delivered(now(), self.life, peer, CALLS, number, digest(body)))

    def links_changed(self, up: int, total: int) -> None:
        """See ``MeshHandler``; the history gets which links have changed."""
        if not self.is_alive:
            return
        linked = {self._peer(link) for link in self.mesh.links() if link.is_attached}
        for peer in sorted(linked ^ self._linked):
            self._history.add(h.Linked(now(), self.life, peer, peer in linked))
        self._linked = linked
