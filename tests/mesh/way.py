"""One manager and one host over memory, in virtual time, with everything on the way that a test wants to happen."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol

from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.core.states import TRANSITIONS, StateChange
from meshvisor.shared.mesh.host import ConnectionHost
from meshvisor.shared.mesh.manager import ConnectionManager
from meshvisor.shared.mesh.options import ConnectionHostOptions, ConnectionOptions
from meshvisor.shared.transport.base import Listener, TransportAdapter, TransportConnection, TransportOptions
from meshvisor.shared.transport.chaos import ChaosOptions, ChaosTransportAdapter
from meshvisor.shared.transport.memory import MemoryNetwork, MemoryTransportAdapter
from meshvisor.workers.rehearsal import Stage
from meshvisor.workers.testing import run_virtual

BLACK_HOLE = 3600.0
"""The behaviour of an endpoint that never answers."""


class Sockets(Stage):
    """Pairs of sockets in the place of memory."""

    transport = "memory"


class Way:
    """A memory adapter that can be cut, and whose endpoints take their time, fail, or ask for a pause.

    With ``near`` or ``far`` there is chaos around the streams of the manager or of the host (``.near``, ``.far``).
    ``over_sockets`` puts pairs of sockets in the place of memory.
    """

    transport = "memory"

    def __init__(
        self, near: ChaosOptions | None = None, far: ChaosOptions | None = None, *, over_sockets: bool = False
    ) -> None:
        memory: TransportAdapter = Sockets() if over_sockets else MemoryTransportAdapter(MemoryNetwork())
        self.near = ChaosTransportAdapter(memory, near) if near else None
        self.far = ChaosTransportAdapter(memory, far) if far else None
        self.inner: TransportAdapter = self.near or memory
        self.there: TransportAdapter = self.far or memory
        self.dialled: list[tuple[float, str]] = []
        self.behaviour: dict[str, Any] = {}
        self.open: list[TransportConnection] = []
        self.most_at_once = 0
        self._at_once = 0

    async def connect(self, endpoint: Endpoint, options: TransportOptions) -> TransportConnection:
        self.dialled.append((now(), endpoint.path or str(endpoint)))
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            behaviour = self.behaviour.get(str(endpoint), 0.0)
            if isinstance(behaviour, Exception):
                raise behaviour
            await asyncio.sleep(behaviour)
        finally:
            self._at_once -= 1
        connection = await self.inner.connect(endpoint, options)
        self.open.append(connection)
        return connection

    async def listen(self, endpoint: Endpoint, options: TransportOptions) -> Listener:
        return await self.inner.listen(endpoint, options)

    def cut(self) -> None:
        """Close every connection there is, as a reset would."""
        for connection in self.open:
            connection.close()
        self.open.clear()

    def mute(self) -> None:
        """Let nothing that the manager writes on its present connections arrive any more; nothing fails."""
        for connection in self.open:
            for stream in (connection.control, connection.data):
                stream.write = _swallow  # type: ignore[method-assign]  # a black hole is made of what there is

    @property
    def endpoints_dialled(self) -> list[str]:
        return [endpoint for _, endpoint in self.dialled]

    def manager(self, *endpoints: str | Endpoint, **options: Any) -> ConnectionManager:
        names = endpoints or ("memory:host",)
        extra = {name: options.pop(name) for name in ("blacklist", "budget", "rng") if name in options}
        given: dict[str, Any] = {"node_id": "client", "enable_network_monitoring": False} | options
        return ConnectionManager(ConnectionOptions(endpoints=names, **given), adapters=[self], **extra)

    @asynccontextmanager
    async def host(self, *endpoints: str, **options: Any) -> AsyncIterator[ConnectionHost]:
        given: dict[str, Any] = {"node_id": "host", "endpoints": endpoints or ["memory:host"]} | options
        async with ConnectionHost(ConnectionHostOptions(**given), adapters=[self.there]) as host:
            yield host

    async def kill(self, host: ConnectionHost) -> None:
        """End ``host`` as SIGKILL would: its streams close, nobody is told goodbye."""
        await host._acceptor.close()
        for link in list(host._links.values()):
            host._finish(link, link.lost())

    async def close(self) -> None:
        for chaos in (self.near, self.far):
            if chaos is not None:
                await chaos.close()


async def _swallow(data: bytes | bytearray | memoryview) -> None:
    """Take ``data`` and do nothing."""


class Changes:
    """The state changes of a manager; every one of them must be in the table."""

    def __init__(self, manager: ConnectionManager) -> None:
        self.all: list[StateChange] = []
        manager.on_state_changed(self._add)

    def _add(self, change: StateChange) -> None:
        assert change.current in TRANSITIONS[change.previous]
        assert change.evidence
        assert not self.all or change.previous is self.all[-1].current
        self.all.append(change)

    @property
    def states(self) -> list[str]:
        return [str(change.current) for change in self.all]

    @property
    def steps(self) -> list[str]:
        """Each change as ``state (cause)``."""
        return [f"{change.current} ({change.cause})" for change in self.all]

    def clear(self) -> None:
        del self.all[:-1]

    def since(self, count: int) -> list[str]:
        return self.steps[count:]


def now() -> float:
    return asyncio.get_running_loop().time()


async def until(condition: Callable[[], bool], within: float = 60.0) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.001)


class Play(Protocol):
    def __call__(self, scenario: Callable[[Way], Coroutine[Any, Any, None]]) -> None: ...


def play(scenario: Callable[[Way], Coroutine[Any, Any, None]], way: Callable[[], Way] = Way) -> None:
    """Run ``scenario`` in virtual time; afterwards no task, no timer and no reader may be left on the loop."""

    async def main() -> None:
        road = way()
        await scenario(road)
        await road.close()
        for _ in range(3):
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"still running: {left}"
        loop: Any = asyncio.get_running_loop()
        timers = [timer for timer in itertools.chain(loop._scheduled, loop._ready) if not timer.cancelled()]
        assert not timers, f"still scheduled: {timers}"

    run_virtual(main())
