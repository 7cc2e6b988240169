"""The supervisor of one mesh: starts the slots in order, keeps them going, and stops them in reverse order."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import sys
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from ..shared.config.model import MeshConfig
from ..shared.errors import SupervisorError
from . import strategy
from .child import Child, Ending, State
from .directory import RuntimeDirectory, base_directory
from .event import Event
from .guard import Guard
from .herald import Herald
from .hub import EventStream, Hub
from .intensity import RestartIntensity
from .leftovers import Mark, kill_orphans, kill_strays
from .levels import start_levels
from .nursery import Nursery
from .reaper import check_kernel
from .slot import MeshRun, Slot
from .snapshot import MeshState, MeshStatus
from .subreaper import Subreaper, become_subreaper


class Supervisor:
    """Runs one mesh, once.

        async with Supervisor(config) as supervisor:      # every slot is ready now
            async for event in supervisor.events():
                print(describe(event))

    As a library it takes no signals and changes nothing of the program around it. All of it belongs to the thread of
    the event loop in which it was started, and that thread must live as long as the mesh: it is the one that forks,
    and the kernel kills the children when it ends.
    """

    directory: RuntimeDirectory

    def __init__(self, config: MeshConfig, *, adopt: bool = False) -> None:
        if not sys.platform.startswith("linux"):
            raise SupervisorError(f"meshvisor supervises on Linux only; this is {sys.platform}")
        self.config = config
        self._hub = Hub()
        self._intensity = RestartIntensity(config.supervisor.max_restarts, config.supervisor.max_restarts_window)
        self._levels: list[list[Slot]] = []
        self._slots: list[Slot] = []
        self._children: dict[str, list[Child]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started_at = 0.0
        self._begun = False
        self._was_ready = False
        self._limit_exceeded = False
        self._outcome: strategy.Verdict | None = None
        self._mark: Mark | None = None
        self._adopt = adopt
        self._nursery: Nursery | None = None
        self._guard: Guard | None = None
        self._subreaper: Subreaper | None = None
        self._winding_up: asyncio.Task[None] | None = None
        self._finished: asyncio.Future[int] | None = None
        self._something_changed = asyncio.Event()

    # As a library.

    async def __aenter__(self) -> Self:
        """Start everything and wait until every slot is ready, or has ended well.

        Raises:
            SupervisorError: If a slot is not ready within its ``start_timeout``, tries included; the mesh is then
                stopped.
        """
        await self.start_all()
        try:
            await self._wait_ready()
        except BaseException:
            await self._stop_and_wait()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop_and_wait()

    # Asked by whoever runs it.

    async def start_all(self) -> None:
        """Begin to start the slots; return without waiting until they are ready.

        Raises:
            SupervisorError: If another supervisor runs this mesh (naming its pid and file), if the runtime directory
                cannot be used, if processes cannot be watched here, or if this object was started before.
        """
        if self._loop is not None:
            raise SupervisorError("a Supervisor runs its mesh once; make another one")
        self._loop = loop = asyncio.get_running_loop()
        check_kernel()
        name = self.config.mesh.name
        self.directory = RuntimeDirectory(base_directory(self.config.supervisor.runtime_dir), name, self.config.file)
        self._started_at = loop.time()
        try:
            self._mark = Mark.of_this_process(name)
            if killed := await kill_orphans(name):
                self._publish("leftovers-killed", pids=killed)
            self._make_slots(loop, self._mark)
        except BaseException:
            self.directory.close()
            raise
        self._finished = loop.create_future()
        self._begun = True
        self._publish("mesh-started", pid=os.getpid(), slots=len(self._slots))
        self._advance()

    def request_stop(self, reason: str = "as requested") -> None:
        """Stop everything in reverse order, each slot within its ``stop_timeout``; again: no effect."""
        self._end(strategy.Verdict(0, reason))
        self._advance()

    def request_kill(self) -> None:
        """Kill everything at once; the exit status is then 1, unless it was to be another failure."""
        if self._winding_up is not None:
            return
        status = self._outcome.status if self._outcome else 0
        self._outcome = strategy.Verdict(status or 1, "at once, as requested")
        self._publish("mesh-stopping", reason=self._outcome.reason)
        for slot in self._slots:
            slot.kill()
        self._advance()

    async def wait(self) -> int:
        """Wait until the mesh is over and return the exit status of ``run``.

        0: stopped on request, or everything (everything significant) has ended well; 1: something ended badly and is
        not restarted, or ``request_kill``; 3: the restart limit was exceeded.

        Raises:
            SupervisorError: If it was never started.
        """
        if self._finished is None:
            raise SupervisorError("this supervisor has not been started")
        return await asyncio.shield(self._finished)

    def reap_strangers(self) -> None:
        """Reap dead children that are not ours: for a program that adopts orphans, at each SIGCHLD."""
        if self._subreaper is not None:
            self._subreaper.notice()

    def _own(self) -> set[int]:
        own = {slot.pid for slot in self._slots if slot.pid is not None}
        if self._nursery is not None:
            own |= self._nursery.pids
        if self._guard is not None and self._guard.pid is not None:
            own.add(self._guard.pid)
        return own

    def status(self) -> MeshStatus:
        """Return the facts of this moment."""
        workers = tuple(slot.status() for slot in self._slots)
        return MeshStatus(self.config.mesh.name, os.getpid(), self._state(), round(self._uptime(), 3), workers)

    def events(self) -> EventStream:
        """Return what happens from now on, for ``async for``; it ends with the mesh."""
        return self._hub.stream()

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Have ``callback`` called at each event, in the loop; it must not block. Returns what ends that."""
        return self._hub.events.add(callback)

    def subscribe_output(self, callback: Callable[[str, str, str], None]) -> Callable[[], None]:
        """Have ``callback`` called with slot, kind (``stdout``, ``stderr``, ``progress``) and line."""
        return self._hub.output.add(callback)

    # Deciding.

    def _make_nursery(self, loop: asyncio.AbstractEventLoop, mark: Mark) -> Nursery:
        if self._adopt:
            become_subreaper()
            self._guard = Guard(loop, mark, self._publish)
            self._guard.start()
        section = self.config.supervisor
        self._nursery = nursery = Nursery(
            loop, mark, adopt=self._adopt, spares=section.spares, preload=section.preload, on_event=self._publish
        )
        self._subreaper = Subreaper(loop, mark, own=self._own, is_forking=lambda: nursery.is_forking)
        nursery.warm(self.config.workers)
        return nursery

    def _make_slots(self, loop: asyncio.AbstractEventLoop, mark: Mark) -> None:
        run = MeshRun(
            config=self.config,
            loop=loop,
            directory=self.directory,
            herald=Herald(loop),
            hub=self._hub,
            mark=mark,
            secret=secrets.token_bytes(32),
            nursery=self._make_nursery(loop, mark),
            guard=self._guard,
            is_stopping=lambda: self._outcome is not None,
            count=self._count,
            changed=self._advance,
        )
        draw = random.SystemRandom().random
        by_worker = {
            worker.name: [Slot(run, worker, name, replica, draw) for replica, name in enumerate(worker.slots)]
            for worker in self.config.workers
        }
        self._slots = [slot for slots in by_worker.values() for slot in slots]
        self._children = {name: [slot.child for slot in slots] for name, slots in by_worker.items()}
        levels = start_levels(self.config.workers)
        self._levels = [[slot for worker in level for slot in by_worker[worker.name]] for level in levels]

    def _count(self, ending: Ending) -> bool:
        """Count an end against the restart limit; True: this slot must not be started again."""
        if self._limit_exceeded:
            return ending.delay is not None
        if strategy.counts(ending, [slot.child for slot in self._slots]):
            self._limit_exceeded = self._intensity.record(asyncio.get_running_loop().time())
        return self._limit_exceeded

    def _advance(self) -> None:
        """Do what the states of the slots allow now: the next starts, or the next level of the stop."""
        if not self._begun:
            return
        if self._outcome is None:
            self._detect_the_end()
        if self._outcome is None:
            self._release_slots()
            self._detect_readiness()
        elif self._is_all_stopped() and self._winding_up is None:
            wind_up = self._wind_up(self._outcome.status)
            self._winding_up = asyncio.get_running_loop().create_task(wind_up, name="meshvisor-wind-up")
        self._something_changed.set()

    def _detect_the_end(self) -> None:
        limit = self.config.supervisor
        if self._limit_exceeded:
            self._publish("limit-exceeded", max_restarts=limit.max_restarts, window=limit.max_restarts_window)
            self._end(strategy.Verdict(3, "the restart limit is exceeded"))
        elif verdict := strategy.verdict([(slot.config, slot.child) for slot in self._slots]):
            self._end(verdict)

    def _release_slots(self) -> None:
        for slot in self._slots:
            if slot.child.state is State.WAITING and strategy.may_start(slot.config, self._children):
                slot.release()

    def _detect_readiness(self) -> None:
        if not self._was_ready and all(slot.child.ever_ready or slot.child.is_over for slot in self._slots):
            self._was_ready = True
            self._publish("mesh-ready", duration=self._uptime())

    def _end(self, outcome: strategy.Verdict) -> None:
        if self._outcome is not None:
            return
        self._outcome = outcome
        self._publish("mesh-stopping", reason=outcome.reason)
        for slot in self._slots:
            if slot.pid is None and not slot.child.is_over:
                slot.stop()

    def _is_all_stopped(self) -> bool:
        """Ask the highest level that still has processes to stop; say whether none has."""
        for level in reversed(self._levels):
            for slot in level:
                if not slot.child.is_over:
                    slot.stop()
            if not all(slot.child.is_over for slot in level):
                return False
        return True

    async def _wind_up(self, status: int) -> None:
        """Leave nothing behind: no process, no file, nobody who waits."""
        try:
            for slot in self._slots:
                slot.close()
            if self._nursery is not None:
                await self._nursery.close()
            if self._subreaper is not None:
                self._subreaper.close()
            if self._guard is not None:
                await self._guard.close()
            if self._mark is not None:
                await kill_strays(self._mark)
        finally:
            self.directory.close()
            self._publish("mesh-stopped", status=status)
            self._hub.end()
            if self._finished is not None:
                self._finished.set_result(status)
            self._something_changed.set()

    async def _wait_ready(self) -> None:
        """Wait until every slot is ready or has ended well; give each its start_timeout since it could first start."""
        while True:
            self._something_changed.clear()
            self._raise_if_lost()
            pending = [slot for slot in self._slots if not slot.child.ever_ready and not slot.child.is_over]
            if not pending:
                return
            deadlines = [slot.ready_by for slot in pending if slot.ready_by is not None]
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(deadlines, default=None)):
                    await self._something_changed.wait()

    def _raise_if_lost(self) -> None:
        now = asyncio.get_running_loop().time()
        for slot in self._slots:
            late = slot.ready_by is not None and now >= slot.ready_by and not slot.child.ever_ready
            if slot.child.state is State.FAILED or (late and not slot.child.is_over):
                raise SupervisorError(
                    f"{slot.name} did not become ready" + (f": {slot.trouble}" if slot.trouble else "")
                )
        if self._outcome is not None and self._outcome.status != 0:
            raise SupervisorError(f"the mesh did not become ready: {self._outcome.reason}")

    async def _stop_and_wait(self) -> None:
        self.request_stop()
        try:
            await self.wait()
        except asyncio.CancelledError:
            self.request_kill()
            await self.wait()
            raise

    def _state(self) -> MeshState:
        if self._outcome is not None:
            return MeshState.STOPPING
        return MeshState.RUNNING if self._was_ready else MeshState.STARTING

    def _uptime(self) -> float:
        return self._loop.time() - self._started_at if self._loop is not None else 0.0

    def _publish(self, event: str, **details: object) -> None:
        self._hub.publish(event, "", 0, **details)
