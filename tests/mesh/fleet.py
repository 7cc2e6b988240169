"""A mesh of nodes in one process: memory transport, a scripted supervisor, connections that can be cut."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.core.roster import SPARES, NodeRecord, NodeStatus
from meshvisor.shared.errors import PeerLeft, PeerLost
from meshvisor.shared.mesh.connection import ConnectionHandle
from meshvisor.shared.mesh.mesh import Mesh, MeshOptions
from meshvisor.shared.transport.base import Listener, TransportConnection, TransportOptions
from meshvisor.shared.transport.memory import MemoryNetwork, MemoryTransportAdapter


class Cuttable:
    """A memory adapter whose connections a test can cut, and whose dials it can count, delay or refuse."""

    transport = "memory"

    def __init__(self, network: MemoryNetwork) -> None:
        self.dialled: list[str] = []
        self.open: list[TransportConnection] = []
        self.delays: dict[str, float] = {}
        self._inner = MemoryTransportAdapter(network)

    async def connect(self, endpoint: Endpoint, options: TransportOptions) -> TransportConnection:
        self.dialled.append(str(endpoint))
        await asyncio.sleep(self.delays.get(str(endpoint), 0.0))
        connection = await self._inner.connect(endpoint, options)
        self.open.append(connection)
        return connection

    async def listen(self, endpoint: Endpoint, options: TransportOptions) -> Listener:
        return await self._inner.listen(endpoint, options)

    def cut(self) -> None:
        """Break every connection that was dialled from here, in the middle of whatever it carries."""
        for connection in self.open:
            connection.close()
        self.open.clear()


class Node:
    """One node and everything that its mesh told it."""

    def __init__(self, name: str, incarnation: int, network: MemoryNetwork, seed: int, **options: Any) -> None:
        self.name = name
        self.group = SPARES if name.startswith(SPARES) else name
        self.incarnation = incarnation
        self.epoch = random.Random(f"{name}/{incarnation}").getrandbits(64)
        self.adapter = Cuttable(network)
        self.up: list[tuple[str, int]] = []
        self.down: list[PeerLost | PeerLeft] = []
        self.got: dict[str, list[bytes]] = {}
        self.calls: list[bytes] = []
        self.story: list[str] = []  # all of that in its order
        self.links = (0, 0)
        self.consumes = True
        listen = (f"memory:{name}-{incarnation}",)
        secret, blacklist = options.pop("secret", b"secret"), options.pop("blacklist", None)
        self.options = MeshOptions(name, incarnation, self.epoch, listen, secret, **options)
        handler = None if self.group == SPARES else self
        self.mesh = Mesh(self.options, handler, adapters=[self.adapter], blacklist=blacklist, rng=random.Random(seed))

    def record(self, status: NodeStatus) -> NodeRecord:
        endpoints = self.options.listen if status in (NodeStatus.LISTENING, NodeStatus.READY) else ()
        return NodeRecord(self.name, self.group, 0, self.incarnation, self.epoch, status, endpoints)

    def become(self, name: str, incarnation: int) -> None:
        """Take a place, as a spare does when it is told to."""
        self.name, self.incarnation, self.group = name, incarnation, name
        self.mesh.become(name, incarnation, self)

    def peer_up(self, link: ConnectionHandle) -> None:
        self.up.append((link.node_id, link.incarnation))
        self.story.append(f"{link.node_id}.{link.incarnation} is up")

    def peer_down(self, link: ConnectionHandle, reason: PeerLost | PeerLeft) -> None:
        self.down.append(reason)
        self.story.append(f"{reason.peer}.{reason.incarnation} is down")

    def messages_received(self, link: ConnectionHandle, first: int, bodies: list[bytes | bytearray]) -> None:
        got = self.got.setdefault(link.node_id, [])
        got += map(bytes, bodies)
        self.story += [
            f"{link.node_id}.{link.incarnation} says {body[:20].decode(errors='replace')}" for body in bodies
        ]
        if self.consumes:
            link.consumed(first + len(bodies) - 1)

    def calls_received(self, link: ConnectionHandle, bodies: list[bytes | bytearray]) -> None:
        self.calls += map(bytes, bodies)

    def links_changed(self, up: int, total: int) -> None:
        self.links = (up, total)


async def end_abruptly(mesh: Mesh) -> None:
    """End ``mesh`` as the death of its process would: at once, and without a word to anybody."""
    mesh._is_closing = True
    handles = [peer.handle for peer in mesh._everybody() if peer.handle is not None]
    for link in handles:
        link._driver.end()
    for peer in mesh._everybody():
        peer.cancel_dial()
    await mesh._acceptor.close()
    await asyncio.gather(*mesh._tasks, return_exceptions=True)
    for link in handles:
        await link.wait_closed()


class Fleet:
    """Nodes, and the supervisor's part of telling them about each other."""

    def __init__(self, seed: int = 0) -> None:
        self.network = MemoryNetwork()
        self.seed = seed
        self.nodes: dict[str, Node] = {}
        self.records: dict[str, NodeRecord] = {}

    def tell(self, *records: NodeRecord) -> None:
        for record in records:
            self.records[record.name] = record
        for node in self.nodes.values():
            node.mesh.apply(records)

    async def start(self, *names: str, incarnation: int = 1, **options: Any) -> list[Node]:
        nodes = [Node(name, incarnation, self.network, self.seed, **options) for name in names]
        self.tell(*(node.record(NodeStatus.DOWN) for node in nodes))
        for node in nodes:
            node.mesh.apply(self.records.values())
            self.nodes[node.name] = node
            await node.mesh.start()
            self.tell(node.record(NodeStatus.LISTENING))
        return nodes

    async def kill(self, name: str) -> None:
        """End a node as SIGKILL would: its connections and listeners close, nobody is told goodbye."""
        node = self.nodes.pop(name)
        for other in [node, *self.nodes.values()]:
            for connection in other.adapter.open:
                if other is node:
                    connection.close()
        await end_abruptly(node.mesh)

    async def close(self) -> None:
        await asyncio.gather(*(node.mesh.close() for node in self.nodes.values()))

    async def until(self, condition: Callable[[], bool], within: float = 60.0) -> None:
        async with asyncio.timeout(within):
            while not condition():
                await asyncio.sleep(0.001)


Scenario = Callable[[Fleet], Coroutine[Any, Any, None]]
