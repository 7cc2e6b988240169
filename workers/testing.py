"""A whole mesh inside one test: real workers, calls and links, one process, virtual time.

    from meshvisor.testing import LocalMesh, run_virtual

    def test_a_counter_that_dies_is_asked_again() -> None:
        async def scenario() -> None:
            async with LocalMesh() as mesh:
                mesh.add("counter", Counter, replicas=3)
                mesh.add("source", Source)
                await mesh.ready()                       # all of them, and every link between them
                mesh.kill("counter-1")                   # as SIGKILL does; its next incarnation starts by itself
                mesh.hang("counter-0", 0.5)              # makes no step for half a second
                mesh.cut("counter-2", "source")          # a connection breaks; the link resumes, nothing is lost
                assert await mesh.call("counter", "count", "to be or not to be") == 6
                await asyncio.sleep(3600)                # takes no time
                assert mesh.worker("counter-1").incarnation == 2

        run_virtual(scenario())

With ``pytest_plugins = ["meshvisor.testing.pytest"]`` in a ``conftest.py`` that is::

    async def test_a_counter_that_dies_is_asked_again(local_mesh: LocalMesh) -> None:
        local_mesh.add("counter", Counter, replicas=3)
        ...

The same ``seed`` gives the same run, to the message and to the nanosecond. What no test in one process can show is what
the kernel does: memory limits, signals, and a callback that never returns (it would stop the test as well). For those
run the mesh itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from ..shared.config.model import MeshConfig, RestartPolicy, WorkerConfig, slot_names
from ..shared.config.names import NAME, NAME_RULE
from ..shared.control.lifeline import Failure, FromWorker, Listening, Ready
from ..shared.core.message import Message
from ..shared.core.roster import NodeRecord, NodeStatus
from ..shared.errors import MeshError
from ..shared.transport.chaos import ChaosConnection, ChaosOptions
from ..shared.transport.memory import MemoryNetwork
from .ending import Ending, Manner
from .resident import Resident, task_factory
from .routing import Key
from .runtime import load_class
from .virtual import Deadlock as Deadlock
from .virtual import VirtualTimeLoop as VirtualTimeLoop
from .virtual import run_virtual as run_virtual
from .worker import Worker

TESTER = "test"
"""The name of the node that the test itself is, from its first message or call on."""

_NOTICE = 0.001  # Seconds from a death to the supervisor's word of it.
_MOST_CRASHES, _WINDOW = 5, 10.0  # As a mesh.toml that says nothing of it has them.

W = TypeVar("W", bound=Worker)


class WorkerFailed(MeshError):
    """An incarnation of a worker crashed: ``where`` is the hook that raised, ``traceback`` what."""

    def __init__(self, name: str, incarnation: int, where: str, traceback: str) -> None:
        super().__init__(name, incarnation, where, traceback)
        self.name, self.incarnation, self.where, self.traceback = name, incarnation, where, traceback

    def __str__(self) -> str:
        return f"{self.name} (incarnation {self.incarnation}) failed in {self.where}:\n{self.traceback}"


class _Tester(Worker):
    """The test as a node."""

    async def on_start(self) -> None:
        self._received: deque[Message] = self.settings["received"]

    async def on_message(self, message: Message) -> None:
        self._received.append(message)


class _Place:
    """A slot: what runs in it, and what became of it."""

    def __init__(self, worker_class: type[Worker], settings: Mapping[str, Any], restart: RestartPolicy) -> None:
        self.worker_class = worker_class
        self.settings = settings
        self.restart = restart
        self.resident: Resident | None = None
        self.ended: Ending | None = None
        self.is_wanted = True
        self.crashes: deque[float] = deque(maxlen=_MOST_CRASHES + 1)


class LocalMesh:
    """A mesh of workers in this process; enter it with ``async with`` on a loop of ``run_virtual``.

    Args:
        seed: What epochs, back-offs and faults are drawn from.
        chaos: Faults that all connections have (see ``ChaosOptions``); None: those that the test asks for.
        restart_delay: Seconds from a death to the start of the next incarnation.
        hang_timeout: Seconds after which a worker that hangs is killed and replaced, as the supervisor would.
        drain_timeout: Seconds that an orderly end may take.

    A worker that crashes is restarted as in real life; five times within ten seconds, and it stays down. All the same
    a crash is no thing to overlook: unless the test takes it (``take_failure``), it comes out of ``ready`` and of the
    end of the ``async with`` as a ``WorkerFailed``.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        chaos: ChaosOptions | None = None,
        restart_delay: float = 0.01,
        hang_timeout: float = 1.0,
        drain_timeout: float = 5.0,
    ) -> None:
        self.received: deque[Message] = deque()
        self._random = random.Random(seed)
        self._chaos = chaos or ChaosOptions()
        self._restart_delay = restart_delay
        self._hang_timeout = hang_timeout
        self._drain_timeout = drain_timeout
        self._network = MemoryNetwork()
        self._roster: dict[str, NodeRecord] = {}
        self._places: dict[str, _Place] = {}
        self._failures: list[WorkerFailed] = []
        self._changed = asyncio.Event()
        self._errands: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._severed: set[frozenset[str]] = set()
        self._is_closing = False
        self._workers: list[tuple[WorkerConfig, type[Worker]]] = []

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().set_task_factory(task_factory)  # type: ignore[arg-type]  # options by keyword
        for worker, worker_class in self._workers:
            self.add(
                worker.name,
                worker_class,
                replicas=worker.replicas,
                settings=worker.settings,
                restart=RestartPolicy.ON_FAILURE if worker.significant else worker.restart,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_closing = True
        for timer in self._timers:
            timer.cancel()
        living = [place.resident for place in self._places.values() if place.resident is not None]
        for resident in living:
            resident.let_go()
            if resident.is_alive:
                resident.node.request_stop()
        await asyncio.gather(
            *(resident.life for resident in living if resident.life is not None), return_exceptions=True
        )
        await asyncio.gather(*self._errands)
        await asyncio.gather(*(resident.clear_up() for resident in living))
        asyncio.get_running_loop().set_task_factory(None)
        if error is None:
            self._raise_failure()

    # Who there is.

    def add(
        self,
        name: str,
        worker_class: type[Worker],
        *,
        replicas: int = 1,
        settings: Mapping[str, Any] | None = None,
        restart: RestartPolicy | str = RestartPolicy.ON_FAILURE,
    ) -> None:
        """Add a worker, as ``[workers.NAME]`` does in mesh.toml; it starts at the next turn of the loop.

        ``restart`` says whether a slot starts again when its process has ended by itself: ``never``, ``on-failure``
        (the default here: a test likes to see the end of what ends), or ``always``.

        Raises:
            ValueError: If there is a node of that name, or can be none.
            TypeError: If ``worker_class`` is no ``Worker``.
        """
        if not NAME.fullmatch(name):
            raise ValueError(f"the name of a worker {NAME_RULE}, not {name!r}")
        if replicas < 0:
            raise ValueError(f"replicas must be 0 or more, not {replicas}")
        if not (isinstance(worker_class, type) and issubclass(worker_class, Worker)):
            raise TypeError(f"{worker_class!r} is not a subclass of meshvisor.Worker")
        names = slot_names(name, replicas)
        for number, slot in enumerate(names):
            if slot in self._places:
                raise ValueError(f"there is a node {slot} already")
            self._places[slot] = _Place(worker_class, settings or {}, RestartPolicy(restart))
            self._publish(NodeRecord(slot, name, number))
        for slot in names:
            asyncio.get_running_loop().call_soon(self._begin, slot)

    @classmethod
    def of(cls, config: MeshConfig, **options: Any) -> LocalMesh:
        """Return a mesh of the workers of a ``mesh.toml``, for ``async with``; commands are left out.

        ``options`` are those of the class. Start order, limits and health checks are the supervisor's, and not here.

        Raises:
            Exception: Whatever the import of a worker's module raises.
        """
        mesh = cls(**options)
        for worker in config.workers:
            if worker.class_path is not None:
                with _first_on_path(str(worker.cwd)):
                    worker_class = load_class(worker.class_path)
                mesh._workers.append((worker, worker_class))
        return mesh

    async def ready(self, *names: str) -> None:
        """Wait until all nodes (or those named) are ready, and linked with each other.

        Raises:
            WorkerFailed: If a worker has crashed.
            KeyError: If there is no such node.
        """
        slots = [slot for name in names for slot in self._named(name)] if names else list(self._places)
        while True:
            self._raise_failure()
            if all(self._is_ready(slot, slots) for slot in slots if self._places[slot].is_wanted):
                return
            await self._change()

    async def ended(self, name: str) -> int:
        """Wait until the process in the slot has ended, for good, and return its exit status."""
        place = self._place(name)
        while place.ended is None or place.is_wanted:
            await self._change()
        return place.ended.status

    def worker(self, name: str, cls: type[W] = Worker) -> W:  # type: ignore[assignment]
        """Return the instance that lives in the slot now, which is a ``cls``.

        Raises:
            LookupError: If there is none.
        """
        resident = self._place(name).resident
        worker = resident.node.worker if resident is not None else None
        if worker is None:
            raise LookupError(f"{name} has no process now")
        if not isinstance(worker, cls):
            raise TypeError(f"{name} is a {type(worker).__name__}, not a {cls.__name__}")
        return worker

    # What happens to them.

    def kill(self, name: str, *, restart: bool = True) -> None:
        """End the process in the slot as SIGKILL does. The next starts by itself, or (``restart=False``) by ``start``.

        In one process ``finally`` blocks of the worker still run, but whatever they send reaches nobody.
        """
        resident = self._alive(name)
        self._place(name).is_wanted = restart
        resident.kill()
        self._errand(self._bury(resident, Ending(-signal.SIGKILL, Manner.CRASH)))

    def hang(self, name: str, seconds: float | None = None) -> None:
        """Let the worker make no step for ``seconds`` (None: for ever); after ``hang_timeout`` it is killed for it."""
        resident = self._alive(name)
        resident.hold()
        if seconds is None or seconds >= self._hang_timeout:
            self._later(self._hang_timeout, self._found_hanging, name, resident)
        else:
            self._later(seconds, resident.let_go)

    def stop(self, name: str) -> None:
        """Stop the process in the slot as an operator does: ``on_stop`` runs, and nothing starts it but ``start``."""
        resident = self._alive(name)
        self._place(name).is_wanted = False
        resident.node.request_stop()

    def start(self, name: str) -> None:
        """Start what was stopped, has ended, or was killed for good; what runs is left alone."""
        place = self._place(name)
        place.is_wanted = True
        self._begin(name)

    def cut(self, one: str, other: str) -> None:
        """Break the connection between two nodes, in the middle of whatever it carries; the link resumes."""
        for connection in self._between(one, other):
            connection.cut()

    def sever(self, one: str, other: str) -> None:
        """Let nothing pass between two nodes, until ``mend``; neither of them is told."""
        self._severed.add(frozenset((one, other)))
        for connection in self._between(one, other):
            connection.black_hole()

    def mend(self, one: str, other: str) -> None:
        """End what ``sever`` began; what was under way arrives."""
        self._severed.discard(frozenset((one, other)))
        for connection in self._between(one, other):
            connection.heal()

    def take_failure(self, name: str) -> WorkerFailed:
        """Return the first crash of a worker that was not taken yet, which the test has expected.

        Raises:
            LookupError: If it has not crashed.
        """
        for failure in self._failures:
            if failure.name == name:
                self._failures.remove(failure)
                return failure
        raise LookupError(f"{name} has not failed")

    # What the test says itself.

    async def call(
        self,
        target: str,
        method: str,
        /,
        *args: Any,
        key: Key | None = None,
        timeout: float | None = 30.0,
        retry: bool = False,
        **named: Any,
    ) -> Any:
        """Call a method as ``Worker.call`` does; the test is a node called ``test`` from now on."""
        tester = await self._tester()
        return await tester.call(target, method, *args, key=key, timeout=timeout, retry=retry, **named)

    async def send(
        self, target: str, body: bytes | bytearray | memoryview, *, key: Key | None = None, timeout: float | None = None
    ) -> int:
        """Send a message as ``Worker.send`` does; the test is a node called ``test`` from now on.

        What is sent to that node is in ``received``.
        """
        return await (await self._tester()).send(target, body, key=key, timeout=timeout)

    async def _tester(self) -> Worker:
        if TESTER not in self._places:
            self.add(TESTER, _Tester, settings={"received": self.received})
        while self._roster[TESTER].status is not NodeStatus.READY:
            await self._change()
        return self.worker(TESTER)

    # The supervisor's part.

    def _begin(self, name: str) -> None:
        place = self._places[name]
        if self._is_closing or not place.is_wanted or (place.resident is not None and place.resident.is_alive):
            return
        old = self._roster[name]
        record = msgspec.structs.replace(
            old,
            incarnation=old.incarnation + 1,
            epoch=self._random.getrandbits(64),
            status=NodeStatus.DOWN,
            endpoints=(),
            why="",
        )
        self._publish(record)

        def report(message: FromWorker) -> None:
            self._hear(record, message)

        place.ended = None
        place.resident = resident = Resident(
            record,
            place.worker_class,
            dict(place.settings),
            list(self._roster.values()),
            report=report,
            network=self._network,
            chaos=replace(self._chaos, seed=self._random.getrandbits(32)),
            drain_timeout=self._drain_timeout,
            dialled=self._dialled,
        )
        resident.begin().add_done_callback(partial(self._has_ended, resident))

    def _has_ended(self, resident: Resident, life: asyncio.Task[Ending]) -> None:
        if not resident.is_killed:
            self._errand(self._bury(resident, life.result()))

    def _hear(self, record: NodeRecord, message: FromWorker) -> None:
        now = self._roster[record.name]
        if now.incarnation != record.incarnation:
            return
        if isinstance(message, Listening):
            endpoints = tuple(message.endpoints)
            self._publish(msgspec.structs.replace(now, status=NodeStatus.LISTENING, endpoints=endpoints))
        elif isinstance(message, Ready):
            self._publish(msgspec.structs.replace(now, status=NodeStatus.READY))
        elif isinstance(message, Failure):
            self._failures.append(WorkerFailed(record.name, record.incarnation, message.where, message.traceback))
        self._changed.set()

    def _found_hanging(self, name: str, resident: Resident) -> None:
        if resident.is_alive and resident.gate is not None:
            self.kill(name)

    async def _bury(self, resident: Resident, ending: Ending) -> None:
        """Do what follows when an incarnation has ended by itself, or because it was asked to."""
        name = resident.record.name
        place = self._place(name)
        await resident.clear_up()
        is_bad = ending.status != 0
        policy = place.restart
        comes_back = policy is RestartPolicy.ALWAYS or (policy is RestartPolicy.ON_FAILURE and is_bad)
        if is_bad and not resident.is_killed:
            place.crashes.append(self._now())
            if len(place.crashes) > _MOST_CRASHES and self._now() - place.crashes[0] <= _WINDOW:
                comes_back = False
        await self._end(name, ending, comes_back=(comes_back or resident.is_killed) and place.is_wanted)

    async def _end(self, name: str, ending: Ending, *, comes_back: bool) -> None:
        place = self._place(name)
        place.ended, place.is_wanted = ending, comes_back
        await asyncio.sleep(_NOTICE)
        status, why = (NodeStatus.DOWN, "") if comes_back else (NodeStatus.GONE, "stopped")
        self._publish(msgspec.structs.replace(self._roster[name], status=status, endpoints=(), why=why))
        if comes_back:
            self._later(self._restart_delay, self._begin, name)

    def _publish(self, record: NodeRecord) -> None:
        self._roster[record.name] = record
        loop = asyncio.get_running_loop()
        for place in self._places.values():
            if place.resident is not None and place.resident.is_alive:
                # In a later turn, as news from another process come.
                loop.call_soon(place.resident.node.apply, [record])
        self._changed.set()

    # Asked by itself.

    def _place(self, name: str) -> _Place:
        if name not in self._places:
            raise LookupError(f"there is no node {name!r}, but: {', '.join(self._places)}")
        return self._places[name]

    def _named(self, name: str) -> list[str]:
        """Return the slot of that name, or those of the worker of that name."""
        members = [slot for slot, record in self._roster.items() if record.group == name]
        return members or ([name] if self._place(name) else [])

    def _alive(self, name: str) -> Resident:
        resident = self._place(name).resident
        if resident is None or not resident.is_alive:
            raise LookupError(f"{name} has no process now")
        return resident

    def _is_ready(self, name: str, others: list[str]) -> bool:
        resident = self._places[name].resident
        if resident is None or not resident.is_alive or self._roster[name].status is not NodeStatus.READY:
            return False
        wanted = [other for other in others if other != name and self._places[other].is_wanted]
        links = {other: resident.mesh.link(other) for other in wanted}
        return all(
            link is not None and link.incarnation == self._roster[other].incarnation for other, link in links.items()
        )

    def _between(self, one: str, other: str) -> list[ChaosConnection]:
        return [
            connection
            for name, peer in ((one, other), (other, one))
            if (resident := self._place(name).resident) is not None
            for connection in resident.wire.connections
            if not connection.is_accepted and _node_at(connection) == peer
        ]

    def _dialled(self, resident: Resident, connection: ChaosConnection) -> None:
        if frozenset((resident.record.name, _node_at(connection))) in self._severed:
            connection.black_hole()

    def _raise_failure(self) -> None:
        if self._failures:
            raise self._failures.pop(0)

    async def _change(self) -> None:
        """Wait until something has changed; links come up without a word to the supervisor, so look again soon."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_NOTICE):
                await self._changed.wait()

    def _errand(self, errand: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    def _later(self, delay: float, then: Callable[..., object], *args: object) -> None:
        def due() -> None:
            self._timers.discard(timer)
            then(*args)

        timer = asyncio.get_running_loop().call_later(delay, due)
        self._timers.add(timer)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _node_at(connection: ChaosConnection) -> str:
    return connection.endpoint.path.rpartition(".")[0]


@contextlib.contextmanager
def _first_on_path(folder: str) -> Iterator[None]:
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
