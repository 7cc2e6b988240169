"""The nodes of a run, the network between them, and the supervisor, which starts them and spreads the news."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from tests.simulation import history as h
from tests.simulation.history import History, Life
from tests.simulation.node import Node, Owners, now
from tests.simulation.plan import Plan

from meshvisor.shared.core.roster import SPARES, NodeRecord, NodeStatus
from meshvisor.shared.errors import LinkError
from meshvisor.shared.memory.blacklist import SharedBlacklist
from meshvisor.shared.transport.memory import MemoryNetwork


class World:
    """All nodes that live, by name, and the tasks of their applications."""

    def __init__(self, plan: Plan, history: History) -> None:
        self.plan = plan
        self.history = history
        self.nodes: dict[str, Node] = {}
        self.spares: list[Node] = []
        self.is_calm = False
        self._network = MemoryNetwork()
        self._blacklist = SharedBlacklist.create(clock=_nanoseconds) if plan.shares_penalties else None
        self._records: dict[str, NodeRecord] = {}
        self._severed: dict[str, set[str]] = {}
        self._holes: dict[frozenset[str], int] = {}
        self._applications: dict[Life, list[asyncio.Task[None]]] = {}
        self._ended: list[Node] = []
        self._names = (f"n{number}" for number in range(1000))
        self._spare_names = (f"{SPARES}-{number}" for number in range(1000))
        self._owners: Owners = {}

    def new_name(self) -> str:
        """Return a name that no node has had."""
        return next(self._names)

    # The supervisor.

    def tell(self, record: NodeRecord) -> None:
        """Spread news."""
        self._records[record.name] = record
        for node in [*self.nodes.values(), *self.spares]:
            node.news.send(record)

    async def start(self, name: str) -> Node:
        """Start the next incarnation of ``name``; others hear of it when it listens."""
        node = self._make(self._next_life(name))
        self.nodes[name] = node
        await node.start()
        self._begin(node)
        self.tell(node.record(NodeStatus.LISTENING))
        return node

    def _next_life(self, name: str) -> Life:
        known = self._records.get(name)
        return Life(name, 1 if known is None else known.incarnation + 1)

    def _make(self, life: Life) -> Node:
        severed = self._severed.setdefault(life.name, set())
        node = Node(life, self.plan, self._network, self.history, severed, self._blacklist, self._owners)
        self.tell(node.record(NodeStatus.DOWN))
        node.hear(list(self._records.values()))
        return node

    def _begin(self, node: Node) -> None:
        if self.is_calm:
            self._calm(node)
        else:
            self._applications[node.life] = [self._run(self._send(node, one)) for one in range(self.plan.senders)]

    # Spares.

    async def start_spare(self) -> None:
        """Start a spare, and let it link with everybody."""
        node = self._make(Life(next(self._spare_names), 1))
        self.spares.append(node)
        await node.start()
        if self.is_calm:
            self._calm(node)
        self.tell(node.record(NodeStatus.LISTENING))

    def name(self, spare: Node, name: str, within: float) -> None:
        """Have ``spare`` take a place; it hears of that ``within`` so many seconds, before or after the others."""
        self.spares.remove(spare)
        removed = spare.record(NodeStatus.REMOVED)
        del self._records[removed.name]
        life = self._next_life(name)
        for path, owner in self._owners.items():
            if owner == spare.life:
                self._owners[path] = life
        spare.take_place(life, self._severed[name])
        for other in self._severed[name] & self.nodes.keys():
            self.nodes[other].wire.sever(name)
        self.nodes[name] = spare
        self._begin(spare)
        self.tell(spare.record(NodeStatus.LISTENING))
        for node in [*self.nodes.values(), *self.spares]:
            node.news.send(removed)
        asyncio.get_running_loop().call_later(within, spare.become)

    async def kill_spare(self, spare: Node) -> None:
        """Kill a spare; everybody hears of it after that."""
        self.spares.remove(spare)
        await spare.kill(resets=False)
        self._ended.append(spare)
        del self._records[spare.life.name]
        for node in [*self.nodes.values(), *self.spares]:
            node.news.send(spare.record(NodeStatus.REMOVED))

    @staticmethod
    def _run(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(work)

    async def kill(self, node: Node, *, resets: bool) -> None:
        """Kill ``node``; the supervisor does not know yet."""
        del self.nodes[node.life.name]
        await self._end_application(node)
        await node.kill(resets=resets)
        self._ended.append(node)

    async def leave(self, node: Node, drain: float) -> None:
        """Let ``node`` leave in an orderly way."""
        await self._end_application(node)
        del self.nodes[node.life.name]
        await node.leave(drain)
        self._ended.append(node)

    def bury(self, node: Node, *, why: str = "") -> None:
        """Let everybody know that ``node`` is dead: coming back, or (``why``) not by itself."""
        self.tell(node.record(NodeStatus.GONE if why else NodeStatus.DOWN, why))

    # The network.

    def sever(self, one: str, other: str) -> None:
        """Let nothing pass between two nodes until ``mend`` was called as often."""
        pair = frozenset((one, other))
        self._holes[pair] = self._holes.get(pair, 0) + 1
        if self._holes[pair] > 1:
            return
        self.history.add(h.Severed(now(), one, other))
        for near, far in ((one, other), (other, one)):
            self._severed.setdefault(near, set()).add(far)
            if near in self.nodes:
                self.nodes[near].wire.sever(far)

    def mend(self, one: str, other: str) -> None:
        """End what ``sever`` began."""
        pair = frozenset((one, other))
        self._holes[pair] -= 1
        if self._holes[pair]:
            return
        self.history.add(h.Mended(now(), one, other))
        for near, far in ((one, other), (other, one)):
            self._severed[near].discard(far)
            if near in self.nodes:
                self.nodes[near].wire.mend(far)

    def calm(self) -> None:
        """End all faults, for good."""
        self.history.add(h.Calm(now()))
        self.is_calm = True
        for severed in self._severed.values():
            severed.clear()
        for node in [*self._ended, *self.nodes.values(), *self.spares]:
            self._calm(node)

    @staticmethod
    def _calm(node: Node) -> None:
        node.wire.chaos.calm()
        node.is_hasty = True

    # The applications.

    async def _end_application(self, node: Node) -> None:
        tasks = self._applications.pop(node.life)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def _send(self, node: Node, number: int) -> None:
        """Send something to somebody again and again, in all the ways there are."""
        dice = self.plan.dice(f"sender {number} of {node.life}")
        while not self.is_calm:
            await asyncio.sleep(dice.expovariate(1 / self.plan.send_every))
            await asyncio.sleep(max(0.0, node.paused_until - now()))
            others = [name for name in self._records if name != node.life.name and not name.startswith(SPARES)]
            if not others or self.is_calm:
                continue
            try:
                async with asyncio.timeout(dice.choice((0.1, 1.0, 5.0))):
                    link = await node.mesh.wait_link(dice.choice(others))
            except (LinkError, TimeoutError):
                continue
            body = node.body(dice.choice(self.plan.sizes))
            way = dice.random()
            if way < 0.15:
                node.post(link, body[:1000])
            elif way < 0.3:
                for _ in range(dice.randint(1, 20)):
                    node.send_nowait(link, node.body(8))
            elif way < 0.4:
                sending = self._run(node.send(link, body, None))
                await self._give_up_after(sending, dice.choice((0.0, 0.01, 0.3)))
            else:
                await node.send(link, body, dice.choice((None, 0.05, 1.0)))

    @staticmethod
    async def _give_up_after(sending: asyncio.Task[None], seconds: float) -> None:
        try:
            await asyncio.wait([sending], timeout=seconds)
        finally:
            sending.cancel()
            await asyncio.wait([sending])

    async def say_last_words(self, within: float) -> None:
        """Wait for the applications to end, and send one message more over each link, which must arrive."""
        tasks = [task for tasks in self._applications.values() for task in tasks]
        if tasks:
            await asyncio.wait(tasks, timeout=within)
        if not all(task.done() for task in tasks):
            self.history.add(h.Complaint(now(), "a send goes on waiting although all faults have ended"))
        for node in self.nodes.values():
            for link in node.mesh.links():
                node.post(link, node.body(8))
                await node.send(link, node.body(8), within)

    # The end.

    def unsettled(self) -> list[str]:
        """Return what there still is to do until all nodes are linked and all messages are acknowledged."""
        missing = []
        for node in self.nodes.values():
            for other in self.nodes.values():
                if other is not node:
                    link = node.mesh.link(other.life.name)
                    where = f"{node.life} to {other.life}"
                    if link is None or link.incarnation != other.life.incarnation:
                        missing.append(f"{where}: no link")
                    elif not link.is_attached:
                        missing.append(f"{where}: no connection")
                    elif not link._link.is_drained:
                        missing.append(f"{where}: not drained")
            for spare in self.spares:
                ends = (node.handle_of(spare), spare.handle_of(node))
                if not all(handle is not None and handle.is_attached for handle in ends):
                    missing.append(f"{node.life} and {spare.life}: not linked")
        return missing

    def count_connections(self) -> None:
        """Put the number of connections between any two nodes into the history."""
        nodes = list(self.nodes.values())
        for index, one in enumerate(nodes):
            for other in nodes[:index]:
                count = one.wire.dialled_connections(other.life.name) + other.wire.dialled_connections(one.life.name)
                self.history.add(h.Connections(now(), one.life, other.life, count))

    def sample(self) -> None:
        """Put what can only be asked for into the history."""
        for node in self.nodes.values():
            node.sample()

    async def close(self) -> None:
        """End all nodes, and whatever chaos still has on its way."""
        tasks = [task for tasks in self._applications.values() for task in tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        living = [*self.nodes.values(), *self.spares]
        for node in living:
            node.is_alive = False
        await asyncio.gather(*(node.mesh.close() for node in living))
        for node in [*self._ended, *living]:
            await node.wire.chaos.close()
        if self._blacklist is not None:
            self._blacklist.close()


def _nanoseconds() -> int:
    """Return the loop's time as that of a blacklist's clock, which is never 0."""
    return round((now() + 1) * 1e9)
