"""One incarnation of a worker inside a test's own process: what a process is to a real one, as far as that can be.

Every task that the worker starts, its links' included, is known to belong to it (a task factory asks the context that
tasks and callbacks inherit). So it can be killed, with all that it has begun, and held: a worker that hangs makes no
step, while everybody else goes on.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from ..shared.control.lifeline import FromWorker
from ..shared.core.endpoint import Endpoint
from ..shared.core.roster import NodeRecord
from ..shared.mesh.mesh import Mesh, MeshOptions
from ..shared.transport.base import TransportAdapter, TransportConnection, TransportOptions
from ..shared.transport.chaos import ChaosConnection, ChaosListener, ChaosOptions, ChaosTransportAdapter
from ..shared.transport.memory import MemoryNetwork, MemoryTransportAdapter
from .ending import Ending
from .node import Node
from .worker import Worker

_SECRET = b"secret of a mesh that only exists in a test"

_owner: contextvars.ContextVar[Resident | None] = contextvars.ContextVar("meshvisor-resident", default=None)


class Resident:
    """An incarnation as its ``record`` has it; ``begin`` sets it going. ``network`` is whom it can reach."""

    def __init__(
        self,
        record: NodeRecord,
        worker_class: type[Worker],
        settings: dict[str, Any],
        roster: Iterable[NodeRecord],
        *,
        report: Callable[[FromWorker], None],
        network: MemoryNetwork,
        chaos: ChaosOptions,
        drain_timeout: float,
        dialled: Callable[[Resident, ChaosConnection], None],
    ) -> None:
        self.record = record
        self.wire = _Wire(MemoryTransportAdapter(network), chaos, lambda connection: dialled(self, connection))
        self.gate: asyncio.Future[None] | None = None
        self.is_killed = False
        self.tasks: set[asyncio.Task[Any]] = set()
        self.life: asyncio.Task[Ending] | None = None
        self.node = Node(record.name, record.incarnation, settings, report=report, drain_timeout=drain_timeout)
        options = MeshOptions(
            record.name, record.incarnation, record.epoch, (f"memory:{record.name}.{record.incarnation}",), _SECRET
        )
        self.mesh = Mesh(options, self.node, adapters=[self.wire], rng=random.Random(record.epoch))
        self.node.connect(self.mesh, worker_class, roster)

    @property
    def is_alive(self) -> bool:
        """Whether it has begun, has not ended, and was not killed."""
        return self.life is not None and not self.life.done() and not self.is_killed

    def begin(self) -> asyncio.Task[Ending]:
        """Begin to live; the task ends with the incarnation."""
        context = contextvars.copy_context()
        context.run(_owner.set, self)
        name = f"{self.record.name}.{self.record.incarnation}"
        self.life = context.run(asyncio.get_running_loop().create_task, self.node.live(), name=name)
        return self.life

    def hold(self) -> None:
        """Let it make no step from now on."""
        if self.gate is None:
            self.gate = asyncio.get_running_loop().create_future()

    def let_go(self) -> None:
        """End what ``hold`` began."""
        gate, self.gate = self.gate, None
        if gate is not None and not gate.done():
            gate.set_result(None)

    def kill(self) -> None:
        """Cut it off for good; ``clear_up`` must follow.

        ``finally`` blocks of the worker will run, which no killed process would do; they reach nobody any more.
        """
        self.is_killed = True
        self.wire.unplug()
        self.let_go()

    async def clear_up(self) -> None:
        """End all that it has begun and that still runs."""
        for _ in range(_TRIES):
            tasks = [task for task in self.tasks if not task.done()]
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1.0)
        await self.mesh.close()
        self.wire.unplug()
        await self.wire.close()


_TRIES = 5  # A task may refuse to be cancelled once or twice, as bad code does; it is left alone then.


class _Wire(ChaosTransportAdapter):
    """A way into the network with a plug."""

    def __init__(
        self, inner: TransportAdapter, options: ChaosOptions, dialled: Callable[[ChaosConnection], None]
    ) -> None:
        super().__init__(inner, options)
        self._dialled = dialled
        self._listeners: list[ChaosListener] = []
        self._is_unplugged = False

    async def connect(self, endpoint: Endpoint, options: TransportOptions, /) -> TransportConnection:
        if self._is_unplugged:
            raise ConnectionRefusedError(f"the process that dials {endpoint} is dead")
        connection = await super().connect(endpoint, options)
        self._dialled(self.connections[-1])
        return connection

    async def listen(self, endpoint: Endpoint, options: TransportOptions, /) -> ChaosListener:
        listener = await super().listen(endpoint, options)
        self._listeners.append(listener)
        return listener

    def unplug(self) -> None:
        """Be unreachable, as a process is that has died."""
        self._is_unplugged = True
        for listener in self._listeners:
            listener.close()
        self.cut()


def task_factory(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
    """Make a task that belongs to the resident whose code starts it, if it is one's."""
    context: contextvars.Context | None = options.get("context")
    resident = _owner.get() if context is None else context.get(_owner)
    if resident is None:
        return asyncio.Task(coro, loop=loop, **options)
    task = asyncio.Task(_Steps(coro, resident), loop=loop, **options)
    resident.tasks.add(task)
    task.add_done_callback(resident.tasks.discard)
    return task


class _Steps(Coroutine[Any, Any, Any]):
    """The steps of ``coro``, none of which is made while its resident is held."""

    def __init__(self, coro: Coroutine[Any, Any, Any], resident: Resident) -> None:
        self._coro = coro
        self._resident = resident
        self._error: BaseException | None = None  # came while it was held
        self.__name__ = getattr(coro, "__name__", type(coro).__name__)
        self.__qualname__ = getattr(coro, "__qualname__", self.__name__)

    def send(self, value: Any) -> Any:
        gate = self._resident.gate
        if gate is not None:
            return _waiting_for(gate)
        error, self._error = self._error, None
        return self._coro.send(value) if error is None else self._coro.throw(error)

    def throw(self, error: Any, value: Any = None, traceback: Any = None) -> Any:
        gate = self._resident.gate
        if gate is not None:
            self._error = error
            return _waiting_for(gate)
        return self._coro.throw(error)

    def close(self) -> None:
        self._coro.close()

    def __await__(self) -> Any:
        raise TypeError("only a task makes these steps")


def _waiting_for(gate: asyncio.Future[None]) -> asyncio.Future[None]:
    """Return ``gate`` as ``await`` would hand it to the task."""
    gate._asyncio_future_blocking = True
    return gate
