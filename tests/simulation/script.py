"""What is done to a mesh while it runs: each kind of disturbance of a plan, at random moments, for a time."""

from __future__ import annotations

import asyncio
import itertools
import random

from tests.simulation.node import Node, now
from tests.simulation.plan import Plan
from tests.simulation.world import World


class Script:
    """Disturbs ``world`` as its plan says. Each kind has dice and a task of its own."""

    def __init__(self, plan: Plan, world: World) -> None:
        self._plan = plan
        self._world = world
        self._until = now() + plan.duration

    async def run(self) -> None:
        """Disturb until the time is over and everything that was begun has come to its end."""
        kinds = self._plan.disturbances
        await asyncio.gather(*(self._repeat(kind, every) for kind, every in kinds.items()))
        await asyncio.sleep(max(0.0, self._until - now()))

    async def _repeat(self, kind: str, every: float) -> None:
        dice = self._plan.dice(f"script {kind}")
        disturb = getattr(self, f"_{kind}")
        while True:
            pause = dice.expovariate(1 / every)
            if now() + pause >= self._until:
                return
            await asyncio.sleep(pause)
            await disturb(dice)

    def _pick(self, dice: random.Random) -> Node | None:
        """Return a node that nothing else is being done to, if there is one."""
        idle = [node for node in self._world.nodes.values() if not node.is_busy]
        return dice.choice(idle) if idle else None

    # Connections.

    async def _cuts(self, dice: random.Random) -> None:
        """Cut one connection."""
        node = self._pick(dice)
        if node is not None and (connections := node.wire.chaos.connections):
            dice.choice(connections).cut()

    async def _resets(self, dice: random.Random) -> None:
        """Cut all connections of a node."""
        node = self._pick(dice)
        if node is not None:
            node.wire.chaos.cut()

    async def _holes(self, dice: random.Random) -> None:
        """Let nothing pass on one connection, one way or both, for a while."""
        node = self._pick(dice)
        if node is not None and (connections := node.wire.chaos.connections):
            connection = dice.choice(connections)
            connection.black_hole(dice.choice(("read", "write", "both")))
            await asyncio.sleep(dice.uniform(0.0, 4.0))
            node.wire.heal(connection)

    async def _switches(self, dice: random.Random) -> None:
        """Dial over a connection that is well; or both ends do at once, or one of them several times."""
        names = list(self._world.nodes)
        if len(names) < 2:
            return
        one, other = (self._world.nodes[name] for name in dice.sample(names, 2))
        one.dial_again(other.life.name)
        if dice.random() < 0.3:
            other.dial_again(one.life.name)
        # With much on its way on both connections, some of it arrives on both.
        for _ in range(dice.randint(1, 40)):
            await asyncio.sleep(dice.choice((0.0, 0.001, 0.01)))
            one.chatter(other.life.name, dice.choice(self._plan.sizes))
            other.chatter(one.life.name, dice.choice(self._plan.sizes))
            if dice.random() < 0.05:
                one.dial_again(other.life.name)

    # Nodes and the network between them.

    async def _partitions(self, dice: random.Random) -> None:
        """Split the nodes in two for a while."""
        names = list(self._world.nodes)
        side = set(dice.sample(names, dice.randint(1, len(names)))) if names else set()
        cut = [(one, other) for one, other in itertools.combinations(names, 2) if (one in side) != (other in side)]
        for pair in cut:
            self._world.sever(*pair)
        seconds = dice.choice((0.1, 1.0, 8.0)) * dice.random()
        if self._plan.heartbeat is not None and dice.random() < 0.4:
            seconds = 1.3 * sum(self._plan.heartbeat)  # long enough to be found out, whatever the dice say
        await asyncio.sleep(seconds)
        for pair in cut:
            self._world.mend(*pair)

    async def _swizzles(self, dice: random.Random) -> None:
        """Isolate some nodes one by one, and let them back in another order (FoundationDB's swizzle-clog)."""
        nodes = list(self._world.nodes.values())
        chosen = dice.sample(nodes, dice.randint(1, len(nodes))) if nodes else []
        for node in chosen:
            node.wire.isolate()
            await asyncio.sleep(dice.uniform(0.0, 0.5))
        dice.shuffle(chosen)
        for node in chosen:
            await asyncio.sleep(dice.uniform(0.0, 0.5))
            node.wire.release()

    async def _pauses(self, dice: random.Random) -> None:
        """Hold all streams and the application of a node for a while."""
        node = self._pick(dice)
        if node is not None:
            seconds = dice.choice((0.1, 1.0, 5.0)) * dice.random()
            node.paused_until = now() + seconds
            node.wire.isolate()
            await asyncio.sleep(seconds)
            node.wire.release()

    async def _kills(self, dice: random.Random) -> None:
        """Kill a node and start its next incarnation, with or without the news of its death in between."""
        node = self._pick(dice)
        if node is None:
            return
        node.is_busy = True
        await self._world.kill(node, resets=dice.random() < 0.5)
        await asyncio.sleep(dice.choice((0.0, 0.001, 0.3)))
        if dice.random() < 0.8:
            self._world.bury(node)
            await asyncio.sleep(dice.choice((0.0, 0.01, 1.0)))
        await self._replace(node.life.name, dice)

    async def _replace(self, name: str, dice: random.Random) -> None:
        """Start the next incarnation of ``name``, or have a spare take its place."""
        if not self._world.spares:
            await self._world.start(name)
            return
        within = dice.uniform(*self._plan.news_within)
        self._world.name(self._world.spares[0], name, within)
        await asyncio.sleep(dice.choice((0.0, 0.05, 0.5)))
        await self._world.start_spare()

    async def _spare_deaths(self, dice: random.Random) -> None:
        """Kill a spare, and start another one."""
        if self._world.spares:
            await self._world.kill_spare(dice.choice(self._world.spares))
            await self._world.start_spare()

    async def _leaves(self, dice: random.Random) -> None:
        """Let a node leave, and perhaps come back."""
        node = self._pick(dice)
        if node is None or len(self._world.nodes) < 2:
            return
        node.is_busy = True
        await self._world.leave(node, dice.choice((0.0, 0.1, 2.0)))
        self._world.bury(node, why="stopped")
        if dice.random() < 0.7:
            await asyncio.sleep(dice.uniform(0.0, 1.0))
            await self._world.start(node.life.name)

    async def _joins(self, dice: random.Random) -> None:
        """Add a node."""
        if len(self._world.nodes) < 10:
            await self._world.start(self._world.new_name())
