"""A whole mesh of workers in one process, on virtual time: real nodes and links, and a supervisor that is pretended."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from meshvisor.shared.control.lifeline import Failure, FromWorker, Links, Listening, Ready
from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.core.roster import NodeRecord, NodeStatus
from meshvisor.shared.mesh.mesh import Mesh, MeshOptions
from meshvisor.shared.transport.base import Listener, Stream, TransportConnection, TransportOptions
from meshvisor.shared.transport.memory import MemoryNetwork, MemoryTransportAdapter
from meshvisor.workers.ending import Ending
from meshvisor.workers.node import Node
from meshvisor.workers.testing import run_virtual
from meshvisor.workers.worker import Worker


class Plug:
    """A memory adapter with one plug for everything: ``pull`` is what a process's death is for its sockets."""

    transport = "memory"

    def __init__(self, network: MemoryNetwork) -> None:
        self._inner = MemoryTransportAdapter(network)
        self._open: list[Any] = []
        self._is_pulled = False

    async def connect(self, endpoint: Endpoint, options: TransportOptions, /) -> TransportConnection:
        if self._is_pulled:
            raise ConnectionRefusedError("pulled")
        connection = await self._inner.connect(endpoint, options)
        self._open.append(connection)
        return connection

    async def listen(self, endpoint: Endpoint, options: TransportOptions, /) -> Listener:
        listener = await self._inner.listen(endpoint, options)
        self._open.append(listener)
        plug = self

        class Watched:
            endpoint = listener.endpoint
            close = staticmethod(listener.close)

            async def accept(self) -> Stream:
                stream = await listener.accept()
                plug._open.append(stream)
                return stream

        return Watched()

    def pull(self) -> None:
        self._is_pulled = True
        for closable in self._open:
            closable.close()


@dataclass
class Resident:
    """One incarnation of a slot."""

    record: NodeRecord
    node: Node
    mesh: Mesh
    plug: Plug
    life: asyncio.Task[Ending]
    heard: list[FromWorker] = field(default_factory=list)

    @property
    def failure(self) -> Failure | None:
        return next((message for message in self.heard if isinstance(message, Failure)), None)

    @property
    def links(self) -> tuple[int, int]:
        return next((m.up, m.total) for m in reversed(self.heard) if isinstance(m, Links))


class Client:
    """Calls through a node as its worker would."""

    def __init__(self, node: Any) -> None:
        self._node = node

    async def __call__(
        self,
        target: str,
        method: str,
        /,
        *args: Any,
        key: Any = None,
        timeout: float | None = 30.0,
        retry: bool = False,
        **named: Any,
    ) -> Any:
        return await self._node.call(target, method, args, named, key=key, timeout=timeout, retry=retry)


class Town:
    """Starts and kills workers, and keeps the roster as a supervisor would."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.roster: dict[str, NodeRecord] = {}
        self.residents: dict[str, Resident] = {}
        self._random = random.Random(7)
        self._changed = asyncio.Event()

    def configure(self, *names: str, group: str | None = None) -> None:
        """Put slots into the roster that are not started yet."""
        for number, name in enumerate(names):
            self._publish(NodeRecord(name, group or name, number))

    def start(
        self, name: str, cls: type[Worker], settings: dict[str, Any] | None = None, *, sponsor: str = ""
    ) -> Resident:
        """Start the next incarnation of a slot."""
        if name not in self.roster:
            self.configure(name)
        old = self.roster[name]
        record = msgspec.structs.replace(
            old,
            incarnation=old.incarnation + 1,
            epoch=self._random.getrandbits(64),
            status=NodeStatus.DOWN,
            endpoints=(),
            why="",
        )
        self._publish(record)
        heard: list[FromWorker] = []

        def report(message: FromWorker) -> None:
            heard.append(message)
            self._hear(name, record.incarnation, message)

        node = Node(name, record.incarnation, settings or {}, report=report, sponsor=sponsor)
        options = MeshOptions(name, record.incarnation, record.epoch, (str(self.network.new_endpoint()),), b"secret")
        plug = Plug(self.network)
        mesh = Mesh(options, node, adapters=[plug], rng=random.Random(record.epoch))
        node.connect(mesh, cls, list(self.roster.values()))
        resident = Resident(record, node, mesh, plug, asyncio.create_task(node.live(), name=name), heard=heard)
        self.residents[name] = resident
        return resident

    async def ready(self, *names: str) -> None:
        """Wait until all of them are ready and linked with each other."""
        while not all(self._is_ready(name, names) for name in names):
            self._changed.clear()
            await self._changed.wait()

    def _is_ready(self, name: str, names: tuple[str, ...]) -> bool:
        others = [other for other in names if other != name]
        mesh = self.residents[name].mesh
        linked = all(
            (link := mesh.link(other)) is not None and link.incarnation == self.roster[other].incarnation
            for other in others
        )
        return linked and self.roster[name].status is NodeStatus.READY

    def client(self, name: str) -> Client:
        """Return what calls as the worker ``name`` would."""
        return Client(self.residents[name].node)

    async def kill(self, name: str) -> None:
        """End an incarnation as SIGKILL does; the roster hears of it a moment later."""
        resident = self.residents[name]
        resident.plug.pull()
        resident.life.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await resident.life
        await asyncio.sleep(0.001)
        self.down(name)

    def down(self, name: str, status: NodeStatus = NodeStatus.DOWN, why: str = "") -> None:
        """Say that the slot's process is dead."""
        self._publish(msgspec.structs.replace(self.roster[name], status=status, endpoints=(), why=why))

    def gone(self, name: str, why: str = "stopped") -> None:
        """Say that the slot will not come back."""
        self.down(name, NodeStatus.GONE, why)

    async def ended(self, name: str) -> int:
        """Wait for the end of an incarnation and return its status."""
        ending = await self.residents[name].life
        if ending.manner.name == "CRASH":
            self.residents[name].plug.pull()
        self.down(name)
        return ending.status

    async def close(self) -> None:
        """End everything."""
        for resident in self.residents.values():
            if not resident.life.done():
                resident.life.cancel()
        for resident in self.residents.values():
            await asyncio.wait([resident.life])
            await resident.mesh.close()

    def _hear(self, name: str, incarnation: int, message: FromWorker) -> None:
        record = self.roster[name]
        if record.incarnation == incarnation and isinstance(message, Listening):
            self._publish(
                msgspec.structs.replace(record, status=NodeStatus.LISTENING, endpoints=tuple(message.endpoints))
            )
        elif record.incarnation == incarnation and isinstance(message, Ready):
            self._publish(msgspec.structs.replace(record, status=NodeStatus.READY))
        self._changed.set()

    def _publish(self, record: NodeRecord) -> None:
        self.roster[record.name] = record
        loop = asyncio.get_running_loop()
        for resident in self.residents.values():
            # In a later turn, as news from another process come.
            loop.call_soon(resident.node.apply, [record])
        self._changed.set()


Scenario = Callable[[Town], Awaitable[None]]


@pytest.fixture
def in_town() -> Callable[[Scenario], None]:
    """Return a function that runs a scenario in a town of its own, on virtual time."""

    def run(scenario: Scenario) -> None:
        async def main() -> None:
            town = Town()
            try:
                async with asyncio.timeout(3600):
                    await scenario(town)
            finally:
                await town.close()

        run_virtual(main())

    return run
